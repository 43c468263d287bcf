"""All handoffs of one station: gives each message to its machine, and speaks for the handoffs that have none.

Not I/O: `docking.courier` carries out what the desk says, and a simulator may as well. Its clock is the
`now` of the calls, in seconds from anywhere; what the ledger holds comes in as `lookup`.

Invariants:
- A machine hears only its peer: a message of another station changes nothing.
- No two handoffs of one (agent, hop) are held or finished here.
- Of a handoff that the ledger does not know, the source says ABORT if it asked for the same life of its
  store (it would know a commit), and "unknown" otherwise (it may have forgotten one).
- Memory is bounded: undecided offers by `Room`, finished machines by number; a finished machine is dropped
  only when the ledger knows what it knows.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeAlias, TypeVar

from attrs import define, field, frozen

from docking.errors import LocalProtocolError
from docking.handoff.actions import (
    Action,
    Alarm,
    Departure,
    DestinationTrust,
    Persist,
    Record,
    Send,
    SourceTrust,
    Timing,
)
from docking.handoff.messages import (
    Abort,
    Message,
    Offer,
    Receipt,
    Refuse,
    Side,
    Standing,
    State,
    Status,
    Transfer,
    hears,
)
from docking.handoff.receiver import Judged, Receiver
from docking.handoff.sender import Sender
from docking.handoff.states import Destination
from docking.refusal import Refusal

T = TypeVar("T")
Key: TypeAlias = "tuple[bytes, Side]"


@frozen
class Room:
    """How much a station takes on at once.

    `undecided`, `undecided_bytes`: offers not yet held, and of one peer no more than a quarter of their number;
    `finished`: machines; `alarms`: about handoffs that this station has no part in, at once, and one more each `quiet`
    seconds.
    """

    undecided: int = 1024
    undecided_bytes: int = 1 << 30
    finished: int = 1024
    alarms: int = 16
    quiet: float = 10.0


@frozen
class Ledger:
    """What the desk asks of the store. `record(hid, side)`; `copies(agent, hop)`:

    records of the destination side.
    """

    record: Callable[[bytes, Side], Record | None]
    copies: Callable[[bytes, int], Iterable[Record]]


@define(eq=False)
class Desk(Generic[T]):
    """The handoffs of the station with the key `me`; `epoch` names the life of its store."""

    me: bytes
    epoch: bytes
    _ledger: Ledger
    _source: SourceTrust
    _destination: DestinationTrust[T]
    _timing: Timing = field(factory=Timing)
    _room: Room = field(factory=Room)
    _machines: dict[Key, Sender | Receiver[T]] = field(factory=dict)
    _finished: OrderedDict[Key, None] = field(factory=OrderedDict)
    _unwritten: dict[Key, int] = field(factory=dict)
    _arriving: dict[tuple[bytes, int], bytes] = field(factory=dict)
    _undecided: dict[Key, int] = field(factory=dict)
    _due: list[tuple[float, int, Key]] = field(factory=list)
    _noted: dict[Key, float] = field(factory=dict)
    _count: Any = field(factory=itertools.count)
    _alarms: float = 0.0
    _alarmed: float = 0.0

    # What the station asks for

    def depart(self, departure: Departure, now: float) -> list[Action[Any]]:
        """Begin to hand over an agent."""
        offer = departure.offer
        key = (offer.hid, Side.SOURCE)
        if offer.source != self.me or offer.epoch != self.epoch or self._machine(key) is not None:
            raise LocalProtocolError("not an offer of this station, or not a new one")
        sender = Sender.leaving(departure, self._source, self._timing)
        self._machines[key] = sender
        return self._after(key, sender, sender.begin(now))

    def restart(self, record: Record, now: float) -> list[Action[Any]]:
        """Take up a handoff that is not over, found in the ledger when the station starts."""
        key = (record.hid, record.side)
        machine = self._machines[key] = self._recorded(record)
        return self._after(key, machine, machine.restart(now))

    def give_up(self, hid: bytes, why: Refusal, now: float) -> list[Action[Any]]:
        """Keep the agent, unless the destination's receipt has come."""
        return self._source_side(hid, lambda sender: sender.give_up(now, why))

    def reclaim(self, hid: bytes, now: float) -> list[Action[Any]]:
        """A person takes the agent back from a destination that will never run it."""
        return self._source_side(hid, lambda sender: sender.reclaim(now))

    def adopt(self, hid: bytes, now: float) -> list[Action[Any]]:
        """A person decides that the agent, held in doubt, shall live here."""
        return self._destination_side(hid, lambda receiver: receiver.adopt(now))

    def discard(self, hid: bytes, now: float) -> list[Action[Any]]:
        """A person decides that the agent, held in doubt, shall not live here."""
        return self._destination_side(hid, lambda receiver: receiver.discard(now))

    # What happens

    def written(self, record: Record, now: float) -> list[Action[Any]]:
        """The record of a `Persist` is on the disk."""
        return self._was_written(record, lambda machine: machine.written(record, now))

    def unwritten(self, record: Record, now: float) -> list[Action[Any]]:
        """The record of a `Persist` is certainly not on the disk. Only HELD may be lost like that.

        Raises `LocalProtocolError` for any other: the station must stop, and read its store again.
        """
        if record.state is not Destination.HELD:
            raise LocalProtocolError(f"{record.state.value} could not be written; the store must be read again")
        return self._was_written(
            record, lambda machine: machine.unwritten(record, now) if isinstance(machine, Receiver) else []
        )

    def next_due(self) -> float | None:
        """When `tick` wants to be called next, or None."""
        while self._due:
            due, _, key = self._due[0]
            machine = self._machines.get(key)
            if machine is not None and machine.due == due:
                return due
            self._pop_due()
        return None

    def _pop_due(self) -> Key:
        due, _, key = heapq.heappop(self._due)
        if self._noted.get(key) == due:
            del self._noted[key]
        return key

    def tick(self, now: float) -> list[Action[Any]]:
        """It is `now`: what is due."""
        actions: list[Action[Any]] = []
        while (due := self.next_due()) is not None and due <= now:
            key = self._pop_due()
            machine = self._machines[key]
            actions += self._after(key, machine, machine.tick(now))
        return actions

    def receive(self, sender: bytes, message: Message, now: float) -> list[Action[Any]]:
        """A message of the station with the key `sender`: the carrier has made sure of that."""
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
        """Whether something of this handoff is being written: an answer may follow when it is."""
        return key in self._unwritten

    def judge(self, sender: bytes, message: Offer | Transfer) -> Judged[T] | Refusal:
        """The slow part of receiving one of these: changes nothing, and may run in another thread."""
        return self._judge(self._arriving_by(sender, message.hid), sender, message)

    def apply(
        self, sender: bytes, message: Offer | Transfer, judged: Judged[T] | Refusal, now: float
    ) -> list[Action[Any]]:
        """What follows from `judge`, perhaps a while later."""
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
                size = sum(len(body.data) for body in message.bodies)
                if not self._has_room(sender, size):
                    return Refusal("busy", "this station has too many arrivals at once", 1)
        return machine.judge(message)

    def _apply(
        self, machine: Receiver[T], sender: bytes, hid: bytes, judged: Judged[T] | Refusal, now: float
    ) -> list[Action[Any]]:
        if isinstance(judged, Refusal):
            return [Send(sender, Refuse(hid, judged.code, judged.reason, judged.retry_after))]
        if judged.offer is not None and machine.record is None:
            other = self._other_copy(judged.offer)
            if other is not None:
                return self._conflict(sender, hid, other)
        return self._after((hid, Side.DESTINATION), machine, machine.apply(judged, now))

    # For handoffs without a machine

    def _for_unknown_source(self, sender: bytes, message: Message) -> list[Action[Any]]:
        if not isinstance(message, Status | Receipt):
            return []
        if message.epoch == self.epoch:
            # Presumed abort: this store would know a commit, and what it does not know it will never commit.
            return [Send(sender, Abort(message.hid))]
        return [Send(sender, State(message.hid, Side.SOURCE, Standing.UNKNOWN))]

    def _other_copy(self, offer: Offer) -> Record | None:
        """A record of this agent and hop under another handoff id, which is held or finished here."""
        hid = self._arriving.get((offer.agent, offer.hop))
        if hid is not None and hid != offer.hid:
            machine = self._machines.get((hid, Side.DESTINATION))
            if isinstance(machine, Receiver) and machine.record is not None:
                return machine.record
        for record in self._ledger.copies(offer.agent, offer.hop):
            if record.hid == offer.hid:
                continue
            known = self._machines.get((record.hid, Side.DESTINATION))
            current = known.record if isinstance(known, Receiver) and known.record is not None else record
            if current.state in (Destination.HELD, Destination.RUNNING):
                return current
        return None

    def _conflict(self, sender: bytes, hid: bytes, other: Record) -> list[Action[Any]]:
        if other.state is Destination.RUNNING:
            return [Send(sender, Refuse(hid, "copy-here", "this agent has already arrived here with this hop"))]
        # The source has given the other attempt up, or is lying: it must say so before this one is
        # considered.
        reason = "an earlier handoff of this hop is still held here"
        return [
            Send(sender, Refuse(hid, "held-here", reason, 1)),
            Send(other.peer, Status(other.hid, Side.SOURCE, other.epoch)),
        ]

    # Book-keeping

    def _machine(self, key: Key) -> Sender | Receiver[T] | None:
        machine = self._machines.get(key)
        if machine is None:
            record = self._ledger.record(*key)
            if record is not None:
                machine = self._recorded(record)
        return machine

    def _recorded(self, record: Record) -> Sender | Receiver[T]:
        if record.side is Side.SOURCE:
            return Sender.recorded(record, self._source, self._timing)
        return Receiver.recorded(record, self._destination, self._timing)

    def _after(self, key: Key, machine: Sender | Receiver[T], actions: list[Action[Any]]) -> list[Action[Any]]:
        """Note what a step of `machine` has changed."""
        for action in actions:
            if isinstance(action, Persist):
                self._unwritten[key] = self._unwritten.get(key, 0) + 1
        if isinstance(machine, Receiver):
            self._note_arrival(key, machine)
            if machine.state is Destination.NONE:
                self._machines.pop(key, None)
                self._finished.pop(key, None)
                return actions
        self._machines[key] = machine
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
            self._undecided[key] = receiver.size
        else:
            self._undecided.pop(key, None)
        record = receiver.record
        if record is not None and receiver.state in (Destination.HOLDING, Destination.HELD):
            self._arriving[record.agent, record.hop] = record.hid
        elif record is not None and self._arriving.get((record.agent, record.hop)) == record.hid:
            del self._arriving[record.agent, record.hop]

    def _was_written(
        self, record: Record, then: Callable[[Sender | Receiver[T]], list[Action[Any]]]
    ) -> list[Action[Any]]:
        key = (record.hid, record.side)
        self._unwritten[key] = self._unwritten.get(key, 1) - 1
        if not self._unwritten[key]:
            del self._unwritten[key]
        machine = self._machines.get(key)
        return [] if machine is None else self._after(key, machine, then(machine))

    def _trim(self) -> None:
        excess = len(self._finished) - self._room.finished
        if excess <= 0:
            return
        # A bounded look: those at the front that are not written yet will be soon.
        written = (key for key in itertools.islice(self._finished, excess + 8) if key not in self._unwritten)
        for key in list(itertools.islice(written, excess)):
            del self._finished[key]
            del self._machines[key]

    def _has_room(self, peer: bytes, size: int) -> bool:
        # Memory of the undecided: many offers whose parts never come. One peer of many must not take it all.
        if len(self._undecided) >= self._room.undecided:
            return False
        if sum(_peer(self._machines[key]) == peer for key in self._undecided) >= -(-self._room.undecided // 4):
            return False
        return sum(self._undecided.values()) + size <= self._room.undecided_bytes

    def _not_too_loud(self, actions: list[Action[Any]], now: float) -> list[Action[Any]]:
        """These actions, without alarms that anybody could raise by the thousand."""
        self._alarms = max(0.0, self._alarms - (now - self._alarmed) / self._room.quiet)
        self._alarmed = now
        kept: list[Action[Any]] = []
        for action in actions:
            if isinstance(action, Alarm):
                if self._alarms >= self._room.alarms:
                    continue
                self._alarms += 1
            kept.append(action)
        return kept

    def _source_side(self, hid: bytes, step: Callable[[Sender], list[Action[Any]]]) -> list[Action[Any]]:
        machine = self._machine((hid, Side.SOURCE))
        if not isinstance(machine, Sender):
            raise LocalProtocolError("no such handoff leaves this station")
        return self._after((hid, Side.SOURCE), machine, step(machine))

    def _destination_side(self, hid: bytes, step: Callable[[Receiver[T]], list[Action[Any]]]) -> list[Action[Any]]:
        machine = self._machine((hid, Side.DESTINATION))
        if not isinstance(machine, Receiver):
            raise LocalProtocolError("no such handoff arrives at this station")
        return self._after((hid, Side.DESTINATION), machine, step(machine))


def _peer(machine: Sender | Receiver[Any]) -> bytes:
    return machine.record.peer if isinstance(machine, Sender) else machine.peer


def _stranger(hid: bytes) -> Alarm:
    return Alarm(hid, "stranger", "a message about this handoff came from a station that has no part in it")
