"""Reads a capsule as an outsider: what verifies, what does not, and the journey it records.

For people and for `portcall verify`: nothing is admitted here, no station is needed, and the file alone is
enough. An expired passport does not make its journey false, so times are shown, not judged.

Invariant: `Audit.code` is None if and only if every check that needs no station passes.
"""

from __future__ import annotations

from attrs import evolve, field, frozen

from agents.brief import brief
from agents.capsule import Capsule, Trust, VerifiedCapsule
from agents.credentials.envelope import Signed
from agents.credentials.keys import PublicKey
from agents.credentials.passport import Passport, verify_passport
from agents.credentials.permit import Budget
from agents.credentials.results import OpenedReport, open_results
from agents.credentials.trail import follow, is_complete
from agents.credentials.trailpoint import Phase, launch_point
from agents.credentials.upgrades import Upgraded
from agents.credentials.visits import CloneStatement, Visit
from agents.errors import CredentialError

# The checks that need only a file, in order, each with its error codes.
CHECKS: tuple[tuple[str, frozenset[str]], ...] = (
    (
        "passport",
        frozenset({"malformed", "passport-signature", "agent-id", "owner-unknown", "revoked", "not-yet-valid"}),
    ),
    ("image", frozenset({"image-digest", "image-missing", "image-invalid"})),
    (
        "trail",
        frozenset(
            {
                "trail-unknown",
                "checkpoint",
                "trail-signature",
                "trail-signer",
                "trail-order",
                "trail-ended",
                "trail-agent",
                "trail-index",
                "trail-link",
                "trail-next",
            }
        ),
    ),
    ("states", frozenset({"state-chain", "state-digest", "state-missing"})),
    ("itinerary", frozenset({"certificate", "itinerary", "upgrade", "clones", "hops", "budget"})),
    ("results", frozenset({"results-chain", "results-signature"})),
)


@frozen
class Audit:
    """What a capsule says, and whether it verifies.

    `code`, `reason`: of the first check that fails, None if none does. `checks`: name, and True (passed),
    False (failed) or None (not reached, since an earlier one failed). `visits`: as far as the trail could be
    followed; `upgrades`: when it got new code. `whole`: whether the itinerary was completed. `entries`: results, not
    opened."""

    code: str | None
    reason: str | None
    checks: tuple[tuple[str, bool | None], ...] = field(repr=brief)
    passport: Passport | None = None
    agent: bytes | None = None
    visits: tuple[Visit | CloneStatement, ...] = field(default=(), repr=brief)
    upgrades: tuple[Upgraded, ...] = field(default=(), repr=brief)
    ended: bool = False
    whole: bool = False
    holder: PublicKey | None = None
    used: Budget = field(factory=Budget)
    entries: int = 0


def audit(capsule: Capsule, trust: Trust | None = None) -> Audit:
    """Audit `capsule`. `trust`: trusted owners; without it, any owner. Never raises for what it
    finds."""
    try:
        passport = verify_passport(capsule.passport)
        verified = capsule.verify(trust or Trust(), passport.body.not_before)
    except CredentialError as error:
        return _failed(capsule, error)
    return _held(capsule, verified)


def reports(capsule: Capsule, secret: bytes) -> list[OpenedReport]:
    """The opened results of an audited capsule. `secret`: the owner's X25519 key. Raises
    `CredentialError`."""
    return list(open_results(capsule.results.entries[1 if capsule.results.start == 0 else 0 :], secret))


def _held(capsule: Capsule, verified: VerifiedCapsule) -> Audit:
    point = verified.point
    return evolve(
        _journey(capsule, verified.passport),
        code=None,
        reason=None,
        checks=tuple((name, True) for name, _ in CHECKS),
        whole=point.phase is Phase.ENDED and is_complete(verified.passport.body, point),
        entries=verified.results.count,
    )


def _failed(capsule: Capsule, error: CredentialError) -> Audit:
    at = next((n for n, (_, codes) in enumerate(CHECKS) if error.code in codes), 0)
    checks = tuple((name, n < at or (False if n == at else None)) for n, (name, _) in enumerate(CHECKS))
    try:
        journey = _journey(capsule, verify_passport(capsule.passport))
    except CredentialError:
        journey = Audit(None, None, ())
    return evolve(journey, code=error.code, reason=error.reason, checks=checks)


def _journey(capsule: Capsule, passport: Signed[Passport]) -> Audit:
    """The visits, as far as the trail can be followed."""
    point, visits = launch_point(passport), list[Visit | CloneStatement]()
    upgrades: list[Upgraded] = []
    if capsule.trail.start == 0:
        for link in capsule.trail.links:
            try:
                point, signed = follow(point, link)
            except CredentialError:
                break
            if isinstance(signed.body, (Visit, CloneStatement)):
                visits.append(signed.body)
            elif isinstance(signed.body, Upgraded):
                upgrades.append(signed.body)
    return Audit(
        code=None,
        reason=None,
        checks=(),
        passport=passport.body,
        agent=point.agent,
        visits=tuple(visits),
        upgrades=tuple(upgrades),
        ended=point.phase is Phase.ENDED,
        holder=point.holder,
        used=point.used,
    )
