"""kill -9 in the middle of a handoff: each station is killed at each point, and there is one agent every time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from agents.image import AgentImage
from agents.sdk.sources import load_image, user_cache
from docking.connection import RemoteAgent
from docking.errors import ControlError
from docking.lessons.land import LOOK_S, PATIENCE_S, PROGRAMS, folder, program
from docking.lessons.mortal import Pair, pair
from docking.lessons.stage import LessonFailed, Stage

FILE = "to_beta.py"
# Rows of a ledger that say whose the agent is, the surest first.
BETAS = ("runnable", "running")
SIDES = ("alpha", "beta")


class Point(NamedTuple):
    """A moment: which station, and the name of the failpoint."""

    station: str
    place: str
    number: int


class Case(NamedTuple):
    """What came of one: the ledgers of both at the moment of the death, and whether there is exactly one agent."""

    killed: bool
    ledgers: str
    one: bool


def _launch(stations: Pair, image: AgentImage) -> RemoteAgent:
    """An agent that sleeps at alpha."""
    agent = stations["alpha"].connection().launch(image, via="beta", owner=stations.owner)
    _until(lambda: agent.standing == "waiting", agent)
    return agent


def _until(so: Callable[[], bool], agent: RemoteAgent) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not so():
        if time.monotonic() > deadline:
            raise LessonFailed(f"the agent does not get on: {agent.standing} at {agent.where()}")
        time.sleep(LOOK_S)


def _ledgers(stations: Pair, agent: RemoteAgent) -> str:
    told = {name: stations[name].ledger(agent.id) for name in SIDES}
    return ", ".join(f"{name}: {rows[-1] if rows else 'nothing'}" for name, rows in told.items())


def _journey(stations: Pair, agent: RemoteAgent) -> str:
    """Wake it, and see it to its end, whoever dies. What the ledgers said when somebody was dead."""
    deadline, ledgers = time.monotonic() + PATIENCE_S, ""
    while time.monotonic() < deadline:
        if any(each.dead for each in stations.stations.values()):
            ledgers = _ledgers(stations, agent)
            stations.revive()
        try:
            standing = agent.standing
            if standing == "finished":
                return ledgers
            if standing == "waiting":
                stations["alpha"].connection().agent(agent.id).wake()
        except ControlError:
            pass  # it has just been killed
        time.sleep(LOOK_S)
    raise LessonFailed(f"the agent is not at its end after {PATIENCE_S:.0f} s")


def case(stations: Pair, image: AgentImage, point: Point | None) -> tuple[Case, list[Point]]:
    """One handoff, with a death at this point; and the points that it came by."""
    agent = _launch(stations, image)
    before = {name: stations[name].deaths for name in SIDES}
    for name in SIDES:
        stations[name].trap(*(point[1:] if point is not None and point.station == name else ()))
    ledgers = _journey(stations, agent)
    seen = {name: stations[name].trap() for name in SIDES}
    ledgers = ledgers or _ledgers(stations, agent)
    stations.revive()  # also who died when all was over
    report = stations["alpha"].connection().agent(agent.id, stations.owner).wait(PATIENCE_S)
    once = [(each.key, each.text) for each in report.results] == [("arrived", "beta")]
    route = [stay.station for stay in report.trail] == list(SIDES)
    left = [
        row for name in SIDES for row in stations[name].connection().agents() if row.here and row.standing != "finished"
    ]
    killed = any(stations[name].deaths > before[name] for name in SIDES)
    points = [
        Point(name, place, n) for name in SIDES for place, count in seen[name].items() for n in range(1, count + 1)
    ]
    return Case(killed, ledgers, once and route and not left and report.exit_code == 0), points


def act(stage: Stage) -> None:
    """See `docking.lessons.acts`."""
    stage.title(
        "Two stations, each a process of its own with a store on the disk, and an agent that goes from alpha to beta:"
    )
    stage.code(program(FILE))
    image = load_image(PROGRAMS / FILE, cache=user_cache())
    with folder() as place, pair(place, *SIDES) as stations:
        whole, points = case(stations, image, None)
        points = [each for each in points if not each.place.startswith("store.body")]
        stage.holds("without a death it arrives once, and comes to its end", whole.one)
        stage.say(
            f"on its way are {len(points)} points at which one of them can die: before and after each write and message"
        )
        stage.pause()
        stage.title("Now one dies of SIGKILL at each of them, and is started again:")
        headings, widths, rows = ("dies", "at", "what the two ledgers say then", "agents"), (5, 23, 32, 0), list[Case]()
        for point in points:
            done, _ = case(stations, image, point)
            if not done.killed:
                continue  # it went another way this time
            name = point.place + (f" ({point.number})" if point.number > 1 else "")
            stage.row(headings, widths, (point.station, name, done.ledgers, "one" if done.one else "WRONG"), not rows)
            rows.append(done)
        stage.holds(
            f"killed {len(rows)} times, and each time one agent arrived, once",
            bool(rows) and all(each.one for each in rows),
        )
    stage.say("it changes hands where alpha's ledger first says committed: one row, written before anything is said")
