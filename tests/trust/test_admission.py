"""Admission: checks 6 and 7, the load, and that refusals are data."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from agents import canonical
from agents.capsule import Capsule
from agents.credentials.keys import PublicKey
from agents.credentials.permit import Budget, Permit
from agents.errors import CredentialError
from agents.waits import Message
from docking.handoff.refusal import Refusal
from docking.trust.admission import Admission, Load, admit, consider, room_for, shed, too_large, trust
from docking.trust.mailbox import Mailbox, Outflow, Streams, read_mailbox, write_mailbox
from docking.trust.policy import MIB, OwnerRule, Policy, development
from tests.credentials.journeys import NOW, PERMIT, Journey, fresh, public
from tests.wrong_types import bent

RULE = OwnerRule(public("owner"), "owner", ["service:thermometer.*", "host:*"], residents=2)
POLICY = Policy(owners=[RULE])


def tour(**changes: Any) -> Journey:
    journey = Journey.via("alpha", "beta", **changes)
    journey.hop("alpha")
    journey.leave("beta")
    return journey


def ask(
    journey: Journey,
    policy: Policy = POLICY,
    load: Load | None = None,
    copies: tuple[bytes, ...] = (),
    handoff: bytes | None = None,
    capsule: Capsule | None = None,
) -> Admission | Refusal:
    return consider(
        capsule or journey.capsule(),
        trust(policy, public("beta"), public("alpha")),
        policy,
        load or Load(),
        NOW + 5000,
        journey.point.handoff if handoff is None else handoff,
        copies,
    )


def code(answer: Admission | Refusal) -> str:
    assert isinstance(answer, Refusal), answer
    assert answer.reason[0].isalpha()
    assert not answer.reason.endswith(".")
    assert answer.reason.isprintable()
    return answer.code


def test_one_owner_leaves_room_for_another() -> None:
    mine, other = public("owner"), public("other owner")
    alone = evolve(POLICY, owners=(OwnerRule(mine),), residents=100, memory=1000, shed=1.0)
    several = evolve(alone, owners=(OwnerRule(mine), OwnerRule(other)))
    anyone = evolve(alone, any_owner=())

    def full(policy: Policy, load: Load, owner: PublicKey = mine) -> bool:
        return room_for(owner, policy, load) is not None

    for policy in (several, anyone):
        assert not full(policy, Load(49, owners={mine: 49}))
        assert full(policy, Load(50, owners={mine: 50}))
        assert not full(policy, Load(50, owners={mine: 50}), other)
        assert not full(policy, Load(66, owners={mine: 50, other: 16}), other)
        assert not full(policy, Load(2, memory_bytes=499, memory_of={mine: 499}))
        assert full(policy, Load(2, memory_bytes=500, memory_of={mine: 500}))
        assert not full(policy, Load(2, memory_bytes=500, memory_of={mine: 500}), other)
        assert full(policy, Load(100, owners={mine: 50, other: 50}), other)
    assert not full(alone, Load(99, owners={mine: 99}))
    assert full(evolve(alone, owners=(OwnerRule(mine, residents=5),)), Load(5, owners={mine: 5}))


def test_an_honest_agent_comes_in_with_the_lesser_of_permit_and_policy() -> None:
    journey = tour()
    answer = ask(journey)
    assert isinstance(answer, Admission)
    assert answer.agent == journey.passport.body.agent
    assert answer.hop == 1
    assert answer.owner == public("owner")
    assert answer.grant.capabilities == ("host:clone", "service:thermometer.*")
    assert answer.grant.allows("service:thermometer.read")
    assert not answer.grant.allows("service:safe.open")
    # two visits used 1000 us each
    assert answer.grant.budget.cpu == PERMIT.budget.cpu - 2000
    assert answer.grant.budget.memory == POLICY.budget.memory == PERMIT.budget.memory
    assert len(answer.positions) == 1


def test_an_empty_policy_refuses() -> None:
    assert code(ask(tour(), Policy())) == "owner-unknown"


def test_another_copy_of_the_same_hop_is_refused() -> None:
    journey = tour()
    mine = journey.point.handoff
    assert code(ask(journey, copies=(fresh("other"),))) == "duplicate"
    assert code(ask(journey, copies=(mine, fresh("other")))) == "duplicate"
    assert isinstance(ask(journey, copies=(mine,)), Admission)


def test_the_offer_and_the_visit_name_the_same_handoff() -> None:
    assert code(ask(tour(), handoff=fresh("other"))) == "wrong-handoff"


def test_what_the_agent_needs_must_be_granted() -> None:
    for capabilities in ([], ["host:*"], ["service:safe.*"]):
        policy = Policy(owners=[evolve(RULE, capabilities=capabilities)])
        answer = ask(tour(), policy)
        assert code(answer) == "capability"
        assert isinstance(answer, Refusal)
        assert "service:thermometer.read" in answer.reason
    modest = tour(permit=Permit(PERMIT.budget, PERMIT.capabilities))
    assert isinstance(ask(modest, Policy(owners=[evolve(RULE, capabilities=[])])), Admission)


def test_an_agent_without_any_budget_left_is_refused() -> None:
    spent = tour(permit=evolve(PERMIT, budget=evolve(PERMIT.budget, cpu=2000)))
    assert code(ask(spent)) == "budget"
    over = tour(permit=evolve(PERMIT, budget=evolve(PERMIT.budget, cpu=1999)))
    assert code(ask(over)) == "budget"


def test_load() -> None:
    policy = evolve(POLICY, residents=100, busy=10, memory=1000, shed=0.5, retry=7)
    assert isinstance(ask(tour(), policy, Load(49, 4, 499)), Admission)
    for load in (Load(50), Load(0, 5), Load(0, 0, 500), Load(owners={public("owner"): 2})):
        answer = ask(tour(), policy, load)
        assert code(answer) == "busy"
        assert isinstance(answer, Refusal)
        assert answer.retry_after == 7
    assert shed(policy, Load(49, 4, 499)) is None
    assert shed(policy, Load(50)) is not None
    assert isinstance(ask(tour(), evolve(POLICY, disk=1000), Load(free_bytes=1000)), Admission)
    assert code(ask(tour(), evolve(POLICY, disk=1000), Load(free_bytes=999))) == "disk-full"
    # an agent that is refused for ever is not asked to come again
    stranger = tour()
    stranger.passport = evolve(stranger.passport)
    assert code(ask(stranger, evolve(policy, owners=()), Load(50))) == "owner-unknown"


def test_sizes_are_refused_before_anything_is_read() -> None:
    journey = tour()
    big = evolve(journey.capsule(), state_bytes=bytes(2 * MIB))
    assert code(ask(journey, evolve(POLICY, state=MIB), capsule=big)) == "too-large"
    big = evolve(journey.capsule(), image_bytes=bytes(2 * MIB))
    assert code(ask(journey, evolve(POLICY, image=MIB), capsule=big)) == "too-large"
    assert too_large(POLICY, POLICY.state, POLICY.image) is None


def test_development_lets_anyone_in() -> None:
    answer = ask(tour(), development(Policy()))
    assert isinstance(answer, Admission)
    assert answer.grant.allows("service:anything")


def test_revoked_by_policy() -> None:
    for revoked in (public("owner").raw, tour().passport.body.agent):
        assert code(ask(tour(), evolve(POLICY, revoked=[revoked]))) == "revoked"


def test_admit_takes_only_what_was_verified() -> None:
    journey = tour()
    verified = journey.capsule().verify(trust(POLICY, public("beta"), public("alpha")), NOW)
    answer = admit(verified, POLICY, Load(), journey.point.handoff)
    assert isinstance(answer, Admission)
    assert code(admit(verified, Policy(), Load(), journey.point.handoff)) == "owner-unknown"
    assert answer.grant.budget.exceeded_by(Budget()) is None


@pytest.mark.parametrize("now", [NOW - 10**10, NOW + 10**10])
def test_time_is_an_argument(now: int) -> None:
    journey = tour()
    believed = trust(POLICY, public("beta"), public("alpha"))
    answer = consider(journey.capsule(), believed, POLICY, Load(), now, journey.point.handoff)
    assert code(answer) in ("expired", "not-yet-valid")


def test_values_of_other_types_in_a_mailbox_are_refused() -> None:
    mail = [Message("alpha", b"one"), Message("beta", b"")]
    streams = Streams()
    streams.take(b"s" * 16, 1, bytes(32))
    streams.said(b"a" * 32, Outflow(b"o" * 16))
    written = write_mailbox(mail, [bytes(32)], streams)
    assert read_mailbox(written) == Mailbox(tuple(mail), (bytes(32),), streams)
    assert read_mailbox(canonical.encode([2, [], [bytes(32)]])) == Mailbox((), (bytes(32),))  # of before streams
    assert read_mailbox(canonical.encode([["alpha", b"one"], ["beta", b""]])) == Mailbox(tuple(mail))  # of before
    value = canonical.decode(written)
    for other in bent(value):
        try:
            found = read_mailbox(canonical.encode(other))
        except CredentialError:
            continue
        assert all(type(each.sender) is str and type(each.body) is bytes for each in found.messages)
        assert all(type(each) is bytes and len(each) == 32 for each in found.seen)
    with pytest.raises(CredentialError):
        read_mailbox(canonical.encode([["alpha", 10**15]]))
    with pytest.raises(CredentialError):
        read_mailbox(canonical.encode([["alpha", b""]] * 5000))
