"""The handoff table and both machines, message by message:

what a lying, forgetful or impatient peer gets, and what a person may do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, evolve, field

from agents import canonical
from docking.errors import LocalProtocolError
from docking.handoff.actions import (
    Cargo,
    Departure,
    DestinationTrust,
    Drop,
    Expect,
    Left,
    Persist,
    RaiseAlarm,
    Record,
    Release,
    Resume,
    Send,
    SourceTrust,
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
    Part,
    ReceiptMessage,
    Refuse,
    Side,
    StateAnswer,
    Status,
    Transfer,
    Want,
    handoff_id,
)
from docking.handoff.refusal import Refusal
from docking.handoff.states import Destination, Source
from docking.handoff.table import HandoffTable, Ledger, TableLimits

ALPHA, BETA, EVE = b"A" * 32, b"B" * 32, b"E" * 32
AGENT = b"a" * 32
EPOCHS = {ALPHA: b"1" * 16, BETA: b"2" * 16}
STATE, IMAGE = b"state" * 10, b"image" * 10
TIMING = Timing()


@define
class Dock:
    """A handoff table, its ledger as a dict, and all that came out of it."""

    key: bytes
    has: set[bytes] = field(factory=set)
    refuse: Refusal | None = None
    room: TableLimits = field(factory=TableLimits)
    rows: dict[tuple[bytes, Side], Record] = field(factory=dict)
    out: list[Any] = field(factory=list)
    now: float = 0.0
    judged: int = 0
    table: HandoffTable[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.boot()

    def boot(self) -> None:
        ledger = Ledger(
            lambda hid, side: self.rows.get((hid, side)),
            lambda agent, hop: [
                r for r in self.rows.values() if (r.agent, r.hop, r.side) == (agent, hop, Side.DESTINATION)
            ],
        )
        source = SourceTrust(
            lambda record, receipt: None if receipt == b"receipt of " + record.peer else Refusal("bad-receipt", "no"),
            lambda record, receipt: b"commit of " + self.key,
        )
        destination: DestinationTrust[str] = DestinationTrust(
            lambda offer: self.refuse or tuple(i for i, p in enumerate(offer.parts) if p.digest not in self.has),
            self.admit,
            lambda cargo, admission: b"receipt of " + self.key,
            lambda record, commit: None if commit == b"commit of " + record.peer else Refusal("bad-commit", "no"),
        )
        self.table = HandoffTable(self.key, EPOCHS[self.key], ledger, source, destination, TIMING, self.room)

    def admit(self, cargo: Cargo) -> str | Refusal:
        self.judged += 1
        return "welcome" if cargo.body("state") == STATE else Refusal("bad-state", "this state is not wanted")

    def take(self, actions: list[Any], write: bool = True) -> list[Any]:
        """Carry out `actions`: writes at once, unless told otherwise. Gives everything that came out."""
        done: list[Any] = []
        for action in actions:
            done.append(action)
            if isinstance(action, Persist) and write:
                self.rows[action.record.hid, action.record.side] = action.record
                done += self.take(self.table.written(action.record, self.now))
        self.out += done
        return done

    def hear(self, sender: bytes, message: Message, write: bool = True) -> list[Any]:
        return self.take(self.table.receive(sender, message, self.now), write)

    def said(self, sender: bytes, message: Message, write: bool = True) -> list[Message]:
        return [action.message for action in self.hear(sender, message, write) if isinstance(action, Send)]

    def later(self, seconds: float) -> list[Any]:
        self.now += seconds
        return self.take(self.table.tick(self.now))

    def restart(self) -> list[Any]:
        self.boot()
        open_states = {Source.FROZEN, Source.COMMITTED, Destination.HELD}
        rows = [row for row in self.rows.values() if row.state in open_states]
        return [action for row in rows for action in self.take(self.table.restart(row, self.now))]


def offer(
    nonce: int = 0, *, hop: int = 0, source: bytes = ALPHA, inline: tuple[int, ...] = (0, 1), **more: Any
) -> Offer:
    destination = BETA if source == ALPHA else ALPHA
    token = nonce.to_bytes(16, "big")
    bodies = (Body(0, STATE), Body(1, IMAGE))
    parts = tuple(
        Part(k, canonical.digest(b.data), len(b.data)) for k, b in zip(("state", "image"), bodies, strict=True)
    )
    values = {
        "hid": handoff_id(AGENT, hop, source, destination, token),
        "agent": AGENT,
        "hop": hop,
        "source": source,
        "destination": destination,
        "nonce": token,
        "epoch": EPOCHS[source],
        "visit": b"v" * 32,
        "expires": 5_000,
        "parts": parts,
        "bodies": tuple(bodies[i] for i in inline),
    }
    return Offer(**(values | more))  # type: ignore[arg-type]


def departure(this: Offer, patience: float = 10.0) -> Departure:
    return Departure(this, (Body(0, STATE), Body(1, IMAGE)), patience)


HID = offer().hid
RECEIPT = ReceiptMessage(HID, EPOCHS[ALPHA], b"receipt of " + BETA)
COMMIT = CommitMessage(HID, b"commit of " + ALPHA)


@pytest.fixture
def source() -> Dock:
    dock = Dock(ALPHA)
    dock.take(dock.table.depart(departure(offer()), 0.0))
    return dock


@pytest.fixture
def holder() -> Dock:
    dock = Dock(BETA)
    assert dock.said(ALPHA, offer()) == [RECEIPT]
    return dock


def kinds(actions: list[Any]) -> list[type]:
    return [type(action.message if isinstance(action, Send) else action) for action in actions]


def alarms(actions: list[Any]) -> list[str]:
    return [action.code for action in actions if isinstance(action, RaiseAlarm)]


# The way it should go


def test_a_handoff_takes_an_offer_a_receipt_a_commit() -> None:
    alpha, beta = Dock(ALPHA), Dock(BETA)
    first = alpha.take(alpha.table.depart(departure(offer()), 0.0))
    assert kinds(first) == [Persist, Offer]
    assert kinds(beta.hear(ALPHA, first[1].message)) == [Persist, ReceiptMessage, Expect]
    assert kinds(alpha.hear(BETA, RECEIPT)) == [Persist, Left, CommitMessage]
    assert kinds(beta.hear(ALPHA, COMMIT)) == [Start, Persist, Done]
    assert kinds(alpha.hear(BETA, Done(HID))) == [Persist, Release]
    durable = [action.durable for dock in (alpha, beta) for action in dock.out if isinstance(action, Persist)]
    assert durable == [False, True, False, True, False]  # HELD and COMMITTED, and nothing else
    start = next(action for action in beta.out if isinstance(action, Start))
    assert (start.admission, start.cargo.body("state")) == ("welcome", STATE)
    assert (alpha.table.next_due(), beta.table.next_due()) == (None, None)


def test_one_who_wants_again_what_it_was_sent_is_given_up_after_two_transfers() -> None:
    alpha = Dock(ALPHA)
    this = offer(inline=())
    alpha.take(alpha.table.depart(departure(this), alpha.now))
    for _ in range(2):
        (transfer,) = alpha.said(BETA, Want(HID, (0, 1)))
        assert isinstance(transfer, Transfer)
    assert alpha.said(BETA, Want(HID, (1,))) == [Abort(HID)]
    assert alpha.rows[HID, Side.SOURCE].state is Source.ABORTED
    assert alpha.rows[HID, Side.SOURCE].code == "no-answer"


def test_parts_that_did_not_arrive_are_sent_again() -> None:
    alpha = Dock(ALPHA)
    this = offer(inline=())
    alpha.take(alpha.table.depart(departure(this), alpha.now))
    for _ in range(5):
        (transfer,) = alpha.said(BETA, Want(HID, (0, 1)))
        assert isinstance(transfer, Transfer)
        alpha.table.undelivered(transfer)
    # Each part counts for itself.
    assert isinstance(alpha.said(BETA, Want(HID, (0,)))[0], Transfer)
    assert isinstance(alpha.said(BETA, Want(HID, (1,)))[0], Transfer)
    assert isinstance(alpha.said(BETA, Want(HID, (0, 1)))[0], Transfer)
    assert alpha.said(BETA, Want(HID, (1,))) == [Abort(HID)]


def test_an_offer_is_not_repeated_while_a_transfer_is_on_its_way() -> None:
    alpha = Dock(ALPHA)
    this = offer(inline=())
    alpha.take(alpha.table.depart(departure(this), alpha.now))
    (transfer,) = alpha.said(BETA, Want(HID, (0, 1)))
    assert isinstance(transfer, Transfer)
    alpha.table.carrying(transfer, 1)
    for _ in range(100):  # far beyond its patience: the carrier bounds how long it takes
        due = alpha.table.next_due()
        assert due is not None
        assert alpha.take(alpha.table.tick(due)) == []
    alpha.table.carrying(transfer, -1)
    due = alpha.table.next_due()
    assert due is not None
    assert [action.message for action in alpha.take(alpha.table.tick(due)) if isinstance(action, Send)] == [this]


def test_what_is_missing_is_wanted_and_nothing_else() -> None:
    alpha, beta = Dock(ALPHA), Dock(BETA, has={canonical.digest(IMAGE)})
    this = offer(inline=())
    alpha.take(alpha.table.depart(departure(this), 0.0))
    assert beta.said(ALPHA, this) == [Want(HID, (0,))]
    (transfer,) = alpha.said(BETA, Want(HID, (0,)))
    assert transfer == Transfer(HID, (Body(0, STATE),))
    assert beta.said(ALPHA, transfer) == [RECEIPT]
    persist = next(action for action in beta.out if isinstance(action, Persist))
    assert [body.index for body in persist.cargo.bodies] == [0]


# What a destination refuses


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (offer(hid=b"x" * 32), "bad-handoff-id"),
        (offer(parts=(Part("state", b"x" * 32, 50), Part("image", canonical.digest(IMAGE), 50))), "bad-digest"),
        (offer(bodies=(Body(0, b"S" * 50), Body(1, IMAGE))), "bad-digest"),
    ],
)
def test_an_offer_that_contradicts_itself_is_refused(bad: Offer, code: str) -> None:
    beta = Dock(BETA)
    (refuse,) = beta.said(ALPHA, bad)
    assert isinstance(refuse, Refuse)
    assert (refuse.code, beta.judged, beta.rows) == (code, 0, {})


def test_admission_has_the_last_word_and_it_is_repeated() -> None:
    beta = Dock(BETA, refuse=Refusal("policy", "not today", 9))
    refuse = Refuse(HID, "policy", "not today", 9)
    assert beta.said(ALPHA, offer()) == [refuse]
    beta.refuse = None
    assert beta.said(ALPHA, offer()) == [refuse]
    assert beta.said(ALPHA, Transfer(HID, ())) == [refuse]
    assert beta.said(ALPHA, Status(HID, Side.DESTINATION, EPOCHS[ALPHA])) == [refuse]
    assert beta.said(ALPHA, offer(nonce=1)) == [
        ReceiptMessage(offer(nonce=1).hid, EPOCHS[ALPHA], b"receipt of " + BETA)
    ]


def test_a_body_that_was_not_offered_is_refused() -> None:
    beta = Dock(BETA)
    beta.hear(ALPHA, offer(inline=()))
    (refuse,) = beta.said(ALPHA, Transfer(HID, (Body(0, STATE), Body(7, b""))))
    assert isinstance(refuse, Refuse)
    assert refuse.code == "malformed-message"


def test_a_transfer_that_is_too_short_is_asked_for_again() -> None:
    beta = Dock(BETA)
    assert beta.said(ALPHA, offer(inline=())) == [Want(HID, (0, 1))]
    assert beta.said(ALPHA, Transfer(HID, (Body(1, IMAGE),))) == [Want(HID, (0,))]
    assert beta.said(ALPHA, Transfer(HID, (Body(0, STATE),))) == [RECEIPT]


def test_messages_count_only_from_the_peer(source: Dock, holder: Dock) -> None:
    """A third station that knows the id of a handoff can do nothing with it."""
    for message in (COMMIT, Abort(HID), StateAnswer(HID, Side.SOURCE, HandoffStanding.UNKNOWN)):
        assert alarms(holder.hear(EVE, message)) == ["stranger"]
    assert isinstance(holder.said(EVE, offer())[0], Refuse)
    for message in (RECEIPT, Done(HID), Want(HID, (0,)), Refuse(HID, "no", "no")):
        assert alarms(source.hear(EVE, message)) == ["stranger"]
    assert holder.rows[HID, Side.DESTINATION].state is Destination.HELD
    assert source.rows[HID, Side.SOURCE].state is Source.FROZEN


@pytest.mark.parametrize("bad", [offer(source=BETA), offer(destination=EVE)])
def test_an_offer_is_from_its_sender_to_this_station(bad: Offer) -> None:
    (refuse,) = Dock(BETA).said(ALPHA, bad)
    assert isinstance(refuse, Refuse)
    assert refuse.code == "wrong-station"


def test_the_undecided_do_not_fill_the_memory() -> None:
    beta = Dock(BETA, room=TableLimits(undecided=2, undecided_bytes=130, finished=4))
    beta.hear(ALPHA, offer(0, inline=(0,)))
    (refuse,) = beta.said(ALPHA, offer(1))
    assert isinstance(refuse, Refuse)
    assert (refuse.code, refuse.retry_after) == ("busy", 1)
    beta.hear(ALPHA, offer(2, inline=(0,)))
    assert isinstance(beta.said(ALPHA, offer(3, inline=()))[0], Refuse)
    # An offer whose parts do not come is forgotten, and makes room.
    assert beta.later(TIMING.want_kept_s + 1) == []
    assert beta.said(ALPHA, offer(4, inline=())) == [Want(offer(4).hid, (0, 1))]


def test_one_peer_does_not_take_all_places() -> None:
    beta = Dock(BETA, room=TableLimits(undecided=8))
    said = [beta.said(ALPHA, offer(nonce, hop=nonce, inline=()))[0] for nonce in range(4)]
    assert [type(message) for message in said] == [Want, Want, Refuse, Refuse]
    token = bytes(16)
    hid = handoff_id(AGENT, 9, EVE, BETA, token)
    eve = evolve(offer(inline=()), source=EVE, hid=hid, hop=9, nonce=token)
    assert beta.said(EVE, eve) == [Want(hid, (0, 1))]


def test_strangers_do_not_raise_alarms_by_the_thousand() -> None:
    beta = Dock(BETA, room=TableLimits(alarms=3, quiet_s=10.0))
    commits = [CommitMessage(bytes([number]) * 32, b"commit") for number in range(10)]
    assert [len(alarms(beta.hear(EVE, each))) for each in commits] == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert all(
        beta.said(EVE, each) == [StateAnswer(each.hid, Side.DESTINATION, HandoffStanding.UNKNOWN)] for each in commits
    )
    beta.now += 10.0
    assert [len(alarms(beta.hear(EVE, each))) for each in commits] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    # The alarm of a handoff that is known here is nobody else's to use up.
    beta.hear(ALPHA, offer())
    assert alarms(beta.hear(ALPHA, CommitMessage(HID, b"forged"))) == ["bad-commit"]


def test_finished_machines_do_not_fill_the_memory() -> None:
    beta = Dock(BETA, refuse=Refusal("policy", "no"), room=TableLimits(finished=4))
    for nonce in range(20):
        beta.hear(ALPHA, offer(nonce))
    assert len(beta.table.machines) == 4


def test_a_finished_machine_is_dropped_only_when_it_is_written() -> None:
    beta = Dock(BETA, room=TableLimits(finished=0))
    beta.hear(ALPHA, offer())
    (start, persist) = beta.hear(ALPHA, COMMIT, write=False)
    assert isinstance(start, Start)
    assert (HID, Side.DESTINATION) in beta.table.machines
    beta.take([persist])
    assert (HID, Side.DESTINATION) not in beta.table.machines
    assert beta.said(ALPHA, COMMIT) == [Done(HID)]


# Two handoffs of one hop


def test_a_second_handoff_of_a_hop_waits_for_the_first(holder: Dock) -> None:
    refuse, status = holder.said(ALPHA, offer(nonce=1))
    assert isinstance(refuse, Refuse)
    assert (refuse.code, refuse.retry_after) == ("held-here", 1)
    assert status == Status(HID, Side.SOURCE, EPOCHS[ALPHA])
    holder.hear(ALPHA, Abort(HID))
    assert isinstance(holder.said(ALPHA, offer(nonce=2))[0], ReceiptMessage)


def test_an_agent_does_not_arrive_twice(holder: Dock) -> None:
    holder.hear(ALPHA, COMMIT)
    for table_restarts in (False, True):
        if table_restarts:
            holder.restart()
        (refuse,) = holder.said(ALPHA, offer(nonce=1))
        assert isinstance(refuse, Refuse)
        assert refuse.code == "copy-here"


def test_two_offers_of_a_hop_at_once_give_one_receipt() -> None:
    beta = Dock(BETA)
    (persist,) = beta.hear(ALPHA, offer(0), write=False)
    assert isinstance(beta.said(ALPHA, offer(1))[0], Refuse)
    assert kinds(beta.take([persist])) == [Persist, ReceiptMessage, Expect]


def test_an_offer_judged_before_another_arrived_is_judged_again_by_the_table() -> None:
    beta = Dock(BETA)
    late = beta.table.judge(ALPHA, offer(1))
    beta.hear(ALPHA, offer(0))
    assert isinstance(beta.table.apply(ALPHA, offer(1), late, 0.0)[0].message, Refuse)
    again = beta.table.judge(ALPHA, offer(0))
    assert beta.table.apply(ALPHA, offer(0), again, 0.0) == [Send(ALPHA, RECEIPT)]


# What was said before is said again


def test_the_destination_repeats_itself(holder: Dock) -> None:
    status = Status(HID, Side.DESTINATION, EPOCHS[ALPHA])
    judged = holder.judged
    for message in (offer(), Transfer(HID, ()), status):
        assert holder.said(ALPHA, message) == [RECEIPT]
    holder.hear(ALPHA, COMMIT)
    for message in (offer(), COMMIT, status):
        assert holder.said(ALPHA, message) == [Done(HID)]
    assert holder.judged == judged
    assert sum(isinstance(action, Start) for action in holder.out) == 1


def test_the_source_repeats_itself(source: Dock) -> None:
    status = Status(HID, Side.SOURCE, EPOCHS[ALPHA])
    pending = StateAnswer(HID, Side.SOURCE, HandoffStanding.PENDING)
    assert source.said(BETA, status) == [pending]
    (persist,) = source.hear(BETA, RECEIPT, write=False)
    assert source.said(BETA, status) == [pending]  # not durable yet
    assert source.said(BETA, RECEIPT) == []
    source.take([persist])
    assert source.said(BETA, status) == source.said(BETA, RECEIPT) == [COMMIT]
    source.hear(BETA, Done(HID))
    settled = StateAnswer(HID, Side.SOURCE, HandoffStanding.SETTLED)
    assert source.said(BETA, status) == source.said(BETA, RECEIPT) == [settled]


def test_nothing_is_said_while_it_is_being_written() -> None:
    beta = Dock(BETA)
    (persist,) = beta.hear(ALPHA, offer(), write=False)
    assert beta.said(ALPHA, offer()) == []
    assert beta.said(ALPHA, Status(HID, Side.DESTINATION, EPOCHS[ALPHA])) == [
        StateAnswer(HID, Side.DESTINATION, HandoffStanding.PENDING)
    ]
    assert beta.table.writing((HID, Side.DESTINATION))
    assert kinds(beta.take([persist])) == [Persist, ReceiptMessage, Expect]


# Giving up


@pytest.mark.parametrize(
    ("how", "code"),
    [
        (lambda dock: dock.hear(BETA, Refuse(HID, "policy", "no", 5)), "policy"),
        (lambda dock: dock.later(11.0), "no-answer"),
        (lambda dock: dock.take(dock.table.give_up(HID, Refusal("owner", "it shall stay"), 0.0)), "owner"),
        (lambda dock: dock.restart(), "restarted"),
    ],
)
def test_the_agent_stays(source: Dock, how: Callable[[Dock], list[Any]], code: str) -> None:
    actions = how(source)
    assert kinds(actions) == [Persist, Resume, Abort]
    assert (actions[0].durable, actions[1].refused.code) == (True, code)
    assert source.said(BETA, RECEIPT) == [Abort(HID)]
    assert source.said(BETA, Status(HID, Side.SOURCE, EPOCHS[ALPHA])) == [Abort(HID)]
    assert source.said(BETA, Want(HID, (0,))) == [Abort(HID)]
    assert source.hear(BETA, Done(HID)) == []


def test_giving_up_comes_too_late_after_the_receipt(source: Dock) -> None:
    (persist,) = source.hear(BETA, RECEIPT, write=False)
    assert source.table.give_up(HID, Refusal("owner", "stay"), 0.0) == []
    assert source.hear(BETA, Refuse(HID, "policy", "no")) == []
    assert kinds(source.take([persist])) == [Persist, Left, CommitMessage]
    assert source.table.give_up(HID, Refusal("owner", "stay"), 0.0) == []


def test_an_offer_is_repeated_until_patience_ends(source: Dock) -> None:
    offers = 0
    for _ in range(100):
        actions = source.later(0.5)
        offers += kinds(actions).count(Offer)
        if Resume in kinds(actions):
            break
    assert (offers, source.now) == (2, 10.0)


def test_a_forgetful_destination_is_offered_again_but_not_at_once(source: Dock) -> None:
    """Two stations must not keep each other busy: the next offer waits, each time longer."""
    unknown = StateAnswer(HID, Side.DESTINATION, HandoffStanding.UNKNOWN)
    assert source.hear(BETA, unknown) == []
    assert kinds(source.later(TIMING.offer_soon_s)) == [Offer]
    assert source.hear(BETA, unknown) == []
    assert source.later(TIMING.offer_soon_s) == []


def test_parts_that_are_not_there_are_not_sent(source: Dock) -> None:
    assert alarms(source.hear(BETA, Want(HID, (0, 5)))) == ["bad-want"]


def test_what_is_discarded_stays_so(holder: Dock) -> None:
    gone = StateAnswer(HID, Side.DESTINATION, HandoffStanding.DISCARDED)
    actions = holder.hear(ALPHA, Abort(HID))
    assert kinds(actions) == [Persist, Drop, StateAnswer]
    for message in (offer(), Abort(HID), Status(HID, Side.DESTINATION, EPOCHS[ALPHA])):
        assert holder.said(ALPHA, message) == [gone]
    assert alarms(holder.hear(ALPHA, COMMIT)) == ["contradiction"]
    assert not any(isinstance(action, Start) for action in holder.out)


def test_an_offer_can_be_aborted_before_its_parts_come() -> None:
    beta = Dock(BETA)
    beta.hear(ALPHA, offer(inline=()))
    gone = StateAnswer(HID, Side.DESTINATION, HandoffStanding.DISCARDED)
    assert beta.said(ALPHA, Abort(HID)) == [gone]
    assert beta.said(ALPHA, Transfer(HID, (Body(0, STATE),))) == [
        StateAnswer(HID, Side.DESTINATION, HandoffStanding.UNKNOWN)
    ]
    assert beta.table.machines == {}


# What does not verify


def test_a_receipt_that_does_not_verify_changes_nothing(source: Dock) -> None:
    assert alarms(source.hear(BETA, evolve(RECEIPT, receipt=b"forged"))) == ["bad-receipt"]
    assert kinds(source.hear(BETA, RECEIPT)) == [Persist, Left, CommitMessage]


def test_a_commit_that_does_not_verify_changes_nothing(holder: Dock) -> None:
    assert alarms(holder.hear(ALPHA, evolve(COMMIT, commit=b"forged"))) == ["bad-commit"]
    assert kinds(holder.hear(ALPHA, COMMIT)) == [Start, Persist, Done]


def test_a_commit_is_not_believed_before_the_agent_is_held() -> None:
    beta = Dock(BETA)
    (persist,) = beta.hear(ALPHA, offer(), write=False)
    assert beta.hear(ALPHA, COMMIT) == []
    assert not any(isinstance(action, Start) for action in beta.take([persist]))


def test_a_source_that_says_both_is_noticed(holder: Dock) -> None:
    (_start, persist) = holder.hear(ALPHA, COMMIT, write=False)
    assert alarms(holder.hear(ALPHA, Abort(HID))) == ["contradiction"]
    holder.take([persist])
    assert alarms(holder.hear(ALPHA, Abort(HID))) == ["contradiction"]
    assert holder.rows[HID, Side.DESTINATION].state is Destination.RUNNING


# What is not known


def test_a_source_presumes_abort_only_in_the_same_life() -> None:
    alpha = Dock(ALPHA)
    for message in (Status(HID, Side.SOURCE, EPOCHS[ALPHA]), RECEIPT):
        assert alpha.said(BETA, message) == [Abort(HID)]
    unknown = StateAnswer(HID, Side.SOURCE, HandoffStanding.UNKNOWN)
    for message in (Status(HID, Side.SOURCE, b"0" * 16), evolve(RECEIPT, epoch=b"0" * 16)):
        assert alpha.said(BETA, message) == [unknown]
    for message in (
        Want(HID, (0,)),
        Done(HID),
        Refuse(HID, "no", "no"),
        StateAnswer(HID, Side.DESTINATION, HandoffStanding.UNKNOWN),
    ):
        assert alpha.hear(BETA, message) == []
    assert alpha.table.machines == {}


def test_a_destination_says_that_it_knows_nothing() -> None:
    beta = Dock(BETA)
    unknown = StateAnswer(HID, Side.DESTINATION, HandoffStanding.UNKNOWN)
    assert beta.said(ALPHA, Status(HID, Side.DESTINATION, EPOCHS[ALPHA])) == [unknown]
    assert beta.said(ALPHA, Transfer(HID, (Body(0, STATE),))) == [unknown]
    assert beta.said(ALPHA, COMMIT) == [unknown]
    assert alarms(beta.out) == ["commit-for-unknown"]
    assert beta.table.machines == {}


def test_a_destination_without_its_disk_is_noticed_once(source: Dock) -> None:
    source.hear(BETA, RECEIPT)
    unknown = StateAnswer(HID, Side.DESTINATION, HandoffStanding.UNKNOWN)
    assert alarms(source.hear(BETA, unknown)) == ["destination-lost-agent"]
    assert source.hear(BETA, unknown) == []
    assert source.rows[HID, Side.SOURCE].state is Source.COMMITTED


def test_a_held_agent_asks_and_is_shown_when_nobody_answers(holder: Dock) -> None:
    questions = [kinds(holder.later(60.0)) for _ in range(6)]
    assert questions == [[Status]] * 3 + [[Status, RaiseAlarm]] + [[Status]] * 2
    assert holder.hear(ALPHA, StateAnswer(HID, Side.SOURCE, HandoffStanding.PENDING)) == []
    assert kinds(holder.hear(ALPHA, COMMIT)) == [Start, Persist, Done]


@pytest.mark.parametrize("standing", [HandoffStanding.UNKNOWN, HandoffStanding.SETTLED])
def test_a_held_agent_is_in_doubt_when_the_source_has_forgotten(holder: Dock, standing: HandoffStanding) -> None:
    assert alarms(holder.hear(ALPHA, StateAnswer(HID, Side.SOURCE, standing))) == ["in-doubt"]
    assert holder.hear(ALPHA, StateAnswer(HID, Side.SOURCE, standing)) == []
    assert holder.rows[HID, Side.DESTINATION].state is Destination.HELD


# After a restart


def test_a_held_agent_is_asked_for_and_started_from_the_store(holder: Dock) -> None:
    assert kinds(holder.restart()) == [Status]
    start, *_ = holder.hear(ALPHA, COMMIT)
    assert (start.admission, start.cargo) == (None, None)


def test_a_commit_is_repeated_after_a_restart_until_it_is_done(source: Dock) -> None:
    source.hear(BETA, RECEIPT)
    assert kinds(source.restart()) == [CommitMessage]
    assert [kinds(source.later(100.0)) for _ in range(3)] == [[CommitMessage]] * 3
    source.hear(BETA, Done(HID))
    assert source.later(1000.0) == []


# What could not be written


def test_a_part_that_vanished_is_wanted_again() -> None:
    beta = Dock(BETA, has={canonical.digest(IMAGE)})
    (persist,) = beta.hear(ALPHA, offer(inline=(0,)), write=False)
    beta.has.clear()
    assert beta.take(beta.table.unwritten(persist.record, 0.0)) == [Send(ALPHA, Want(HID, (1,)))]
    assert beta.said(ALPHA, Transfer(HID, (Body(1, IMAGE),))) == [RECEIPT]


def test_what_cannot_be_stored_is_refused() -> None:
    beta = Dock(BETA)
    (persist,) = beta.hear(ALPHA, offer(), write=False)
    ((refuse),) = beta.table.unwritten(persist.record, 0.0)
    assert refuse.message.code == "storage"
    assert beta.table.written(persist.record, 0.0) == []


def test_no_other_write_may_fail(source: Dock) -> None:
    (persist,) = source.hear(BETA, RECEIPT, write=False)
    with pytest.raises(LocalProtocolError):
        source.table.unwritten(persist.record, 0.0)


# What a person may do


def test_a_person_adopts_what_is_in_doubt(holder: Dock) -> None:
    assert kinds(holder.take(holder.table.adopt(HID, 0.0))) == [Start, Persist, Done]
    assert holder.table.adopt(HID, 0.0) == []
    assert alarms(holder.hear(ALPHA, Abort(HID))) == ["contradiction"]


def test_a_person_discards_what_is_in_doubt(holder: Dock) -> None:
    assert kinds(holder.take(holder.table.discard(HID, 0.0))) == [Persist, Drop, StateAnswer]
    assert holder.table.adopt(HID, 0.0) == []


def test_a_person_reclaims_what_the_destination_lost(source: Dock) -> None:
    source.hear(BETA, RECEIPT)
    actions = source.take(source.table.reclaim(HID, 0.0))
    assert kinds(actions) == [Persist, Resume, Abort]
    assert actions[1].refused.code == "reclaimed"
    assert source.said(BETA, RECEIPT) == [Abort(HID)]


def test_asking_for_what_is_not_there_is_a_mistake_here(source: Dock, holder: Dock) -> None:
    for wrong in (
        lambda: source.table.adopt(HID, 0.0),
        lambda: holder.table.reclaim(HID, 0.0),
        lambda: source.table.give_up(b"x" * 32, Refusal("no", "no"), 0.0),
        lambda: source.table.depart(departure(offer()), 0.0),
        lambda: source.table.depart(departure(offer(nonce=9, epoch=b"0" * 16)), 0.0),
        lambda: holder.table.depart(departure(offer(nonce=9)), 0.0),
    ):
        with pytest.raises(LocalProtocolError):
            wrong()
