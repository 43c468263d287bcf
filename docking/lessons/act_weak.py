"""Strong and weak: one task in two programs, what travels of each, and that stations take both."""

from __future__ import annotations

from pathlib import Path

import agents
from agents.image import AgentImage
from agents.outcomes import Departing
from agents.snapshot import Snapshot
from agents.stack import stack_of
from agents.waits import Arrived, Call, Event, Reply, Wait
from docking.lessons.land import PROGRAMS, land, program
from docking.lessons.stage import LessonFailed, Stage
from docking.residents.services import Offering

STOCK = {"alpha": 12, "beta": 30, "gamma": 7}


def _functions(source: str, *heads: str) -> str:
    """The functions of a program whose first lines begin with one of `heads`."""
    kept, inside = list[str](), False
    for line in source.splitlines():
        if line.startswith("  (func"):
            inside = line.strip().startswith(heads)
        if inside:
            kept.append(line[2:])
    return "\n".join(kept)


def _answer(wait: Wait) -> Event | None:
    """As alpha would."""
    return Reply(bytes([STOCK["alpha"]])) if isinstance(wait, Call) else None


def second_departure(image: AgentImage) -> Snapshot:
    """The agent as it leaves its first stop. Raises `LessonFailed` if it does not."""
    outcome = agents.run(image)
    if isinstance(outcome, Departing):
        outcome = agents.run(image, snapshot=outcome.snapshot.encode(), event=Arrived(), answer=_answer)
    if not isinstance(outcome, Departing):
        raise LessonFailed(f"the agent did not leave its first stop: {outcome}")
    return outcome.snapshot


def _services(station: Offering) -> None:
    if station.name in STOCK:
        station.offer("stock.count", lambda request: bytes([STOCK[station.name]]))


def act(stage: Stage) -> None:
    """See `docking.lessons.acts`."""
    stage.title("Strong: the program calls go in the middle of its loop.")
    stage.code(_functions(program("strong.wat"), "(func $run"))
    stage.pause()
    stage.title("Weak: the program names the function to call there, and keeps in globals what must survive.")
    stage.code(_functions(program("weak.wat"), "(func $leave", "(func (export"))
    stage.pause()
    images = {name: agents.pack(Path(PROGRAMS / f"{name}.wat")) for name in ("strong", "weak")}
    left = {name: second_departure(image) for name, image in images.items()}
    stacks = {name: stack_of(images[name], snapshot) for name, snapshot in left.items()}
    stage.title("What leaves alpha, after the first turn of three:")
    rows = []
    for name, snapshot in left.items():
        values = [f"{each.name} = {each.value}" for frame in stacks[name].frames for each in frame.variables]
        kept = ", ".join(values) or "none: it is called anew"
        rows.append([name, f"{len(snapshot.encode())} bytes", len(stacks[name].frames), kept, snapshot.entry])
    stage.table(["program", "size", "frames", "variables of the frames", "begins there with"], rows)
    stage.holds(
        "the strong one has a stack, the weak one has none",
        [len(s.frames) > 0 for s in stacks.values()] == [True, False],
    )
    stage.pause()
    stage.title("Both at real stations:")
    with land("home", *STOCK, services=_services) as stations:
        reports = {name: stations.run(image, via=list(STOCK)) for name, image in images.items()}
    rows = [
        [name, " ".join(stay.station for stay in report.trail), str(report.results[0].value[0])]
        for name, report in reports.items()
    ]
    stage.table(["program", "was at", "total"], rows)
    total = str(sum(STOCK.values()))
    stage.holds(
        f"both say {total}: to the stations, weak is strong with an empty stack",
        [row[2] for row in rows] == [total] * 2,
    )
