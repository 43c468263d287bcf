"""A hostile agent tries twelve things at a station that has let it in, and each is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import agents
from agents.credentials.keys import PublicKey
from agents.credentials.permit import Budget, Permit
from docking.errors import AgentEnded
from docking.launching import Terms
from docking.lessons.land import PROGRAMS, folder, land, program, until
from docking.lessons.stage import Stage
from docking.residents.services import Offering
from docking.testing import Stations
from docking.trust.policy import MIB, LentDirectory, OwnerRule, Policy

MEMORY, CPU_US, EFAULT = 64 * MIB, 300_000, 21
BUDGET = Budget(cpu=10**7, memory=MEMORY, carried=1 << 30, messages=1000)
PERMIT = Permit(BUDGET, ("dir:charts", "service:price.*"))
# The error numbers are those of WASI.
NAMES = {
    2: "EACCES",
    EFAULT: "EFAULT",
    33: "EMFILE",
    44: "ENOENT",
    51: "ENOSPC",
    63: "EPERM",
    69: "EROFS",
    76: "ENOTCAPABLE",
}
# What `vandal.py` tries, and what stands in its way.
GUARDS = {
    "read a file of the machine": "its files are its own, and travel with it; the machine's are not there",
    "climb out of a lent folder": "a path is walked step by step, and never above its beginning",
    "write into a folder lent to read": "the policy lends it to be read",
    "ask a service that is not for it": "permit and policy must both name the service",
    "go where its owner did not allow": "the itinerary, which its owner signed",
    "multiply": "the permit does not say host:clone",
    "fill the disk": "its files are counted, byte by byte",
    "open files without end": "so are its open files",
}


class Row(NamedTuple):
    """One attempt: what was tried, what came of it, why, and whether it was refused."""

    tried: str
    came: str
    since: str
    refused: bool


def _policy(owner: PublicKey, lent: LentDirectory) -> Policy:
    return Policy(owners=[OwnerRule(owner, "somebody", ("service:*", "dir:charts"))], directories=(lent,))


def _services(station: Offering) -> None:
    station.offer("price.ask", lambda request: "3.20")
    station.offer("safe.open", lambda request: "the combination")


def _vandal(stations: Stations) -> Iterator[Row]:
    agent = stations.launch("vandal.py", terms=Terms(PERMIT), via="beta")
    said = {result.key: result.text for result in agent.wait(120).results}
    for tried, since in GUARDS.items():
        came = said.get(tried, "nothing")
        number = came.removeprefix("error ")
        yield Row(tried, NAMES.get(int(number), came) if number.isdigit() else came, since, number.isdigit())
    line = until("its last line is in the log", lambda: next((s for s in agent.logs() if "nothing to see" in s), None))
    yield Row(
        "clear the operator's screen", "a harmless line", "what agents print is made printable", line.isprintable()
    )


def _image(name: str) -> agents.AgentImage:
    return agents.pack(Path(PROGRAMS / name))


def _greedy(stations: Stations) -> Row:
    had = stations.run(_image("greedy.wat"), terms=Terms(PERMIT)).exit_code
    return Row("take all memory", f"{had} MiB, no more", "the permit says how much", had <= MEMORY // MIB)


def _reaching(stations: Stations) -> Row:
    code = stations.run(_image("reaching.wat"), terms=Terms(PERMIT)).exit_code
    since = "a pointer is checked before anything is done"
    return Row("reach beyond its memory", NAMES.get(code, str(code)), since, code == EFAULT)


def _endless(stations: Stations) -> Row:
    permit = Permit(Budget(CPU_US, MEMORY, 1 << 30, 1000))
    since = "its CPU time is counted, and each loop looks whether it shall stop"
    try:
        stations.run(_image("endless.wat"), terms=Terms(permit))
    except AgentEnded:
        return Row("compute for ever", f"stopped after {CPU_US / 1e6:g} s", since, True)
    return Row("compute for ever", "it ended", since, False)


def attempts(stations: Stations) -> Iterator[Row]:
    """All of them, one after the other."""
    yield from _vandal(stations)
    yield _greedy(stations)
    yield _reaching(stations)
    yield _endless(stations)


def act(stage: Stage) -> None:
    """See `docking.lessons.acts`."""
    stage.title("A station has two services and a folder; it lets in the agents of one owner. This is one of them:")
    stage.code(program("vandal.py"))
    stage.say("its permit says: " + ", ".join(PERMIT.capabilities))
    stage.pause()
    with folder() as home:
        charts = home / "charts"
        charts.mkdir()
        (charts / "harbour.txt").write_text("depth 12 m\n")
        lent = LentDirectory("charts", charts)
        with land("alpha", "beta", "gamma", services=_services, policy=lambda owner: _policy(owner, lent)) as stations:
            stage.title("What it and three others tried, what came of it, and what stood in the way:")
            headings, widths, rows = ("tried", "came of it", "since"), (34, 20, 0), list[Row]()
            for row in attempts(stations):
                stage.row(headings, widths, row[:3], not rows)
                rows.append(row)
            stage.pause()
            after = stations.run("tour.py", terms=Terms(PERMIT), via="beta")
            stage.holds("the station serves the next agent", [each.text for each in after.results] == ["3.20"])
        stage.holds("the folder is as it was", [p.name for p in charts.iterdir()] == ["harbour.txt"])
    stage.holds(f"{len(rows)} things were tried, and {len(rows)} were refused", all(row.refused for row in rows))
