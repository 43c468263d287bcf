"""A short run of the fuzz test; `python -m tests.dwarf.fuzz` is the long one."""

from __future__ import annotations

from tests.fuzz.amount import Amount

from .fuzz import run


def test_damage_is_refused_or_read() -> None:
    outcomes = run(Amount(tries=2000), seed=1)
    assert outcomes["refused"] > 100
    assert outcomes["places"] > 100
