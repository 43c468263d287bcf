"""A short run of the fuzz test; `python -m tests.serve.fuzz` is the long one."""

from __future__ import annotations

import asyncio
from random import Random

from tests.fuzz.amount import Amount
from tests.serve.fuzz import attack


def test_the_door_of_agents_takes_damage() -> None:
    counts = asyncio.run(attack(Random(3), Amount(tries=150)))
    assert sum(counts.values()) == 150
    # A run in which everything falls at the first hurdle tests nothing.
    assert counts["answers: 200"] > 3
    assert counts["answers: 502"] > 10
    assert counts["requests: 400"] > 10
    assert counts["answers: nobody waits"] > 1
