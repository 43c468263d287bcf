"""What a shell completes beyond commands and options: names of stations, agents and keys, as they are now.

Invariants: a shell asks at each press of the key, so nothing of weight is imported, a station that does not answer
within a second is left out, and whatever goes wrong completes nothing and prints nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import click
from click.shell_completion import CompletionItem

PATIENCE = 1.0  # seconds for an answer of a station
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completing(found: Callable[[], Iterator[tuple[str, str]]]) -> Complete:
    """A completion of names, each with a word of help, from those that `found` gives."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names: dict[str, str] = {}
        with suppress(Exception):  # a shell in the middle of a line is no place for it
            names.update(found())
        return [CompletionItem(name, help=text) for name, text in names.items() if name.startswith(incomplete)]

    return complete


def _running() -> Iterator[tuple[str, str]]:
    from docking.running import running

    for _, place in running():
        yield place.name, place.home


def _asked(what: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    from docking.errors import ControlError
    from docking.running import Line, running

    for _, place in running():
        with suppress(ControlError, OSError), Line(place, PATIENCE) as line:
            yield from line.items(what, **arguments)


def _known() -> Iterator[tuple[str, str]]:
    yield from _running()
    for row in _asked("stations", wait=0):
        if "refused" not in row:
            yield str(row["name"]), ", ".join(row["services"])


def _agents() -> Iterator[tuple[str, str]]:
    for row in _asked("agents"):
        yield row["agent"][:12], f"{row['label']} {row['standing']} at {row['station']}"
        yield row["label"], f"{row['standing']} at {row['station']}"


def _doubts() -> Iterator[tuple[str, str]]:
    for row in _asked("doubts"):
        if row["doubt"]:
            yield row["handoff"][:16], f"from {row['peer']}"


def _keys() -> Iterator[tuple[str, str]]:
    from docking.cli.folders import key_folder

    for path in sorted(key_folder().glob("*.key")):
        yield path.stem, ""


def engines(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The last name of `NAME,NAME`."""
    from agents.engines import NAMES

    before, comma, last = incomplete.rpartition(",")
    return [CompletionItem(f"{before}{comma}{name}") for name in NAMES if name.startswith(last)]


def route(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The last name of `A,B,C`."""
    before, comma, last = incomplete.rpartition(",")
    found = stations(ctx, param, last)
    return [CompletionItem(f"{before}{comma}{item.value}", help=item.help) for item in found]


running_stations = _completing(_running)
stations = _completing(_known)
agents = _completing(_agents)
doubts = _completing(_doubts)
keys = _completing(_keys)
