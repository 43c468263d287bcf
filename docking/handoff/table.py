"""All handoffs of one station: routes each message to its state machine, and answers for handoffs that have none.

It does no I/O: `docking.courier` carries out its actions, and a simulator can do so too. Its clock is the
`now` argument of each call, in seconds from any origin; the ledger comes in through `Ledger`.

Invariants:
- A machine hears only its peer: a message from another station changes nothing.
- No two handoffs of one (agent, hop) are held or finished here.
- About a handoff that is not in the ledger, the source answers ABORT if the question names its store's current epoch
  (the store would know of a commit), and "unknown" otherwise (it may have lost one): docs/adr/silence-and-amnesia.
- Memory is bounded: undecided offers by `TableLimits`, finished machines by number. A finished machine is dropped
  only when the ledger knows everything that it knows.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from attrs import define, field, frozen

from docking.errors import LocalProtocolError
from docking.handoff.actions import (
    Action,
    Departure,
    DestinationTrust,
    Persist,
    RaiseAlarm,
    Record,
    Send,
    SourceTrust,
    Timing,
)
from docking.handoff.messages import (
    Abort,
    Body,
    HandoffStanding,
    Message,
    Offer,
    Part,
    ReceiptMessage,
    Refuse,
    Side,
    StateAnswer,
    Status,
    Transfer,
    hears,
)
from docking.handoff.receiver import Judged, Receiver
from docking.handoff.refusal import Refusal
from docking.handoff.sender import Sender
from docking.handoff.states import Destination

T = TypeVar("T")
Key: TypeAlias = "tuple[bytes, Side]"


@frozen
class TableLimits:
    """How much a station takes on at once.

    `undecided`, `undecided_bytes`: offers not yet held; one peer may have a quarter of the number;
    `finished`: machines kept in memory; `alarms`: burst of alarms about handoffs that this station has no part in,
    replenished by one each `quiet_s` seconds.
    """

    undecided: int = 1024
    undecided_bytes: int = 1 << 30
    finished: int = 1024
    alarms: int = 16
    quiet_s: float = 10.0


@frozen
class Ledger:
    """What the handoff table reads from the store.

    `record(hid, side)`: the row of this handoff; `copies(agent, hop)`: all records of the destination side.
    """

    record: Callable[[bytes, Side], Record | None]
    copies: Callable[[bytes, int], Iterable[Record]]


@define(eq=False, repr=False)
class HandoffTable(Generic[T]):
    """The handoffs of the station with the key `me`; `epoch` identifies its store.

    `machines`: those in memory; `undecided`: the size (bytes) of each offer that is not held yet.
    """

    me: bytes
    epoch: bytes
    _ledger: Ledger
    _source: SourceTrust
    _destination: DestinationTrust[T]
    _timing: Timing = field(factory=Timing)
    _room: TableLimits = field(factory=TableLimits)
    machines: dict[Key, Sender | Receiver[T]] = field(factory=dict)
    _finished: OrderedDict[Key, None] = field(factory=OrderedDict)
    _unwritten: dict[Key, int] = field(factory=dict)
    _arriving: dict[tuple[bytes, int], bytes] = field(factory=dict)
    undecided: dict[Key, int] = field(factory=dict)
    _due: list[tuple[float, int, Key]] = field(factory=list)
    _noted: dict[Key, float] = field(factory=dict)
    _count: Any = field(factory=itertools.count)
    _alarms: float = 0.0
    _alarmed: float = 0.0

    # Requests of the station

    def depart(self, departure: Departure, now: float) -> Sequence[Action[T]]:
        """Begin to hand over an agent."""
        offer = departure.offer
        key = (offer.hid, Side.SOURCE)
        # Not the ledger: each offer's nonce is new.
        if offer.source != self.me or offer.epoch != self.epoch or key in self.machines:
            raise LocalProtocolError("not an offer of this station, or not a new one")
        sender = Sender.leaving(departure, self._source, self._timing)
        self.machines[key] = sender
        return self._after(key, sender, sender.begin(now))

    def restart(self, record: Record, now: float) -> Sequence[Action[T]]:
        """Continue an unfinished handoff, found in the ledger when the station starts."""
        key = (record.hid, record.side)
        machine = self.machines[key] = self._recorded(record)
        return self._after(key, machine, machine.restart(now))

    def give_up(self, hid: bytes, why: Refusal, now: float) -> Sequence[Action[T]]:
        """Keep the agent, unless the destination's receipt has already come."""
        return self._source_side(hid, lambda sender: sender.give_up(now, why))

    def reclaim(self, hid: bytes, now: float) -> Sequence[Action[T]]:
        """An operator takes the agent back from a destination that will never run it."""
        return self._source_side(hid, lambda sender: sender.reclaim(now))

    def adopt(self, hid: bytes, now: float) -> Sequence[Action[T]]:
        """An operator decides that the agent, held in doubt, is to live here."""
        return self._destination_side(hid, lambda receiver: receiver.adopt(now))

    def discard(self, hid: bytes, now: float) -> Sequence[Action[T]]:
        """An operator decides that the agent, held in doubt, is not to live here."""
        return self._destination_side(hid, lambda receiver: receiver.discard(now))

    # Events

    def written(self, record: Record, now: float) -> Sequence[Action[T]]:
        """The record of a `Persist` is on disk."""
        return self._was_written(record, lambda machine: machine.written(record, now))

    def unwritten(self, record: Record, now: float) -> Sequence[Action[T]]:
        """The record of a `Persist` is certainly not on disk. Only HELD may be lost in this way.

        Raises `LocalProtocolError` for any other record: the station must stop and read its store again.
        """
        if record.state is not Destination.HELD:
            raise LocalProtocolError(f"{record.state.value} could not be written; the store must be read again")
        return self._was_written(
            record, lambda machine: machine.unwritten(record, now) if isinstance(machine, Receiver) else []
        )

    def next_due(self) -> float | None:
        """When to call `tick` next, or None."""
        while self._due:
            due, _, key = self._due[0]
            machine = self.machines.get(key)
            if machine is not None and machine.due == due:
                return due
            self._pop_due()
        return None

    def _pop_due(self) -> Key:
        due, _, key = heapq.heappop(self._due)
        if self._noted.get(key) == due:
            del self._noted[key]
        return key

    def tick(self, now: float) -> Sequence[Action[T]]:
        """Do what is due at the time `now`."""
        actions: list[Action[T]] = []
        while (due := self.next_due()) is not None and due <= now:
            key = self._pop_due()
            machine = self.machines[key]
            actions += self._after(key, machine, machine.tick(now))
        return actions

    def receive(self, sender: bytes, message: Message, now: float) -> Sequence[Action[T]]:
        """Handle a message from the station with the key `sender`, which the carrier has authenticated."""
        if isinstance(message, Offer | Transfer):
            machine = self._arriving_by(sender, message.hid)
            return self._apply(machine, sender, message.hid, self._judge(machine, sender, message), now)
        key = (message.hid, hears(message))
        known = self._machine(key)
        if known is None:
            if key[1] is Side.SOURCE:
                return self._for_unknown_source(sender, message)
            known = Receiver.unknown(message.hid, sender, self._destination, self._timing)
            return self._not_too_loud(self._after(key, known, known.receive(message, now)), now)
        if _peer(known) != sender:
            return self._not_too_loud([_stranger(message.hid)], now)
        return self._after(key, known, known.receive(message, now))

    def writing(self, key: Key) -> bool:
        """Whether a write for this handoff is pending: an answer may follow once it is done."""
        return key in self._unwritten

    def carrying(self, transfer: Transfer, more: int) -> None:
        """Parts are on their way to their destination (1), or are not any more (-1)."""
        sender = self.machines.get((transfer.hid, Side.SOURCE))
        if isinstance(sender, Sender):
            sender.carrying(more)

    def undelivered(self, transfer: Transfer) -> None:
        """Parts did not reach their destination, or not for certain."""
        sender = self.machines.get((transfer.hid, Side.SOURCE))
        if isinstance(sender, Sender):
            sender.undelivered(transfer)

    def parts(self, message: Offer | Transfer) -> list[tuple[Part, Body | None]]:
        """The parts of the offer, each with its body if that comes with this message."""
        parts: Sequence[Part] = ()
        if isinstance(message, Offer):
            parts = message.parts
        else:
            machine = self.machines.get((message.hid, Side.DESTINATION))
            if isinstance(machine, Receiver) and machine.offer is not None:
                parts = machine.offer.parts
        bodies = {body.index: body for body in message.bodies}
        return [(part, bodies.get(index)) for index, part in enumerate(parts)]

    def judge(self, sender: bytes, message: Offer | Transfer) -> Judged[T] | Refusal:
        """The slow part of receiving an offer or transfer. Changes nothing, and may run in another thread."""
        return self._judge(self._arriving_by(sender, message.hid), sender, message)

    def apply(
        self, sender: bytes, message: Offer | Transfer, judged: Judged[T] | Refusal, now: float
    ) -> Sequence[Action[T]]:
        """Act on a judgement of `judge`, perhaps made a while ago."""
        return self._apply(self._arriving_by(sender, message.hid), sender, message.hid, judged, now)

    def _arriving_by(self, sender: bytes, hid: bytes) -> Receiver[T]:
        machine = self._machine((hid, Side.DESTINATION))
        if machine is None:
            return Receiver.unknown(hid, sender, self._destination, self._timing)
        assert isinstance(machine, Receiver)
        return machine

    def _judge(self, machine: Receiver[T], sender: bytes, message: Offer | Transfer) -> Judged[T] | Refusal:
        if machine.peer != sender:
            return Refusal("not-yours", "this handoff is of another station")
        if isinstance(message, Offer):
            if message.source != sender or message.destination != self.me:
                return Refusal("wrong-station", "the offer is not from its sender to this station")
            if machine.finished and machine.record is None:
                size = sum([len(body.data) for body in message.bodies])
                if not self._has_room(sender, size):
                    return Refusal("busy", "this station has too many arrivals at once", 1)
        return machine.judge(message)

    def _apply(
        self, machine: Receiver[T], sender: bytes, hid: bytes, judged: Judged[T] | Refusal, now: float
    ) -> Sequence[Action[T]]:
        if isinstance(judged, Refusal):
            return [Send(sender, Refuse(hid, judged.code, judged.reason, judged.retry_after))]
        if judged.offer is not None and machine.record is None:
            other = self._other_copy(judged.offer)
            if other is not None:
                return self._conflict(sender, hid, other)
        return self._after((hid, Side.DESTINATION), machine, machine.apply(judged, now))

    # Handoffs without a machine

    def _for_unknown_source(self, sender: bytes, message: Message) -> Sequence[Action[T]]:
        if not isinstance(message, Status | ReceiptMessage):
            return []
        if message.epoch == self.epoch:
            # Presumed abort: this store would know of a commit, and what it does not know it will never commit.
            return [Send(sender, Abort(message.hid))]
        return [Send(sender, StateAnswer(message.hid, Side.SOURCE, HandoffStanding.UNKNOWN))]

    def _other_copy(self, offer: Offer) -> Record | None:
        """A record of this agent and hop under another handoff id that is held or finished here."""
        hid = self._arriving.get((offer.agent, offer.hop))
        if hid is not None and hid != offer.hid:
            machine = self.machines.get((hid, Side.DESTINATION))
            if isinstance(machine, Receiver) and machine.record is not None:
                return machine.record
        for record in self._ledger.copies(offer.agent, offer.hop):
            if record.hid == offer.hid:
                continue
            known = self.machines.get((record.hid, Side.DESTINATION))
            current = known.record if isinstance(known, Receiver) and known.record is not None else record
            if current.state in (Destination.HELD, Destination.RUNNING):
                return current
        return None

    def _conflict(self, sender: bytes, hid: bytes, other: Record) -> Sequence[Action[T]]:
        if other.state is Destination.RUNNING:
            return [Send(sender, Refuse(hid, "copy-here", "this agent has already arrived here with this hop"))]
        # The source has given up the other attempt, or it lies. It must say so before this one is considered.
        reason = "an earlier handoff of this hop is still held here"
        return [
            Send(sender, Refuse(hid, "held-here", reason, 1)),
            Send(other.peer, Status(other.hid, Side.SOURCE, other.epoch)),
        ]

    # Bookkeeping

    def _machine(self, key: Key) -> Sender | Receiver[T] | None:
        machine = self.machines.get(key)
        if machine is None:
            record = self._ledger.record(*key)
            if record is not None:
                machine = self._recorded(record)
        return machine

    def _recorded(self, record: Record) -> Sender | Receiver[T]:
        if record.side is Side.SOURCE:
            return Sender.recorded(record, self._source, self._timing)
        return Receiver.recorded(record, self._destination, self._timing)

    def _after(self, key: Key, machine: Sender | Receiver[T], actions: Sequence[Action[T]]) -> Sequence[Action[T]]:
        """Record what a step of `machine` has changed."""
        for action in actions:
            if isinstance(action, Persist):
                self._unwritten[key] = self._unwritten.get(key, 0) + 1
        if isinstance(machine, Receiver):
            self._note_arrival(key, machine)
            if machine.state is Destination.NONE:
                self.machines.pop(key, None)
                self._finished.pop(key, None)
                return actions
        self.machines[key] = machine
        # A peer that repeats itself must not grow the heap.
        if machine.due is not None and self._noted.get(key) != machine.due:
            self._noted[key] = machine.due
            heapq.heappush(self._due, (machine.due, next(self._count), key))
        if machine.finished:
            self._finished[key] = None
            self._finished.move_to_end(key)
            self._trim()
        else:
            self._finished.pop(key, None)
        return actions

    def _note_arrival(self, key: Key, receiver: Receiver[T]) -> None:
        if receiver.state in (Destination.WANTED, Destination.HOLDING):
            self.undecided[key] = receiver.size
        else:
            self.undecided.pop(key, None)
        record = receiver.record
        if record is not None and receiver.state in (Destination.HOLDING, Destination.HELD):
            self._arriving[record.agent, record.hop] = record.hid
        elif record is not None and self._arriving.get((record.agent, record.hop)) == record.hid:
            del self._arriving[record.agent, record.hop]

    def _was_written(
        self, record: Record, then: Callable[[Sender | Receiver[T]], Sequence[Action[T]]]
    ) -> Sequence[Action[T]]:
        key = (record.hid, record.side)
        self._unwritten[key] = self._unwritten.get(key, 1) - 1
        if not self._unwritten[key]:
            del self._unwritten[key]
        machine = self.machines.get(key)
        return [] if machine is None else self._after(key, machine, then(machine))

    def _trim(self) -> None:
        excess = len(self._finished) - self._room.finished
        if excess <= 0:
            return
        # Look at a bounded number: entries at the front that are not yet written will be soon.
        written = (key for key in itertools.islice(self._finished, excess + 8) if key not in self._unwritten)
        for key in list(itertools.islice(written, excess)):
            del self._finished[key]
            del self.machines[key]

    def _has_room(self, peer: bytes, size: int) -> bool:
        # Bounds the memory for offers whose parts never come. No single peer may take it all.
        if len(self.undecided) >= self._room.undecided:
            return False
        if sum(_peer(self.machines[key]) == peer for key in self.undecided) >= -(-self._room.undecided // 4):
            return False
        return sum(self.undecided.values()) + size <= self._room.undecided_bytes

    def _not_too_loud(self, actions: Sequence[Action[T]], now: float) -> Sequence[Action[T]]:
        """`actions` without the alarms above the rate limit: anybody could raise thousands."""
        self._alarms = max(0.0, self._alarms - (now - self._alarmed) / self._room.quiet_s)
        self._alarmed = now
        kept: list[Action[T]] = []
        for action in actions:
            if isinstance(action, RaiseAlarm):
                if self._alarms >= self._room.alarms:
                    continue
                self._alarms += 1
            kept.append(action)
        return kept

    def _source_side(self, hid: bytes, step: Callable[[Sender], Sequence[Action[T]]]) -> Sequence[Action[T]]:
        machine = self._machine((hid, Side.SOURCE))
        if not isinstance(machine, Sender):
            raise LocalProtocolError("no such handoff leaves this station")
        return self._after((hid, Side.SOURCE), machine, step(machine))

    def _destination_side(self, hid: bytes, step: Callable[[Receiver[T]], Sequence[Action[T]]]) -> Sequence[Action[T]]:
        machine = self._machine((hid, Side.DESTINATION))
        if not isinstance(machine, Receiver):
            raise LocalProtocolError("no such handoff arrives at this station")
        return self._after((hid, Side.DESTINATION), machine, step(machine))


def _peer(machine: Sender | Receiver[Any]) -> bytes:
    return machine.record.peer if isinstance(machine, Sender) else machine.peer


def _stranger(hid: bytes) -> RaiseAlarm:
    return RaiseAlarm(hid, "stranger", "a message about this handoff came from a station that has no part in it")
