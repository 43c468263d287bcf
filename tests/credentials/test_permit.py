"""Permits: intersections against their meaning, and budgets that only shrink."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import canonical
from agents.credentials.permit import UNLIMITED, Budget, Permit, covers, intersect
from agents.errors import MalformedCredential

NAMES = [f"{k}:{n}" for k in ("service", "host") for n in ("a", "a.b", "a.b.c", "b", "ab", "a.bc")]
PATTERNS = [*NAMES, *(f"{k}:{n}" for k in ("service", "host") for n in ("*", "a.*", "a.b.*"))]
sets = st.lists(st.sampled_from(PATTERNS), max_size=6)
budgets = st.builds(Budget, *[st.integers(0, 100)] * 4)


@given(sets, sets)
def test_an_intersection_covers_what_both_cover(one: list[str], other: list[str]) -> None:
    both = intersect(one, other)
    for name in NAMES:
        assert covers(both, name) == (covers(one, name) and covers(other, name))
    assert both == intersect(other, one) == intersect(both, both)


@given(budgets, budgets, sets, sets)
def test_attenuation_only_narrows(one: Budget, other: Budget, mine: list[str], theirs: list[str]) -> None:
    permit = Permit(one, mine)
    less = permit.attenuate(other, theirs)
    assert one.exceeded_by(less.budget) is None
    assert other.exceeded_by(less.budget) is None
    assert all(covers(mine, c) and covers(theirs, c) for c in less.capabilities)
    assert less.attenuate(other, theirs) == less


@given(budgets, budgets)
def test_what_is_left(budget: Budget, used: Budget) -> None:
    left = budget.left(used)
    assert budget.exceeded_by(left) is None
    if budget.exceeded_by(used) is None:
        total = used.plus(Budget(left.cpu, 0, left.carried, left.messages))
        assert (total.cpu, total.carried, total.messages) == (budget.cpu, budget.carried, budget.messages)


def test_sums_saturate() -> None:
    assert UNLIMITED.plus(UNLIMITED) == UNLIMITED


@given(budgets, sets)
def test_permits_travel(budget: Budget, capabilities: list[str]) -> None:
    permit = Permit(budget, capabilities, capabilities[:1])
    assert Permit.from_payload(canonical.decode(canonical.encode(permit.payload()))) == permit


@pytest.mark.parametrize(
    "capability",
    [
        "",
        "service",
        "service:",
        "file:x",
        "service:A",
        "service:a*",
        "service:*.a",
        "service:a..b",
        "host:a\n",
    ],
)
def test_words_that_are_no_capabilities(capability: str) -> None:
    with pytest.raises(MalformedCredential):
        Permit(Budget(), [capability])


def test_needs_are_within_what_is_allowed() -> None:
    with pytest.raises(MalformedCredential, match="needs"):
        Permit(Budget(), ["service:a"], ["host:clone"])


def test_too_many_capabilities_are_not_signed() -> None:
    with pytest.raises(MalformedCredential):
        Permit(Budget(), [f"service:s{n}" for n in range(65)]).payload()


@pytest.mark.parametrize("amount", [-1, 2**53 + 1, 1.0, True, None])
def test_amounts_are_bounded(amount: object) -> None:
    with pytest.raises(MalformedCredential):
        Budget(cpu=amount)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [
        {1: Budget().payload(), 2: ["service:b", "service:a"], 3: []},
        {1: Budget().payload(), 2: ["service:a", "service:a"], 3: []},
        {1: Budget().payload(), 2: [1], 3: []},
        {1: Budget().payload(), 2: []},
        {1: {1: 0}, 2: [], 3: []},
        {1: Budget().payload(), 2: [], 3: [], 4: 0},
        [],
    ],
)
def test_malformed_permits(value: object) -> None:
    with pytest.raises(MalformedCredential):
        Permit.from_payload(value)
