"""An agent in transit or at rest: which image, which state, and the credentials that vouch for both.

    ["portcall.capsule", 1, {1: passport, 2: trail, 3: results, 4: image's digest, 5: state's digest,
                             6: checkpoint?, 7: image?, 8: state?, 9: amendments?}]

A capsule without image and state is still one: enough for an audit. Between stations the parts
travel as the handoff defines; here they are assembled again.

Not policy: `verify` says whether a capsule is what it claims and whom it answers to; `docking.trust.admission`
decides.

Invariants: only `verify` makes a `VerifiedCapsule`; the checks run in the order of the admission, so the
first failure is the one reported. Every function is pure: keys, times and randomness are arguments."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

from attrs import evolve, field, frozen

from agents import canonical
from agents.brief import brief
from agents.canonical import DIGEST_SIZE, Buffer
from agents.credentials import envelope, sealing
from agents.credentials.amendments import MAX_AMENDMENTS_BYTES, Amendments, Terms
from agents.credentials.envelope import Signed
from agents.credentials.fields import Fields, array
from agents.credentials.itinerary import Position
from agents.credentials.keys import PublicKey, SecretKey
from agents.credentials.passport import Passport, verify_passport
from agents.credentials.results import Results, verify_results
from agents.credentials.trail import Arrival, Followed, Trail, verify_trail
from agents.credentials.trailpoint import TrailPoint
from agents.credentials.upgrades import Upgraded, current_image
from agents.credentials.visits import Head
from agents.errors import CredentialError, MalformedCredential, NotCanonical, PortcallError

CAPSULE_FORMAT = "portcall.capsule"
CAPSULE_VERSION = 1
# Whole capsules are read from files by people; between stations the parts have their own, smaller bounds.
MAX_CAPSULE_BYTES = 2**30
_CONTEXT = b"portcall capsule 1"
# Owners' and stations' clocks differ: a passport may be dated this far (ms) in the future.
CLOCK_SKEW_MS = 2 * 60 * 1000


# Applied to one part of a capsule that is read before anything is known about its sender's rights.
_TRAIL_BOUNDS = canonical.DecodeBounds(max_bytes=32 * 2**20, max_depth=3, max_items=100_000)
_RESULTS_BOUNDS = canonical.DecodeBounds(max_bytes=256 * 2**20, max_depth=3, max_items=1_100_000)


def _size(data: Buffer | None) -> str:
    return "None" if data is None else f"<{len(data)} bytes>"


@frozen
class Trust:
    """What a verifier trusts beforehand.

    `owners`: the keys it trusts; None trusts every owner (an audit, or a station that warns about it).
    `revoked`: raw keys of owners and ids of agents that are not admitted. `here`, `sender`: this station
    and the offering peer; None in an audit. `certifiers`: who certified this station. `known`,
    `passports`: what this station verified before: points by head, passports by digest. `images`: digests of
    images that validated here before. `validate`: raises a `PortcallError` for an image that does not
    validate."""

    owners: Container[PublicKey] | None = field(default=None, repr=brief)
    revoked: Container[bytes] = field(default=frozenset(), repr=brief)
    here: PublicKey | None = None
    sender: PublicKey | None = None
    certifiers: frozenset[PublicKey] = field(default=frozenset(), repr=brief)
    known: Mapping[bytes, TrailPoint] = field(factory=dict, repr=brief)
    passports: Mapping[bytes, Signed[Passport]] = field(factory=dict, repr=brief)
    images: Container[bytes] = field(default=frozenset(), repr=brief)
    validate: Callable[[Buffer], object] | None = None

    def __attrs_post_init__(self) -> None:
        # Against failing open: a station that forgot the sender would skip a check without noticing.
        if (self.here is None) is not (self.sender is None):
            raise ValueError("a station that verifies an arrival knows both itself and the sender")


@frozen
class Capsule:
    """The parts. `passport`, `checkpoint`: envelopes; `image`, `state`: digests (32 bytes); `image_bytes`,
    `state_bytes`: the bytes with these digests, if present; `amendments`: as `Amendments.encode` gives them."""

    passport: bytes = field(repr=_size)
    trail: Trail
    results: Results
    image: bytes = field(repr=brief)
    state: bytes = field(repr=brief)
    checkpoint: bytes | None = field(default=None, repr=_size)
    image_bytes: Buffer | None = field(default=None, repr=_size)
    state_bytes: Buffer | None = field(default=None, repr=_size)
    amendments: bytes | None = field(default=None, repr=_size)

    def encode(self) -> bytes:
        """The capsule as bytes, for a file."""
        parts: dict[int, Any] = {
            1: self.passport,
            2: self.trail.value(),
            3: self.results.value(),
            4: self.image,
            5: self.state,
        }
        rest = ((6, self.checkpoint), (7, self.image_bytes), (8, self.state_bytes), (9, self.amendments))
        for key, value in rest:
            if value is not None:
                parts[key] = bytes(value)
        return canonical.encode([CAPSULE_FORMAT, CAPSULE_VERSION, parts])

    @classmethod
    def decode(cls, data: bytes, max_bytes: int = MAX_CAPSULE_BYTES) -> Capsule:
        """The inverse of `encode`. Raises `MalformedCredential`. Verifies nothing."""
        bounds = canonical.DecodeBounds(max_bytes=max_bytes, max_depth=6, max_items=2_000_000)
        try:
            whole = array(canonical.decode(data, bounds), "capsule", 3)
        except NotCanonical as error:
            raise MalformedCredential(f"not a capsule: {error}") from error
        if len(whole) != 3 or whole[0] != CAPSULE_FORMAT:
            raise MalformedCredential("not a capsule")
        if type(whole[1]) is not int or whole[1] != CAPSULE_VERSION:  # True == 1
            raise MalformedCredential("a capsule of another version; this is version 1")
        read = Fields.of(whole[2], "capsule")
        most = max_bytes
        capsule = cls(
            passport=read.octets(1, "passport", 1, envelope.MAX_STATEMENT_BYTES),
            trail=Trail.from_value(read.take(2, "trail")),
            results=Results.from_value(read.take(3, "results")),
            image=read.octets(4, "image's digest", DIGEST_SIZE),
            state=read.octets(5, "state's digest", DIGEST_SIZE),
            checkpoint=read.octets(6, "checkpoint", 1, envelope.MAX_STATEMENT_BYTES) if read.has(6) else None,
            image_bytes=read.octets(7, "image", 0, most) if read.has(7) else None,
            state_bytes=read.octets(8, "state", 0, most) if read.has(8) else None,
            amendments=read.octets(9, "amendments", 1, MAX_AMENDMENTS_BYTES) if read.has(9) else None,
        )
        read.done()
        return capsule

    def parts(self) -> dict[str, Buffer]:
        """The capsule in pieces, as a handoff carries them: `passport`, `trail`, `results`, and `checkpoint`,
        `image`, `state`, `amendments` where present."""
        parts: dict[str, Buffer] = {
            "passport": self.passport,
            "trail": canonical.encode(self.trail.value()),
            "results": canonical.encode(self.results.value()),
        }
        rest = {
            "checkpoint": self.checkpoint,
            "image": self.image_bytes,
            "state": self.state_bytes,
            "amendments": self.amendments,
        }
        return parts | {name: data for name, data in rest.items() if data is not None}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Buffer], image: bytes, state: bytes) -> Capsule:
        """The inverse of `parts`; `image`, `state`: the announced digests. Raises `MalformedCredential`.

        Image and state are not copied: the buffers must not change while the capsule is in use.
        """
        missing = {"passport", "trail", "results"} - parts.keys()
        if missing:
            raise MalformedCredential(f"a capsule without its {min(missing)}")
        checkpoint, amendments = parts.get("checkpoint"), parts.get("amendments")
        return cls(
            passport=bytes(parts["passport"]),
            trail=Trail.from_value(envelope.decode_signed(parts["trail"], _TRAIL_BOUNDS, "trail")),
            results=Results.from_value(envelope.decode_signed(parts["results"], _RESULTS_BOUNDS, "results")),
            image=image,
            state=state,
            checkpoint=None if checkpoint is None else bytes(checkpoint),
            image_bytes=parts.get("image"),
            state_bytes=parts.get("state"),
            amendments=None if amendments is None else bytes(amendments),
        )

    @property
    def digest(self) -> bytes:
        """The digest (32 bytes) of the encoded capsule."""
        return canonical.digest(self.encode())

    def bare(self) -> Capsule:
        """Without the bytes of image and state: enough for an audit."""
        return evolve(self, image_bytes=None, state_bytes=None)

    def seal(self, to: PublicKey, ephemeral: bytes) -> bytes:
        """Sealed to the station `to`. `ephemeral`: 32 fresh random bytes."""
        return sealing.seal(self.encode(), to.box(), _CONTEXT, ephemeral)

    @classmethod
    def open(cls, data: bytes, key: SecretKey, max_bytes: int = MAX_CAPSULE_BYTES) -> Capsule:
        """The inverse of `seal`, at the station it was sealed to.

        Raises `CannotOpen` (`not-for-us`, `altered`); `MalformedCredential`.
        """
        if len(data) > sealing.sealed_size(max_bytes):
            raise MalformedCredential(f"a sealed capsule of {len(data)} bytes; at most {max_bytes} are read")
        return cls.decode(sealing.open_sealed(data, key.box(), _CONTEXT), max_bytes)

    def verify(self, trust: Trust, now: int, hashed: bool = False) -> VerifiedCapsule:
        """Checks 1 to 5 of the admission, in this order; `now` in milliseconds since 1970.

        With `trust.here` the capsule must be complete: image known or carried, state carried. `hashed`: the caller
        has compared the bytes of image and state with their digests. Raises `CredentialError`, with the code of the
        first check that fails; see docs/reference/credentials.md."""
        return self._verify(trust, now, trust.here is not None, hashed)

    def precheck(self, trust: Trust, now: int) -> None:
        """The same checks without the bytes of image and state, to refuse an offer before they travel. Raises
        as `verify` does."""
        self.bare()._verify(trust, now, False, False)

    def _verify(self, trust: Trust, now: int, bodies: bool, hashed: bool) -> VerifiedCapsule:
        passport = trust.passports.get(canonical.digest(self.passport)) or verify_passport(self.passport)
        amendments = Amendments.read(self.amendments, passport)
        check_owner(passport.body, trust, now, amendments.bound(passport.body))
        # What has another image than its passport says was perhaps upgraded: only its trail can tell.
        upgraded = self.image != passport.body.image and self._may_be_upgraded(trust)
        if not upgraded:
            self._check_image(passport.body.image, trust, bodies, hashed)
        # Hash what was received: the digest in the capsule is only a claim.
        state = self.state if hashed or self.state_bytes is None else canonical.digest(self.state_bytes)
        if state != self.state:
            raise CredentialError("state-digest", "the state's bytes are not what their digest says")
        arrival = None
        if trust.here is not None and trust.sender is not None:
            arrival = Arrival(trust.here, trust.sender, now, state, trust.certifiers)
        followed = verify_trail(self.trail, passport, trust.known, self.checkpoint, arrival, amendments)
        if upgraded:
            self._check_image(current_image(passport.body, followed.point), trust, bodies, hashed)
        elif current_image(passport.body, followed.point) != self.image:
            raise CredentialError("image-digest", "the image is not the one that the last upgrade names")
        if followed.point.agent in trust.revoked:
            raise CredentialError("revoked", "this agent was revoked here")
        if bodies and self.state_bytes is None:
            raise CredentialError("state-missing", "the agent's state did not arrive")
        if arrival is None and state != followed.point.state:
            raise CredentialError("state-digest", "the state is not the one that the trail ends with")
        results = verify_results(self.results, passport, followed)
        return VerifiedCapsule(self, passport, followed, results, now, amendments)

    def _may_be_upgraded(self, trust: Trust) -> bool:
        """Whether the trail speaks of an upgrade, or begins after one. Verifies nothing."""
        start = trust.known.get(self.trail.head) if self.trail.start else None
        if self.trail.start and (start is None or start.image):
            return True  # or its beginning is unknown, and the checkpoint says so, or nobody
        return any(envelope.look(link).kind == Upgraded.KIND for link in self.trail.links)

    def _check_image(self, named: bytes, trust: Trust, bodies: bool, hashed: bool) -> None:
        if self.image != named:
            raise CredentialError("image-digest", "the image is not the one that the passport names")
        if self.image_bytes is not None and not hashed and canonical.digest(self.image_bytes) != self.image:
            raise CredentialError("image-digest", "the image was exchanged: its digest is not the passport's")
        if self.image in trust.images:
            return
        if self.image_bytes is None:
            if bodies:
                raise CredentialError("image-missing", "the agent's image is neither here nor in the capsule")
            return
        if trust.validate is not None:
            try:
                trust.validate(self.image_bytes)
            except PortcallError as error:
                raise CredentialError("image-invalid", f"the image does not validate: {error}") from error


@frozen
class VerifiedCapsule:
    """A capsule that passed `Capsule.verify` at `now` (ms): everything in it is signed, chained and legal so
    far."""

    capsule: Capsule
    passport: Signed[Passport]
    followed: Followed
    results: Head
    now: int
    amendments: Amendments

    @property
    def terms(self) -> Terms:
        """What holds for the agent: its passport, as amended."""
        return self.amendments.terms(self.passport.body, self.agent)

    @property
    def agent(self) -> bytes:
        """The agent's id (32 bytes): a clone's, where the trail says so."""
        return self.followed.point.agent

    @property
    def point(self) -> TrailPoint:
        """Where the trail stands: worth storing under its head."""
        return self.followed.point

    @property
    def hop(self) -> int:
        """The index of the visit that ended at the source: of the move that brings the agent here."""
        return self.followed.point.index - 1

    @property
    def positions(self) -> tuple[Position, ...]:
        """The positions in the itinerary that the agent may have here, preferred first."""
        return self.followed.here


def _span(ms: int) -> str:
    """A time span for people, in its largest whole unit."""
    for unit, size in (("days", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if ms >= 2 * size:
            return f"{ms // size} {unit}"
    return f"{ms // 1000} s"


def check_owner(passport: Passport, trust: Trust, now: int, terms: Terms) -> None:
    """Check 1 without the signature: owner trusted, nothing revoked, not expired, not from the future."""
    if trust.owners is not None and passport.owner not in trust.owners:
        raise CredentialError("owner-unknown", f"the owner {passport.owner} is not trusted here")
    if passport.owner.raw in trust.revoked:
        raise CredentialError("revoked", f"the owner {passport.owner} was revoked here")
    if passport.agent in trust.revoked:
        raise CredentialError("revoked", "this agent was revoked here")
    if now > terms.expires:
        ago = _span(now - terms.expires)
        raise CredentialError(
            "expired", f"the agent's passport expired {ago} ago by the clock here: launch it anew, for longer"
        )
    if now > terms.lease:
        ago = _span(now - terms.lease)
        raise CredentialError("lease", f"the agent's lease ended {ago} ago by the clock here, and was not renewed")
    if now + CLOCK_SKEW_MS < passport.not_before:
        ahead = _span(passport.not_before - now)
        raise CredentialError(
            "not-yet-valid", f"the agent's passport begins in {ahead} by the clock here: is one of the clocks wrong?"
        )
