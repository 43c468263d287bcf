"""The table of commands: the module and the function of each.

Not here: the commands themselves, which are imported only when one runs or its own help is requested. The one-line
descriptions are here so that `portcall --help` imports no command; a test compares each with its command's docstring.
"""

from __future__ import annotations

from typing import NamedTuple


class CommandEntry(NamedTuple):
    """A command: where it is, a one-line description, and whether it handles Ctrl-C itself."""

    module: str
    attribute: str
    short_help: str
    hears_ctrl_c: bool = False


# In the order of the help: first the commands for one file, then those that need a station.
COMMANDS: dict[str, CommandEntry] = {
    "demo": CommandEntry(
        "docking.cli.demo.command", "demo", "Start three stations on this machine, and watch an agent hop through them."
    ),
    "lesson": CommandEntry(
        "docking.cli.lesson",
        "lesson",
        "Show a class what agents and stations do: list the acts, run one, check an exercise.",
    ),
    "pack": CommandEntry(
        "docking.cli.pack", "pack_command", "Make an image of a program, rewritten so that it can move."
    ),
    "run": CommandEntry("docking.cli.run", "run_command", "Run an agent, or any WASI program, here and alone.", True),
    "inspect": CommandEntry("docking.cli.inspection", "inspect", "Show what an image, snapshot or capsule holds."),
    "verify": CommandEntry(
        "docking.cli.credentials",
        "verify_command",
        "Check the signatures, chain and itinerary of a capsule, offline.",
    ),
    "key": CommandEntry(
        "docking.cli.credentials",
        "key",
        "Make, show and list keys; accept the new key of a station.",
    ),
    "station": CommandEntry("docking.cli.station", "station", "Run a station, until it is interrupted."),
    "lab": CommandEntry("docking.cli.lab", "lab", "Run several stations on this machine, until they are interrupted."),
    "stations": CommandEntry(
        "docking.cli.station", "stations", "List the stations on the network, as those of this machine see them."
    ),
    "launch": CommandEntry("docking.cli.launch", "launch", "Sign an agent, and begin it at a station of this user."),
    "agents": CommandEntry("docking.cli.agents", "agents", "List the agents that are here, or were launched here."),
    "logs": CommandEntry(
        "docking.cli.agents", "logs", "Print what an agent has printed and logged, at the stations of this user."
    ),
    "trail": CommandEntry("docking.cli.agents", "trail", "Show where an agent has been, as the stations signed it."),
    "replay": CommandEntry(
        "docking.cli.replay", "replay", "Step through an agent's journey, forward and backward.", True
    ),
    "results": CommandEntry(
        "docking.cli.agents", "results", "Show what an agent reported, verified, and opened with its owner's key."
    ),
    "where": CommandEntry("docking.cli.agents", "where", "Say where an agent is, as far as is known here."),
    "retract": CommandEntry("docking.cli.orders", "retract", "Call an agent home, where it goes on."),
    "dispose": CommandEntry("docking.cli.orders", "dispose", "End an agent."),
    "clone": CommandEntry("docking.cli.orders", "clone", "Make a second agent of one."),
    "move": CommandEntry("docking.cli.moves", "move", "Move an agent to another station, while it runs."),
    "drain": CommandEntry("docking.cli.moves", "drain", "Move all agents away, before maintenance."),
    "upgrade": CommandEntry(
        "docking.cli.upgrade", "upgrade", "Give an agent new code, with which it goes on where it is."
    ),
    "sleep": CommandEntry("docking.cli.orders", "sleep", "Have an agent stand still until it is woken."),
    "wake": CommandEntry("docking.cli.orders", "wake", "Let an agent go on that sleeps."),
    "top-up": CommandEntry("docking.cli.amending", "top_up", "Give an agent more than its permit."),
    "renew": CommandEntry("docking.cli.amending", "renew", "Give an agent more time."),
    "purge": CommandEntry("docking.cli.orders", "purge", "Forget agents whose journeys are over."),
    "backup": CommandEntry("docking.cli.backup", "backup", "Copy a station's home to a file, while it runs."),
    "restore": CommandEntry("docking.cli.backup", "restore", "Put a copy of a station's home back."),
    "revoke": CommandEntry("docking.cli.revoking", "revoke", "Revoke a key, at all stations that are known."),
    "policy": CommandEntry("docking.cli.policy", "policy", "Have a station read its policy again."),
    "send": CommandEntry("docking.cli.talk", "send_command", "Send an agent a message."),
    "ask": CommandEntry("docking.cli.talk", "ask_command", "Ask an agent, and print its answer."),
    "publish": CommandEntry(
        "docking.cli.talk", "publish_command", "Send a message to all agents that subscribe to a topic."
    ),
    "find": CommandEntry("docking.cli.talk", "find_command", "List the agents that are here, or that offer a service."),
    "decide": CommandEntry(
        "docking.cli.agents",
        "decide",
        "Decide about an agent whose handoff is in doubt, because the other station is gone for good.",
    ),
}
