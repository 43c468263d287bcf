"""The command `portcall`: parses arguments, calls `agents` and `docking`, and prints.

No logic belongs here: whatever a command does takes one or two calls from Python, and each command's module says which.
Invariants: importing this package imports nothing heavy; a command's module is imported only when that command runs;
every failure that the user can fix ends in one sentence on stderr and a non-zero exit code.
"""

from __future__ import annotations

from docking.cli import interrupts


def main() -> None:
    """Run this process's command line, then exit; see `docking.cli.group.main`."""
    interrupts.hold()
    try:
        from docking.cli import group
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    group.main()


__all__ = ["main"]
