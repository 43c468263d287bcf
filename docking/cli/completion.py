"""Shell completion beyond commands and options: the current names of stations, agents and keys.

Invariants: it runs at each press of the Tab key, so nothing heavy is imported, a station that does not answer within a
second is left out, and errors complete nothing and print nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import click
from click.shell_completion import CompletionItem

COMPLETION_TIMEOUT_S = 1.0  # seconds for an answer of a station
WAY_SIGNS = ",|?*(){}<> \"'"  # what may stand before a station in a way, or before a way
WAY_WORDS = {"any": "any one station", "any@": "one that a key certified", "roam": "any stations"}
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completing(found: Callable[[], Iterator[tuple[str, str]]]) -> Complete:
    """A completion of the names that `found` returns, each with a word of help."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names: dict[str, str] = {}
        with suppress(Exception):  # the user is in the middle of a line
            names.update(found())
        return [CompletionItem(name, help=text) for name, text in names.items() if name.startswith(incomplete)]

    return complete


def _running() -> Iterator[tuple[str, str]]:
    from docking.control.client import running

    for _, place in running():
        yield place.name, place.home


def _asked(what: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    from docking.control.client import ControlClient, running
    from docking.errors import ControlError

    for _, place in running():
        with suppress(ControlError, OSError), ControlClient(place, COMPLETION_TIMEOUT_S) as line:
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
    from docking.folders import key_folder

    for path in sorted(key_folder().glob("*.key")):
        yield path.stem, ""


def engines(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes the last name of `NAME,NAME`."""
    from agents.engines import ENGINE_NAMES

    before, comma, last = incomplete.rpartition(",")
    return [CompletionItem(f"{before}{comma}{name}") for name in ENGINE_NAMES if name.startswith(last)]


def way(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes the last station of a way, or the last key after `any@`."""
    begin = max(map(incomplete.rfind, WAY_SIGNS)) + 1
    before, last = incomplete[:begin], incomplete[begin:]
    if last.startswith("any@"):
        found = [(f"any@{item.value}", item.help) for item in keys(ctx, param, last.removeprefix("any@"))]
    else:
        found = [(item.value, item.help) for item in stations(ctx, param, last)]
        found += [(word, text) for word, text in WAY_WORDS.items() if last and word.startswith(last)]
    return [CompletionItem(before + word, help=text) for word, text in found]


running_stations = _completing(_running)
stations = _completing(_known)
agents = _completing(_agents)
doubts = _completing(_doubts)
keys = _completing(_keys)
