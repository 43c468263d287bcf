"""Whether an agent may come in: the seven checks, in order, as one pure function.

1 owner, 2 image, 3 trail, 4 states, 5 itinerary and budgets are `Capsule.verify`'s; 6 no copy and 7 the grant
are here, and so is the station's load. `consider` runs them all. What a station remembers, measures and is
told is an argument.

Invariants: a refusal is data, with a stable code and a sentence; only an `Admission` holds a grant; a grant
is never more than the permit and never more than the policy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping

from attrs import field, frozen

from agents.capsule import Buffer, Capsule, Trust, VerifiedCapsule
from agents.credentials.envelope import Signed
from agents.credentials.itinerary import Position
from agents.credentials.keys import PublicKey
from agents.credentials.passport import Passport
from agents.credentials.permit import Budget, Permit, covers
from agents.credentials.trailpoint import TrailPoint
from agents.errors import CredentialError
from docking.config import OwnerRule, Policy
from docking.refusal import Refusal


@frozen
class Admission:
    """Come in. `agent`: its id (32 bytes); `hop`: the index of the visit that brought it; `grant`: what it
    may do and use here; `positions`: where in its itinerary it may stand here, the preferred first."""

    agent: bytes
    hop: int
    owner: PublicKey
    grant: Permit
    positions: tuple[Position, ...]


@frozen
class Load:
    """What the station holds now: agents, those running or ready to run, their memory (bytes), and agents by
    owner. `free`: bytes free on the store's disk, None if it has none."""

    residents: int = 0
    busy: int = 0
    memory: int = 0
    owners: Mapping[PublicKey, int] = field(factory=dict)
    free: int | None = None


class _Owners:
    """The owners that a policy lets in, as `Trust` asks for them."""

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
    """What a station with `policy` believes when `sender` offers an agent."""
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
    """All checks, on a capsule that arrived. `now`: ms since 1970; `handoff`, `copies`: as in `admit`."""
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
    """Checks 6 and 7, and the load, on a capsule that holds.

    `handoff`: the id of the handoff that brings it; `copies`: ids of the handoffs under which this agent at
    this hop is or was here, without discarded ones."""
    passport, point = capsule.passport.body, capsule.point
    if handoff != point.handoff:
        return Refusal("wrong-handoff", "the offer and the signed visit are of different handoffs")
    if any(copy != handoff for copy in copies):
        return Refusal("duplicate", "this agent came here at this hop before, by another handoff")
    rule = policy.rule(passport.owner)
    if rule is None:
        return Refusal("owner-unknown", f"the owner {passport.owner} is not trusted here")
    grant = _grant(passport.permit, point.used, rule, policy)
    if isinstance(grant, Refusal):
        return grant
    return _full(rule, policy, load) or Admission(capsule.agent, capsule.hop, passport.owner, grant, capsule.positions)


def grant(passport: Passport, used: Budget, policy: Policy) -> Permit | Refusal:
    """What an agent that lives here may do and use: check 7, for one that is launched or was here before a
    restart."""
    rule = policy.rule(passport.owner)
    if rule is None:
        return Refusal("owner-unknown", f"the owner {passport.owner} is not trusted here")
    return _grant(passport.permit, used, rule, policy)


def too_large(policy: Policy, state: int, image: int) -> Refusal | None:
    """Refuse sizes (bytes) beyond the policy: to be asked of an offer, before anything is read."""
    for what, size, most in (("state", state, policy.state), ("image", image, policy.image)):
        if size > most:
            return Refusal("too-large", f"the agent's {what} has {size} bytes; at most {most} are taken here")
    return None


def shed(policy: Policy, load: Load) -> Refusal | None:
    """Refuse newcomers under load: cheap enough to be asked before an offer is even decoded."""
    for what, now, most in (
        ("agents", load.residents, policy.residents),
        ("busy agents", load.busy, policy.busy),
        ("bytes of memory in use", load.memory, policy.memory),
    ):
        if now >= most * policy.shed:
            text = (
                f"this station has {now} {what}, and takes newcomers below {int(most * policy.shed)}; come again later"
            )
            return Refusal("busy", text, policy.retry)
    if load.free is not None and load.free < policy.disk:
        # Those who are here must be able to leave, and be stored: a disk that is full stops everybody.
        return Refusal(
            "disk-full",
            f"this station's disk is nearly full ({load.free >> 20} MiB are free); come again later",
            policy.retry,
        )
    return None


def _grant(permit: Permit, used: Budget, rule: OwnerRule, policy: Policy) -> Permit | Refusal:
    left = permit.budget.left(used)
    for name in ("cpu", "memory"):
        if getattr(left, name) == 0:
            return Refusal("budget", f"the agent has no {name} left in its permit")
    grant = Permit(left, permit.capabilities, permit.needs).attenuate(
        policy.budget.least(rule.budget), rule.capabilities
    )
    missing = [need for need in permit.needs if not covers(grant.capabilities, need)]
    if missing:
        return Refusal("capability", f"the agent needs {missing[0]}, which is not granted to its owner here")
    return grant


def _full(rule: OwnerRule, policy: Policy, load: Load) -> Refusal | None:
    if load.owners.get(rule.key, 0) >= rule.residents:
        return Refusal("busy", "this owner has as many agents here as it may", policy.retry)
    return shed(policy, load)
