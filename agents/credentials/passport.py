"""The owner's signed statement: who this agent is, what it is made of, where it may go, what it may do.

Not here: where it has been (`trail`). Invariants: a verified passport is signed by the owner it names, and the
agent's id is the digest of owner, nonce and image, so nobody can issue another passport for the same id with
another image."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

from attrs import field, frozen

from agents.brief import brief
from agents.credentials import envelope
from agents.credentials.envelope import Signed, identify
from agents.credentials.fields import COUNT, Fields, array, byte_string, text, uint
from agents.credentials.itinerary import Itinerary
from agents.credentials.keys import KEY_SIZE, PublicKey, SecretKey, public_key, text_of
from agents.credentials.permit import Permit
from agents.errors import CredentialError, MalformedCredential
from agents.sharing import shared

PASSPORT_VERSION = 1
PASSPORT_NONCE_SIZE = 16
MAX_ADDRESSES = 8
MAX_ADDRESS_BYTES = 256
MAX_LABEL_BYTES = 64
# Clones of clones multiply: a passport cannot allow more than (1 + 16) ** 4 agents.
MAX_CLONES = 16
MAX_GENERATIONS = 4


@frozen
class Home:
    """The station that launches the agent and takes it back. `addresses`: hints, URLs or `host:port`."""

    station: PublicKey
    addresses: tuple[str, ...] = field(default=(), repr=brief)


@frozen
class Clones:
    """How often an agent may be cloned: `each` clones per agent, for `generations` generations of clones."""

    each: int = 0
    generations: int = 0


@frozen
class Passport:
    """The statement. Times are milliseconds since 1970; digests have 32 bytes.

    `nonce`: 16 bytes, fresh for each agent. `image`, `state`: digests of the image and of the initial state.
    `results`: the X25519 key that results are sealed to. `hops`: the maximum number of moves. `label`: a name for
    people; it need not be unique. `lease`: where not 0, the agent's time has to be renewed by its home or owner within
    so many milliseconds, first from `not_before` on; see `agents.credentials.amendments`."""

    KIND: ClassVar[str] = "passport"

    owner: PublicKey
    nonce: bytes = field(repr=text_of)
    image: bytes = field(repr=text_of)
    state: bytes = field(repr=text_of)
    home: Home
    not_before: int
    expires: int
    itinerary: Itinerary
    hops: int
    clones: Clones
    permit: Permit
    results: bytes = field(repr=text_of)
    label: str
    lease: int = 0

    @property
    def first_lease(self) -> int:
        """When the agent's time is over unless it is renewed, ms since 1970."""
        return min(self.not_before + self.lease, self.expires) if self.lease else self.expires

    @property
    def agent(self) -> bytes:
        """The agent's id, 32 bytes."""
        return agent_id(self.owner, self.nonce, self.image)

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR."""
        value: dict[int, Any] = {
            1: PASSPORT_VERSION,
            2: self.agent,
            3: self.owner.raw,
            4: self.nonce,
            5: self.image,
            6: self.state,
            7: [self.home.station.raw, list(self.home.addresses)],
            8: self.not_before,
            9: self.expires,
            10: self.itinerary.value(),
            11: self.hops,
            12: [self.clones.each, self.clones.generations],
            13: self.permit.payload(),
            14: self.results,
            15: self.label,
        }
        return value | {16: self.lease} if self.lease else value

    @classmethod
    def from_payload(cls, value: object) -> Passport:
        """The inverse of `payload`.

        Raises `MalformedCredential`, and `CredentialError` `agent-id` if the id does not match its parts.
        """
        read = Fields.of(value, "passport")
        version = read.uint(1, "version")
        if version != PASSPORT_VERSION:
            raise MalformedCredential(f"passport: version {version}; this station reads version {PASSPORT_VERSION}")
        station, addresses = read.pair(7, "home")
        each, generations = read.pair(12, "clones")
        agent = read.digest(2, "agent id")
        passport = cls(
            owner=read.key(3, "owner"),
            nonce=read.octets(4, "nonce", PASSPORT_NONCE_SIZE),
            image=read.digest(5, "image"),
            state=read.digest(6, "state"),
            home=shared(
                Home(
                    public_key(byte_string(station, "passport: home", KEY_SIZE)),
                    tuple(
                        text(address, "passport: address", MAX_ADDRESS_BYTES)
                        for address in array(addresses, "passport: addresses", MAX_ADDRESSES)
                    ),
                )
            ),
            not_before=read.time(8, "not before"),
            expires=read.time(9, "expiry"),
            itinerary=shared(Itinerary.from_value(read.take(10, "itinerary"))),
            hops=read.uint(11, "hops", COUNT),
            clones=shared(
                Clones(
                    uint(each, "passport: clones", MAX_CLONES),
                    uint(generations, "passport: generations", MAX_GENERATIONS),
                )
            ),
            permit=shared(Permit.from_payload(read.take(13, "permit"))),
            results=read.octets(14, "result key", KEY_SIZE),
            label=read.text(15, "label", MAX_LABEL_BYTES),
            lease=read.time(16, "lease") if read.has(16) else 0,
        )
        read.done()
        if read.has(16) and not passport.lease:
            raise MalformedCredential("passport: a lease of no time")
        if passport.agent != agent:
            raise CredentialError("agent-id", "the agent's id is not what its owner, nonce and image give")
        return passport


# Computed for each arrival, and for an agent's own passport.
@functools.lru_cache(maxsize=512)
def agent_id(owner: PublicKey, nonce: bytes, image: bytes) -> bytes:
    """The id of the agent (32 bytes) that `owner` makes of `image` with `nonce`."""
    return identify("agent", owner.raw, nonce, image)


def issue(passport: Passport, owner: SecretKey) -> Signed[Passport]:
    """Sign `passport`.

    Raises `CredentialError` `owner` if `owner` is not the key it names, and `MalformedCredential` if a field
    is out of bounds, so that nothing is issued that stations would not read."""
    if owner.public != passport.owner:
        raise CredentialError("owner", "a passport is signed by the owner that it names")
    return envelope.sign(Passport.from_payload(passport.payload()), owner)


def verify_passport(data: bytes) -> Signed[Passport]:
    """Check signature, owner and agent id; not trust, and not times.

    Raises `MalformedCredential`; `CredentialError` `passport-signature` or `agent-id`.
    """
    try:
        signed = envelope.verify(Passport, data)
    except CredentialError as error:
        if error.code == "signature":
            raise CredentialError("passport-signature", error.reason) from error
        raise
    if signed.signer != signed.body.owner:
        raise CredentialError(
            "passport-signature",
            f"the passport names the owner {signed.body.owner} and is signed by {signed.signer}",
        )
    return signed
