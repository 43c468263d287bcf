"""The two tables:

every step exists, every state can be reached and left, and what must never happen is not in them.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from docking.handoff import receiver, sender
from docking.handoff.states import DESTINATION, SOURCE, Destination, DestinationEvent, Source, SourceEvent

D, DE, S, SE = Destination, DestinationEvent, Source, SourceEvent
DECIDED = {S.COMMITTED, S.GONE}


def reachable(table: Any, start: Any) -> set[Any]:
    seen, todo = {start}, [start]
    while todo:
        for state, _ in table[todo.pop()].values():
            if state not in seen:
                seen.add(state)
                todo.append(state)
    return seen


@pytest.mark.parametrize(
    ("table", "states", "events", "steps", "start"),
    [
        (SOURCE, Source, SourceEvent, sender.SENDER_STEPS, S.FROZEN),
        (DESTINATION, Destination, DestinationEvent, receiver.RECEIVER_STEPS, D.NONE),
    ],
)
def test_the_tables_are_whole(table: Any, states: Any, events: Any, steps: Any, start: Any) -> None:
    assert set(table) == set(states)
    assert reachable(table, start) == set(states)
    used = {event for row in table.values() for event in row}
    never_matters = {SE.PENDING, DE.PENDING}
    assert set(events) - used <= never_matters
    assert {step for row in table.values() for _, step in row.values()} == set(steps)


def test_status_is_always_answered() -> None:
    assert all(SE.STATUS in row for row in SOURCE.values())
    assert all(DE.STATUS in row for row in DESTINATION.values())


def test_a_commit_is_said_only_when_it_is_durable() -> None:
    saying = {state for state, row in SOURCE.items() for to, step in row.values() if step in ("commit", "leave")}
    assert saying == {S.COMMITTING, S.COMMITTED}
    assert [event for event, (_, step) in SOURCE[S.COMMITTING].items() if step == "leave"] == [SE.DURABLE]
    assert "commit" not in {step for _, step in SOURCE[S.COMMITTING].values()}


def test_the_decision_of_the_source_is_final_but_for_a_person() -> None:
    for state, (event, (to, _)) in itertools.chain.from_iterable(
        ((state, item) for item in row.items()) for state, row in SOURCE.items()
    ):
        if state in DECIDED and event is not SE.RECLAIM:
            assert to in DECIDED
        if state in (S.ABORTING, S.ABORTED):
            assert to in (S.ABORTING, S.ABORTED)


def test_the_destination_starts_only_from_held_and_only_when_told() -> None:
    starts = {
        (state, event) for state, row in DESTINATION.items() for event, (_, step) in row.items() if step == "start"
    }
    assert starts == {(D.HELD, DE.COMMIT), (D.HELD, DE.ADOPT)}


def test_what_is_held_is_given_up_only_when_told() -> None:
    leaving = {event for event, (to, _) in DESTINATION[D.HELD].items() if to is not D.HELD}
    assert leaving == {DE.COMMIT, DE.ABORT, DE.ADOPT, DE.DISCARD}
    assert all(
        to is not D.HELD or state in (D.HELD, D.HOLDING) for state, row in DESTINATION.items() for to, _ in row.values()
    )
