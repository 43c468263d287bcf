"""Goal: exactly one of "the destination has the agent, durably" and "the agent goes on here" becomes true.

The source's state machine: one object per handoff, driven by `states.SOURCE`. It classifies a message (`_classify`),
looks the event up, and carries out the step that the table names.

It does no I/O, and knows neither what the agent is nor who sent a message: its owner passes it only messages
from its peer. Invariants: `commit` is signed and sent only when a COMMITTED record is on disk; bodies
are released as soon as no message can need them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from attrs import define, field

from agents.evolve import evolve
from docking.errors import LocalProtocolError
from docking.handoff.actions import (
    Departure,
    Left,
    Persist,
    RaiseAlarm,
    Record,
    Release,
    Resume,
    Send,
    SourceAction,
    SourceTrust,
    Timing,
)
from docking.handoff.messages import (
    Abort,
    CommitMessage,
    Done,
    HandoffStanding,
    Message,
    ReceiptMessage,
    Refuse,
    Side,
    StateAnswer,
    Status,
    Transfer,
    Want,
)
from docking.handoff.refusal import Refusal
from docking.handoff.states import IGNORED, SOURCE, Source, SourceEvent

_E = SourceEvent
# How often a part is sent to one that keeps asking for it. It may have lost it once: a store without room gives it up.
TRANSFERS = 2
_WANTS_AGAIN = Refusal("no-answer", "the destination wants again and again what it was sent")
_NO_ANSWER = Refusal("no-answer", "the destination gave no receipt in time")
_RESTARTED = Refusal("restarted", "the station restarted before the agent had left")
_RECLAIMED = Refusal("reclaimed", "a person decided that the agent stays here")


@define(eq=False, repr=False)
class Sender:
    """One handoff at its source. `due`: when to call `tick` next, on the clock of the `now` arguments, or None."""

    record: Record
    state: Source
    due: float | None
    _trust: SourceTrust
    _timing: Timing
    _departure: Departure | None
    _deadline: float
    _wait: float
    _refused: Refusal
    _lost: bool = False
    _sent: Counter[int] = field(factory=Counter)
    """How often each part was sent."""
    _carried: int = 0
    """Transfers that are on their way: how long that takes, the carrier bounds."""
    _forgotten: float = 0.0

    @classmethod
    def leaving(cls, departure: Departure, trust: SourceTrust, timing: Timing) -> Sender:
        """A handoff that has not begun; call `begin` next."""
        offer = departure.offer
        record = Record(
            offer.hid,
            Side.SOURCE,
            Source.FROZEN,
            offer.agent,
            offer.hop,
            offer.destination,
            offer.epoch,
            offer.visit,
            offer.expires,
        )
        return cls(record, Source.FROZEN, None, trust, timing, departure, 0.0, 0.0, _NO_ANSWER)

    @classmethod
    def recorded(cls, record: Record, trust: SourceTrust, timing: Timing) -> Sender:
        """A handoff found in the ledger; after a restart, call `restart` to continue it."""
        if not isinstance(record.state, Source):
            raise LocalProtocolError("a record of the other side")
        return cls(record, record.state, None, trust, timing, None, 0.0, 0.0, _RESTARTED)

    @property
    def finished(self) -> bool:
        """Nothing more happens unless a peer repeats itself."""
        return self.state in (Source.GONE, Source.ABORTED)

    # Events

    def begin(self, now: float) -> list[SourceAction]:
        """The station wants the agent to leave."""
        if self._departure is None or self.state is not Source.FROZEN:
            raise LocalProtocolError("this handoff has begun")
        self._deadline = now + self._departure.patience_s
        return self._fire(_E.BEGIN, now)

    def restart(self, now: float) -> list[SourceAction]:
        """The station has restarted."""
        self._refused = _RESTARTED
        return self._fire(_E.RESTART, now)

    def give_up(self, now: float, why: Refusal) -> list[SourceAction]:
        """The station wants the agent to stay. Has no effect once the receipt has come."""
        self._refused = why
        return self._fire(_E.GIVE_UP, now)

    def reclaim(self, now: float) -> list[SourceAction]:
        """An operator takes the agent back from a destination that will never run it."""
        self._refused = _RECLAIMED
        return self._fire(_E.RECLAIM, now)

    def written(self, record: Record, now: float) -> list[SourceAction]:
        """`record` is on disk."""
        awaited = {Source.COMMITTING: Source.COMMITTED, Source.ABORTING: Source.ABORTED}.get(self.state)
        return self._fire(_E.DURABLE, now) if record.state is awaited else []

    def tick(self, now: float) -> list[SourceAction]:
        """Do what is due at the time `now`."""
        if self.due is None or now < self.due:
            return []
        self.due = None
        if self.state is Source.OFFERED and self._carried:
            # A large state on a slow link: another offer would be answered by asking for it again.
            self.due = now + self._timing.offer_again_s
            self._deadline = max(self._deadline, self.due + self._timing.offer_again_s)
            return []
        if self.state is Source.OFFERED and now >= self._deadline:
            self._refused = _NO_ANSWER
            return self._fire(_E.DEADLINE, now)
        return self._fire(_E.TIMER, now)

    def receive(self, message: Message, now: float) -> list[SourceAction]:
        """Handle a message from the destination."""
        event = self._classify(message)
        return [] if event is None else self._fire(event, now, message)

    def undelivered(self, transfer: Transfer) -> None:
        """Parts that were sent have not reached the destination: it asks for them again with good reason."""
        self._sent.subtract([body.index for body in transfer.bodies])

    def carrying(self, more: int) -> None:
        """A transfer is on its way (1), or is not any more (-1)."""
        self._carried += more

    # Judging

    def _classify(self, message: Message) -> SourceEvent | None:
        match message:
            case Want(parts=parts):
                if self.state is Source.OFFERED and any(self._sent[part] >= TRANSFERS for part in parts):
                    self._refused = _WANTS_AGAIN
                    return _E.GIVE_UP
                return _E.WANT
            case Refuse(code=code, reason=reason, retry_after=retry_after):
                if self.state is Source.OFFERED:
                    self._refused = Refusal(code, reason, retry_after)
                return _E.REFUSE
            case ReceiptMessage(receipt=receipt):
                # Verify the signature only where it matters, not for each repetition.
                if self.state is not Source.OFFERED or self._trust.verify_receipt(self.record, receipt) is None:
                    return _E.RECEIPT
                return _E.BAD_RECEIPT
            case Done():
                return _E.DONE
            case Status():
                return _E.STATUS
            case StateAnswer(standing=HandoffStanding.UNKNOWN | HandoffStanding.DISCARDED):
                return _E.FORGOTTEN
            case StateAnswer():
                return _E.PENDING
            case _:
                return None

    def _fire(self, event: SourceEvent, now: float, message: Message | None = None) -> list[SourceAction]:
        self.state, step = SOURCE[self.state].get(event, (self.state, IGNORED))
        return [] if step == IGNORED else SENDER_STEPS[step](self, now, message)

    # The steps of the table

    def _first_offer(self, now: float, message: Message | None) -> list[SourceAction]:
        return [Persist(self.record, None, durable=False), *self._offer_again(now, message)]

    def _offer_again(self, now: float, message: Message | None) -> list[SourceAction]:
        assert self._departure is not None
        self._wait_for(now, self._timing.offer_again_s)
        return [Send(self.record.peer, self._departure.offer)]

    def _offer_soon(self, now: float, message: Message | None) -> list[SourceAction]:
        # Wait first, and longer each time: a peer that keeps forgetting would keep both of us busy.
        self._forgotten = max(self._timing.offer_soon_s, self._forgotten * 2)
        self.due = min(now + self._forgotten, self._deadline)
        return []

    def _transfer(self, now: float, message: Message | None) -> list[SourceAction]:
        assert self._departure is not None
        assert isinstance(message, Want)
        wanted = set(message.parts)
        bodies = tuple(body for body in self._departure.bodies if body.index in wanted)
        if len(bodies) != len(wanted):
            reason = "the destination wants parts that were not offered, or that are not here"
            return [RaiseAlarm(self.record.hid, "bad-want", reason)]
        self._wait_for(now, self._timing.offer_again_s)
        self._sent.update(wanted)
        return [Send(self.record.peer, Transfer(self.record.hid, bodies))]

    def _alarm_bad_receipt(self, now: float, message: Message | None) -> list[SourceAction]:
        return [RaiseAlarm(self.record.hid, "bad-receipt", "a receipt that does not verify was ignored")]

    def _write_committed(self, now: float, message: Message | None) -> list[SourceAction]:
        assert isinstance(message, ReceiptMessage)
        commit = self._trust.sign_commit(self.record, message.receipt)
        self.record = evolve(self.record, state=Source.COMMITTED, receipt=message.receipt, commit=commit)
        self._departure, self.due, self._wait = None, None, 0.0
        return [Persist(self.record, None, durable=True)]

    def _leave(self, now: float, message: Message | None) -> list[SourceAction]:
        return [Left(self.record), *self._commit(now, message)]

    def _commit(self, now: float, message: Message | None) -> list[SourceAction]:
        self._wait_for(now, self._timing.commit_again_s)
        return [Send(self.record.peer, CommitMessage(self.record.hid, self.record.commit))]

    def _release(self, now: float, message: Message | None) -> list[SourceAction]:
        self.due = None
        self.record = evolve(self.record, state=Source.GONE)
        return [Persist(self.record, None, durable=False), Release(self.record)]

    def _alarm_lost(self, now: float, message: Message | None) -> list[SourceAction]:
        if self._lost:
            return []
        self._lost = True
        reason = "the destination gave a receipt and now knows nothing of the agent: it lost its disk"
        return [RaiseAlarm(self.record.hid, "destination-lost-agent", reason)]

    def _write_aborted(self, now: float, message: Message | None) -> list[SourceAction]:
        self._departure, self.due = None, None
        self.record = evolve(self.record, state=Source.ABORTED, code=self._refused.code, reason=self._refused.reason)
        return [Persist(self.record, None, durable=True)]

    def _keep(self, now: float, message: Message | None) -> list[SourceAction]:
        return [Resume(self.record, self._refused), Send(self.record.peer, Abort(self.record.hid))]

    def _abort(self, now: float, message: Message | None) -> list[SourceAction]:
        return [Send(self.record.peer, Abort(self.record.hid))]

    def _say_pending(self, now: float, message: Message | None) -> list[SourceAction]:
        return [Send(self.record.peer, StateAnswer(self.record.hid, Side.SOURCE, HandoffStanding.PENDING))]

    def _say_settled(self, now: float, message: Message | None) -> list[SourceAction]:
        return [Send(self.record.peer, StateAnswer(self.record.hid, Side.SOURCE, HandoffStanding.SETTLED))]

    def _wait_for(self, now: float, first: float) -> None:
        self._wait = min(max(first, self._wait * 2), self._timing.longest_s)
        self.due = now + self._wait
        if self.state is Source.OFFERED:
            self.due = min(self.due, self._deadline)


SENDER_STEPS: dict[str, Callable[[Sender, float, Message | None], list[SourceAction]]] = {
    step: getattr(Sender, f"_{step}") for row in SOURCE.values() for _, step in row.values()
}
