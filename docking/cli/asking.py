"""How commands connect to a station of this user: choose the station, or explain that there is none.

Not here: the requests. Light: imports only the small client in `docking.control.client`. Invariant: if several stations
know an agent, the one where it is gets the request.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import click

from docking.cli import completion
from docking.cli.suggestions import near
from docking.control.client import ControlClient, connections, only, running
from docking.errors import ControlError

STATION_OPTION = click.option(
    "--station",
    "station",
    metavar="NAME",
    shell_complete=completion.running_stations,
    help="Ask this station only (its name, or the folder that is its home).",
)
# Seconds to wait for an answer, in addition to any wait that was requested.
ANSWER_TIMEOUT_S = 30.0
# Seconds for an answer that is only a convenience.
NAMES_TIMEOUT_S = 1.0
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def station_names() -> dict[str, str]:
    """The names of stations by their whole keys, as the stations that run here know them; where none runs, none."""
    names: dict[str, str] = {}
    for _, place in running():
        with contextlib.suppress(ControlError, OSError), ControlClient(place, NAMES_TIMEOUT_S) as line:
            found = {
                str(row["key"]): str(row["name"]) for row in line.items("stations", wait=0) if "refused" not in row
            }
            names = {**found, **names, place.key: place.name}
    return names


def one(station: str | None) -> contextlib.AbstractContextManager[ControlClient]:
    """A connection to the named station, or to the only one. Raises `ControlError` if several match."""
    return only(station, "say which one with --station or --from")


@contextlib.contextmanager
def whoever_knows(station: str | None, agent: str) -> Iterator[ControlClient]:
    """A connection to the station that knows the agent best: where it is, if it is here. Raises `ControlError`."""
    knowing: list[tuple[int, ControlClient]] = []  # 0: it is there; 1: its home; 2: it has been there
    problem: ControlError | None = None
    with contextlib.ExitStack() as opened:
        for each in connections(station):
            line = opened.enter_context(each)
            try:
                knowing.append((0 if line.ask("where", agent=agent)["here"] else 1, line))
            except ControlError as error:
                problem = problem or error
                try:
                    line.ask("find", agent=agent)
                except ControlError:
                    continue
                knowing.append((2, line))
        if not knowing:
            said = problem or f"no station here knows the agent {agent!r}"
            meant = near(agent, _labels(station, agent))
            raise ControlError(f"{said}; portcall agents lists those that are known{meant}")
        if problem is not None and all(rank for rank, _ in knowing):
            # The label may be ambiguous at one station and unique at another.
            _refuse_several(connections(station), agent)
        yield min(knowing, key=lambda item: item[0])[1]


def _labels(station: str | None, other: str) -> list[str]:
    """What the agents that are known here are called, apart from `other`."""
    try:
        return sorted({str(row["label"]) for _, row in every(station, "agents")} - {other})
    except ControlError:
        return []


def _refuse_several(opened: list[ControlClient], agent: str) -> None:
    """Raises `ControlError` when several agents that are here have this label."""
    found = set()
    with contextlib.ExitStack() as stack:
        for line in [stack.enter_context(each) for each in opened]:
            found |= {row["agent"] for row in line.items("agents") if row["here"] and row["label"] == agent}
    if len(found) > 1:
        names = ", ".join(sorted(each[:12] for each in found)[:8])
        raise ControlError(f"{len(found)} agents are called {agent!r}: name the one you mean by its id ({names})")


def every(station: str | None, what: str, **arguments: Any) -> list[tuple[str, Any]]:
    """The items that the stations answer, each with its station's name. Asks all at once: some requests are slow."""

    def answered(line: ControlClient) -> list[tuple[str, Any]]:
        with line:
            line.patient(ANSWER_TIMEOUT_S + arguments.get("wait", 0) / 1000)
            return [(line.place.name, item) for item in line.items(what, **arguments)]

    found = connections(station)
    if len(found) == 1:
        return answered(found[0])
    import threading

    answers: list[list[tuple[str, Any]] | ControlError] = [[] for _ in found]

    def ask(number: int) -> None:
        try:
            answers[number] = answered(found[number])
        except ControlError as error:
            answers[number] = error

    # Not a pool: Ctrl-C would wait for its threads.
    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    items = []
    for answer in answers:
        if isinstance(answer, ControlError):
            raise answer
        items += answer
    return items


def when(milliseconds: int) -> str:
    """A time for display: today's without the date."""
    from datetime import datetime

    moment = datetime.fromtimestamp(milliseconds / 1000)
    today = moment.date() == datetime.now().date()
    return moment.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")
