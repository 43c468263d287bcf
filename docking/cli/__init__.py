"""The command `portcall`: reads words, calls `agents` and `docking`, prints.

It is not a place for logic: whatever a command does can be done from Python with one or two calls, and
each command's module says which. Invariants: importing this package imports click and nothing else of
weight, a command's module is imported only when that command runs, and every failure that a person can
mend ends in one sentence on stderr and a non-zero exit code.
"""

from __future__ import annotations

try:
    from docking.cli.main import main
except KeyboardInterrupt:  # in the first hundredth of a second, before `main` can say so
    raise SystemExit(130) from None

__all__ = ["main"]
