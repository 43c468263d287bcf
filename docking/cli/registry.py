"""The table of commands: which module and function each name stands for.

Not the commands themselves: those are imported only when one runs, or when its own help is asked for. The
one-line descriptions stand here so that `portcall --help` imports none of them; a test compares each with
the docstring of its command.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """Where a command lives and what it does, in a line."""

    module: str
    attribute: str
    short_help: str


# The order is the order of the help: first what is done with one file, then what needs a station.
COMMANDS: dict[str, Entry] = {
    "demo": Entry(
        "docking.cli.demo", "demo", "Start three stations on this machine, and watch an agent hop through them."
    ),
    "pack": Entry("docking.cli.pack", "pack", "Make an image of a program, rewritten so that it can move."),
    "run": Entry("docking.cli.run", "run", "Run an agent, or any WASI program, here and alone."),
    "inspect": Entry("docking.cli.inspection", "inspect", "Show what an image, snapshot or capsule holds."),
    "verify": Entry(
        "docking.cli.credentials",
        "verify",
        "Check the signatures, chain and itinerary of a capsule, offline.",
    ),
    "key": Entry(
        "docking.cli.credentials",
        "key",
        "Make, show and list keys; accept the new key of a station.",
    ),
}
