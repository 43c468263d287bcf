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
    "station": Entry("docking.cli.station", "station", "Run a station, until it is interrupted."),
    "stations": Entry(
        "docking.cli.station", "stations", "List the stations on the network, as those of this machine see them."
    ),
    "launch": Entry("docking.cli.launch", "launch", "Sign an agent, and begin it at a station of this user."),
    "agents": Entry("docking.cli.agents", "agents", "List the agents that are here, or were launched here."),
    "logs": Entry(
        "docking.cli.agents", "logs", "Print what an agent has printed and logged, at the stations of this user."
    ),
    "trail": Entry("docking.cli.agents", "trail", "Show where an agent has been, as the stations signed it."),
    "results": Entry(
        "docking.cli.agents", "results", "Show what an agent reported, verified, and opened with its owner's key."
    ),
    "where": Entry("docking.cli.agents", "where", "Say where an agent is, as far as is known here."),
    "retract": Entry("docking.cli.agents", "retract", "Call an agent home, where it goes on."),
    "dispose": Entry("docking.cli.agents", "dispose", "End an agent."),
    "clone": Entry("docking.cli.agents", "clone", "Make a second agent of one."),
    "sleep": Entry("docking.cli.agents", "sleep", "Have an agent stand still until it is woken."),
    "wake": Entry("docking.cli.agents", "wake", "Let an agent go on that sleeps."),
    "send": Entry("docking.cli.agents", "send", "Send an agent a message."),
    "decide": Entry(
        "docking.cli.agents",
        "decide",
        "Decide about an agent whose handoff is in doubt, because the other station is gone for good.",
    ),
}
