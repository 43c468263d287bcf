"""The handoff in every state that it can reach (`tests.model.handoff`), and that the model says what the code does."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from docking.handoff.actions import (
    Departure,
    DestinationTrust,
    Persist,
    Record,
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
    Offer,
    ReceiptMessage,
    Refuse,
    Side,
    StateAnswer,
    Status,
    Transfer,
    Want,
)
from docking.handoff.receiver import RECEIVER_STEPS, Receiver
from docking.handoff.sender import SENDER_STEPS, Sender
from docking.handoff.states import DESTINATION, SOURCE
from docking.handoff.states import Destination as D
from docking.handoff.states import DestinationEvent as DE
from docking.handoff.states import Source as S
from docking.handoff.states import SourceEvent as SE
from tests.handoff.test_handoff_table import IMAGE, STATE, offer
from tests.model.handoff import GOES_ON, INVARIANTS, SENT, STARTS, WRITTEN, Model, Said, check
from tests.thorough import THOROUGH

MESSAGES: dict[Said, tuple[type, Any]] = {
    Said.OFFER: (Offer, None),
    Said.TRANSFER: (Transfer, None),
    Said.COMMIT: (CommitMessage, None),
    Said.ABORT: (Abort, None),
    Said.UNSURE: (StateAnswer, HandoffStanding.SETTLED),
    Said.PENDING: (StateAnswer, HandoffStanding.PENDING),
    Said.WANT: (Want, None),
    Said.REFUSE: (Refuse, None),
    Said.RECEIPT: (ReceiptMessage, None),
    Said.DONE: (Done, None),
    Said.QUESTION: (Status, None),
    Said.WAITING: (StateAnswer, HandoffStanding.PENDING),
}


@pytest.mark.parametrize(("handoffs", "crashes"), [(1, 2), (2, 1), *([(2, 2), (3, 1)] if THOROUGH else [])])
def test_all_invariants_hold_in_every_state(handoffs: int, crashes: int) -> None:
    found = check(Model(handoffs, crashes))
    assert found.broken is None, "\n".join((found.broken, *found.way))
    assert found.states > 1000


def test_of_a_disk_that_is_set_back_nobody_lives_twice_where_that_is_noticed() -> None:
    one = {"one": INVARIANTS["one"]}
    assert check(Model(1, 2, set_back=True), one, alive=False).broken is None
    found = check(Model(1, 1, set_back=True, notices=False), one, alive=False)
    assert found.broken == "one"
    assert any("set back" in each for each in found.way)


def rewired(table: Any, state: Any, event: Any, row: Any) -> Any:
    """The table with another row; None: without it."""
    rows = {**table[state], event: row}
    if row is None:
        del rows[event]
    return {**table, state: rows}


MUTANTS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "committed before it is written": (
        {"source": rewired(SOURCE, S.OFFERED, SE.RECEIPT, (S.COMMITTED, "leave"))},
        {"commit", "one"},
    ),
    "goes on before that is written": (
        {"source": rewired(SOURCE, S.OFFERED, SE.DEADLINE, (S.ABORTED, "keep"))},
        {"one"},
    ),
    "gives up after the receipt": (
        {"source": rewired(SOURCE, S.COMMITTED, SE.TIMER, (S.ABORTING, "write_aborted"))},
        {"one", "commit"},
    ),
    "receipt before it is written": (
        {"destination": rewired(DESTINATION, D.NONE, DE.ADMITTED, (D.HELD, "receipt"))},
        {"receipt"},
    ),
    "starts when it is asked": (
        {"destination": rewired(DESTINATION, D.HELD, DE.AGAIN, (D.RUNNABLE, "start"))},
        {"one"},
    ),
    "starts in doubt": (
        {"destination": rewired(DESTINATION, D.HELD, DE.TIMER, (D.RUNNABLE, "start"))},
        {"one"},
    ),
    "discards by itself": (
        {"destination": rewired(DESTINATION, D.HELD, DE.TIMER, (D.DISCARDED, "drop"))},
        {"alive"},
    ),
    "done before it is written": (
        {"destination": rewired(DESTINATION, D.RUNNABLE, DE.COMMIT, (D.RUNNABLE, "done"))},
        {"release"},
    ),
    "never says commit again": (
        {"source": {**SOURCE, S.COMMITTED: {SE.DONE: (S.GONE, "release")}}},
        {"alive"},
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_weaker_protocol_is_found_out(name: str) -> None:
    tables, kinds = MUTANTS[name]
    found = check(Model(2 if name == "goes on before that is written" else 1, 2, **tables))
    assert found.broken in kinds, found


# What the code does


def source_at(state: S) -> Sender:
    this = offer()
    trust = SourceTrust(lambda record, receipt: None, lambda record, receipt: b"commit")
    made = Sender.leaving(Departure(this, (Body(0, STATE), Body(1, IMAGE)), 10.0), trust, Timing())
    made.record, made.state = evolve(made.record, receipt=b"receipt", commit=b"commit"), state
    return made


def destination_at(state: D) -> Receiver[str]:
    this = offer(inline=()) if state is D.WANTED else offer()
    trust: DestinationTrust[str] = DestinationTrust(
        lambda offer: (0, 1), lambda cargo: "welcome", lambda cargo, admission: b"receipt", lambda record, commit: None
    )
    made: Receiver[str] = Receiver.unknown(this.hid, this.source, trust, Timing())
    made._judged = made.judge(this)
    row = (this.agent, this.hop, this.source, this.epoch, this.visit, this.expires)
    made.record = Record(this.hid, Side.DESTINATION, D.HELD, *row, receipt=b"receipt")
    made.state = state
    return made


def rows(table: Any) -> list[tuple[Any, Any, str]]:
    return [(state, after, step) for state, row in table.items() for after, step in row.values()]


def compare(actions: list[Any], step: str, state: Any) -> None:
    """The actions are those of the model."""
    said = [each.message for each in actions if isinstance(each, Send)]
    if step == "say_pending":
        expected: list[Said] = [Said.PENDING]
    elif step == "alarm_contradiction":
        expected = []
        said = []
    else:
        expected = [SENT[step]] if step in SENT else []
    assert len(said) == len(expected), (step, said)
    for message, name in zip(said, expected, strict=True):
        if name is Said.FORGOTTEN:
            assert message.standing in (HandoffStanding.UNKNOWN, HandoffStanding.DISCARDED)
            continue
        kind, standing = MESSAGES[name]
        assert isinstance(message, kind)
        assert standing is None or message.standing is standing
    written = [each.record.state for each in actions if isinstance(each, Persist)]
    assert written == ([WRITTEN[step]] if step in WRITTEN else [])
    assert any(isinstance(each, Start) for each in actions) == (step == STARTS)
    assert any(isinstance(each, Resume) for each in actions) == (step == GOES_ON)


@pytest.mark.parametrize(("state", "after", "step"), sorted(set(rows(SOURCE)), key=str))
def test_steps_of_the_source(state: S, after: S, step: str) -> None:
    machine = source_at(after)
    message: Any = ReceiptMessage(machine.record.hid, b"e" * 16, b"receipt")
    if step == "transfer":
        message = Want(machine.record.hid, (0,))
    compare(SENDER_STEPS[step](machine, 0.0, message), step, state)


@pytest.mark.parametrize(("state", "after", "step"), sorted(set(rows(DESTINATION)), key=str))
def test_steps_of_the_destination(state: D, after: D, step: str) -> None:
    compare(RECEIVER_STEPS[step](destination_at(after), 0.0), step, state)
