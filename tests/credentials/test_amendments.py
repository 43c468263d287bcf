"""What an owner changes after the launch: who may sign it, what it changes, and that nothing else can be made of it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from agents import canonical
from agents.capsule import Capsule
from agents.credentials import envelope
from agents.credentials.amendments import (
    MAX_AMENDMENTS,
    MAX_AMENDMENTS_BYTES,
    NONE,
    Amendment,
    Amendments,
    Lease,
    Terms,
    TopUp,
    sign_amendment,
    verify_amendment,
)
from agents.credentials.envelope import Signed, identify
from agents.credentials.itinerary import Itinerary
from agents.credentials.passport import Clones, Passport, issue
from agents.credentials.permit import Budget
from agents.credentials.trail import verify_trail
from agents.errors import CredentialError, MalformedCredential
from tests.credentials.journeys import HOUR, NOW, Journey, fresh, key, make_passport, public, trust

PASSPORT = issue(make_passport(Itinerary.via([public("alpha")]), clones=Clones(2, 3)), key("owner"))
BODY = PASSPORT.body
MORE = TopUp(Budget(cpu=5, memory=7, carried=11, messages=13), 3)


def amendment(
    change: Any = MORE,
    number: int = 0,
    signer: str = "owner",
    agent: bytes | None = None,
    passport: Signed[Passport] = PASSPORT,
) -> Signed[Amendment]:
    body = Amendment(agent or passport.body.agent, passport.digest, fresh("amendment", number)[:16], NOW, change)
    return sign_amendment(body, key(signer))


def all_of(*items: Signed[Amendment]) -> Amendments:
    found = NONE
    for each in items:
        found = found.plus(each)
    return found


def terms(*items: Signed[Amendment]) -> Terms:
    return all_of(*items).terms(BODY, BODY.agent)


def test_without_amendments_the_passport_holds() -> None:
    assert terms() == Terms(BODY.permit.budget, BODY.hops, BODY.expires, BODY.expires)
    assert NONE.encode() is None
    assert Amendments.read(None, PASSPORT) is NONE


def test_top_ups_add_up() -> None:
    before, after = terms(), terms(amendment(), amendment(number=1))
    assert after.hops == before.hops + 6
    assert (after.budget.cpu, after.budget.messages) == (before.budget.cpu + 10, before.budget.messages + 26)
    assert after.budget.memory == before.budget.memory + 14
    assert after.expires == before.expires


def test_the_same_top_up_counts_once() -> None:
    assert terms(amendment(), amendment(), amendment()) == terms(amendment())


def test_two_amendments_with_one_nonce_are_refused() -> None:
    with pytest.raises(CredentialError, match="nonce"):
        all_of(amendment(), amendment(TopUp(hops=1)))


def test_the_owner_s_lease_is_longer_than_the_passport() -> None:
    later = BODY.expires + HOUR
    assert terms(amendment(Lease(later))).expires == later
    assert terms(amendment(Lease(later))).lease == later
    # An earlier one takes nothing away.
    assert terms(amendment(Lease(NOW))).expires == BODY.expires


def test_the_home_s_lease_ends_with_the_passport() -> None:
    passport = issue(evolve(BODY, lease=2 * HOUR), key("owner"))
    assert passport.body.first_lease == BODY.not_before + 2 * HOUR
    renewed = NONE.plus(amendment(Lease(NOW + 9 * HOUR), signer="home", passport=passport))
    found = renewed.terms(passport.body, passport.body.agent)
    assert (found.lease, found.expires) == (NOW + 9 * HOUR, BODY.expires)
    beyond = renewed.plus(amendment(Lease(BODY.expires + HOUR), 1, "home", passport=passport))
    assert beyond.terms(passport.body, passport.body.agent).lease == BODY.expires


def test_a_renewal_replaces_the_one_before() -> None:
    renewed = all_of(*(amendment(Lease(NOW + number), number, "home") for number in range(3 * MAX_AMENDMENTS)))
    assert [each.body.change for each in renewed] == [Lease(NOW + 3 * MAX_AMENDMENTS - 1)]
    assert renewed.plus(amendment(Lease(NOW), 999, "home")) is renewed


def test_there_are_at_most_so_many() -> None:
    full = all_of(*(amendment(number=number) for number in range(MAX_AMENDMENTS)))
    assert len(full.encode() or b"") <= MAX_AMENDMENTS_BYTES
    assert Amendments.read(full.encode(), PASSPORT) == full
    assert full.plus(amendment(number=1)) is full
    with pytest.raises(CredentialError, match="at most") as refused:
        full.plus(amendment(number=MAX_AMENDMENTS))
    assert refused.value.code == "amendment"


@pytest.mark.parametrize("signer", ["home", "alpha", "stranger"])
def test_only_the_owner_tops_up(signer: str) -> None:
    with pytest.raises(CredentialError, match="signed by the agent's owner") as refused:
        verify_amendment(amendment(signer=signer).envelope, PASSPORT)
    assert refused.value.code == "amendment"


@pytest.mark.parametrize("signer", ["alpha", "stranger"])
def test_no_stranger_renews(signer: str) -> None:
    with pytest.raises(CredentialError, match="signed by the agent's owner"):
        verify_amendment(amendment(Lease(NOW), signer=signer).envelope, PASSPORT)


def test_an_amendment_of_another_agent_is_refused() -> None:
    other = issue(evolve(BODY, label="another"), key("owner"))
    with pytest.raises(CredentialError, match="another passport"):
        verify_amendment(amendment(passport=other).envelope, PASSPORT)
    stranger = NONE.plus(amendment(agent=fresh("no such agent")))
    with pytest.raises(CredentialError, match="another agent"):
        stranger.terms(BODY, BODY.agent)


def test_clones_have_what_their_originals_have() -> None:
    first, second = (identify("clone", BODY.agent, serial) for serial in (0, 1))
    grandchild = identify("clone", first, 1)
    for_all, for_first = NONE.plus(amendment()), NONE.plus(amendment(agent=first))
    for agent in (BODY.agent, first, second, grandchild):
        assert for_all.terms(BODY, agent).hops == BODY.hops + 3
    for agent in (first, grandchild):
        assert for_first.terms(BODY, agent).hops == BODY.hops + 3
    for agent in (BODY.agent, second):
        with pytest.raises(CredentialError, match="another agent"):
            for_first.terms(BODY, agent)


def test_a_bent_signature_is_refused() -> None:
    data = amendment().envelope
    with pytest.raises(CredentialError) as refused:
        verify_amendment(data[:-1] + bytes([data[-1] ^ 1]), PASSPORT)
    assert refused.value.code == "amendment"


@pytest.mark.parametrize(
    "change",
    [
        {5: "no-such-kind"},
        {5: 1},
        {6: {}},
        {6: {1: Budget().payload(), 2: 0}},
        {6: {1: Budget(cpu=1).payload(), 2: 2**40}},
        {6: {1: {1: -1, 2: 0, 3: 0, 4: 0}, 2: 0}},
        {3: b"short"},
        {4: 2**60},
        {7: 0},
    ],
)
def test_what_is_no_amendment_is_malformed(change: dict[int, object]) -> None:
    with pytest.raises(MalformedCredential):
        Amendment.from_payload({**amendment().body.payload(), **change})


def test_a_set_has_one_encoding() -> None:
    items = sorted((amendment(number=number) for number in range(3)), key=lambda each: each.body.nonce)
    rows = [each.envelope for each in items]
    lease = [amendment(Lease(NOW + 1), 7).envelope, amendment(Lease(NOW + 2), 8).envelope]
    bent: list[object] = [
        [],
        rows[::-1],
        [rows[0], rows[0]],
        sorted(lease),
        [*rows, b""],
        rows[0],
        {},
        [rows],
        lease[::-1],
    ]
    assert Amendments.read(canonical.encode(rows), PASSPORT).encode() == canonical.encode(rows)
    for each in bent:
        with pytest.raises(MalformedCredential):
            Amendments.read(canonical.encode(each), PASSPORT)
    with pytest.raises(MalformedCredential):
        Amendments.read(bytes(2 * MAX_AMENDMENTS_BYTES), PASSPORT)


CHANGES = st.one_of(
    st.builds(
        TopUp,
        st.builds(Budget, *(st.integers(0, 2**53) for _ in range(4))),
        st.integers(1, 2**32 - 1),
    ),
    st.builds(Lease, st.integers(NOW - HOUR, NOW + 100 * HOUR)),
)


@given(
    st.lists(st.tuples(CHANGES, st.sampled_from(["owner", "home"])), max_size=8),
    st.randoms(use_true_random=False),
)
def test_neither_order_nor_repetition_matter(changes: list[tuple[Any, str]], random: Any) -> None:
    """The terms are those of the set, and never less than the passport's, in whatever order it grew."""
    signed = [
        amendment(change, number, signer if isinstance(change, Lease) else "owner")
        for number, (change, signer) in enumerate(changes)
    ]
    mixed = [*signed, *signed]
    random.shuffle(mixed)
    one, other = all_of(*signed), all_of(*mixed)
    assert one.terms(BODY, BODY.agent) == other.terms(BODY, BODY.agent)
    assert Amendments.read(one.encode(), PASSPORT) == one
    found = one.terms(BODY, BODY.agent)
    assert found.hops >= BODY.hops
    assert found.budget.least(BODY.permit.budget) == BODY.permit.budget
    assert BODY.expires <= found.expires
    assert found.lease <= found.expires
    owners = [change.until for change, by in changes if isinstance(change, Lease) and by == "owner"]
    assert found.expires == max([BODY.expires, *owners])


@given(st.binary(max_size=200), st.integers(0, 2**16))
def test_bent_bytes_are_refused_and_never_crash(noise: bytes, at: int) -> None:
    data = all_of(amendment(), amendment(number=1)).encode() or b""
    place = at % len(data)
    bent = data[:place] + noise + data[place + len(noise) :]
    if bent != data:
        with pytest.raises(CredentialError):
            Amendments.read(bent, PASSPORT)


# In trails and capsules


def overdrawn() -> Journey:
    """An agent that has used 3 s at home, of a permit of 10 s, and 8 at alpha."""
    journey = Journey.via("alpha", "beta")
    journey.leave("alpha", used=Budget(cpu=3_000_000))
    journey.arrive("alpha")
    journey.leave("beta", used=Budget(cpu=8_000_000))
    return journey


def test_a_trail_is_legal_under_its_amendments() -> None:
    journey = overdrawn()
    with pytest.raises(CredentialError, match="more cpu") as refused:
        verify_trail(journey.trail(), journey.passport)
    assert refused.value.code == "budget"
    more = NONE.plus(amendment(TopUp(Budget(cpu=1_000_000)), passport=journey.passport))
    assert verify_trail(journey.trail(), journey.passport, amendments=more).point == journey.point
    less = NONE.plus(amendment(TopUp(Budget(cpu=999_999)), passport=journey.passport))
    with pytest.raises(CredentialError, match="more cpu"):
        verify_trail(journey.trail(), journey.passport, amendments=less)


def test_a_capsule_carries_them() -> None:
    journey = overdrawn()
    more = NONE.plus(amendment(TopUp(Budget(cpu=1_000_000)), passport=journey.passport))
    bare = journey.capsule()
    capsule = evolve(bare, amendments=more.encode())
    assert Capsule.decode(capsule.encode()) == capsule
    assert Capsule.from_parts(capsule.parts(), capsule.image, capsule.state) == capsule
    verified = capsule.verify(trust("beta", "alpha"), journey.now)
    assert verified.terms.budget.cpu == 11_000_000
    with pytest.raises(CredentialError, match="more cpu"):
        bare.verify(trust("beta", "alpha"), journey.now)
    forged = NONE.plus(amendment(TopUp(Budget(cpu=1_000_000)), signer="alpha", passport=journey.passport))
    with pytest.raises(CredentialError) as refused:
        evolve(bare, amendments=forged.encode()).verify(trust("beta", "alpha"), journey.now)
    assert refused.value.code == "amendment"


def test_an_expired_agent_that_was_renewed_comes_in() -> None:
    journey = Journey.via("alpha")
    journey.leave("alpha")
    late = journey.passport.body.expires + HOUR
    with pytest.raises(CredentialError) as refused:
        journey.capsule().verify(trust("alpha", "home"), late)
    assert refused.value.code == "expired"
    longer = NONE.plus(amendment(Lease(late), passport=journey.passport)).encode()
    evolve(journey.capsule(), amendments=longer).verify(trust("alpha", "home"), late)


def test_an_agent_whose_lease_was_not_renewed_does_not_come_in() -> None:
    journey = Journey.via("alpha", lease=2 * HOUR)
    journey.leave("alpha")
    at_alpha = trust("alpha", "home")
    over = journey.passport.body.first_lease + 1
    journey.capsule().verify(at_alpha, over - 1)
    with pytest.raises(CredentialError) as refused:
        journey.capsule().verify(at_alpha, over)
    assert refused.value.code == "lease"
    renewed = NONE.plus(amendment(Lease(over), signer="home", passport=journey.passport)).encode()
    evolve(journey.capsule(), amendments=renewed).verify(at_alpha, over)


def test_every_order_of_three_is_the_same_set() -> None:
    items = [amendment(), amendment(Lease(NOW + HOUR), 1), amendment(Lease(NOW + 2 * HOUR), 2)]
    assert len({all_of(*order).encode() for order in itertools.permutations(items)}) == 1


def test_it_is_a_statement_of_its_own_kind() -> None:
    with pytest.raises(MalformedCredential):
        envelope.verify(Amendment, PASSPORT.envelope)
