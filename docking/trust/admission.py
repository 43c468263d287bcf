"""Whether an agent may come in: the seven checks, in order, as one pure function.

`Capsule.verify` does 1 owner, 2 image, 3 trail, 4 states, 5 itinerary and budgets. This module does 6 no copy, 7 the
grant, and the station's load. `consider` runs them all. What a station remembers, measures and is
told is passed as an argument.

Invariants: a refusal is data, with a stable code and a sentence; only an `Admission` holds a grant; a grant
never exceeds the permit or the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping

from attrs import field, frozen

from agents.brief import brief
from agents.canonical import Buffer
from agents.capsule import Capsule, Trust, VerifiedCapsule
from agents.credentials.amendments import Terms
from agents.credentials.envelope import Signed
from agents.credentials.itinerary import Position
from agents.credentials.keys import PublicKey
from agents.credentials.passport import Passport
from agents.credentials.permit import Budget, Permit, covers
from agents.credentials.trailpoint import TrailPoint
from agents.errors import CredentialError
from agents.evolve import evolve
from docking.handoff.refusal import Refusal
from docking.trust.policy import OwnerRule, Policy


@frozen
class Admission:
    """The agent may come in.

    `agent`: its id (32 bytes); `hop`: the index of the visit that brought it; `grant`: what it may do and use
    here; `positions`: where in its itinerary it may be here, preferred first.
    """

    agent: bytes
    hop: int
    owner: PublicKey
    grant: Permit
    positions: tuple[Position, ...] = field(repr=brief)


@frozen
class Load:
    """What the station holds now.

    Number of agents, of those running or ready to run, their memory, and agents and memory by owner. `free_bytes`:
    on the store's disk, None for a volatile store.
    """

    residents: int = 0
    busy: int = 0
    memory_bytes: int = 0
    owners: Mapping[PublicKey, int] = field(factory=dict, repr=brief)
    memory_of: Mapping[PublicKey, int] = field(factory=dict, repr=brief)
    free_bytes: int | None = None


class _Owners:
    """The owners that a policy admits, in the form that `Trust` needs."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def __contains__(self, key: object) -> bool:
        return isinstance(key, PublicKey) and self._policy.rule(key) is not None


def trust(
    policy: Policy,
    here: PublicKey,
    sender: PublicKey,
    *,
    known: Mapping[bytes, TrailPoint] | None = None,
    passports: Mapping[bytes, Signed[Passport]] | None = None,
    images: Container[bytes] = frozenset(),
    validate: Callable[[Buffer], object] | None = None,
    certifiers: frozenset[PublicKey] = frozenset(),
) -> Trust:
    """What a station with `policy` trusts when `sender` offers an agent."""
    return Trust(
        owners=_Owners(policy),
        revoked=policy.revoked,
        here=here,
        sender=sender,
        certifiers=certifiers,
        known=known or {},
        passports=passports or {},
        images=images,
        validate=validate,
    )


def consider(
    capsule: Capsule,
    trust: Trust,
    policy: Policy,
    load: Load,
    now: int,
    handoff: bytes,
    copies: Collection[bytes] = (),
) -> Admission | Refusal:
    """Run all checks on a capsule that arrived. `now`: ms since 1970; `handoff`, `copies`: as in `admit`."""
    refusal = too_large(policy, len(capsule.state_bytes or b""), len(capsule.image_bytes or b""))
    if refusal is not None:
        return refusal
    try:
        verified = capsule.verify(trust, now)
    except CredentialError as error:
        return Refusal(error.code, error.reason)
    return admit(verified, policy, load, handoff, copies)


def admit(
    capsule: VerifiedCapsule,
    policy: Policy,
    load: Load,
    handoff: bytes,
    copies: Collection[bytes] = (),
) -> Admission | Refusal:
    """Checks 6 and 7, and the load, on a verified capsule.

    `handoff`: the id of the handoff that brings it; `copies`: ids of the handoffs, except discarded ones, under which
    this agent is or was here at this hop.
    """
    passport, point = capsule.passport.body, capsule.point
    if handoff != point.handoff:
        return Refusal("wrong-handoff", "the offer and the signed visit are of different handoffs")
    if any(copy != handoff for copy in copies):
        return Refusal("duplicate", "this agent came here at this hop before, by another handoff")
    rule = policy.rule(passport.owner)
    if rule is None:
        return Refusal("owner-unknown", f"the owner {passport.owner} is not trusted here")
    if passport.home.station.raw in policy.revoked:
        return Refusal("revoked", f"the agent's home, {passport.home.station}, was revoked here")
    grant = _grant(passport.permit, capsule.terms, point.used, rule, policy)
    if isinstance(grant, Refusal):
        return grant
    admission = Admission(capsule.agent, capsule.hop, passport.owner, grant, capsule.positions)
    return room_for(passport.owner, policy, load) or admission


def grant(passport: Passport, terms: Terms, agent: bytes, used: Budget, policy: Policy) -> Permit | Refusal:
    """What an agent that lives here may do and use: check 7, for one that is launched, was here before a restart, or
    is here while the policy changes. `terms`: its passport's, as amended; `agent`: its id, which is not its passport's
    where it is a clone."""
    if passport.owner.raw in policy.revoked:
        return Refusal("revoked", f"the owner {passport.owner} was revoked here")
    if passport.home.station.raw in policy.revoked:
        return Refusal("revoked", f"the agent's home, {passport.home.station}, was revoked here")
    if not policy.revoked.isdisjoint((passport.agent, agent)):
        return Refusal("revoked", "this agent was revoked here")
    rule = policy.rule(passport.owner)
    if rule is None:
        return Refusal("owner-unknown", f"the owner {passport.owner} is not trusted here")
    return _grant(passport.permit, terms, used, rule, policy)


def too_large(policy: Policy, state: int, image: int) -> Refusal | None:
    """Refuse sizes (bytes) above the policy's limits. Applied to an offer before anything is read."""
    for what, size, most in (("state", state, policy.state), ("image", image, policy.image)):
        if size > most:
            return Refusal("too-large", f"the agent's {what} has {size} bytes; at most {most} are taken here")
    return None


def shed(policy: Policy, load: Load) -> Refusal | None:
    """Refuse arrivals under load. Cheap enough to ask before an offer is even decoded."""
    for what, now, most in (
        ("agents", load.residents, policy.residents),
        ("busy agents", load.busy, policy.busy),
        ("bytes of memory in use", load.memory_bytes, policy.memory),
    ):
        if now >= most * policy.shed:
            text = (
                f"this station has {now} {what}, and takes newcomers below {int(most * policy.shed)}; come again later"
            )
            return Refusal("busy", text, policy.retry)
    if load.free_bytes is not None and load.free_bytes < policy.disk:
        # Agents that are here must be able to leave and be stored: a full disk would stop everybody.
        return Refusal(
            "disk-full",
            f"this station's disk is nearly full ({load.free_bytes >> 20} MiB are free); come again later",
            policy.retry,
        )
    return None


def _grant(permit: Permit, terms: Terms, used: Budget, rule: OwnerRule, policy: Policy) -> Permit | Refusal:
    left = terms.budget.left(used)
    for name in ("cpu", "memory"):
        if getattr(left, name) == 0:
            return Refusal("budget", f"the agent has no {name} left in its permit")
    amended = permit if terms.budget == permit.budget else evolve(permit, budget=terms.budget)
    # The remaining budget is within the permit's: make one permit, and check its capabilities once.
    grant = amended.attenuate(left.least(policy.budget).least(rule.budget), rule.capabilities)
    missing = [need for need in permit.needs if not covers(grant.capabilities, need)]
    if missing:
        return Refusal("capability", f"the agent needs {missing[0]}, which is not granted to its owner here")
    return grant


def room_for(owner: PublicKey, policy: Policy, load: Load) -> Refusal | None:
    """Refuse one more agent of an owner: newcomer, launch or clone.

    Where several owners are admitted, each may have as much as is left after it, so that there is always room for
    another: one alone half, of two each a third.
    """
    rule = policy.rule(owner)
    if rule is not None and load.owners.get(owner, 0) >= rule.residents:
        return Refusal("busy", "this owner has as many agents here as it may", policy.retry)
    refusal = shed(policy, load)
    if refusal is not None or (len(policy.owners) == 1 and policy.any_owner is None):
        return refusal
    for what, mine, now, most in (
        ("agents", load.owners.get(owner, 0), load.residents, policy.residents),
        ("bytes of memory in use", load.memory_of.get(owner, 0), load.memory_bytes, policy.memory),
    ):
        if mine > 0 and mine >= most * policy.shed - now:
            return Refusal("busy", f"this owner has {mine} {what} here; what is left is for others", policy.retry)
    return None
