"""Carries out what the desk says: writes, sends, waits, and tells the station. Knows how, and never whether.

Checkpoint, send, retry, recover: over a `Journal` (durable writes) and a `Carrier` (authenticated requests
to peers).

It is not HTTP, and decides nothing about a handoff: that is in the tables of `docking.handoff.states`.
Invariants: what must be written first is on the disk before what follows from it is sent or told; actions
of one step are carried out in order; after a write whose fate is unknown the courier stops, and only a
restart reads what is true.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from attrs import define, field, frozen

from docking import eager
from docking.changes import Capsule, Checkpoint
from docking.errors import CarrierError, LocalProtocolError, WriteFailed
from docking.handoff.actions import (
    Action,
    Alarm,
    Departure,
    Left,
    Notice,
    Persist,
    Record,
    Resume,
    Send,
)
from docking.handoff.desk import Desk
from docking.handoff.messages import Commit, Message, Offer, Receipt, Side, Transfer, hears
from docking.handoff.states import Destination, Source
from docking.journal import Journal
from docking.lookout import Lookout
from docking.refusal import Refusal
from docking.store import Failpoint, never

T = TypeVar("T")
Key: TypeAlias = "tuple[bytes, Side]"
ToCheckpoint: TypeAlias = "Callable[[], Checkpoint]"
_log = logging.getLogger(__name__)

# Judging hashes and verifies all of it: from this size on (bytes) not on the event loop.
JUDGE_ASIDE = 256 * 1024
# Seconds until the checkpoint of a leaving agent is written. Most have left by then, and nothing was
# written for nothing.
CHECKPOINT_AFTER = 0.2


class Carrier(Protocol):
    """Brings messages to stations and their answers back.

    Authenticates both ends, and bounds sizes and times.
    """

    async def exchange(self, peer: bytes, message: Message) -> Message | None:
        """Deliver `message` to the station with the key `peer`; its answer, or None if it has none.

        Raises `PeerUnreachable` if it was certainly not delivered, and `NoAnswer` if that is not known.
        """
        ...


@frozen
class Recovered:
    """What a restart found.

    `residents` live here and can be resumed; `held` and `leaving` are not decided yet.
    """

    residents: tuple[Capsule, ...]
    held: tuple[Record, ...]
    leaving: tuple[Record, ...]


@frozen(eq=False)
class _Done:
    """A write that was done at once."""

    record: Record
    future: asyncio.Future[None]


@frozen
class _Told:
    """All was said that follows from a write."""

    key: Key


_Step: TypeAlias = "Action[T] | _Done | _Told"


@define(eq=False)
class Courier(Generic[T]):
    """The handoffs of one station, in one event loop.

    `notify` is called with what the station must know, in order, and must not block or raise.
    `answer_within`: seconds that a request of a peer waits for the disk before it is answered with nothing.
    `lookout`: is told what is expected soon.
    """

    desk: Desk[T]
    journal: Journal
    _carrier: Carrier
    _notify: Callable[[Notice[T]], None]
    _failpoint: Failpoint = never
    _answer_within: float = 10.0
    _lookout: Lookout | None = None
    _waiters: dict[Key, list[asyncio.Future[Message | None]]] = field(factory=dict)
    _departures: dict[bytes, asyncio.Future[Refusal | None]] = field(factory=dict)
    _on_their_way: set[tuple[bytes, type[Message]]] = field(factory=set)
    _tasks: set[asyncio.Future[None]] = field(factory=set)
    _checkpoints: dict[bytes, ToCheckpoint | None] = field(factory=dict)
    _postponed: dict[bytes, tuple[Persist, ToCheckpoint | None, asyncio.TimerHandle]] = field(factory=dict)
    _todo: deque[_Step[T]] = field(factory=deque)
    _performing: bool = False
    _timer: asyncio.TimerHandle | None = None
    _stopped: bool = False
    _failed: bool = False

    # What the station asks for

    def recover(self) -> Recovered:
        """Take up what the store says is not over. To be called once, before anything else."""
        store = self.journal.store
        records = store.unfinished()
        leaving = tuple(record for record in records if record.side is Side.SOURCE)
        undecided = {(record.agent, record.hop) for record in leaving}
        residents = tuple(c for c in store.capsules("live") if (c.agent, c.hop) not in undecided)
        held = tuple(record for record in records if record.side is Side.DESTINATION)
        for record in records:
            self._perform(self.desk.restart(record, self._now()))
        return Recovered(residents, held, leaving)

    async def depart(self, departure: Departure, checkpoint: ToCheckpoint | None = None) -> Refusal | None:
        """Hand an agent over. None when it is the destination's, durably; or why it stays.

        `checkpoint`: makes its state, from which it goes on here if the station crashes before it has left: when it is
        written, and most have left before that.
        """
        self._check()
        hid = departure.offer.hid
        result = self._departures[hid] = asyncio.get_running_loop().create_future()
        try:
            self._checkpoints[hid] = checkpoint
            self._perform(self.desk.depart(departure, self._now()))
            return await asyncio.shield(result)
        finally:
            self._departures.pop(hid, None)
            self._checkpoints.pop(hid, None)

    async def checkpoint(self, checkpoint: Checkpoint, durable: bool) -> None:
        """Store the state of an agent that lives here; with `durable`, return when it is on the disk."""
        self._check()
        future = self._write([checkpoint], durable)
        if durable:
            await future

    def give_up(self, hid: bytes, why: Refusal) -> None:
        """Keep an agent that was to leave, unless the destination's receipt has come."""
        self._perform(self.desk.give_up(hid, why, self._now()))

    def reclaim(self, hid: bytes) -> None:
        """A person takes an agent back from a destination that will never run it."""
        self._perform(self.desk.reclaim(hid, self._now()))

    def adopt(self, hid: bytes) -> None:
        """A person decides that an agent held in doubt shall live here."""
        self._perform(self.desk.adopt(hid, self._now()))

    def discard(self, hid: bytes) -> None:
        """A person decides that an agent held in doubt shall not live here."""
        self._perform(self.desk.discard(hid, self._now()))

    async def close(self) -> None:
        """Stop sending, write what is queued, and answer who waits for that.

        Handoffs go on after the next start.
        """
        for hid in list(self._postponed):
            self._write_postponed(hid)
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.journal.close()
        await asyncio.sleep(0)  # what was written last is told now
        self._answer_nobody()

    # What peers send

    async def handle(self, sender: bytes, message: Message) -> Message | None:
        """A request of the station with this key, which the carrier has authenticated; the answer, if any."""
        self._check()
        name = type(message).__name__.upper()
        self._failpoint(f"{name}.received")
        if self._lookout is not None and isinstance(message, Commit):
            self._lookout.came(message.hid)
        key = (message.hid, hears(message))
        waiter: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(key, []).append(waiter)
        try:
            self._perform(await self._receive(sender, message))
            if not waiter.done() and self.desk.writing(key):
                await asyncio.wait([waiter], timeout=self._answer_within)
        finally:
            self._waiters[key].remove(waiter)
            if not self._waiters[key]:
                del self._waiters[key]
        self._failpoint(f"{name}.answered")
        answer = waiter.result() if waiter.done() else None
        if self._lookout is not None and isinstance(answer, Receipt):
            self._lookout.expect(message.hid, sender)  # the commit
        return answer

    async def _receive(self, sender: bytes, message: Message) -> list[Action[T]]:
        bodies = message.bodies if isinstance(message, Offer | Transfer) else ()
        # A transfer mostly brings an image, which is compiled when it is judged.
        size = sum(len(body.data) for body in bodies)
        if isinstance(message, Transfer) or (isinstance(message, Offer) and size >= JUDGE_ASIDE):
            loop = asyncio.get_running_loop()
            judged = await loop.run_in_executor(None, self.desk.judge, sender, message)
            return self.desk.apply(sender, message, judged, self._now())
        return self.desk.receive(sender, message, self._now())

    # How actions are carried out

    def _perform(self, actions: Sequence[_Step[T]]) -> None:
        """Carry actions out, and what follows from them at once, in order: what an action leads to, a write that waits
        for no disk or a message that is answered on the spot, comes after those that were there before it.
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
        """The checkpoint of an agent that is leaving is of use only if it does not get away soon.

        Without it, a crash before the commit is one before the departure: the agent goes on from its
        checkpoint before.
        """
        hid = frozen.record.hid
        timer = asyncio.get_running_loop().call_later(CHECKPOINT_AFTER, self._write_postponed, hid)
        self._postponed[hid] = frozen, self._checkpoints.pop(hid, None), timer
        self._perform(self.desk.written(frozen.record, self._now()))

    def _write_postponed(self, hid: bytes) -> None:
        frozen, checkpoint, timer = self._postponed.pop(hid)
        timer.cancel()
        if not self._stopped:
            self._write([frozen] if checkpoint is None else [checkpoint(), frozen], durable=False)

    def _settle_postponed(self, record: Record) -> None:
        """A record supersedes what was postponed:

        an agent that has left needs no checkpoint, one that stays does.
        """
        if record.side is Side.SOURCE and record.hid in self._postponed:
            if record.state is Source.ABORTED:
                self._write_postponed(record.hid)
            else:
                self._postponed.pop(record.hid)[2].cancel()

    def _write(self, changes: list[Any], durable: bool) -> asyncio.Future[None]:
        future = self.journal.write(changes, durable)
        future.add_done_callback(self._log_failure)
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
            self._perform([*self.desk.written(record, self._now()), _Told((record.hid, record.side))])
        elif record.state is Destination.HELD and not isinstance(error, WriteFailed):
            self._perform(self.desk.unwritten(record, self._now()))
        else:
            self.fail()

    def _answer_nobody(self) -> None:
        """Whoever waits for an answer has none, and asks again."""
        for waiter in [waiter for waiters in self._waiters.values() for waiter in waiters]:
            if not waiter.done():
                waiter.set_result(None)

    def _nothing_follows(self, key: Key) -> None:
        """What was written is written, and nothing was said: whoever waits for an answer has it now."""
        if not self.desk.writing(key):
            for waiter in self._waiters.get(key, ()):
                if not waiter.done():
                    waiter.set_result(None)

    def fail(self) -> None:
        """The store does not write any more: no handoff goes on in this life of the station."""
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
            case Alarm(hid, code, reason):
                _log.warning("%s: %s", code, reason, extra={"handoff": hid.hex()})
            case _:
                pass
        self._notify(notice)

    def _send(self, to: bytes, message: Message) -> None:
        speaker = Side.SOURCE if hears(message) is Side.DESTINATION else Side.DESTINATION
        waiters = [w for w in self._waiters.get((message.hid, speaker), ()) if not w.done()]
        for waiter in waiters:
            waiter.set_result(message)
        # A repetition while the first is still on its way would only add to the load that delays it.
        mark = (message.hid, type(message))
        if not waiters and not self._stopped and mark not in self._on_their_way:
            self._on_their_way.add(mark)
            task = eager.begin(self._exchange(to, message), asyncio.get_running_loop())
            if not task.done():
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _exchange(self, to: bytes, message: Message) -> None:
        name = type(message).__name__.upper()
        mark = (message.hid, type(message))
        try:
            self._failpoint(f"{name}.before-send")
            if self._lookout is not None:
                self._lookout.expect(mark, to)
            answer = await self._carrier.exchange(to, message)
            if self._lookout is not None:
                self._lookout.came(mark)
            self._failpoint(f"{name}.after-send")
        except CarrierError as error:
            _log.info("%s was not answered: %s", name, error, extra={"handoff": message.hid.hex()})
            return
        finally:
            self._on_their_way.discard(mark)
        if answer is None or self._stopped:
            return
        if isinstance(answer, Offer | Transfer) or answer.hid != message.hid:
            _log.warning("%s was answered with something else", name, extra={"handoff": message.hid.hex()})
            return
        self._perform(self.desk.receive(to, answer, self._now()))

    # Time

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _arm(self) -> None:
        due = None if self._stopped else self.desk.next_due()
        if self._timer is not None:
            if due is not None and self._timer.when() <= due and not self._timer.cancelled():
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = asyncio.get_running_loop().call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if not self._stopped:
            self._perform(self.desk.tick(self._now()))

    def _check(self) -> None:
        if self._stopped:
            raise LocalProtocolError("this courier has stopped")
