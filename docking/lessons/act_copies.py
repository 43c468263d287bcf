"""Two copies? Never: every message comes three times, and a station is put back from its backup."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from attrs import define, field

from docking.handoff.messages import MESSAGE_NAMES, Message
from docking.lessons.land import alarms, folder, land, program, until
from docking.lessons.stage import Stage
from docking.residents.berth import Standing
from docking.testing import Stations
from docking.threaded import Threaded

TIMES = 3
BOTH = ("alpha", "beta")


@define(eq=False, repr=False)
class Echo:
    """A network that delivers each message of a handoff three times, and everything else as it is."""

    _wire: Any
    said: list[tuple[str, str]] = field(factory=list)

    async def exchange(self, peer: bytes, message: Message) -> Message | None:
        """Deliver it, and again, and again; the last answer."""
        for _ in range(TIMES):
            answer: Message | None = await self._wire.exchange(peer, message)
            came = "nothing" if answer is None else MESSAGE_NAMES[type(answer)]
            self.said.append((MESSAGE_NAMES[type(message)], came))
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wire, name)


def _standing(station: Threaded, agent: bytes) -> Standing | None:
    """How an agent stands there; None if it is not there."""
    berth = station.call(lambda: station.station.core.here.berths.get(agent))
    return None if berth is None else berth.standing


def _lives(stations: Stations, agent: bytes) -> list[str]:
    """The stations at which it is, and not put to sleep."""
    found = {name: _standing(stations[name], agent) for name in BOTH}
    return [name for name, standing in found.items() if standing not in (None, Standing.ASLEEP)]


def _sleeping(stations: Stations) -> tuple[str, bytes]:
    """A new agent that sleeps at alpha: its id, as text and as bytes."""
    agent = stations.launch("sleeper.py", via="beta")
    until("it sleeps", lambda: agent.standing == "waiting")
    return agent.id, agent.key


def _to_beta(stations: Stations, name: str, key: bytes) -> None:
    stations["alpha"].agent(name).wake()
    until("it lives at beta", lambda: _lives(stations, key) == ["beta"])


def _doubled(stage: Stage, stations: Stations) -> None:
    name, key = _sleeping(stations)
    alpha = stations["alpha"].station
    echo = Echo(alpha.introductions.wire)
    stage.title(f"1. The network delivers each message {TIMES} times:")
    alpha.introductions.wire = echo
    _to_beta(stations, name, key)
    until("alpha has heard DONE", lambda: any(came == "DONE" for _, came in echo.said))
    alpha.introductions.wire = echo._wire
    stage.table(["alpha says", "beta answers"], echo.said)
    stage.say("what comes again gets the same answer: each message names its handoff, and a handoff has one state")
    stage.holds("there is one agent, at beta", _lives(stations, key) == ["beta"])


def _put_back(stage: Stage, stations: Stations, homes: Path, told: list[tuple[str, str]]) -> None:
    name, key = _sleeping(stations)
    stage.title("2. Alpha is copied while it has another agent; the agent leaves; alpha is put back from the copy:")
    stations.stop("alpha")
    shutil.copytree(homes / "alpha", homes / "backup")
    stations.start("alpha")
    _to_beta(stations, name, key)
    stage.say("alpha gave it away, and beta has it")
    stations.stop("alpha")
    shutil.rmtree(homes / "alpha")
    (homes / "backup").rename(homes / "alpha")
    stations.start("alpha")
    alpha = stations["alpha"]
    stage.say("alpha is put back: its store does not know that it gave the agent away")
    stage.pause()
    until("alpha has put it to sleep", lambda: _standing(alpha, key) is Standing.ASLEEP)
    stage.say(
        "an alarm at alpha: " + until("there is an alarm", lambda: next((s for at, s in told if at == "alpha"), None))
    )
    stage.holds(
        "beta showed alpha what alpha had signed, and alpha put its old copy to sleep",
        _lives(stations, key) == ["beta"],
    )
    stage.pause()
    stage.title("3. Its operator does not believe that, and wakes the copy:")
    alpha.agent(name).wake()
    until("it is in its sleep again", lambda: _standing(alpha, key) is Standing.WAITING)
    alpha.agent(name).wake()
    line = until("it was refused", lambda: next((s for s in alpha.agent(name).logs() if "refused" in s), None))
    stage.say(f"alpha's log: {line}")
    stage.holds("beta has had this agent at this hop, and takes no second one", "came here at this hop before" in line)
    stage.say("what the operator woke computes at alpha, and can go nowhere: dispose of it there, and only there")


def act(stage: Stage) -> None:
    """See `docking.lessons.acts`."""
    stage.title("An agent goes from alpha to beta, and stays there:")
    stage.code(program("sleeper.py"))
    with folder() as homes, alarms() as told, land(*BOTH, home=homes) as stations:
        _doubled(stage, stations)
        stage.pause()
        _put_back(stage, stations, homes, told)
