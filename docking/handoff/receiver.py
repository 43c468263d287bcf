"""Goal: what is held is durable before the receipt is sent, and never runs before the commit.

The destination's state machine: one object per handoff, driven by `states.DESTINATION`. Offers and transfers are
judged first (`judge`: pure, slow, may run in another thread) and applied later (`apply`), when the state may have
moved on. All other messages are judged and applied at once (`receive`).

It does no I/O, and knows neither what the agent is nor who sent a message: its owner passes it only messages
from its peer. Invariants: the agent is started only from HELD; a body is admitted only if its digest is the announced
one; bodies are released when the agent is started, or certainly will not be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen

from agents.brief import brief
from agents.canonical import digest
from agents.evolve import evolve
from docking.errors import LocalProtocolError, MalformedMessage
from docking.handoff.actions import (
    Action,
    Cargo,
    DestinationTrust,
    Drop,
    Expect,
    Persist,
    RaiseAlarm,
    Record,
    Send,
    Start,
    Timing,
)
from docking.handoff.messages import (
    Abort,
    Body,
    CommitMessage,
    Done,
    HandoffStanding,
    Message,
    Offer,
    ReceiptMessage,
    Refuse,
    Side,
    StateAnswer,
    Status,
    Transfer,
    Want,
    check_bodies,
    handoff_id,
)
from docking.handoff.refusal import Refusal
from docking.handoff.states import DESTINATION, IGNORED, Destination, DestinationEvent

T = TypeVar("T")
_E = DestinationEvent
_UNDECIDED = (Destination.NONE, Destination.WANTED)
_UNWRITTEN = Refusal("storage", "the agent could not be stored here", 60)


@frozen
class Judged(Generic[T]):
    """The result of judging an offer or transfer.

    `missing`: indexes of parts still needed; `admission`, `receipt`: only if admitted.
    """

    event: DestinationEvent
    offer: Offer | None = None
    bodies: tuple[Body, ...] = field(default=(), repr=brief)
    missing: tuple[int, ...] = field(default=(), repr=brief)
    admission: T | None = None
    receipt: bytes = field(default=b"", repr=brief)
    refused: Refusal | None = None


@define(eq=False, repr=False)
class Receiver(Generic[T]):
    """One handoff at its destination.

    `due`: when to call `tick` next, on the clock of the `now` arguments, or None. `in_doubt`: the source does not say
    what became of the handoff; the agent is held until it does, or until an operator decides.
    """

    hid: bytes
    peer: bytes
    state: Destination
    record: Record | None
    due: float | None
    in_doubt: bool
    _trust: DestinationTrust[T]
    _timing: Timing
    _judged: Judged[T]
    _wait: float
    _asked: int

    @classmethod
    def unknown(cls, hid: bytes, peer: bytes, trust: DestinationTrust[T], timing: Timing) -> Receiver[T]:
        """A handoff of which nothing is known."""
        nothing: Judged[T] = Judged(_E.STRAY)
        return cls(hid, peer, Destination.NONE, None, None, False, trust, timing, nothing, 0.0, 0)

    @classmethod
    def recorded(cls, record: Record, trust: DestinationTrust[T], timing: Timing) -> Receiver[T]:
        """A handoff found in the ledger; after a restart, call `restart` to continue it."""
        if not isinstance(record.state, Destination):
            raise LocalProtocolError("a record of the other side")
        nothing: Judged[T] = Judged(_E.STRAY)
        return cls(record.hid, record.peer, record.state, record, None, False, trust, timing, nothing, 0.0, 0)

    @property
    def finished(self) -> bool:
        """Nothing more happens unless a peer repeats itself."""
        return self.state in (
            Destination.NONE,
            Destination.RUNNING,
            Destination.DISCARDED,
            Destination.REFUSED,
        )

    @property
    def offer(self) -> Offer | None:
        """The offer of which parts are still to come."""
        return self._judged.offer

    @property
    def size(self) -> int:
        """Bytes of bodies kept in memory."""
        return sum([len(body.data) for body in self._judged.bodies])

    # Events

    def restart(self, now: float) -> list[Action[T]]:
        """The station has restarted."""
        return self._fire(_E.RESTART, now)

    def adopt(self, now: float) -> list[Action[T]]:
        """An operator decides that the agent, held in doubt, is to live here."""
        return self._fire(_E.ADOPT, now)

    def discard(self, now: float) -> list[Action[T]]:
        """An operator decides that the agent, held in doubt, is not to live here."""
        return self._fire(_E.DISCARD, now)

    def written(self, record: Record, now: float) -> list[Action[T]]:
        """`record` is on disk."""
        awaited = {Destination.HOLDING: Destination.HELD, Destination.RUNNABLE: Destination.RUNNING}
        return self._fire(_E.DURABLE, now) if record.state is awaited.get(self.state) else []

    def unwritten(self, record: Record, now: float) -> list[Action[T]]:
        """`record` is certainly not on disk."""
        if self.state is not Destination.HOLDING or record.state is not Destination.HELD:
            return []
        assert self._judged.offer is not None
        self.record = None
        here = {body.index for body in self._judged.bodies}
        missing = tuple(i for i in range(len(self._judged.offer.parts)) if i not in here)
        if not missing:
            return self._fire(_E.UNWRITTEN, now)
        # A part that was in the store when the offer was considered was deleted before it could be used.
        self._judged = evolve(self._judged, missing=missing)
        return self._fire(_E.INCOMPLETE, now)

    def tick(self, now: float) -> list[Action[T]]:
        """Do what is due at the time `now`."""
        if self.due is None or now < self.due:
            return []
        self.due = None
        return self._fire(_E.TIMER, now)

    def receive(self, message: Message, now: float) -> list[Action[T]]:
        """Handle a message from the source."""
        match message:
            case Offer() | Transfer():
                return self.apply(self.judge(message), now)
            case CommitMessage(commit=commit):
                if self.state is not Destination.HELD:
                    return self._fire(_E.COMMIT, now)
                assert self.record is not None
                if self._trust.verify_commit(self.record, commit) is not None:
                    return self._fire(_E.BAD_COMMIT, now)
                self.record = evolve(self.record, commit=commit)
                return self._fire(_E.COMMIT, now)
            case Abort():
                return self._fire(_E.ABORT, now)
            case Status():
                return self._fire(_E.STATUS, now)
            case StateAnswer(standing=HandoffStanding.UNKNOWN | HandoffStanding.SETTLED):
                return self._fire(_E.DOUBT, now)
            case StateAnswer():
                return self._fire(_E.PENDING, now)
            case _:
                return []

    # Judging

    def judge(self, message: Offer | Transfer) -> Judged[T]:
        """Judge `message` against the current state. Changes nothing."""
        if self.state not in _UNDECIDED:
            return Judged(_E.AGAIN)
        if isinstance(message, Offer):
            return self._judge(message, message.bodies)
        if self._judged.offer is None:
            return Judged(_E.STRAY)
        offer = self._judged.offer
        try:
            check_bodies(offer.parts, message.bodies)
        except MalformedMessage as error:
            return Judged(_E.DECLINED, refused=Refusal(error.code, error.reason))
        merged = {body.index: body for body in (*self._judged.bodies, *message.bodies)}
        return self._judge(offer, tuple(merged[index] for index in sorted(merged)))

    def _judge(self, offer: Offer, bodies: tuple[Body, ...]) -> Judged[T]:
        if handoff_id(offer.agent, offer.hop, offer.source, offer.destination, offer.nonce) != offer.hid:
            # If two handoffs shared an id, a commit for one could start the other.
            return Judged(_E.DECLINED, refused=Refusal("bad-handoff-id", "the handoff id is not that of this offer"))
        needed = self._trust.consider(offer)
        if isinstance(needed, Refusal):
            return Judged(_E.DECLINED, refused=needed)
        here = {body.index for body in bodies}
        missing = tuple(index for index in needed if index not in here)
        if missing:
            return Judged(_E.SHORT, offer, bodies, missing)
        for body in bodies:
            if digest(body.data) != offer.parts[body.index].digest:
                kind = offer.parts[body.index].kind
                return Judged(_E.DECLINED, refused=Refusal("bad-digest", f"the {kind} is not what was announced"))
        cargo = Cargo(offer, bodies)
        admission = self._trust.admit(cargo)
        if isinstance(admission, Refusal):
            return Judged(_E.DECLINED, refused=admission)
        receipt = self._trust.sign_receipt(cargo, admission)
        return Judged(_E.ADMITTED, offer, bodies, (), admission, receipt)

    def apply(self, judged: Judged[T], now: float) -> list[Action[T]]:
        """Act on a judgement, which may be out of date by now."""
        if self.state not in _UNDECIDED:
            return self._fire(_E.AGAIN, now)
        if judged.event is _E.AGAIN:  # the offer was judged as decided, then forgotten: the source will offer again
            return []
        if judged.event is not _E.STRAY:
            self._judged = judged
        return self._fire(judged.event, now)

    def _fire(self, event: DestinationEvent, now: float) -> list[Action[T]]:
        self.state, step = DESTINATION[self.state].get(event, (self.state, IGNORED))
        return [] if step == IGNORED else RECEIVER_STEPS[step](self, now)

    # The steps of the table

    def _want(self, now: float) -> list[Action[T]]:
        self.due = now + self._timing.want_kept_s
        return [Send(self.peer, Want(self.hid, self._judged.missing))]

    def _forget(self, now: float) -> list[Action[T]]:
        self._judged, self.due = Judged(_E.STRAY), None
        return []

    def _write_held(self, now: float) -> list[Action[T]]:
        offer = self._judged.offer
        assert offer is not None
        self.due = None
        self.record = Record(
            self.hid,
            Side.DESTINATION,
            Destination.HELD,
            offer.agent,
            offer.hop,
            self.peer,
            offer.epoch,
            offer.visit,
            offer.expires,
            self._judged.receipt,
        )
        return [Persist(self.record, Cargo(offer, self._judged.bodies), durable=True)]

    def _receipt(self, now: float) -> list[Action[T]]:
        record, judged = self._known(), self._judged
        receipt = Send(self.peer, ReceiptMessage(self.hid, record.epoch, record.receipt))
        if self.due is not None:
            return [receipt]
        self._wait_more(now)
        if judged.offer is None or judged.admission is None:  # it was judged before a restart
            return [receipt]
        return [receipt, Expect(record, Cargo(judged.offer, judged.bodies), judged.admission)]

    def _refuse(self, now: float) -> list[Action[T]]:
        why = self._judged.refused or _UNWRITTEN
        self._judged, self.due = Judged(_E.STRAY, refused=why), None
        return [Send(self.peer, Refuse(self.hid, why.code, why.reason, why.retry_after))]

    def _start(self, now: float) -> list[Action[T]]:
        self.record = evolve(self._known(), state=Destination.RUNNING)
        judged, self._judged, self.due, self.in_doubt = self._judged, Judged(_E.STRAY), None, False
        cargo = None if judged.offer is None else Cargo(judged.offer, judged.bodies)
        # Start before the write: after a crash the agent is HELD again, and the source repeats COMMIT.
        return [Start(self.record, cargo, judged.admission), Persist(self.record, None, durable=False)]

    def _done(self, now: float) -> list[Action[T]]:
        return [Send(self.peer, Done(self.hid))]

    def _drop(self, now: float) -> list[Action[T]]:
        self.record = evolve(self._known(), state=Destination.DISCARDED)
        self._judged, self.due, self.in_doubt = Judged(_E.STRAY), None, False
        return [
            Persist(self.record, None, durable=False),
            Drop(self.record),
            *self._say(HandoffStanding.DISCARDED),
        ]

    def _ask(self, now: float) -> list[Action[T]]:
        record = self._known()
        self._wait_more(now)
        self._asked += 1
        question = Send(self.peer, Status(self.hid, Side.SOURCE, record.epoch))
        if self._asked <= self._timing.doubt_after:
            return [question]
        return [question, *self._doubt(now)]

    def _doubt(self, now: float) -> list[Action[T]]:
        if self.in_doubt:
            return []
        self.in_doubt = True
        reason = "the source does not say what became of the handoff; the agent is held and does not run"
        return [RaiseAlarm(self.hid, "in-doubt", reason)]

    def _alarm_bad_commit(self, now: float) -> list[Action[T]]:
        return [RaiseAlarm(self.hid, "bad-commit", "a commit that does not verify was ignored")]

    def _alarm_amnesia(self, now: float) -> list[Action[T]]:
        reason = "a commit for an agent that is not held here: this station lost its disk, or the source is wrong"
        return [RaiseAlarm(self.hid, "commit-for-unknown", reason), *self._say(HandoffStanding.UNKNOWN)]

    def _alarm_contradiction(self, now: float) -> list[Action[T]]:
        reason = "the source says both commit and abort of one handoff; what came first holds"
        alarm = RaiseAlarm(self.hid, "contradiction", reason)
        return [alarm, *self._say(HandoffStanding.DISCARDED)] if self.state is Destination.DISCARDED else [alarm]

    def _say_pending(self, now: float) -> list[Action[T]]:
        return self._say(HandoffStanding.PENDING)

    def _say_unknown(self, now: float) -> list[Action[T]]:
        return self._say(HandoffStanding.UNKNOWN)

    def _say_discarded(self, now: float) -> list[Action[T]]:
        if self.state is Destination.NONE:
            self._forget(now)
        return self._say(HandoffStanding.DISCARDED)

    def _say(self, standing: HandoffStanding) -> list[Action[T]]:
        return [Send(self.peer, StateAnswer(self.hid, Side.DESTINATION, standing))]

    def _known(self) -> Record:
        if self.record is None:
            raise LocalProtocolError("nothing is held")
        return self.record

    def _wait_more(self, now: float) -> None:
        self._wait = min(max(self._timing.ask_again_s, self._wait * 2), self._timing.longest_s)
        self.due = now + self._wait


RECEIVER_STEPS: dict[str, Callable[[Receiver[Any], float], list[Action[Any]]]] = {
    step: getattr(Receiver, f"_{step}") for row in DESTINATION.values() for _, step in row.values()
}
