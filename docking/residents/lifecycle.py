"""The life of agents that are here: after each turn, they run on, wait, call, clone, leave or end.

The event loop's side of `docking.residents.berth`, which has the turn itself. Not arrivals (`arrivals`), and not orders
(`commands`). Invariants: an agent has at most one turn, wait or departure at a time; the state of an agent that waits
for long is in the store, and not in memory.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeAlias

from attrs import define, evolve, field

from agents.credentials.keys import text_of
from agents.errors import CredentialError, EngineLost, MemoryMissing, PortcallError
from agents.outcomes import Exhausted, Finished, Trapped
from agents.runtime import Asked, Spent, Stop
from agents.snapshot import ONWARD, Snapshot
from agents.waits import (
    Accept,
    Answer,
    Arrived,
    Ask,
    Call,
    Clone,
    Event,
    Failed,
    Find,
    Fork,
    Go,
    GoAt,
    Input,
    InputReady,
    Listen,
    Recv,
    Refused,
    Reply,
    Select,
    Sleep,
    TimedOut,
    Wait,
    Woke,
    Yield,
)
from docking.aio.threads import in_thread
from docking.errors import LocalProtocolError, StationError, StoreError, StoreFull, WriteFailed
from docking.events import EventKind
from docking.handoff.refusal import Refusal
from docking.letters.journeys import TOP_IT_UP, JourneyStanding
from docking.letters.orders import OrderKind
from docking.residents import checkpoints, tasks
from docking.residents.berth import EDQUOT, ENOSPC, EPERM, LARGE, SPENT, Berth, HostEnvironment, Standing, Turn
from docking.residents.budgets import BudgetWatch
from docking.residents.cloning import Told, make_clones, told_of_clone, told_of_fork
from docking.residents.departures import Departures, Given, errno_of
from docking.residents.endings import Endings
from docking.residents.queued import MENDS_ITSELF, Queued
from docking.residents.residents import Residents, seen
from docking.residents.services import Services, Visitor
from docking.residents.workers import Job
from docking.store.changes import Change, DropCapsule, StoredCapsule
from docking.trust.in_force import PolicyInForce
from docking.trust.verified_trails import VerifiedTrails

_log = logging.getLogger(__name__)
EINTR = 27
Timed: TypeAlias = Sleep | Recv | Select | Answer | Accept
DAY_S = 86_400.0
# How often in a stay an agent goes on after the process of its engine has died: perhaps it is the agent that kills it.
MAX_LOST = 3
# After so many messages read, the state is stored although the agent does not wait.
MAX_UNSAVED_MAIL = 64
# The alarm for an agent that its destination already got from here.
AMNESIA = (
    "has had this agent from here before, and the store here does not know: was it restored from an old copy, or did "
    "its disk lose what it said was written? The agent may live twice: put this one to sleep (portcall sleep), which "
    "loses nothing, and dispose of it only when portcall where shows the other one"
)
# Bytes of states that wait to be written, from which on agents with large ones wait for that.
BACKLOG = 64 << 20
# Why what was sent ahead of an agent is of no use: then its state travels as a whole.
SESSION_LOST = ("no-session", "bad-blocks", "storage")
# Seconds until a state that did not fit on the disk is written again.
PARK_RETRY_S = 5.0


@define(eq=False, repr=False)
class Lifecycle:
    """The turns, waits and endings of the agents that are `here`."""

    _here: Residents
    _environment: HostEnvironment
    _policy: PolicyInForce
    _services: Services
    _departures: Departures
    _endings: Endings
    _trails: VerifiedTrails
    _delayed: dict[bytes, tuple[Berth, Event | None]] = field(factory=dict)
    ordered: Callable[[Berth, Wait | Asked | None, bytes | None], None] = field(init=False)
    """Told that an agent for which there is an order stands still."""

    resume: Callable[[StoredCapsule], None] = field(init=False)
    """Takes up an agent from the store: see `Arrivals.resume`."""

    asking: Callable[[Berth, Ask], Coroutine[object, object, None]] = field(init=False)
    """Takes the question of an agent, which goes on then."""

    finding: Callable[[Berth, Find], Coroutine[object, object, None]] = field(init=False)
    """Looks for other agents for an agent, which goes on then."""

    accepting: Callable[[Berth], bool] = field(init=False)
    """Told of an agent that waits for a client's request; returns whether it was given one."""

    ahead: Callable[[Berth, str], Awaitable[Given | None]] = field(init=False)
    """Asked what is to be sent yet of an agent that was sent ahead, and goes; None for all of it."""

    over: Callable[[Berth, str], None] = field(init=False)
    """Told of an agent that will answer no more requests, and why."""

    budgets: BudgetWatch = field(init=False)
    """Warns of budgets that are nearly used up."""

    regain: Callable[[Berth], Coroutine[object, object, None]] = field(init=False)
    """Has an agent go on that stopped because its budget was used up, if it has some now."""

    queued: Queued = field(init=False)
    """Those who wait for a station."""

    suspended: Callable[[Berth], None] = field(init=False)
    """Told of an agent that the policy does not admit any more, when it is put away."""

    def __attrs_post_init__(self) -> None:
        self._here.hear = self._hear

    def _store(self, change: Change) -> asyncio.Future[None]:
        """Write a berth down as it is, after what it refers to: the trail of one that just came may be put aside."""
        self._here.catch_up()
        return self._here.journal.write([change], False)

    def put_away(self, berth: Berth) -> None:
        """When the station stops: store the state of an agent that still has an instance, or waits for the disk."""
        if berth.owed is not None:  # what is stored is how it came; the rest of its memory is at its source
            berth.close()
            return
        delayed = self._delayed.pop(berth.agent, None)
        if delayed is not None:
            self._not_begun(*delayed)
            return
        if berth.life is not None and not berth.running and berth.standing is not Standing.LEAVING:
            change = self._captured(berth)
            if change is not None:
                self._store(change).add_done_callback(seen)

    def _captured(self, berth: Berth) -> Change | None:
        """Give up the instance of a suspended agent; returns what to write of it, if anything."""
        life = berth.life
        if life is None or not berth.begun:  # made in advance: the store has the state that arrived
            berth.close()
            return None
        if isinstance(berth.wait, Call):
            berth.calls -= 1  # it is made again, with the same number
        try:
            return checkpoints.put_checkpoint(berth, life.snapshot().encode())
        except PortcallError as error:
            _log.error("an agent could not be put away: %s", error, extra={"agent": text_of(berth.agent)})
            return None
        finally:
            berth.close()

    def suspend(self, berth: Berth) -> None:
        """Put away a suspended agent that may not run here, as if the station closed for it alone."""
        if self._here.berths.get(berth.agent) is not berth or berth.standing is Standing.SUSPENDED:
            return
        if berth.owed is not None:
            self._here.run(self._suspend_when_whole(berth))
            return
        change = self._captured(berth)
        if change is None and isinstance(berth.state, bytes):
            change = checkpoints.put_checkpoint(berth, berth.state)
        elif change is None and berth.begun and berth.inbox:
            change = checkpoints.with_mail(berth)
        berth.standing, berth.wait = Standing.SUSPENDED, None
        self._here.timers.stop(berth.agent)
        berth.remark(f"suspended: {berth.barred}")
        self._put_aside(berth, [] if change is None else [change])

    async def _suspend_when_whole(self, berth: Berth) -> None:
        assert berth.owed is not None
        whole = berth.owed.whole
        await asyncio.wait({whole})
        if not whole.cancelled():
            self.suspend(berth)

    def _put_aside(self, berth: Berth, changes: list[Change]) -> None:
        """Take it off the table once it is written; on a full disk, that is retried."""

        def written(future: asyncio.Future[None]) -> None:
            if self._here.closing or self._here.berths.get(berth.agent) is not berth:
                return
            if seen(future):
                self._here.unsettle(berth, Standing.SUSPENDED)
                self.suspended(berth)
            elif not future.cancelled() and isinstance(future.exception(), StoreFull):
                asyncio.get_running_loop().call_later(PARK_RETRY_S, again)

        def again() -> None:
            if not self._here.closing:
                self._put_aside(berth, changes)

        self._here.catch_up()
        self._here.journal.write(changes, False).add_done_callback(written)

    def begin(self, berth: Berth, snapshot: Snapshot, arrived: bool) -> None:
        """Resume from a snapshot: with the arrival, or with what it waited for."""
        self.budgets.examine(berth)
        if berth.travels_by_tasks and (snapshot.between_tasks or snapshot.stage == "new"):
            self.begin_task(berth, snapshot, arrived)
            return
        wait = None if snapshot.pending is None else snapshot.pending.wait
        home = berth.credentials.passport.body.home.station == self._here.key.public
        berth.brought |= arrived and home and not isinstance(wait, (Go, GoAt))
        if wait is None:
            self.go_on(berth, None)
        elif isinstance(wait, (Go, GoAt)):
            self.go_on(berth, Arrived() if arrived else Refused(EINTR, "the station was restarted"))
        else:
            self.wait(berth, wait)

    def begin_task(self, berth: Berth, snapshot: Snapshot, arrived: bool) -> None:
        """Call the task of its stop, or send it on if that was done, or if its itinerary begins elsewhere."""
        try:
            credentials = berth.credentials
            itinerary, here = credentials.passport.body.itinerary, self._here.key.public
            task = tasks.begins(snapshot, itinerary, credentials.positions, here) if arrived else None
        except ValueError as error:
            self._stop(berth, snapshot.encode(), str(error))
            return
        if task is not None:
            self.go_on(berth, Arrived() if snapshot.between_tasks else None)
            return
        if berth.recording is not None and arrived:
            berth.recording.passed(snapshot)
        if berth.credentials.next_stops():
            berth.onward = True
            self.wait(berth, ONWARD)
        else:
            self.finish(berth, JourneyStanding.FINISHED, "0")

    async def _cannot_go_on(self, berth: Berth, refused: Refusal) -> None:
        """No stop takes an agent after its task: it ends if nothing must be visited, waits if that helps, or stops."""
        credentials = berth.credentials
        complete = credentials.passport.body.itinerary.complete
        if berth.barred:
            self.suspend(berth)
        elif berth.order:
            self.ordered(berth, ONWARD, berth.state if isinstance(berth.state, bytes) else None)
        elif any(map(complete, credentials.positions)):
            self.finish(berth, JourneyStanding.FINISHED, "0")
        elif not await self._queue(berth, refused) and not self._here.closing:
            state = await self._whole(berth)
            self._stop(berth, state, f"no next stop takes it: {refused.code}: {refused.reason}"[:900])

    def go_on(self, berth: Berth, event: Event | None) -> None:
        """Queue the agent for a worker."""
        if self._here.closing:
            return
        if berth.barred:
            self.suspend(berth)
            return
        written = self._make_room(berth, event)
        stays = berth.standing is Standing.LEAVING
        berth.wait, berth.until, berth.standing, berth.running = None, 0, Standing.READY, True
        berth.held_up, berth.onward = None, False
        self._here.active[berth.agent] = berth
        if stays:
            self._here.changed(berth.agent)
        self._here.timers.stop(berth.agent)
        if written is None:
            self._submit(berth, event)
            return
        self._delayed[berth.agent] = (berth, event)

        def go(_: asyncio.Future[None]) -> None:
            if not self._here.closing and self._delayed.pop(berth.agent, None) is not None:
                self._submit(berth, event)

        written.add_done_callback(go)

    def _make_room(self, berth: Berth, event: Event | None) -> asyncio.Future[None] | None:
        """Where much memory is held: the write after which an agent with a large state may go on. Its own, so that the
        state is forgotten until the agent's turn comes; or of others, when these make them faster than the disk.
        """
        here, state = self._here, berth.state
        if not isinstance(state, bytes) or len(state) < LARGE or here.store.volatile:
            return None
        # What else it may be told is not in the store, or counted where it is.
        if here.crowded() and (event is None or isinstance(event, (Woke, Refused))):
            stored = isinstance(berth.saved, checkpoints.StoredState) and berth.saved.state.digest
            if stored == berth.digest_of(state):
                written = here.journal.write([], False)
            else:
                written = self._store(checkpoints.put_checkpoint(berth, state))
            written.add_done_callback(functools.partial(self._forget, berth, state))
            return written
        return here.journal.write([], False) if here.journal.backlog >= BACKLOG else None

    def _forget(self, berth: Berth, state: bytes, future: asyncio.Future[None]) -> None:
        """It is in the store: fetched again when it is needed."""
        if seen(future) and berth.state is state:
            berth.state = None

    def _submit(self, berth: Berth, event: Event | None) -> None:
        berth.turn_cpu = berth.grant.budget.cpu
        self.budgets.runs()

        def work() -> Turn:
            try:
                berth.fetch(self._here.state_of)
            except (StationError, StoreError) as error:
                return Turn(Trapped("state", str(error)))
            return berth.turn(event)

        turned, dropped = functools.partial(self.turned, berth), functools.partial(self._not_begun, berth, event)
        self._here.workers.submit(Job(work, berth.interrupt, turned, dropped))

    def _not_begun(self, berth: Berth, event: Event | None) -> None:
        """The station stops before the agent's turn began. If it had waited for something, the store has that wait. If
        it was just to run on, its state may be nowhere else.
        """
        berth.running = False
        if isinstance(event, (Reply, Failed)):
            berth.calls -= 1  # as in `put_away`
        if event is None and isinstance(berth.state, bytes):
            self._store(checkpoints.put_checkpoint(berth, berth.state)).add_done_callback(seen)

    def turned(self, berth: Berth, turn: Turn | None, error: BaseException | None) -> None:
        """A turn has ended."""
        berth.running = berth.put_aside = False
        halting, berth.halting = berth.halting, None
        self._hear(berth)
        _show(berth, turn)
        if isinstance(error, MemoryMissing):
            # It was given up while it waited for its memory: to end, or with the station.
            if not self._here.closing and berth.order is OrderKind.DISPOSE:
                self.finish(berth, JourneyStanding.DISPOSED, "disposed of by order")
            return
        if isinstance(error, EngineLost) and not self._here.closing and berth.lost < MAX_LOST and not berth.order:
            self._here.run(self._again(berth, str(error)))
            if halting is not None:
                halting.cancel()
            return
        if isinstance(error, EngineLost):
            turn = Turn(Exhausted("engine", str(error)))
        if turn is None:
            _log.error("a turn of an agent failed", exc_info=error, extra={"agent": text_of(berth.agent)})
            self._stop(berth, None, "the station failed to run the agent")
            return
        if turn.state is not None:
            berth.put(turn.state, turn.digest)
        self._here.look_at(berth)
        self.budgets.look_at(berth)
        stop = turn.stop
        if isinstance(stop, Spent) and turn.state is not None and berth.got_more:
            stop = Asked()  # it got more when its turn ended
        if berth.owed is not None and isinstance(stop, Go | GoAt | Clone | Fork | Ask | Spent) and not berth.order:
            self._here.run(self._when_whole(berth, stop))
            return
        if isinstance(stop, Finished):
            self.finish(berth, JourneyStanding.FINISHED, str(stop.exit_code))
        elif isinstance(stop, Trapped):
            self._stop(berth, None, f"trapped: {stop.reason}")
        elif isinstance(stop, Exhausted):
            self._stop(berth, None, f"{stop.what}: {stop.reason}", spent=stop.what == "cpu")
        elif isinstance(stop, Spent):
            self._stop(berth, turn.state, f"{stop.error.what}: {stop.error.reason}", stop.error.what == "cpu")
        elif self._here.closing:
            self._close_berth(berth, turn)
        elif berth.order:
            self.ordered(berth, stop, turn.state)
        elif halting is not None and not halting.done():
            halting.set_result(stop)
        elif isinstance(stop, Asked):
            self.go_on(berth, None)
        else:
            self.wait(berth, stop)
        if halting is not None and not halting.done():
            halting.cancel()

    async def _again(self, berth: Berth, why: str) -> None:
        """Its instance was lost with the process of its engine: it goes on from where it was stored last, as after a
        restart of the station.
        """
        berth.remark(f"{why}: the agent goes on from where it was stored last")
        await self._here.journal.write([], True)  # after what is on its way there
        capsule = self._here.store.capsule(berth.agent, berth.visit)
        if self._here.closing or self._here.berths.get(berth.agent) is not berth:
            return
        if capsule is None:
            self._stop(berth, None, why)
            return
        self._here.unsettle(berth, Standing.READY)
        self.resume(capsule)
        if (fresh := self._here.berths.get(berth.agent)) is not None:
            fresh.lost = berth.lost + 1

    async def _when_whole(self, berth: Berth, stop: Stop) -> None:
        """The agent is to leave, or to be stored, and its memory is not all here: wait for that."""
        assert berth.owed is not None
        berth.running = True
        whole = berth.owed.whole
        await asyncio.wait({whole})
        berth.running = False
        if not whole.cancelled():
            self.put_down(berth, stop)
        elif berth.order is OrderKind.DISPOSE and not self._here.closing:
            self.finish(berth, JourneyStanding.DISPOSED, "disposed of by order")

    def put_down(self, berth: Berth, stop: Stop | None = None) -> None:
        """All of its memory is here: give up the instance of an agent that waits with it, and go on from there.

        stop: how its turn ended; None for what it waits for, if for long
        """
        if stop is None:
            if berth.running or berth.life is None or not isinstance(berth.wait, Sleep | Recv):
                return
            left = max(0, berth.until - self._here.clocks.now()) * 1_000_000
            forever = isinstance(berth.wait, Recv) and not berth.until
            stop = Recv(None if forever else left) if isinstance(berth.wait, Recv) else Sleep(left)
        self._here.timers.stop(berth.agent)
        berth.running, berth.wait, berth.standing, berth.put_aside = True, None, Standing.READY, True
        work, done = functools.partial(berth.put_down, stop), functools.partial(self.turned, berth)
        self._here.workers.submit(Job(work, berth.interrupt, done))

    def _close_berth(self, berth: Berth, turn: Turn) -> None:
        if turn.state is not None:
            if isinstance(turn.stop, Timed):
                self.note_wait(berth, turn.stop)
            self._store(checkpoints.put_checkpoint(berth, turn.state)).add_done_callback(seen)

    def wait(self, berth: Berth, wait: Wait) -> None:
        """The agent waits: see to it that the wait ends."""
        if berth.barred:
            if isinstance(wait, Timed):
                self.note_wait(berth, wait)
            self.suspend(berth)
            return
        berth.standing = Standing.WAITING
        berth.wait = wait
        match wait:
            case Go(host) | GoAt(host):
                if isinstance(wait, Go):
                    self.wait_at_most(berth, wait)
                berth.standing = Standing.LEAVING
                self._here.begin(self.depart(berth, host))
            case Sleep():
                self.note_wait(berth, wait)
                self.park(berth)
                self.sleep_until(berth, berth.until)
            case Recv():
                if berth.inbox:
                    self._keep_mail_short(berth)
                    self.go_on(berth, berth.receive())
                    return
                self.note_wait(berth, wait)
                self.park(berth)
                if berth.until:
                    self.sleep_until(berth, berth.until)
            case Select() | Answer():
                event = self._mail_for(berth, wait)
                if event is not None:
                    self._keep_mail_short(berth)
                    self.go_on(berth, event)
                    return
                self.note_wait(berth, wait)
                if isinstance(wait, Answer):
                    ends = berth.questions[bytes.fromhex(wait.ident)].until + 1
                    berth.until = min(berth.until or ends, ends)
                self.park(berth)
                if berth.until:
                    self.sleep_until(berth, berth.until)
            case Ask():
                self._here.run(self.asking(berth, wait))
            case Find():
                self._here.run(self.finding(berth, wait))
            case Accept():
                self.note_wait(berth, wait)
                if not self.accepting(berth):
                    self.park(berth)
                    if berth.until:
                        self.sleep_until(berth, berth.until)
            case Call(service, request):
                if self._here.crowded():
                    self.park(berth)
                berth.calls += 1
                self._here.run(self._call(berth, service, request))
            case Clone() | Fork():
                self._here.run(self._clone(berth, wait))
            case Listen() if berth.inbox:
                self._keep_mail_short(berth)
                self.go_on(berth, berth.receive())
            case Input() | Listen():  # a station has no standard input: it ends at once
                self.go_on(berth, InputReady(b""))
            case Yield():
                self.go_on(berth, Woke())

    def _mail_for(self, berth: Berth, wait: Wait | None) -> Event | None:
        """What an agent that waits like this is given now, if it has come."""
        if isinstance(wait, Recv):
            return berth.receive() if berth.inbox else None
        if isinstance(wait, Select):
            return berth.select(wait)
        return berth.answer(wait.ident, self._here.clocks.now()) if isinstance(wait, Answer) else None

    def mail(self, berth: Berth) -> None:
        """A message or an answer has come for an agent, which goes on if it waits for that."""
        if berth.standing is Standing.WAITING and not berth.running:
            event = self._mail_for(berth, berth.wait)
            if event is not None:
                self.go_on(berth, event)

    def wait_at_most(self, berth: Berth, wait: Go) -> None:
        """From now on it may wait for its destination for so long."""
        left = -(-wait.wait_ns // 1_000_000)
        berth.until = min(self._here.clocks.now() + left, 2**52) if left else 0

    def depart_again(self, berth: Berth, wait: Go, docked_s: float = 0.0) -> None:
        """It waited for its destination, and tries again to leave. `docked_s`: as of `Departures.depart`."""
        berth.standing = Standing.LEAVING
        self._here.begin(self.depart(berth, wait.host, docked_s))

    def note_wait(self, berth: Berth, wait: Timed) -> None:
        """It waits from now on."""
        berth.wait, berth.standing = wait, Standing.WAITING
        ns = wait.ns if isinstance(wait, Sleep) else wait.timeout_ns
        berth.until = 0 if ns is None else min(self._here.clocks.now() + -(-ns // 1_000_000), 2**52)

    def _keep_mail_short(self, berth: Berth) -> None:
        """Read messages are kept until the next checkpoint; store the state of an agent that reads many and never
        waits.
        """
        if len(berth.taken) < MAX_UNSAVED_MAIL or berth.owed is not None:
            return
        state = berth.state if isinstance(berth.state, bytes) else None
        if state is None and berth.life is not None:
            state = berth.life.snapshot().encode()
        if state is not None:
            self._store(checkpoints.put_checkpoint(berth, state)).add_done_callback(seen)

    def park(self, berth: Berth) -> None:
        """Write the state down, and drop it from memory until it is needed."""
        state = berth.state
        if not isinstance(state, bytes):
            return

        def written(future: asyncio.Future[None]) -> None:
            if seen(future):
                if berth.state is state and not berth.running:
                    berth.state = None
                    self._here.look_at(berth)
            elif not future.cancelled() and isinstance(future.exception(), StoreFull):
                asyncio.get_running_loop().call_later(PARK_RETRY_S, park_again)

        def park_again() -> None:
            if berth.state is state and not berth.running and not self._here.closing:
                self.park(berth)

        self._store(checkpoints.put_checkpoint(berth, state)).add_done_callback(written)

    def note(self, berth: Berth) -> None:
        """Write down how an agent stands whose state is in the store."""
        saved = berth.saved
        assert isinstance(saved, checkpoints.StoredState)
        berth.saved = evolve(saved, note=evolve(saved.note, standing=berth.standing, until=berth.until, noted=0))
        self._store(checkpoints.with_mail(berth)).add_done_callback(seen)

    def sleep_until(self, berth: Berth, until: int) -> None:
        berth.until, berth.standing = until, Standing.WAITING
        wait = max(0.0, (until - self._here.clocks.now()) / 1000)
        # On the loop's monotonic clock: setting the wall clock back an hour must not prolong a sleep by an hour. It
        # stands still while the machine is suspended: after a day, look again.
        self._here.timers.start(berth.agent, min(wait, DAY_S), self._woken, berth, wait <= DAY_S)

    def _woken(self, berth: Berth, over: bool) -> None:
        if self._here.closing or berth.standing is not Standing.WAITING:
            return
        if not over:
            self.sleep_until(berth, berth.until)
        else:
            event = self._mail_for(berth, berth.wait) if isinstance(berth.wait, Answer) else None
            self.go_on(berth, Woke() if isinstance(berth.wait, Sleep) else event or TimedOut())

    async def _call(self, berth: Berth, service: str, request: bytes) -> None:
        if berth.sent + berth.calls > berth.grant.budget.messages:
            berth.remark_spent()
            self.go_on(berth, Failed(EDQUOT, SPENT))
            return
        body = berth.credentials.passport.body
        visitor = Visitor(text_of(berth.agent), berth.label, body.owner, berth.visit, berth.calls, self._here.name)
        allowed = berth.grant.allows(f"service:{service}")
        if berth.trace is None:
            answer = await self._services.call(service, request, visitor, allowed)
        else:
            answer = await self._call_traced(berth, service, request, visitor, allowed)
        if self._here.closing or berth.standing in (Standing.ENDED, Standing.SUSPENDED):
            return
        said = answer.reason if isinstance(answer, Failed) else ""
        self._here.tell("call", berth.agent, place=service, text=said)
        if said:
            berth.remark(f"call({service[:80]!r}) failed: {said}")
        self.go_on(berth, answer)

    async def _call_traced(
        self, berth: Berth, service: str, request: bytes, visitor: Visitor, allowed: bool
    ) -> Reply | Failed:
        """A call whose span is the current one in the service."""
        said = {"rpc.system.name": "portcall", "rpc.method": service[:200], "portcall.call": visitor.call}
        tracing = self._environment.tracing
        span = tracing.start("call", berth.trace, {**berth.traced(), **said}, "SERVER")
        if span is None:
            return await self._services.call(service, request, visitor, allowed)
        error = "cancelled"
        try:
            with span.current():
                answer = await self._services.call(service, request, visitor, allowed)
            error = f"errno {answer.errno}" if isinstance(answer, Failed) else ""
            return answer
        finally:
            span.end(error)

    async def depart(self, berth: Berth, host: str, docked_s: float = 0.0) -> None:
        given = await self.ahead(berth, host) if berth.ahead else None
        state = b"" if given is not None else await self._whole(berth)
        self._here.tell("leaving", berth.agent, place=host)
        # Do postponed work now, while the destination judges: the offer is sent in the next step of the loop.
        asyncio.get_running_loop().call_soon(self._here.catch_up)
        try:
            refused, left = None, False
            if given is not None:
                try:
                    refused = await self._departures.depart(berth, host, given.state, given.sent)
                    left = refused is None
                finally:
                    given.done(left)
                if refused is not None and refused.code in SESSION_LOST and not self._here.closing:
                    given, state = None, await self._whole(berth)
            if given is None:
                refused = await self._departures.depart(berth, host, state, docked_s=docked_s)
        except (StoreError, LocalProtocolError) as error:
            # It is unknown what is on the disk: only a restart can tell.
            if not self._here.closing:
                self._here.tell("alarm", berth.agent, text=f"it neither left nor stays until a restart: {error}")
            return
        if refused is None or self._here.closing:
            return
        if refused.code == "here":
            self.go_on(berth, Arrived())
            return
        waited = berth.held_up is not None and refused.code in MENDS_ITSELF
        if not waited:  # else that was said when it began to wait
            self._here.tell("refused", berth.agent, place=host, text=f"{refused.code}: {refused.reason}")
        if refused.code == "duplicate" and not berth.astray:
            # According to the ledger here, this hop was never given away.
            berth.astray = True
            self._here.tell("alarm", berth.agent, place=berth.to, text=AMNESIA)
        if not waited:
            berth.remark(f"go({host[:80]!r}) was refused: {refused.reason}")
        if berth.order is OrderKind.RETRACT:
            berth.order = None
            self._go_on_after(berth)
        elif berth.onward:
            await self._cannot_go_on(berth, refused)
        elif not await self._queue(berth, refused):
            self.go_on(berth, Refused(errno_of(refused.code), refused.reason))

    def withdraw(self, berth: Berth) -> bool:
        """Whether an agent that is leaving will stay: its offer waited at a dock."""
        return self._departures.withdraw(berth.agent)

    async def _queue(self, berth: Berth, refused: Refusal) -> bool:
        """Whether the agent waits for its destination from now on."""
        wait = berth.wait
        if not isinstance(wait, Go) or not wait.wait_ns or berth.order or berth.barred:
            return False
        if not isinstance(berth.state, bytes):
            await self._whole(berth)
        return not self._here.closing and self.queued.takes(berth, wait, refused)

    def _go_on_after(self, berth: Berth) -> None:
        """Resume with what the agent waited for before it was to be retracted."""
        berth.state = Snapshot.decode(berth.state) if isinstance(berth.state, bytes) else berth.state
        assert isinstance(berth.state, Snapshot)
        self.begin(berth, berth.state, arrived=False)

    async def _whole(self, berth: Berth) -> bytes:
        """The whole state of an agent that leaves. One that was sent ahead has its instance still, and gives it up."""
        life = berth.life
        if life is not None and berth.begun and not isinstance(berth.state, bytes):
            state = await in_thread(lambda: life.snapshot().encode())
            berth.close()
        else:
            state = berth.state if isinstance(berth.state, bytes) else self._here.state_of(berth)
        berth.state = state
        return state

    def finish(self, berth: Berth, standing: JourneyStanding, said: str) -> None:
        """The journey is over: sign the last visit, and send everything home."""
        self.over(berth, "has ended")
        home = berth.credentials.passport.body.home
        self._here.peers.hint(home.station, home.addresses)
        changes: list[Change] = [DropCapsule(berth.agent, berth.visit)]
        try:
            # Of one that lives elsewhere too, only what is here ends: its home is not told that the journey is over.
            if not (berth.astray and standing == JourneyStanding.DISPOSED):
                changes += self._endings.changes(berth, standing, said)
        except PortcallError as error:
            _log.error("the end of a journey cannot be told: %s", error, extra={"agent": text_of(berth.agent)})
        self._here.unsettle(berth, Standing.ENDED)
        berth.text = said
        kind: EventKind = "finished" if standing is JourneyStanding.FINISHED else "disposed"
        self._here.catch_up()
        future = self._here.journal.write(changes, True)
        future.add_done_callback(functools.partial(self._finished, berth, kind, said))

    def _finished(self, berth: Berth, kind: EventKind, said: str, future: asyncio.Future[None]) -> None:
        if seen(future):
            if berth.owed is not None:
                berth.owed.over()
            self._here.tell(kind, berth.agent, text=said)
            if berth.credentials.passport.body.home.station == self._here.key.public and not berth.astray:
                self._here.tell("home", berth.agent, place=self._here.name, text=said)
            self._here.outbox.nudge()

    def stop(self, berth: Berth, why: str) -> None:
        """Stop an agent whose state cannot be used."""
        self._stop(berth, None, why)

    def _stop(self, berth: Berth, state: bytes | None, why: str, spent: bool = False) -> None:
        """The agent cannot run on. Its last state is kept: for diagnosis; or, if it has `spent` its budget, to go on
        when it gets more.
        """
        why = f"{why}; {TOP_IT_UP}" if spent else why
        self.over(berth, "has stopped")
        berth.close()
        if berth.recording is not None:
            berth.recording.flush()
        berth.remark(f"stopped: {why}")
        self._hear(berth)  # before it is told that nothing more will come
        berth.standing, berth.text, berth.wait, berth.until = Standing.STOPPED, why, None, 0
        if spent:
            berth.spent, berth.cpu_us = self._here.clocks.now(), max(berth.cpu_us, berth.turn_cpu)
        if state is None and isinstance(berth.saved, checkpoints.StoredState):
            note = evolve(
                berth.saved.note, standing=Standing.STOPPED, text=why[:900], cpu_us=berth.cpu_us, spent=berth.spent
            )
            berth.saved = evolve(berth.saved, note=note)
            change: Change = checkpoints.with_mail(berth)
        else:
            assert state is not None
            change = checkpoints.put_checkpoint(berth, state)
        berth.state = None
        self._here.look_at(berth)
        self._here.catch_up()
        # In one write with the news for its home, where that is here: readers see both, or neither.
        changes = [change, *self._here.word_home(berth, JourneyStanding.STOPPED, why)]
        future = self._here.journal.write(changes, False)
        future.add_done_callback(functools.partial(self._stopped, berth, why))

    def _stopped(self, berth: Berth, why: str, future: asyncio.Future[None]) -> None:
        # A stop that was not written did not happen: after a restart the agent resumes from the last checkpoint.
        if future.cancelled() or not isinstance(future.exception(), WriteFailed):
            if not seen(future):  # the state does not fit; waiters are notified all the same
                self._here.tell_home(berth, JourneyStanding.STOPPED, why)
            self._here.tell("stopped", berth.agent, text=why)
            if berth.spent and berth.has_time and not self._here.closing:
                self._here.run(self.regain(berth))  # it got more meanwhile

    def _hear(self, berth: Berth) -> None:
        for line in berth.listen():
            self._here.tell("log", berth.agent, place=self._here.name, text=line.text, label=berth.label)

    async def clone(self, berth: Berth, state: bytes, count: int = 1, told: Told = told_of_clone) -> list[Berth]:
        """So many agents made of this one, durable, not yet running. Raises `CredentialError`, `StoreFull`."""
        here, policy = self._here, self._policy
        return await make_clones(here, self._environment, policy, self._trails, berth, state, count, told)

    async def _clone(self, berth: Berth, wait: Clone | Fork) -> None:
        """The agent asked for clones of itself."""
        state = berth.state if isinstance(berth.state, bytes) else self._here.state_of(berth)
        told, count = (told_of_fork, wait.count) if isinstance(wait, Fork) else (told_of_clone, 1)
        try:
            children = await self.clone(berth, state, count, told)
        except CredentialError as error:
            self.go_on(berth, Refused(EPERM, error.reason))
            return
        except StoreFull as error:
            self.go_on(berth, Refused(ENOSPC, str(error)))
            return
        if self._here.closing:
            return
        ids = tuple(text_of(child.agent) for child in children)
        self.go_on(berth, told(0, ids))
        for number, child in enumerate(children, 1):
            self.go_on(child, told(number, ids))


def _show(berth: Berth, turn: Turn | None) -> None:
    """Give those who asked for it the state at the end of a turn."""
    asked, berth.turned = berth.turned, []
    for each in asked:
        if not each.done():
            each.set_result(None if turn is None else turn.state)
