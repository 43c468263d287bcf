"""`portcall run --hop-every 1` as its users run it, on programs that take seconds: not one byte differs.

All programs, in half an hour: `python -m tests.oracle.every --all`.
"""

from __future__ import annotations

import pytest

from .every import Subject, examine, subjects

# A few hundred opportunities each in the compiled languages, and ten thousand in MicroPython: its start.
QUICK = ["examples/hello/hello.wat", "examples/wat/trip.wat", "examples/zig/trip.zig", "examples/c/trip.c"]
QUICK += ["c/lines", "c/unwinding", "micropython/uncaught"]
BY_NAME = {subject.name: subject for subject in subjects()}


@pytest.mark.parametrize("name", QUICK)
def test_hops_at_every_opportunity_change_nothing(name: str) -> None:
    row = examine(BY_NAME[name], "wasmtime", 60.0)
    if row.verdict.startswith("skipped"):
        pytest.skip(row.verdict)
    assert row.verdict == "same"
    assert row.hops >= 9
    assert row.python in ("", "as CPython")


def test_the_corpus_has_what_was_promised() -> None:
    scripts = [subject for subject in BY_NAME.values() if subject.python]
    assert len(scripts) >= 50
    languages = {name.split("/")[1] for name in BY_NAME if name.startswith("examples/")}
    assert languages >= {"c", "zig", "rust", "assemblyscript", "javascript", "python", "wat"}


def test_a_difference_is_seen(tmp_path: object) -> None:
    """The comparison itself: a program whose output depends on the clock is not the same twice."""
    source = tmp_path / "clock.py"  # type: ignore[operator]
    source.write_text("import time\nprint(time.time_ns())\nraise SystemExit\n")
    row = examine(Subject("clock", source), "wasmtime", 60.0)
    assert row.verdict == "DIFFERENT"
