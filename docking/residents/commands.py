"""Orders for agents: retract, dispose, sleep, wake, clone, and to stand still for new code.

An order for an agent that is elsewhere travels after it (`docking.letters.orders`). Invariant: an order is carried out
between two turns of the agent, never inside one, and not while a handoff is being decided.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from attrs import define, field

from agents.credentials.envelope import identify
from agents.errors import CredentialError
from agents.runtime import Asked
from agents.snapshot import Snapshot
from agents.waits import Ask, Call, Clone, Fork, Go, GoAt, Refused, Sleep, Wait, Woke
from docking.errors import StationError, StoreError, UnknownAgent
from docking.letters.journeys import OVER, JourneyStanding
from docking.letters.orders import ORDER_LIFETIME_MS, OrderKind, OrderOutcome, sign_order
from docking.letters.outbox import LetterKind, Outbox
from docking.residents.berth import Berth, Standing
from docking.residents.lifecycle import DAY_S, EINTR, Lifecycle
from docking.residents.queries import Queries
from docking.residents.residents import Residents

# What is being stored of these waits is to be known first.
_MADE = (Clone, Fork, Ask)
STAYS_S = 0.05  # between two looks whether an agent stays whose departure was given up


@define(eq=False, repr=False)
class Commands:
    """Orders for the agents that are `here`."""

    _here: Residents
    _lifecycle: Lifecycle
    _queries: Queries
    upgrading: Callable[[Berth, Wait | Asked | None], Coroutine[object, object, None]] = field(init=False)
    """Gives an agent that stands still its new code, and lets it go on."""

    def order(self, agent: bytes, what: OrderKind, until: int = 0) -> OrderOutcome:
        """Have an agent retracted, disposed of, put to sleep, woken or cloned; what became of the order.

        until: of a sleep, when it ends, milliseconds since 1970; 0: when it is woken
        """
        if self._here.failure:
            raise StationError(f"the station cannot go on: {self._here.failure}")
        berth = self._here.berths.get(agent)
        if berth is not None:
            self.obey(berth, what, until)
            return OrderOutcome.OBEYED
        if agent in self._queries.kept:
            raise StationError(f"the agent is kept here, and cannot be taken up: {self._queries.kept[agent].why}")
        if agent in self._queries.undecided():
            raise StationError("where this agent lives is to be decided first: portcall agents says how")
        journey = self._here.journeys.get(agent)
        if journey is None:
            raise UnknownAgent("this agent is not here, and was not launched here")
        if journey.standing in (*OVER, JourneyStanding.PURGED):
            raise StationError(f"the agent's journey is over: {journey.standing}")
        to = self._queries.where(agent) or journey.place
        now = self._here.clocks.now()
        content = [sign_order(agent, what, now, self._here.key, until), 0]
        self._here.post(
            Outbox.posted(
                to, LetterKind.ORDER, identify("order", agent, what.value, now), content, now + ORDER_LIFETIME_MS
            )
        )
        return OrderOutcome.SENT

    def obey(self, berth: Berth, what: OrderKind, until: int = 0) -> None:
        """Carry out an order: now, or when the agent's turn or call has ended. `until`: as of `order`."""
        if berth.standing is Standing.LEAVING:
            if not self._lifecycle.withdraw(berth):
                raise StationError("the agent is leaving: try again")
            self._here.run(self._obey_when_it_stays(berth, what, until))
            return
        if what is OrderKind.WAKE:
            self._wake_up(berth)
            return
        if berth.standing is Standing.SUSPENDED:
            raise StationError(f"the agent may not go on here: {berth.barred}")
        if berth.standing is Standing.STOPPED and what in (OrderKind.SLEEP, OrderKind.CLONE, OrderKind.UPGRADE):
            raise StationError(f"the agent cannot go on: {berth.text}")
        if berth.owed is not None and what is not OrderKind.DISPOSE:
            raise StationError(f"the agent {berth.owed.said}: try again when all of it is here")
        berth.order, berth.order_until = what, until
        if berth.running and berth.owed is not None:
            berth.owed.abandon()
        if berth.running:
            berth.interrupt()
        elif not isinstance(berth.wait, _MADE if what is OrderKind.DISPOSE else (Call, *_MADE)):
            # An agent that is to end does not wait for its service call, which may take long.
            self.carry_out(berth, berth.wait, berth.state if isinstance(berth.state, bytes) else None)

    async def _obey_when_it_stays(self, berth: Berth, what: OrderKind, until: int) -> None:
        """Its departure was given up: carry out an order then. If its receipt came just before that, it has left."""
        while berth.standing is Standing.LEAVING and not self._here.closing:
            await asyncio.sleep(STAYS_S)
        if self._here.berths.get(berth.agent) is berth and not self._here.closing:
            self.obey(berth, what, until)

    def _wake_up(self, berth: Berth) -> None:
        if berth.standing is Standing.STOPPED:
            raise StationError(f"the agent cannot go on: {berth.text}")
        if berth.standing is not Standing.ASLEEP:
            berth.order = None if berth.order is OrderKind.SLEEP else berth.order
            if isinstance(berth.wait, Sleep):
                self._lifecycle.go_on(berth, Woke())
            elif self._lifecycle.queued.try_now(berth):
                return
            elif berth.put_aside:
                berth.order = OrderKind.WAKE  # it sleeps: as soon as its state is stored
            return
        self._resume_asleep(berth)

    def wake_at(self, berth: Berth) -> None:
        """Have an agent that sleeps by order wake when its time is over, if it has one."""
        if not berth.until:
            return
        left = max(0.0, (berth.until - self._here.clocks.now()) / 1000)
        self._here.timers.start(berth.agent, min(left, DAY_S), self._wake_when_over, berth)

    def _wake_when_over(self, berth: Berth) -> None:
        if (
            self._here.closing
            or self._here.berths.get(berth.agent) is not berth
            or berth.standing is not Standing.ASLEEP
        ):
            return
        if self._here.clocks.now() < berth.until:
            self.wake_at(berth)
        else:
            self._resume_asleep(berth)

    def _resume_asleep(self, berth: Berth) -> None:
        state = berth.state if berth.state is not None else self._here.state_of(berth)
        snapshot = state if isinstance(state, Snapshot) else Snapshot.decode(state)
        berth.state, berth.until = snapshot, 0
        self._here.timers.stop(berth.agent)
        self.carry_on(berth, None if snapshot.pending is None else snapshot.pending.wait)

    def carry_out(self, berth: Berth, stop: Wait | Asked | None, state: bytes | None) -> None:
        """The agent is suspended: carry out its order."""
        what, berth.order = berth.order, None
        if what is OrderKind.RETRACT and isinstance(stop, (Go, GoAt)):
            # At home it would take itself to be at its destination: first its `go` fails.
            self._lifecycle.go_on(berth, Refused(EINTR, "the agent is called home"))
            berth.order = what
            berth.interrupt()
            return
        self._here.timers.stop(berth.agent)
        if berth.life is not None and state is None and berth.owed is None:
            state = berth.life.snapshot().encode()
            berth.close()
            berth.state = state
        if what is OrderKind.DISPOSE:
            self._lifecycle.finish(berth, JourneyStanding.DISPOSED, "disposed of by order")
        elif what is OrderKind.SLEEP:
            berth.standing, berth.wait, berth.until = Standing.ASLEEP, None, berth.order_until
            if state is not None:
                self._lifecycle.park(berth)
            elif berth.saved is not None:
                self._lifecycle.note(berth)
            self._here.tell("waiting", berth.agent, text="put to sleep")
            self.wake_at(berth)
        elif what is OrderKind.RETRACT and berth.credentials.passport.body.home.station != self._here.key.public:
            if berth.standing is Standing.STOPPED and berth.state is None:
                berth.state = self._here.state_of(berth)
            berth.order, berth.standing = OrderKind.RETRACT, Standing.LEAVING
            self._here.run(self._lifecycle.depart(berth, "home"))
        elif what is OrderKind.CLONE:
            self._here.run(self._clone_by_order(berth, stop))
        elif what is OrderKind.UPGRADE:
            self._here.run(self.upgrading(berth, stop))
        elif what is OrderKind.WAKE and isinstance(stop, Sleep):
            self._lifecycle.go_on(berth, Woke())
        else:
            self.carry_on(berth, stop)

    def carry_on(self, berth: Berth, stop: Wait | Asked | None) -> None:
        """Resume as if no order had come."""
        if berth.standing is Standing.STOPPED:
            return
        if stop is None or isinstance(stop, Asked):
            self._lifecycle.go_on(berth, None)
        else:
            self._lifecycle.wait(berth, stop)

    async def _clone_by_order(self, berth: Berth, stop: Wait | Asked | None) -> None:
        state = berth.state if isinstance(berth.state, bytes) else self._here.state_of(berth)
        try:
            for child in await self._lifecycle.clone(berth, state):
                self._lifecycle.begin(child, Snapshot.decode(state), arrived=False)
        except CredentialError as error:
            self._here.tell("refused", berth.agent, text=f"clone: {error.reason}")
        except StoreError as error:  # the agent goes on all the same
            self._here.tell("refused", berth.agent, text=f"clone: {error}")
        self.carry_on(berth, stop)
