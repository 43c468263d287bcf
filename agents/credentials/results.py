"""What an agent reported, as an append-only chain: each entry signed by the station, sealed to the owner.

    opening   signed by the owner    agent, passport, nonce
    entry j   signed by the station  agent, visit's index, j, previous, station, time, sealed (key, value)

The chain's head is the digest of its last envelope. Each visit pins the head and names the next station, so a
station that removes entries later contradicts a visit that others have built on.

Not hidden: how much is reported and when; sizes and times are open.

Invariants: entry j names the digest of entry j - 1; an entry is sealed in the context of its own place, so a
ciphertext moved to another place does not open. Verification needs no key, opening only the owner's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from attrs import field, frozen

from agents import canonical
from agents.brief import brief
from agents.canonical import DIGEST_SIZE
from agents.credentials import envelope
from agents.credentials.envelope import R, Signed
from agents.credentials.fields import COUNT, Fields, array, byte_string, uint
from agents.credentials.keys import PublicKey, SecretKey
from agents.credentials.passport import PASSPORT_NONCE_SIZE, Passport
from agents.credentials.sealing import open_sealed, seal, sealed_size
from agents.credentials.trail import Followed
from agents.credentials.visits import MAX_RESULTS, CloneStatement, Head, Visit
from agents.errors import CredentialError, MalformedCredential

MAX_KEY_BYTES = 256
MAX_VALUE_BYTES = 1 << 20
# An entry is held whole while it is verified, and so are the entries of a capsule.
MAX_SEALED_BYTES = sealed_size(MAX_VALUE_BYTES + MAX_KEY_BYTES + 16)
_BOUNDS = canonical.DecodeBounds(max_bytes=MAX_SEALED_BYTES, max_depth=1, max_items=3)


@frozen
class Opening:
    """The owner opens the chain. `agent`, `passport`: whose; `nonce`: 16 bytes."""

    KIND: ClassVar[str] = "results"

    agent: bytes
    passport: bytes
    nonce: bytes

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR."""
        return {1: self.agent, 2: self.passport, 3: self.nonce}

    @classmethod
    def from_payload(cls, value: object) -> Opening:
        """The inverse of `payload`. Raises `MalformedCredential`."""
        read = Fields.of(value, "results")
        opening = cls(
            read.digest(1, "agent id"), read.digest(2, "passport"), read.octets(3, "nonce", PASSPORT_NONCE_SIZE)
        )
        read.done()
        return opening


@frozen
class ReportEntry:
    """One report. `index`: of the visit; `number`: 1 for the first entry; `previous`: digest of the one
    before; `time`: ms; `sealed`: key and value, sealed to the owner."""

    KIND: ClassVar[str] = "entry"

    agent: bytes
    index: int
    number: int
    previous: bytes
    station: PublicKey
    time: int
    sealed: bytes = field(repr=brief)

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR."""
        return {**self._place(), 7: self.sealed}

    def context(self) -> bytes:
        """What the ciphertext is bound to: every other field."""
        return canonical.encode(self._place())

    def _place(self) -> dict[int, Any]:
        return {
            1: self.agent,
            2: self.index,
            3: self.number,
            4: self.previous,
            5: self.station.raw,
            6: self.time,
        }

    @classmethod
    def from_payload(cls, value: object) -> ReportEntry:
        """The inverse of `payload`. Raises `MalformedCredential`."""
        read = Fields.of(value, "entry")
        entry = cls(
            agent=read.digest(1, "agent id"),
            index=read.uint(2, "visit"),
            number=read.uint(3, "number", MAX_RESULTS),
            previous=read.digest(4, "previous entry"),
            station=read.key(5, "station"),
            time=read.time(6, "time"),
            sealed=read.octets(7, "sealed", 1, MAX_SEALED_BYTES),
        )
        read.done()
        return entry


@frozen
class Results:
    """A chain, or its end: `entries` (envelopes) after the first `start`, whose head is `head` (empty at 0).
    A whole chain begins with the opening, so entry j is at index j."""

    entries: tuple[bytes, ...] = field(default=(), repr=brief)
    start: int = 0
    head: bytes = b""

    def value(self) -> list[Any]:
        """As an array for CBOR."""
        return [self.start, self.head, list(self.entries)]

    @classmethod
    def from_value(cls, value: object) -> Results:
        """The inverse of `value`. Raises `MalformedCredential`."""
        parts = array(value, "results", 3)
        if len(parts) != 3:
            raise MalformedCredential("results: not a start, a head and entries")
        start = uint(parts[0], "results: start", COUNT)
        head = byte_string(parts[1], "results: head", DIGEST_SIZE if start else 0)
        entries = array(parts[2], "results: entries", MAX_RESULTS)
        return cls(
            tuple(byte_string(e, "results: entry", 1, envelope.MAX_STATEMENT_BYTES) for e in entries), start, head
        )

    def since(self, head: Head) -> Results:
        """The part after `head`, for a peer that has the beginning. Raises `MalformedCredential` if it is not in
        this part."""
        skip = head.count + 1 - self.start
        if not 0 <= skip <= len(self.entries):
            raise MalformedCredential("results: that entry is not within this part of the chain")
        return Results(self.entries[skip:], head.count + 1, head.digest)


@frozen
class OpenedReport:
    """An opened entry: what the agent reported, where and when."""

    entry: ReportEntry
    key: str
    value: bytes = field(repr=brief)


def begin_results(passport: Signed[Passport], nonce: bytes, owner: SecretKey) -> Signed[Opening]:
    """Open the chain of an agent; `nonce`: 16 fresh random bytes."""
    return envelope.sign(Opening(passport.body.agent, passport.digest, nonce), owner)


def append(
    head: Head,
    agent: bytes,
    index: int,
    time: int,
    report: tuple[str, bytes],
    to: bytes,
    station: SecretKey,
    ephemeral: bytes,
) -> tuple[Signed[ReportEntry], Head]:
    """The entry that follows `head`, and the new head.

    `report`: key (at most 256 bytes) and value (at most 1 MiB). `to`: the passport's result key.
    `ephemeral`: 32 fresh random bytes. Raises `MalformedCredential` if the report is too large or the chain
    is full."""
    key, value = report
    if not 1 <= len(key.encode()) <= MAX_KEY_BYTES or len(value) > MAX_VALUE_BYTES or head.count >= MAX_RESULTS:
        raise MalformedCredential(
            f"a report has a key of 1 to {MAX_KEY_BYTES} and a value of at most {MAX_VALUE_BYTES} bytes"
        )
    place = ReportEntry(agent, index, head.count + 1, head.digest, station.public, time, b"")
    sealed = seal(canonical.encode([key, value]), to, place.context(), ephemeral)
    entry = ReportEntry(agent, index, head.count + 1, head.digest, station.public, time, sealed)
    signed = envelope.sign(entry, station)
    return signed, Head(entry.number, signed.digest)


def verify_results(results: Results, passport: Signed[Passport], followed: Followed) -> Head:
    """Verify the entries in `results` against the visits that pin them; returns the head.

    `followed`: the result of `verify_trail`. The entries begin where its first point ends: after the opening
    and the entries that were verified with it. Raises `CredentialError` `results-chain` or
    `results-signature`."""
    known = followed.start.results
    entries = iter(results.entries)
    if known is None:
        if results.start != 0:
            raise CredentialError("results-chain", "the results do not begin with their opening")
        known = _opening(next(entries, None), passport)
    elif (results.start, results.head) != (known.count + 1, known.digest):
        raise CredentialError("results-chain", "the results do not begin where this station's knowledge ends")
    head = known
    for before, signed in followed.steps:
        if isinstance(signed.body, (Visit, CloneStatement)):
            head = _stay(entries, head, before.agent, signed.body)
    if next(entries, None) is not None:
        raise CredentialError("results-chain", "the results go on after the last visit that vouches for them")
    return head


def open_results(results: Sequence[bytes], secret: bytes) -> Iterator[OpenedReport]:
    """Open verified entries (envelopes, without the opening), in order, with the owner's X25519 secret key.

    Raises `CannotOpen`, and `MalformedCredential` for an entry without a key and value.
    """
    for data in results:
        entry = envelope.verify(ReportEntry, data).body
        plain = open_sealed(entry.sealed, secret, entry.context())
        pair = envelope.decode_signed(plain, _BOUNDS, "report")
        if not isinstance(pair, list) or len(pair) != 2 or type(pair[0]) is not str or type(pair[1]) is not bytes:
            raise MalformedCredential("report: not a key and a value")
        yield OpenedReport(entry, pair[0], pair[1])


def _opening(data: bytes | None, passport: Signed[Passport]) -> Head:
    if data is None:
        raise CredentialError("results-chain", "the results have no opening")
    opening = _verified(Opening, data, passport.body.owner)
    if (opening.body.agent, opening.body.passport) != (passport.body.agent, passport.digest):
        raise CredentialError("results-chain", "the results belong to another agent")
    return Head(0, opening.digest)


def _stay(entries: Iterator[bytes], head: Head, agent: bytes, stay: Visit | CloneStatement) -> Head:
    """Verify the entries of one stay, up to the head that its statement pins."""
    while head.count < stay.results.count:
        data = next(entries, None)
        if data is None:
            raise CredentialError("results-chain", f"entries of visit {stay.index} are missing")
        signed = _verified(ReportEntry, data, stay.station)
        entry = signed.body
        if (entry.number, entry.previous) != (head.count + 1, head.digest):
            raise CredentialError("results-chain", f"entry {head.count + 1} does not link to the one before it")
        if (entry.agent, entry.index, entry.station) != (agent, stay.index, stay.station):
            raise CredentialError("results-chain", f"entry {entry.number} belongs to another visit")
        head = Head(entry.number, signed.digest)
    if head != stay.results:
        raise CredentialError("results-chain", f"the results are not those that visit {stay.index} pins")
    return head


def _verified(cls: type[R], data: bytes, signer: PublicKey) -> Signed[R]:
    try:
        return envelope.verify(cls, data, signer)
    except MalformedCredential:
        raise
    except CredentialError as error:
        raise CredentialError("results-signature", f"results: {error.reason}") from error
