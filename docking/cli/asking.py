"""How commands reach a station of this user: which one is meant, and what to say when there is none.

Not what is asked. Light: only the small client of `docking.running` is imported. Invariant: an agent that several
stations know is asked about where it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import click

from docking.cli import completion
from docking.errors import ControlError
from docking.running import Line, Place, running

STATION_OPTION = click.option(
    "--station",
    "station",
    metavar="NAME",
    shell_complete=completion.running_stations,
    help="Ask this station only (its name, or the folder that is its home).",
)
# Seconds within which a station answers, beside what it was asked to wait.
ANSWERED = 30.0
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def lines(station: str | None) -> list[Line]:
    """Lines to the stations that run: to the named one, or to all. Raises `ControlError` if there is none.

    Notes of stations that have died are removed on the way.
    """
    found = []
    for path, place in running():
        if station is not None and not _is(place, station):
            continue
        try:
            found.append(Line(place))
        except ControlError:
            with contextlib.suppress(OSError):
                path.unlink()
    if found:
        return found
    if station is not None:
        raise ControlError(f"no station {station!r} runs here; portcall station --name {station} --home DIR starts one")
    raise ControlError("no station runs here; portcall station --name NAME --home DIR starts one")


def _is(place: Place, text: str) -> bool:
    from pathlib import Path

    return text == place.name or text == place.key or Path(text).resolve() == Path(place.home)


@contextlib.contextmanager
def one(station: str | None) -> Iterator[Line]:
    """A line to the station that is meant; if several run, it must be named."""
    with contextlib.ExitStack() as opened:
        found = [opened.enter_context(line) for line in lines(station)]
        if len(found) > 1:
            names = ", ".join(line.place.name for line in found)
            if station is not None:
                homes = ", ".join(line.place.home for line in found)
                raise ControlError(f"several stations called {station} run here: name one by its home ({homes})")
            raise ControlError(f"several stations run here ({names}): say which one with --station or --from")
        yield found[0]


@contextlib.contextmanager
def whoever_knows(station: str | None, agent: str) -> Iterator[Line]:
    """A line to the station that knows the agent: where it is, if that is here. Raises `ControlError`."""
    knowing: list[tuple[int, Line]] = []  # 0: it is there; 1: its home; 2: it has been there
    problem: ControlError | None = None
    with contextlib.ExitStack() as opened:
        for each in lines(station):
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
            raise ControlError(f"{said}; portcall agents lists those that are known")
        if problem is not None and all(rank for rank, _ in knowing):
            _refuse_several(lines(station), agent)  # one that has several says so; another may know one of them
        yield min(knowing, key=lambda item: item[0])[1]


def _refuse_several(opened: list[Line], agent: str) -> None:
    """Raises `ControlError` when several agents that are here are called so."""
    found = set()
    with contextlib.ExitStack() as stack:
        for line in [stack.enter_context(each) for each in opened]:
            found |= {row["agent"] for row in line.items("agents") if row["here"] and row["label"] == agent}
    if len(found) > 1:
        names = ", ".join(sorted(each[:12] for each in found)[:8])
        raise ControlError(f"{len(found)} agents are called {agent!r}: name the one you mean by its id ({names})")


def every(station: str | None, what: str, **arguments: Any) -> list[tuple[str, Any]]:
    """The items that each station answers, with its name. All are asked at once: some questions take their time."""

    def answered(line: Line) -> list[tuple[str, Any]]:
        with line:
            line.patient(ANSWERED + arguments.get("wait", 0) / 1000)
            return [(line.place.name, item) for item in line.items(what, **arguments)]

    found = lines(station)
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
    """A time for people: of today without the date."""
    from datetime import datetime

    moment = datetime.fromtimestamp(milliseconds / 1000)
    today = moment.date() == datetime.now().date()
    return moment.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")
