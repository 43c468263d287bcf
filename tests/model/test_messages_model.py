"""The messages of one agent to another in every state that they can reach (`tests.model.messages`)."""

from __future__ import annotations

from typing import Any

import pytest

from docking.trust import mailbox
from docking.trust.mailbox import Turn
from tests.model.messages import INVARIANTS, SET_BACK, Ident, Model, check, streams_of, turn
from tests.thorough import THOROUGH


@pytest.mark.parametrize(
    ("messages", "moves", "crashes"),
    [(2, 1, 1), (3, 0, 1), (1, 1, 2), *([(2, 2, 1), (3, 1, 1)] if THOROUGH else [])],
)
def test_all_invariants_hold_in_every_state(messages: int, moves: int, crashes: int) -> None:
    found = check(Model(messages, moves, crashes))
    assert found.broken is None, "\n".join((found.broken, *found.way))
    assert found.states > 1000


def test_a_sender_that_was_set_back_and_says_other_things_loses_none_and_those_are_in_order_while_it_stays() -> None:
    found = check(Model(2, 0, 1, other=True))
    assert found.broken is None, "\n".join((found.broken, *found.way))


def test_one_that_then_moves_loses_none_and_may_overtake_itself() -> None:
    """As the page says: a number that was used before cannot wait for what is now another message."""
    without = {name: each for name, each in INVARIANTS.items() if name != "order"}
    assert check(Model(2, 1, 1, other=True), without).broken is None
    found = check(Model(2, 1, 1, other=True))
    assert found.broken == "order"
    assert "the sender moves" in found.way


def test_one_that_was_set_back_by_more_than_is_known_may_lose_what_it_says_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the page says, of 32 messages; here of one."""
    monkeypatch.setattr(mailbox, "RECENT", 1)
    for each in (streams_of, turn):
        each.cache_clear()
    try:
        assert check(Model(2, 1, 1)).broken is None
        assert check(Model(2, 0, 1, other=True)).broken == "stored"
    finally:
        for each in (streams_of, turn):
            each.cache_clear()


@pytest.mark.parametrize("station", [0, 1])
def test_of_a_disk_that_is_set_back_nothing_is_taken_twice_or_out_of_order(station: int) -> None:
    assert check(Model(1, 1, 1, set_back=station, notices=False), SET_BACK, comes=False).broken is None


def test_what_a_disk_that_is_set_back_had_taken_is_lost() -> None:
    found = check(Model(1, 1, 1, set_back=1, notices=False), comes=False)
    assert found.broken in ("kept", "stored")
    assert any("set back" in each for each in found.way)


def hasty(got: tuple[Ident, ...], ident: Ident) -> Turn:
    """Takes what comes too early."""
    judged = turn(got, ident)
    return Turn.NEW if judged is Turn.EARLY else judged


def forgetful(got: tuple[Ident, ...], ident: Ident) -> Turn:
    """Takes what it took before."""
    judged = turn(got, ident)
    return Turn.NEW if judged is Turn.AGAIN else judged


def counting(got: tuple[Ident, ...], ident: Ident) -> Turn:
    """Looks at the number alone."""
    number = max((number for number, _ in got), default=0) + 1
    return Turn.AGAIN if ident[0] < number else Turn.NEW if ident[0] == number else Turn.EARLY


MUTANTS: dict[str, tuple[dict[str, Any], str]] = {
    "takes what comes too early": ({"turn": hasty}, "order"),
    "takes what it took before": ({"turn": forgetful}, "once"),
    "looks at the number alone": ({"turn": counting, "other": True, "moves": 0}, "stored"),
    "the mailbox stays behind": ({"travels": False}, "stored"),
    "takes messages while it leaves": ({"bars": False}, "stored"),
    "tells before it is written": ({"writes_first": False}, "kept"),
    "drops a letter that was sent": ({"answers_drop": False}, "kept"),
    "does not answer what it took before": ({"again": False}, "comes"),
    "leaves out a number": ({"numbers": lambda said: said + 1 + (said > 0)}, "comes"),
}


def test_each_invariant_can_fail() -> None:
    assert {*INVARIANTS, "comes"} == {invariant for _, invariant in MUTANTS.values()}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_weaker_protocol_is_found_out(name: str) -> None:
    rules, invariant = MUTANTS[name]
    found = check(Model(2, **{"moves": 1, **rules}))
    assert found.broken == invariant, found
