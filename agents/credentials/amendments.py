"""What an owner changes about an agent after the launch: signed statements that travel with it.

A passport is never changed. An `Amendment` says, of one agent and the clones that descend from it, that something of
the passport is different now; the kinds are in `KINDS`. All amendments of an agent are a set, so their order and
repetitions mean nothing. `terms` computes what holds: stations, homes and audits ask it, and nobody else.

Not here: how amendments reach an agent (`docking.residents.amending`). Invariants: a set is bounded, has one encoding,
and is made only of statements that the passport's owner signed (or, where a kind allows it, the agent's home); what an
amendment says counts once.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, TypeAlias

from attrs import field, frozen

from agents import canonical
from agents.brief import brief
from agents.credentials import envelope
from agents.credentials.envelope import Signed, identify
from agents.credentials.fields import AMOUNT, COUNT, Fields, array, byte_string
from agents.credentials.keys import PublicKey, SecretKey, text_of
from agents.credentials.passport import Passport
from agents.credentials.permit import Budget
from agents.errors import CredentialError, MalformedCredential
from agents.evolve import evolve

AMENDMENT_NONCE_SIZE = 16
# Of one agent. Renewals of a lease replace each other; so this bounds the top-ups.
MAX_AMENDMENTS = 32
MAX_AMENDMENT_BYTES = 1024
MAX_AMENDMENTS_BYTES = 64 << 10
_BOUNDS = canonical.DecodeBounds(max_bytes=MAX_AMENDMENTS_BYTES, max_depth=1, max_items=MAX_AMENDMENTS + 1)


@frozen
class TopUp:
    """More budget, added to that of the permit: see `Budget`; and `hops` more moves."""

    KIND: ClassVar[str] = "top-up"
    BY_HOME: ClassVar[bool] = False

    budget: Budget = field(factory=Budget)
    hops: int = 0

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR."""
        return {1: self.budget.payload(), 2: self.hops}

    @classmethod
    def from_payload(cls, value: object) -> TopUp:
        """The inverse of `payload`. Raises `MalformedCredential`."""
        read = Fields.of(value, "top-up")
        found = cls(Budget.from_payload(read.take(1, "budget")), read.uint(2, "hops", COUNT))
        read.done()
        if found == cls():
            raise MalformedCredential("top-up: of nothing")
        return found


@frozen
class Lease:
    """The agent may live until then (ms since 1970).

    By the owner: in place of the passport's expiry, if that is earlier. By its home: as far as the expiry allows.
    """

    KIND: ClassVar[str] = "lease"
    BY_HOME: ClassVar[bool] = True

    until: int

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR."""
        return {1: self.until}

    @classmethod
    def from_payload(cls, value: object) -> Lease:
        """The inverse of `payload`. Raises `MalformedCredential`."""
        read = Fields.of(value, "lease")
        found = cls(read.time(1, "until"))
        read.done()
        return found


@frozen
class Upgrade:
    """Other code: see `agents.credentials.upgrades`. It counts once, and where it happened: so it stands in the trail
    and not among the others.

    old, new: the digests of the image that the agent has, and of the one that it gets
    visit: the index of the visit from which on that may happen; expires: until when, ms since 1970
    """

    KIND: ClassVar[str] = "upgrade"
    BY_HOME: ClassVar[bool] = False

    old: bytes = field(repr=text_of)
    new: bytes = field(repr=text_of)
    visit: int
    expires: int

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR."""
        return {1: self.old, 2: self.new, 3: self.visit, 4: self.expires}

    @classmethod
    def from_payload(cls, value: object) -> Upgrade:
        """The inverse of `payload`. Raises `MalformedCredential`."""
        read = Fields.of(value, "upgrade")
        found = cls(
            read.digest(1, "old image"), read.digest(2, "new image"), read.uint(3, "visit"), read.time(4, "expiry")
        )
        read.done()
        if found.old == found.new:
            raise MalformedCredential("upgrade: to the image that the agent has")
        return found


Change: TypeAlias = TopUp | Lease | Upgrade
"""What an amendment changes: one of `KINDS`."""
KINDS: dict[str, type[TopUp] | type[Lease] | type[Upgrade]] = {each.KIND: each for each in (TopUp, Lease, Upgrade)}
"""By the word that is signed. `BY_HOME` of a kind says whether the agent's home may sign it too."""


@frozen
class Amendment:
    """The statement.

    agent: the id of the agent that it is for, which it holds for with all clones that descend from it
    passport: the digest of the agent's passport
    nonce: 16 bytes, fresh for each: two equal top-ups are two
    time: when it was signed, ms since 1970
    """

    KIND: ClassVar[str] = "amendment"

    agent: bytes = field(repr=text_of)
    passport: bytes = field(repr=text_of)
    nonce: bytes = field(repr=text_of)
    time: int
    change: Change

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR."""
        change = self.change
        return {1: self.agent, 2: self.passport, 3: self.nonce, 4: self.time, 5: change.KIND, 6: change.payload()}

    @classmethod
    def from_payload(cls, value: object) -> Amendment:
        """The inverse of `payload`. Raises `MalformedCredential`."""
        read = Fields.of(value, "amendment")
        agent, passport = read.digest(1, "agent id"), read.digest(2, "passport")
        nonce, time = read.octets(3, "nonce", AMENDMENT_NONCE_SIZE), read.time(4, "time")
        kind = KINDS.get(read.text(5, "kind", 16))
        if kind is None:
            raise MalformedCredential("amendment: of a kind that is not known here")
        change = kind.from_payload(read.take(6, "change"))
        read.done()
        return cls(agent, passport, nonce, time, change)


@frozen
class Terms:
    """What holds for an agent now: its passport, as amended.

    budget: over the whole journey; hops: the maximum number of moves
    expires: when its time is over, whatever is renewed by its home; lease: when it is to be renewed, or `expires`.
        Both in ms since 1970.
    """

    budget: Budget
    hops: int
    expires: int
    lease: int


@frozen
class Amendments:
    """All of one agent, verified; none, unless something was changed. Made by `read` and `plus`."""

    items: tuple[Signed[Amendment], ...] = field(default=(), repr=brief)

    def __bool__(self) -> bool:
        return bool(self.items)

    def __iter__(self) -> Iterator[Signed[Amendment]]:
        return iter(self.items)

    def encode(self) -> bytes | None:
        """As bytes, to be stored or sent; None if there are none."""
        return canonical.encode([each.envelope for each in self.items]) if self.items else None

    @classmethod
    def read(cls, data: bytes | None, passport: Signed[Passport]) -> Amendments:
        """The inverse of `encode`, for agents of `passport`; checks every signature. Raises `CredentialError`."""
        if data is None:
            return NONE
        rows = array(envelope.decode_signed(data, _BOUNDS, "amendments"), "amendments", MAX_AMENDMENTS)
        items = tuple(verify_amendment(byte_string(row, "amendment", 1, MAX_AMENDMENT_BYTES), passport) for row in rows)
        if any(isinstance(each.body.change, Upgrade) for each in items):
            raise MalformedCredential("amendments: an upgrade, which stands in the trail")
        nonces = [each.body.nonce for each in items]
        # One encoding: in order, none twice, none that another one replaces.
        if not items or any(one >= other for one, other in itertools.pairwise(nonces)):
            raise MalformedCredential("amendments: none, or not in their order")
        if len(_needed(items)) != len(items):
            raise MalformedCredential("amendments: a lease that was renewed since")
        return cls(items)

    def plus(self, signed: Signed[Amendment]) -> Amendments:
        """These and one more that was verified; the same, if it is among them or says nothing new.

        Raises `CredentialError` `amendment` if there are too many, or it has the nonce of another one.
        """
        if isinstance(signed.body.change, Upgrade):
            raise CredentialError("amendment", "an upgrade stands in the trail, and not among the amendments")
        same = next((each for each in self.items if each.body.nonce == signed.body.nonce), None)
        if same is not None:
            if same.body != signed.body:
                raise CredentialError("amendment", "there is another amendment with this nonce")
            return self
        found = _needed(sorted((*self.items, signed), key=lambda each: each.body.nonce))
        if len(found) > MAX_AMENDMENTS:
            raise CredentialError("amendment", f"an agent has at most {MAX_AMENDMENTS} amendments: launch another one")
        return self if found == self.items else Amendments(found)

    def terms(self, passport: Passport, agent: bytes) -> Terms:
        """What holds for the agent with this id, one of those of `passport`.

        Raises `CredentialError` `amendment` if one of them is for another agent.
        """
        if not all(descends(passport, agent, signed.body.agent) for signed in self.items):
            raise CredentialError("amendment", "an amendment that is for another agent")
        return self.bound(passport)

    def bound(self, passport: Passport) -> Terms:
        """What holds for an agent of `passport` for which these are: before it is known which agent that is."""
        found = Terms(passport.permit.budget, passport.hops, passport.expires, passport.first_lease)
        if not self.items:
            return found
        for signed in self.items:
            found = _amended(found, signed, passport)
        return evolve(found, lease=min(found.lease, found.expires))


NONE = Amendments()


def _amended(terms: Terms, signed: Signed[Amendment], passport: Passport) -> Terms:
    """`terms` after one amendment. The order must not matter: only sums and maxima."""
    match signed.body.change:
        case TopUp(budget, hops):
            return evolve(terms, budget=_sum(terms.budget, budget), hops=min(terms.hops + hops, COUNT))
        case Lease(until):
            longer = max(terms.expires, until) if signed.signer == passport.owner else terms.expires
            return evolve(terms, expires=longer, lease=max(terms.lease, until))
        case Upgrade():
            return terms  # the trail says what code it has


def _sum(one: Budget, other: Budget) -> Budget:
    # Not `Budget.plus`, which takes memory as a peak.
    return evolve(one.plus(other), memory=min(one.memory + other.memory, AMOUNT))


def _needed(items: Iterable[Signed[Amendment]]) -> tuple[Signed[Amendment], ...]:
    """Without leases that others replace: of those for one agent by one signer, the longest is kept."""
    longest: dict[tuple[PublicKey, bytes], Signed[Amendment]] = {}
    kept = tuple(items)
    for each in kept:
        if isinstance(each.body.change, Lease):
            place = (each.signer, each.body.agent)
            other = longest.get(place)
            if other is None or _until(other) < _until(each):
                longest[place] = each
    return tuple(
        each
        for each in kept
        if not isinstance(each.body.change, Lease) or longest[each.signer, each.body.agent] is each
    )


def _until(signed: Signed[Amendment]) -> int:
    change = signed.body.change
    assert isinstance(change, Lease)
    return change.until


def sign_amendment(amendment: Amendment, signer: SecretKey) -> Signed[Amendment]:
    """Sign an amendment, as the agent's owner or home. Raises `MalformedCredential` for what nobody would read."""
    Amendment.from_payload(amendment.payload())
    signed = envelope.sign(amendment, signer)
    if len(signed.envelope) > MAX_AMENDMENT_BYTES:
        raise MalformedCredential(f"an amendment of {len(signed.envelope)} bytes; at most {MAX_AMENDMENT_BYTES}")
    return signed


def verify_amendment(data: bytes, passport: Signed[Passport]) -> Signed[Amendment]:
    """An amendment for agents of `passport`, signed by who may. Raises `CredentialError` `amendment`."""
    if len(data) > MAX_AMENDMENT_BYTES:
        raise MalformedCredential(f"an amendment of {len(data)} bytes; at most {MAX_AMENDMENT_BYTES} are read")
    try:
        signed = envelope.verify(Amendment, data)
    except MalformedCredential:
        raise
    except CredentialError as error:
        raise CredentialError("amendment", f"an amendment that does not hold: {error.reason}") from error
    if signed.body.passport != passport.digest:
        raise CredentialError("amendment", "an amendment for an agent with another passport")
    by_home = signed.body.change.BY_HOME and signed.signer == passport.body.home.station
    if signed.signer != passport.body.owner and not by_home:
        raise CredentialError("amendment", f"a {signed.body.change.KIND} is signed by the agent's owner, not by others")
    return signed


def descends(passport: Passport, agent: bytes, ancestor: bytes) -> bool:
    """Whether an agent of `passport` is `ancestor`, or a clone of it, of whatever generation."""
    if ancestor in (agent, passport.agent):
        return True
    return _descends(agent, ancestor, passport.clones.each, max(passport.clones.generations - 1, 0))


# At most 16 + 256 + 4096 ids: three generations below a clone.
@functools.lru_cache(maxsize=1024)
def _descends(agent: bytes, ancestor: bytes, each: int, generations: int) -> bool:
    found = [ancestor]
    for _ in range(generations):
        found = [identify("clone", parent, serial) for parent in found for serial in range(each)]
        if agent in found:
            return True
    return False


__all__ = [
    "KINDS",
    "MAX_AMENDMENTS",
    "MAX_AMENDMENTS_BYTES",
    "NONE",
    "Amendment",
    "Amendments",
    "Lease",
    "Terms",
    "TopUp",
    "Upgrade",
    "descends",
    "sign_amendment",
    "verify_amendment",
]
