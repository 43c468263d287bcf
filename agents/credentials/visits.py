"""The statements that stations sign along an agent's way: visit, receipt, commit, clone, certificate.

Not here: how they are chained (`trail`). Times are milliseconds since 1970 by the signing station's clock; digests
and ids have 32 bytes. docs/reference/credentials.md defines the encodings."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from agents.canonical import DIGEST_SIZE
from agents.credentials import envelope
from agents.credentials.envelope import identify
from agents.credentials.fields import Fields, byte_string, uint
from agents.credentials.itinerary import Position
from agents.credentials.keys import PublicKey
from agents.credentials.passport import MAX_CLONES, MAX_LABEL_BYTES
from agents.credentials.permit import Budget
from agents.errors import CredentialError, MalformedCredential

MAX_CERTIFICATE_STATEMENT_BYTES = 1024
# Entries of one agent's results: a longer chain can only serve to exhaust its verifiers.
MAX_RESULTS = 1_000_000


@frozen
class Head:
    """The head of a chain of results: the number of entries that stations added, and the digest of the last one (of
    the owner's opening if there is none)."""

    count: int
    digest: bytes

    def value(self) -> list[Any]:
        """As an array for CBOR."""
        return [self.count, self.digest]

    @classmethod
    def of(cls, pair: tuple[Any, Any]) -> Head:
        """The inverse of `value`. Raises `MalformedCredential`."""
        return cls(uint(pair[0], "results", MAX_RESULTS), byte_string(pair[1], "results", DIGEST_SIZE))


@frozen
class Visit:
    """A station's account of one stay, signed when the agent leaves.

    `agent`, `passport`: the agent's id and the digest of its passport. `index`: 0 for the launch. `previous`:
    digest of the visit before; at the launch, of the passport; in a clone's first visit, of the clone
    statement. `used`: in this visit. `next`: the station it goes to, None at the end. `handoff`: its id, None at
    the end. `cloned`: clones made of this agent so far. `certificate`: of this station, where the stop requires
    one."""

    KIND: ClassVar[str] = "visit"

    agent: bytes
    passport: bytes
    index: int
    previous: bytes
    station: PublicKey
    position: Position
    arrived: int
    departed: int
    state_in: bytes
    state_out: bytes
    results: Head
    used: Budget
    next: PublicKey | None
    handoff: bytes | None
    cloned: int = 0
    certificate: bytes | None = None

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR."""
        fields: dict[int, Any] = {
            1: self.agent,
            2: self.passport,
            3: self.index,
            4: self.previous,
            5: self.station.raw,
            6: self.position.value(),
            7: self.arrived,
            8: self.departed,
            9: self.state_in,
            10: self.state_out,
            11: self.results.value(),
            12: self.used.payload(),
        }
        if self.next is not None:
            fields |= {13: self.next.raw, 14: self.handoff}
        fields[15] = self.cloned
        if self.certificate is not None:
            fields[16] = self.certificate
        return fields

    @classmethod
    def from_payload(cls, value: object) -> Visit:
        """The inverse of `payload`. Raises `MalformedCredential`."""
        read = Fields.of(value, "visit")
        moves = read.has(13)
        visit = cls(
            agent=read.digest(1, "agent id"),
            passport=read.digest(2, "passport"),
            index=read.uint(3, "index"),
            previous=read.digest(4, "previous visit"),
            station=read.key(5, "station"),
            position=Position.from_value(read.take(6, "position")),
            arrived=read.time(7, "arrival"),
            departed=read.time(8, "departure"),
            state_in=read.digest(9, "state in"),
            state_out=read.digest(10, "state out"),
            results=Head.of(read.pair(11, "results")),
            used=Budget.from_payload(read.take(12, "budget")),
            next=read.key(13, "next station") if moves else None,
            handoff=read.digest(14, "handoff id") if moves else None,
            cloned=read.uint(15, "clones", MAX_CLONES),
            certificate=read.octets(16, "certificate", 1, MAX_CERTIFICATE_STATEMENT_BYTES) if read.has(16) else None,
        )
        read.done()
        if visit.arrived > visit.departed:
            raise MalformedCredential("visit: the agent left before it arrived")
        return visit


@frozen
class Receipt:
    """The destination holds the agent. `visit`: digest of the visit that came with it. `state`: digest of
    what was received."""

    KIND: ClassVar[str] = "receipt"

    visit: bytes
    handoff: bytes
    state: bytes
    time: int
    station: PublicKey

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR."""
        return {1: self.visit, 2: self.handoff, 3: self.state, 4: self.time, 5: self.station.raw}

    @classmethod
    def from_payload(cls, value: object) -> Receipt:
        """The inverse of `payload`. Raises `MalformedCredential`."""
        read = Fields.of(value, "receipt")
        receipt = cls(
            visit=read.digest(1, "visit"),
            handoff=read.digest(2, "handoff id"),
            state=read.digest(3, "state"),
            time=read.time(4, "time"),
            station=read.key(5, "station"),
        )
        read.done()
        return receipt


@frozen
class Commit:
    """The source will never run the agent again. `visit`, `receipt`: digests of the two statements behind it."""

    KIND: ClassVar[str] = "commit"

    agent: bytes
    index: int
    handoff: bytes
    visit: bytes
    receipt: bytes

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR."""
        return {1: self.agent, 2: self.index, 3: self.handoff, 4: self.visit, 5: self.receipt}

    @classmethod
    def from_payload(cls, value: object) -> Commit:
        """The inverse of `payload`. Raises `MalformedCredential`."""
        read = Fields.of(value, "commit")
        commit = cls(
            agent=read.digest(1, "agent id"),
            index=read.uint(2, "index"),
            handoff=read.digest(3, "handoff id"),
            visit=read.digest(4, "visit"),
            receipt=read.digest(5, "receipt"),
        )
        read.done()
        return commit


@frozen
class CloneStatement:
    """The station that holds an agent has cloned it.

    `parent`: the agent's id. `index`, `previous`: as in the visit during which it happened. `serial`: the number of
    this clone of the parent, from 0. `state`: digest of the clone's state. A clone's trail is its parent's up to
    here, then this statement, then its own visits."""

    KIND: ClassVar[str] = "clone"

    parent: bytes
    passport: bytes
    index: int
    previous: bytes
    station: PublicKey
    serial: int
    state: bytes
    results: Head
    time: int

    @property
    def agent(self) -> bytes:
        """The clone's id, 32 bytes."""
        return identify("clone", self.parent, self.serial)

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR."""
        return {
            1: self.parent,
            2: self.passport,
            3: self.index,
            4: self.previous,
            5: self.station.raw,
            6: self.serial,
            7: self.state,
            8: self.results.value(),
            9: self.time,
        }

    @classmethod
    def from_payload(cls, value: object) -> CloneStatement:
        """The inverse of `payload`. Raises `MalformedCredential`."""
        read = Fields.of(value, "clone")
        clone = cls(
            parent=read.digest(1, "parent"),
            passport=read.digest(2, "passport"),
            index=read.uint(3, "index"),
            previous=read.digest(4, "previous visit"),
            station=read.key(5, "station"),
            serial=read.uint(6, "serial", MAX_CLONES),
            state=read.digest(7, "state"),
            results=Head.of(read.pair(8, "results")),
            time=read.time(9, "time"),
        )
        read.done()
        return clone


@frozen
class Certificate:
    """The signer certifies a station: it qualifies for the stop `CertifiedStop(signer)` of an itinerary."""

    KIND: ClassVar[str] = "certificate"

    station: PublicKey
    not_before: int
    expires: int
    label: str

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR."""
        return {1: self.station.raw, 2: self.not_before, 3: self.expires, 4: self.label}

    @classmethod
    def from_payload(cls, value: object) -> Certificate:
        """The inverse of `payload`. Raises `MalformedCredential`."""
        read = Fields.of(value, "certificate")
        certificate = cls(
            station=read.key(1, "station"),
            not_before=read.time(2, "not before"),
            expires=read.time(3, "expiry"),
            label=read.text(4, "label", MAX_LABEL_BYTES),
        )
        read.done()
        return certificate


def certifier(data: bytes, station: PublicKey, at: int) -> PublicKey:
    """Who certified `station` with the certificate `data`, valid at `at` (ms). Raises `CredentialError`
    `certificate`."""
    try:
        signed = envelope.verify(Certificate, data)
    except CredentialError as error:
        raise CredentialError("certificate", f"a certificate does not hold: {error.reason}") from error
    if signed.body.station != station:
        raise CredentialError("certificate", f"a certificate of {signed.body.station} was used for {station}")
    if not signed.body.not_before <= at <= signed.body.expires:
        raise CredentialError("certificate", f"the certificate of {station} was not valid when it was used")
    return signed.signer
