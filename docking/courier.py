"""Carries out the actions of the handoff table: writes, sends, waits, and notifies the station. Never decides.

Checkpoint, send, retry, recover: over a `GroupCommit` (durable writes) and a `Carrier` (authenticated requests
to peers).

Not HTTP, and no decisions about a handoff: those are in the tables of `docking.handoff.states`.
Invariants: what must be written first is on disk before what follows from it is sent or reported; the actions
of one step are carried out in order; after a write whose outcome is unknown, the courier stops, and only a
restart finds out what is true.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from attrs import define, field, frozen

from agents.brief import brief
from agents.canonical import Buffer
from docking.aio import eager
from docking.aio.failures import log_failure
from docking.aio.threads import NoThread, in_thread
from docking.aio.timeouts import ended
from docking.aio.timers import call_at
from docking.errors import CarrierError, LocalProtocolError, WriteFailed
from docking.handoff.actions import (
    Action,
    Departure,
    Left,
    Notice,
    Persist,
    RaiseAlarm,
    Record,
    Resume,
    Send,
)
from docking.handoff.messages import MESSAGE_NAMES, Message, Offer, Side, Transfer, hears
from docking.handoff.refusal import Refusal
from docking.handoff.states import Destination, Source
from docking.handoff.table import HandoffTable, Key
from docking.store.changes import Change, PutCheckpoint, StoredCapsule
from docking.store.group_commit import GroupCommit
from docking.store.store import Failpoint, never
from docking.tracing import Span

T = TypeVar("T")
ToCheckpoint: TypeAlias = "Callable[[], PutCheckpoint]"
RunAside: TypeAlias = "Callable[..., Awaitable[Any]]"
_log = logging.getLogger(__name__)

# Bytes: messages of this size and more are verified outside the event loop, since all of it is hashed.
JUDGE_ASIDE_BYTES = 256 * 1024
# Seconds until the checkpoint of a leaving agent is written. Most have left by then, and need none
# (docs/adr/checkpoints-that-wait).
CHECKPOINT_DELAY_S = 0.2


class Carrier(Protocol):
    """Delivers messages to stations and returns their answers.

    Authenticates both ends, and bounds sizes and times.
    """

    async def exchange(self, peer: bytes, message: Message) -> Message | None:
        """Deliver `message` to the station with the key `peer`; returns the answer, or None if there is none.

        Raises `PeerUnreachable` if it was certainly not delivered, and `NoAnswer` if that is unknown.
        """
        ...


class Decision(str, enum.Enum):
    """An operator's decision about a handoff whose other station is gone for good. The values are what one types."""

    ADOPT = "adopt"
    """Keep an agent that is held here in doubt: it lives here from now on."""
    DISCARD = "discard"
    """Delete an agent that is held here in doubt."""
    RECLAIM = "reclaim"
    """Take back an agent that was committed to a station that will never run it."""


@frozen
class Recovered:
    """The agents that a restart found.

    `residents` live here and can be resumed, read one after the other, once; `held` and `leaving` are undecided.
    """

    residents: Iterator[StoredCapsule] = field(repr=False)
    held: tuple[Record, ...] = field(repr=brief)
    leaving: tuple[Record, ...] = field(repr=brief)


@frozen(eq=False, repr=False)
class _Done:
    """A write that completed at once."""

    record: Record
    future: asyncio.Future[None]


@frozen
class _Told:
    """Everything that follows from a write has been sent."""

    key: Key


_Step: TypeAlias = "Action[T] | _Done | _Told"


@define(eq=False, repr=False)
class Courier(Generic[T]):
    """The handoffs of one station, in one event loop.

    `notify` is called with each notice for the station, in order; it must not block or raise.
    `failpoint` is called with the name of each step; it may raise, for tests of faults.
    `answer_within_s`: seconds that a peer's request waits for the disk before it gets an empty answer.
    """

    table: HandoffTable[T]
    journal: GroupCommit
    _carrier: Carrier
    _notify: Callable[[Notice[T]], None]
    failpoint: Failpoint = never
    _answer_within_s: float = 10.0
    compiling: Callable[[bytes, Buffer | None], RunAside | None] = lambda digest, image: None
    """Returns what verifies an arrival with this image outside the event loop, if that has to compile the image.

    Why: docs/adr/compiling-in-a-process.
    """
    phase: Callable[[bytes, str], Span | None] = lambda hid, name: None
    """Gives the span of a message that is sent, if the agent's journey is traced."""
    _waiters: dict[Key, list[asyncio.Future[Message | None]]] = field(factory=dict)
    _departures: dict[bytes, asyncio.Future[Refusal | None]] = field(factory=dict)
    _on_their_way: set[tuple[bytes, type[Message]]] = field(factory=set)
    _tasks: set[asyncio.Future[None]] = field(factory=set)
    _checkpoints: dict[bytes, ToCheckpoint | None] = field(factory=dict)
    _postponed: dict[bytes, tuple[Persist, ToCheckpoint | None, asyncio.Handle]] = field(factory=dict)
    _todo: deque[_Step[T]] = field(factory=deque)
    _performing: bool = False
    _timer: asyncio.Handle | None = None
    _timer_due: float = 0.0
    _stopped: bool = False
    _failed: bool = False

    # Requests of the station

    def recover(self) -> Recovered:
        """Continue the unfinished handoffs in the store. Call it once, before anything else."""
        store = self.journal.store
        records = store.unfinished()
        leaving = tuple(record for record in records if record.side is Side.SOURCE)
        undecided = {(record.agent, record.hop) for record in leaving}
        residents = (c for c in store.each_capsule("live") if (c.agent, c.hop) not in undecided)
        held = tuple(record for record in records if record.side is Side.DESTINATION)
        for record in records:
            self._perform(self.table.restart(record, self._now()))
        return Recovered(residents, held, leaving)

    async def depart(self, departure: Departure, checkpoint: ToCheckpoint | None = None) -> Refusal | None:
        """Hand an agent over. Returns None once it durably belongs to the destination, or why it stays.

        `checkpoint`: makes the agent's state, from which it goes on here if the station crashes before it has left.
        Called only when the state is written; most agents have left before that.
        """
        self._check()
        hid = departure.offer.hid
        result = self._departures[hid] = asyncio.get_running_loop().create_future()
        try:
            self._checkpoints[hid] = checkpoint
            self._perform(self.table.depart(departure, self._now()))
            return await asyncio.shield(result)
        finally:
            self._departures.pop(hid, None)
            self._checkpoints.pop(hid, None)

    async def checkpoint(self, checkpoint: PutCheckpoint, durable: bool) -> None:
        """Store the state of an agent that lives here; with `durable`, return once it is on disk."""
        self._check()
        future = self._write([checkpoint], durable)
        if durable:
            await future

    def give_up(self, hid: bytes, why: Refusal) -> None:
        """Keep an agent that was to leave, unless the destination's receipt has already come."""
        self._perform(self.table.give_up(hid, why, self._now()))

    def decide(self, hid: bytes, decision: Decision) -> None:
        """Carry out an operator's decision about a handoff that cannot be completed."""
        now = self._now()
        match decision:
            case Decision.RECLAIM:
                self._perform(self.table.reclaim(hid, now))
            case Decision.ADOPT:
                self._perform(self.table.adopt(hid, now))
            case Decision.DISCARD:
                self._perform(self.table.discard(hid, now))

    async def close(self) -> None:
        """Stop sending, write what is queued, and answer the requests that wait for that.

        Handoffs continue after the next start.
        """
        for hid in list(self._postponed):
            self._write_postponed(hid)
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await ended(self._tasks)
        await self.journal.close()
        await asyncio.sleep(0)  # let callbacks of the last writes run
        self._answer_nobody()

    # Requests of peers

    async def handle(self, sender: bytes, message: Message) -> Message | None:
        """Handle a request from the station with this key, which the carrier has authenticated; returns any answer."""
        self._check()
        name = MESSAGE_NAMES[type(message)]
        self.failpoint(f"{name}.received")
        key = (message.hid, hears(message))
        waiter: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(key, []).append(waiter)
        try:
            self._perform(await self._receive(sender, message))
            if not waiter.done() and self.table.writing(key):
                await asyncio.wait([waiter], timeout=self._answer_within_s)
        finally:
            self._waiters[key].remove(waiter)
            if not self._waiters[key]:
                del self._waiters[key]
        self.failpoint(f"{name}.answered")
        return waiter.result() if waiter.done() else None

    async def _receive(self, sender: bytes, message: Message) -> Sequence[Action[T]]:
        bodies = message.bodies if isinstance(message, Offer | Transfer) else ()
        if not bodies:
            return self.table.receive(sender, message, self._now())
        assert isinstance(message, Offer | Transfer)
        run = self._aside(message)
        if run is None:
            return self.table.receive(sender, message, self._now())
        try:
            judged = await run(self.table.judge, sender, message)
        except NoThread:
            judged = Refusal("busy", "this station compiles as many images as it can; come again later", 1)
        return self.table.apply(sender, message, judged, self._now())

    def _aside(self, message: Offer | Transfer) -> RunAside | None:
        """What verifies a message outside the event loop, if that would block it for too long."""
        for part, body in self.table.parts(message):
            if part.kind == "image":
                run = self.compiling(part.digest, None if body is None else body.data)
                if run is not None:
                    return run
        large = sum([len(body.data) for body in message.bodies]) >= JUDGE_ASIDE_BYTES
        return in_thread if large or isinstance(message, Transfer) else None

    # Carrying out actions

    def _perform(self, actions: Sequence[_Step[T]]) -> None:
        """Carry out actions, and whatever follows from them at once, in order.

        The consequences of an action (a write that needs no disk, a message that is answered at once) follow the
        actions that were queued before it.
        """
        self._todo.extend(actions)
        if self._performing:
            return
        self._performing = True
        try:
            while self._todo:
                self._carry_out(self._todo.popleft())
        finally:
            self._todo.clear()
            self._performing = False
        self._arm()

    def _carry_out(self, action: _Step[T]) -> None:
        match action:
            case Persist(record=record) if record.state is Source.FROZEN:
                self._postpone(action)
            case Persist(record=record, durable=durable):
                self._settle_postponed(record)
                future = self._write([action], durable)
                if future.done():  # a volatile store has no disk to wait for
                    self._todo.append(_Done(record, future))
                else:
                    future.add_done_callback(functools.partial(self._written, record))
            case Send(to=to, message=message):
                self._send(to, message)
            case _Done(record, future):
                self._written(record, future)
            case _Told(key):
                self._nothing_follows(key)
            case _:
                self._tell(action)

    def _postpone(self, frozen: Persist) -> None:
        """Delay the checkpoint of a leaving agent: it is of use only if the agent does not get away soon.

        Without it, a crash before the commit loses only the departure: the agent goes on from its previous checkpoint
        (docs/adr/checkpoints-that-wait).
        """
        hid = frozen.record.hid
        timer = asyncio.get_running_loop().call_later(CHECKPOINT_DELAY_S, self._write_postponed, hid)
        self._postponed[hid] = frozen, self._checkpoints.pop(hid, None), timer
        self._perform(self.table.written(frozen.record, self._now()))

    def _write_postponed(self, hid: bytes) -> None:
        frozen, checkpoint, timer = self._postponed.pop(hid)
        timer.cancel()
        if not self._stopped:
            self._write([frozen] if checkpoint is None else [checkpoint(), frozen], durable=False)

    def _settle_postponed(self, record: Record) -> None:
        """Drop or write a delayed checkpoint: an agent that has left needs none, one that stays does."""
        if record.side is Side.SOURCE and record.hid in self._postponed:
            if record.state is Source.ABORTED:
                self._write_postponed(record.hid)
            else:
                self._postponed.pop(record.hid)[2].cancel()

    def _write(self, changes: list[Change], durable: bool) -> asyncio.Future[None]:
        future = self.journal.write(changes, durable)
        eager.when_done(future, self._log_failure)
        return future

    def _log_failure(self, future: asyncio.Future[None]) -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            if isinstance(error, WriteFailed):
                self.fail()
            else:
                _log.error("a write to the store failed: %s", error)

    def _written(self, record: Record, future: asyncio.Future[None]) -> None:
        if self._failed or future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._perform([*self.table.written(record, self._now()), _Told((record.hid, record.side))])
        elif record.state is Destination.HELD and not isinstance(error, WriteFailed):
            self._perform(self.table.unwritten(record, self._now()))
        else:
            self.fail()

    def _answer_nobody(self) -> None:
        """End all waiting requests without an answer: the peers ask again."""
        for waiter in [waiter for waiters in self._waiters.values() for waiter in waiters]:
            if not waiter.done():
                waiter.set_result(None)

    def _nothing_follows(self, key: Key) -> None:
        """The write is done and no message followed: end the requests that wait for one."""
        if not self.table.writing(key):
            for waiter in self._waiters.get(key, ()):
                if not waiter.done():
                    waiter.set_result(None)

    def fail(self) -> None:
        """The store has failed: no handoff continues until the station restarts."""
        if not self._failed:
            self._failed = self._stopped = True
            _log.critical("no handoff goes on until this station is restarted: its store does not write")
            for result in self._departures.values():
                if not result.done():
                    result.set_exception(WriteFailed("the store does not write: the station must restart"))
            self._answer_nobody()

    def _tell(self, notice: Notice[T]) -> None:
        match notice:
            case Left(record) | Resume(record):
                result = self._departures.get(record.hid)
                if result is not None and not result.done():
                    result.set_result(notice.refused if isinstance(notice, Resume) else None)
            case RaiseAlarm(hid, code, reason):
                _log.warning("%s: %s", code, reason, extra={"handoff": hid.hex()})
            case _:
                pass
        self._notify(notice)

    def _send(self, to: bytes, message: Message) -> None:
        speaker = Side.SOURCE if hears(message) is Side.DESTINATION else Side.DESTINATION
        waiters = [w for w in self._waiters.get((message.hid, speaker), ()) if not w.done()]
        for waiter in waiters:
            waiter.set_result(message)
        # Repeating a message while the first copy is still in flight would only add to the load that delays it.
        mark = (message.hid, type(message))
        if not waiters and not self._stopped and mark not in self._on_their_way:
            self._on_their_way.add(mark)
            task = eager.start_eagerly(self._exchange(to, message), asyncio.get_running_loop())
            if not task.done():
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            eager.when_done(task, log_failure)

    async def _exchange(self, to: bytes, message: Message) -> None:
        name = MESSAGE_NAMES[type(message)]
        mark = (message.hid, type(message))
        if isinstance(message, Transfer):
            self.table.carrying(message, 1)
        span = self.phase(message.hid, name)
        try:
            self.failpoint(f"{name}.before-send")
            answer = await self._carrier.exchange(to, message)
            self.failpoint(f"{name}.after-send")
        except CarrierError as error:
            _log.info("%s was not answered: %s", name, error, extra={"handoff": message.hid.hex()})
            if isinstance(message, Transfer):
                self.table.undelivered(message)
            return
        finally:
            if span is not None:
                span.end()
            self._on_their_way.discard(mark)
            if isinstance(message, Transfer):
                self.table.carrying(message, -1)
        if answer is None or self._stopped:
            return
        if isinstance(answer, Offer | Transfer) or answer.hid != message.hid:
            _log.warning("%s was answered with something else", name, extra={"handoff": message.hid.hex()})
            return
        self._perform(self.table.receive(to, answer, self._now()))

    # Timers

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _arm(self) -> None:
        """Set the timer for what is due next.

        A timer that is too early stays, and fires once for nothing: otherwise each step of each handoff would cancel
        one and make another.
        """
        due = None if self._stopped else self.table.next_due()
        if due is None or (self._timer is not None and self._timer_due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_due = call_at(asyncio.get_running_loop(), due, self._tick), due

    def _tick(self) -> None:
        self._timer = None
        if not self._stopped:
            self._perform(self.table.tick(self._now()))

    def _check(self) -> None:
        if self._stopped:
            raise LocalProtocolError("this courier has stopped")
