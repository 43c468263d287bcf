"""A short run of the fuzz test; `python -m tests.station.fuzz` is the long one."""

from __future__ import annotations

import asyncio
from itertools import count
from random import Random

import pytest

from tests.station.fuzz import attack


@pytest.mark.parametrize("seed", range(2))
def test_a_station_takes_damage_without_an_error(seed: int) -> None:
    tries = count()
    counts = asyncio.run(attack(Random(seed), lambda: next(tries) < 400))
    assert sum(counts.values()) == 400
    # A run in which everything falls at the first hurdle tests nothing.
    assert counts["handoff: answered"] > 30
    assert counts["handoff: refused"] > 30
    assert counts["letter: answered"] > 5
    assert counts["damaged connections"] > 30
