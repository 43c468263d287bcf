"""A short run of the fuzz test; `python -m tests.station.fuzz` is the long one."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from tests.fuzz.amount import Amount
from tests.station.fuzz import attack


@pytest.mark.parametrize("seed", range(2))
def test_a_station_takes_damage_without_an_error(seed: int) -> None:
    counts, verdicts = asyncio.run(attack(Random(seed), Amount(tries=400)))
    assert sum(counts.values()) == 400
    # A run in which everything falls at the first hurdle tests nothing.
    assert counts["handoff: answered"] > 30
    assert counts["handoff: refused"] > 30
    assert counts["letter: answered"] > 5
    assert counts["damaged connections"] > 30
    codes = {said.removeprefix("handoff: refused ") for said in verdicts if said.startswith("handoff: refused ")}
    assert len(codes) > 3, verdicts
    assert codes - {"malformed", "signature", "signer", "bad-digest"}, verdicts  # behind the signatures
