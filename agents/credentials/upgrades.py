"""New code for an agent: the station's link that says when it happened, with the owner's amendment that allows it.

Amendments are a set, in which nothing comes first. An upgrade is a step, from one image to another, and counts once: so
its amendment is carried in the trail. Not here: whether the agent can go on with that code (`agents.upgrade`).

Invariant: a trail with an upgrade in it verifies only if the agent's owner signed exactly this upgrade, of this agent,
from the code that it had; and each statement is used once at most, since a trail takes only later ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from attrs import field, frozen

from agents.credentials import envelope
from agents.credentials.amendments import (
    MAX_AMENDMENT_BYTES,
    Amendment,
    Upgrade,
    descends,
    verify_amendment,
)
from agents.credentials.envelope import Signed
from agents.credentials.fields import Fields
from agents.credentials.keys import PublicKey, SecretKey, text_of
from agents.credentials.passport import Passport
from agents.credentials.trailpoint import TrailPoint
from agents.errors import CredentialError, MalformedCredential

MAX_UPGRADE_STATEMENT_BYTES = MAX_AMENDMENT_BYTES
# How far (ms) the clocks of the owner and of a station may differ.
SKEW_MS = 2 * 60 * 1000


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


def read_upgrade(statement: bytes) -> tuple[Amendment, Upgrade]:
    """The owner's statement, and what it changes; whoever signed it. Raises `CredentialError`."""
    if len(statement) > MAX_UPGRADE_STATEMENT_BYTES:
        raise MalformedCredential("upgrade: a statement that is too long")
    body = envelope.verify(Amendment, statement).body
    if not isinstance(body.change, Upgrade):
        raise MalformedCredential(f"upgrade: a {body.change.KIND} stands in its place")
    return body, body.change


def check_upgrade(passport: Signed[Passport], before: TrailPoint, statement: bytes, at: int) -> Upgrade:
    """Whether the agent at the point `before` may have new code by this statement at the time `at` (ms).

    Raises `CredentialError` with the codes `amendment` and `upgrade`; `malformed`.
    """
    body = verify_amendment(statement, passport).body
    change = body.change
    if not isinstance(change, Upgrade):
        raise MalformedCredential(f"upgrade: a {change.KIND} stands in its place")
    if not descends(passport.body, before.agent, body.agent):
        raise CredentialError("upgrade", "an upgrade that was signed for another agent")
    has = current_image(passport.body, before)
    if change.old != has:
        raise CredentialError(
            "upgrade", f"an upgrade of the image {text_of(change.old)}, and the agent has {text_of(has)}"
        )
    if change.visit > before.index:
        raise CredentialError("upgrade", f"an upgrade from visit {change.visit} on, and this is visit {before.index}")
    if body.time <= before.upgraded:
        raise CredentialError("upgrade", "an upgrade that was signed before the last one: it may be a repetition")
    if not body.time - SKEW_MS <= at <= change.expires:
        raise CredentialError("upgrade", "an upgrade out of the time for which it was signed")
    return change


def current_image(passport: Passport, point: TrailPoint) -> bytes:
    """The digest of the image that the agent has at `point`."""
    return point.image or passport.image


def images_in(passport: Passport, links: Iterable[bytes]) -> tuple[bytes, ...]:
    """The digests of the images that an agent has had, by the links of its trail, the passport's first.

    Verifies nothing. Raises `CredentialError` for links that are none.
    """
    found = {passport.image: None}
    for link in links:
        opened = envelope.look(link)
        if opened.kind == Upgraded.KIND:
            body = envelope.verify(Upgraded, opened).body
            found[read_upgrade(body.statement)[1].new] = None
    return tuple(found)


def sign_upgraded(point: TrailPoint, statement: bytes, time: int, station: SecretKey) -> Signed[Upgraded]:
    """The link of the station that holds the agent at `point`, and gives it new code. `time`: ms since 1970."""
    body = Upgraded(point.agent, point.passport, point.index, point.previous, station.public, statement, time)
    return envelope.sign(body, station)
