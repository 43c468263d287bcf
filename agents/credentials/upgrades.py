"""New code for an agent: the owner's statement that allows it, and the station's link that says when it happened.

Not here: whether the agent can go on with that code (`agents.upgrade`). Invariant: a trail with an upgrade in it
verifies only if the agent's owner signed exactly this upgrade, of this agent, from the code that it had; and each
statement is used once at most, since a trail takes only later ones.
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import field, frozen

from agents.credentials import envelope
from agents.credentials.envelope import Signed
from agents.credentials.fields import Fields
from agents.credentials.keys import PublicKey, SecretKey, text_of
from agents.credentials.passport import Passport
from agents.credentials.trailpoint import TrailPoint
from agents.errors import CredentialError, MalformedCredential

MAX_UPGRADE_STATEMENT_BYTES = 1024
# How far (ms) the clocks of the owner and of a station may differ.
SKEW_MS = 2 * 60 * 1000


@frozen
class Upgrade:
    """The owner's statement: this agent goes on with another image.

    agent, passport: its id, and the digest of its passport; old, new: the digests of the images
    visit: the index of the visit from which on it may happen
    time, expires: when it was signed, and until when it may happen: ms since 1970
    """

    KIND: ClassVar[str] = "upgrade"

    agent: bytes = field(repr=text_of)
    passport: bytes = field(repr=text_of)
    old: bytes = field(repr=text_of)
    new: bytes = field(repr=text_of)
    visit: int
    time: int
    expires: int

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR."""
        return {
            1: self.agent,
            2: self.passport,
            3: self.old,
            4: self.new,
            5: self.visit,
            6: self.time,
            7: self.expires,
        }

    @classmethod
    def from_payload(cls, value: object) -> Upgrade:
        """The inverse of `payload`. Raises `MalformedCredential`."""
        read = Fields.of(value, "upgrade")
        upgrade = cls(
            agent=read.digest(1, "agent id"),
            passport=read.digest(2, "passport"),
            old=read.digest(3, "old image"),
            new=read.digest(4, "new image"),
            visit=read.uint(5, "visit"),
            time=read.time(6, "time"),
            expires=read.time(7, "expiry"),
        )
        read.done()
        if upgrade.expires < upgrade.time:
            raise MalformedCredential("upgrade: it expires before it was signed")
        return upgrade


@frozen
class Upgraded:
    """The station that holds an agent has given it new code, during the visit `index`.

    previous: as in the visit during which it happened; statement: the owner's; time: ms since 1970
    """

    KIND: ClassVar[str] = "upgraded"

    agent: bytes
    passport: bytes
    index: int
    previous: bytes
    station: PublicKey
    statement: bytes = field(repr=False)
    time: int

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR."""
        return {
            1: self.agent,
            2: self.passport,
            3: self.index,
            4: self.previous,
            5: self.station.raw,
            6: self.statement,
            7: self.time,
        }

    @classmethod
    def from_payload(cls, value: object) -> Upgraded:
        """The inverse of `payload`. Raises `MalformedCredential`."""
        read = Fields.of(value, "upgraded")
        upgraded = cls(
            agent=read.digest(1, "agent id"),
            passport=read.digest(2, "passport"),
            index=read.uint(3, "index"),
            previous=read.digest(4, "previous visit"),
            station=read.key(5, "station"),
            statement=read.octets(6, "statement", 1, MAX_UPGRADE_STATEMENT_BYTES),
            time=read.time(7, "time"),
        )
        read.done()
        return upgraded


def sign_upgrade(upgrade: Upgrade, owner: SecretKey) -> bytes:
    """The owner's statement as an envelope. Raises `MalformedCredential` for fields out of bounds."""
    Upgrade.from_payload(upgrade.payload())
    return envelope.sign(upgrade, owner).envelope


def read_upgrade(statement: bytes) -> Signed[Upgrade]:
    """The statement, and who signed it. Raises `CredentialError`."""
    if len(statement) > MAX_UPGRADE_STATEMENT_BYTES:
        raise MalformedCredential("upgrade: a statement that is too long")
    return envelope.verify(Upgrade, statement)


def check_upgrade(passport: Passport, before: TrailPoint, statement: bytes, at: int) -> Upgrade:
    """Whether the agent at the point `before` may have new code by this statement at the time `at` (ms).

    Raises `CredentialError` with the code `upgrade`; `malformed`.
    """
    try:
        signed = read_upgrade(statement)
    except MalformedCredential:
        raise
    except CredentialError as error:
        raise CredentialError("upgrade", f"an upgrade whose signature does not hold: {error.reason}") from error
    body = signed.body
    if signed.signer != passport.owner:
        raise CredentialError("upgrade", f"an upgrade is signed by {signed.signer}, who does not own the agent")
    if (body.agent, body.passport) != (before.agent, before.passport):
        raise CredentialError("upgrade", "an upgrade that was signed for another agent")
    has = current_image(passport, before)
    if body.old != has:
        raise CredentialError(
            "upgrade", f"an upgrade of the image {text_of(body.old)}, and the agent has {text_of(has)}"
        )
    if body.new == body.old:
        raise CredentialError("upgrade", "an upgrade to the image that the agent has")
    if body.visit > before.index:
        raise CredentialError("upgrade", f"an upgrade from visit {body.visit} on, and this is visit {before.index}")
    if body.time <= before.upgraded:
        raise CredentialError("upgrade", "an upgrade that was signed before the last one: it may be a repetition")
    if not body.time - SKEW_MS <= at <= body.expires:
        raise CredentialError("upgrade", "an upgrade out of the time for which it was signed")
    return body


def current_image(passport: Passport, point: TrailPoint) -> bytes:
    """The digest of the image that the agent has at `point`."""
    return point.image or passport.image


def sign_upgraded(point: TrailPoint, statement: bytes, time: int, station: SecretKey) -> Signed[Upgraded]:
    """The link of the station that holds the agent at `point`, and gives it new code. `time`: ms since 1970."""
    body = Upgraded(point.agent, point.passport, point.index, point.previous, station.public, statement, time)
    return envelope.sign(body, station)
