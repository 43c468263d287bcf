"""A short run of the fuzz test; `python -m tests.runtime.fuzz` is the long one."""

from __future__ import annotations

from tests.fuzz.amount import Amount

from .fuzz import run


def test_damaged_snapshots_are_refused_or_run_within_limits():
    counts = run(Amount(4.0), seed=1)
    assert any(what.startswith("ran") for what in counts)
    assert counts["refused as bytes"] > 5
    assert counts["refused for its image"] > 5
