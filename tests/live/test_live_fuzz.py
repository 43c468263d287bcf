"""A short run of the fuzz test; `python -m tests.live.fuzz` is the long one."""

from __future__ import annotations

from random import Random

from tests.fuzz.amount import Amount
from tests.live.fuzz import fuzz


def test_what_is_read_of_live_moves_takes_damage() -> None:
    counts = fuzz(Random(5), Amount(tries=1500))
    assert sum(counts.values()) == 1500
    # A run in which everything is refused, or everything taken, tests nothing.
    assert all(count > 3 for count in counts.values()), counts
    assert len(counts) == 18, counts
