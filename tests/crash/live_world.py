"""Stations in the simulator between which an agent is moved while it runs.

Real, beside what is real in `tests.crash.world`: the agent, a program that writes at random places of its memory; the
moves (`docking.residents.moves`) with what they send; the sessions, their instances and their files of blocks.
Simulated: papers and policy; when the agent has a turn; threads, whose work is done at once.

Judged besides: an agent that arrived has the state that it left with, byte for byte, and as much of it as its source
has signed is what its source had; one that was taken up again has the state that was stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen

from agents import canonical
from agents.engines import Limits
from agents.execution import Execution
from agents.waits import Sleep
from docking.handoff.messages import Offer
from docking.residents.berth import Standing
from tests.crash.live_agent import ENGINE, MEMORY, NOBODY, Guest, image
from tests.crash.live_station import LiveStation
from tests.crash.world import Broken, Plan, Station, World


@frozen
class LivePlan(Plan):
    """A journey. `orders`: for each stop, how the agent gets there, one of `ORDERS`; `busy`: numbers that it writes in
    a turn; `power`: a crash takes along what was not synced of files of blocks; `refuse_sessions`: PREPAREs that a
    destination refuses, by count.
    """

    orders: tuple[str, ...] = ()
    busy: int = 2
    power: bool = False
    refuse_sessions: frozenset[int] = frozenset()


@define(eq=False)
class LiveWorld(World):
    """Both stations. Beside the hooks of `World`: `clock` is the time (s), `loop` runs what waits, `later` and
    `on_turn` do something after some seconds, the latter unless the station has crashed; `failed` is told of tasks
    that ended.
    """

    loop: Any = field(kw_only=True)
    clock: Callable[[], float] = field(kw_only=True)
    later: Callable[[float, Callable[[], None]], None] = field(kw_only=True)
    on_turn: Callable[[LiveStation, float, Callable[[], None]], None] = field(kw_only=True)
    on_ask: Callable[[LiveStation, Station, bytes, str, asyncio.Future[Any]], None] = field(kw_only=True)
    failed: Callable[[asyncio.Task[Any]], None] = field(kw_only=True)
    truth: dict[bytes, bytes] = field(factory=dict)
    """By the digest of a state that travelled or was stored, what it was."""
    guests: dict[str, list[Guest]] = field(factory=dict)
    moved: int = 0
    _drawn: int = 0
    _prepared: dict[bytes, int] = field(factory=dict)

    @property
    def live_plan(self) -> LivePlan:
        assert isinstance(self.plan, LivePlan)
        return self.plan

    def made(self, name: str) -> Station:
        return LiveStation(name, canonical.digest(name.encode()), self, self.folder / name)

    def launch(self, alpha: Station) -> None:
        assert isinstance(alpha, LiveStation)
        limits = Limits(memory=MEMORY)
        life = Execution(image(), engine=ENGINE, ambient=NOBODY, limits=limits)
        life.open()
        assert life.instance is not None
        life.instance.memory("memory")[1024:1028] = self.live_plan.busy.to_bytes(4, "little")
        stop = life.advance()
        assert isinstance(stop, Sleep), stop
        alpha.enter(life)
        guest = alpha.guest
        assert guest is not None
        alpha.store.commit([[alpha.checkpoint_of(guest)]])
        self.launched = True

    def living(self) -> list[Station]:
        """An agent that stands still on its way does not live, until it is decided where it does."""
        found = super().living()
        return [s for s in found if isinstance(s, LiveStation) and s.guest and s.guest.standing is not Standing.LEAVING]

    def check(self) -> None:
        """See `World`; one that waits for its memory is alive too."""
        waiting = [s for s in self.stations.values() if isinstance(s, LiveStation) and s.up and s.fetching is not None]
        if len(self.living()) + len(waiting) > 1:
            raise Broken("two live agents")

    def draw(self) -> int:
        self._drawn += 1
        return self._drawn

    def refuses_session(self, offer: Offer) -> bool:
        """Whether the plan has this PREPARE refused; asked again, it answers the same."""
        return self._prepared.setdefault(offer.hid, len(self._prepared)) in self.live_plan.refuse_sessions
