"""How an owner asks a station for what it recorded of an agent, and how the station answers.

    asked      [1, "list", request] or [1, "get", request, visit, offset]
    answered   ["sealed", bytes], or ["refused", code, reason]

A request is a statement that the agent's owner signs, for one station and for ten minutes. Whoever carries it, such as
the owner's own station, learns nothing: the answers are sealed to the owner's key. They are, opened,

    list       [[visit, began, over?, entries, bytes], ...]
    get        [bytes of the whole record, a piece of it from `offset` on]

Invariants: nothing is answered to a request that the owner did not sign, for this station and of late; a refusal says
the same whether the agent was never here or belongs to somebody else; an answer is at most `PIECE_BYTES` and some.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from attrs import define, field, frozen

from agents import canonical
from agents.credentials import envelope, sealing
from agents.credentials.fields import Fields, array, byte_string, uint
from agents.credentials.keys import PublicKey, SecretKey
from agents.credentials.passport import verify_passport
from agents.errors import BadRecord, CredentialError, MalformedCredential, NotCanonical
from docking.aio.threads import in_thread
from docking.recordings.archive import Archive
from docking.recordings.record import MAX_STAY_BYTES, StayRecord
from docking.recordings.reel import Summary

REQUEST_VERSION = 1
REQUEST_LIFETIME_MS = 10 * 60 * 1000
PIECE_BYTES = 512 << 10  # of a record in one answer
MAX_LISTED = 2000  # stays in one answer
HELD_BYTES = 32 << 20  # of the record that was asked for last, so that its next piece needs no reading
_CONTEXT = b"portcall recordings 1"
_BOUNDS = canonical.DecodeBounds(max_bytes=1 << 20, max_depth=3, max_items=12_000)
_NONE: list[object] = ["refused", "no-recording", "this station has no recording of this agent for whoever asks"]


@frozen
class RecordingRequest:
    """The statement. `agent`: its id; `station`: whom it is for; `time`: ms since 1970."""

    KIND: ClassVar[str] = "recordings"

    agent: bytes
    station: PublicKey
    time: int

    def payload(self) -> dict[int, object]:
        """As a map for CBOR."""
        return {1: self.agent, 2: self.station.raw, 3: self.time}

    @classmethod
    def from_payload(cls, value: object) -> RecordingRequest:
        """The inverse of `payload`. Raises `MalformedCredential`."""
        read = Fields.of(value, "recordings")
        agent, station, time = read.digest(1, "agent id"), read.key(2, "station"), read.time(3, "time")
        read.done()
        return cls(agent, station, time)


def sign_request(agent: bytes, station: PublicKey, now: int, owner: SecretKey) -> bytes:
    """The envelope of a request. `now`: ms."""
    return envelope.sign(RecordingRequest(agent, station, now), owner).envelope


@define(eq=False, repr=False)
class RecordingRequests:
    """Answers the owners of agents at the station with the key `here`. `clock`: ms; `random(n)`: n bytes."""

    _here: PublicKey
    _archive: Archive | None
    _clock: Callable[[], int]
    _random: Callable[[int], bytes]
    _held: tuple[bytes, int, bytes] | None = None

    async def receive(self, value: object) -> list[object]:
        """The answer to what a peer asks, for itself or for somebody else."""
        try:
            version, what, data, *rest = array(value, "request", 5)
            if type(version) is not int or version != REQUEST_VERSION:
                return ["refused", "version", "a request for recordings of another version"]
            signed = envelope.verify(RecordingRequest, byte_string(data, "request", 1, 4096))
            body = signed.body
            if body.station != self._here:
                return ["refused", "other-station", "the request is for another station"]
            if abs(self._clock() - body.time) > REQUEST_LIFETIME_MS:
                return ["refused", "request-old", "the request is too old, or from the future: is a clock wrong?"]
            if self._archive is None:
                return _NONE
            if what == "list" and not rest:
                answer = await in_thread(self._list, body.agent, signed.signer)
            elif what == "get" and len(rest) == 2:
                visit, offset = uint(rest[0], "visit"), uint(rest[1], "offset", MAX_STAY_BYTES)
                answer = await in_thread(self._get, body.agent, signed.signer, visit, offset)
            else:
                return ["refused", "malformed", "recordings are listed, or got"]
        except (CredentialError, ValueError) as error:
            return ["refused", "malformed", str(error)[:500]]
        except BadRecord:
            return ["refused", "damaged", "the recording was damaged on the disk of this station"]
        if answer is None:
            return _NONE
        return ["sealed", sealing.seal(answer, signed.signer.box(), _CONTEXT, self._random(32))]

    def _list(self, agent: bytes, asks: PublicKey) -> bytes | None:
        assert self._archive is not None
        found = sorted(self._archive.visits(agent).values(), key=lambda each: each.visit)
        if not found or not self._owns(self._archive.read(agent, found[-1].visit), asks):
            return None
        return canonical.encode([each.value() for each in found[-MAX_LISTED:]])

    def _get(self, agent: bytes, asks: PublicKey, visit: int, offset: int) -> bytes | None:
        assert self._archive is not None
        data = self._held[2] if offset and self._held is not None and self._held[:2] == (agent, visit) else None
        record = self._archive.read(agent, visit) if data is None else StayRecord.decode(data)
        if not self._owns(record, asks) or record is None:
            return None
        data = data or record.encode()
        self._held = (agent, visit, data) if len(data) <= HELD_BYTES and offset + PIECE_BYTES < len(data) else None
        return canonical.encode([len(data), data[offset : offset + PIECE_BYTES]])

    @staticmethod
    def _owns(record: StayRecord | None, asks: PublicKey) -> bool:
        return record is not None and verify_passport(record.passport).body.owner == asks


Ask = Callable[[PublicKey, list[object]], object]
"""Asks a station; returns its answer. Raises `CarrierError`, `ControlError`."""


@frozen
class Owner:
    """The owner's side: asks stations for what they recorded of an agent, and opens the answers.

    key: the owner's; ask: how stations are asked; now: ms
    """

    key: SecretKey = field(repr=False)
    ask: Ask = field(repr=False)
    now: Callable[[], int]

    def visits(self, agent: bytes, station: PublicKey) -> list[Summary]:
        """What a station has. Raises `BadRecord` for an answer that is none, and what `ask` raises."""
        value = self._asked(station, [REQUEST_VERSION, "list", sign_request(agent, station, self.now(), self.key)])
        try:
            return [Summary.of(each) for each in array(value, "recordings", MAX_LISTED)]
        except CredentialError as error:
            raise BadRecord(f"the station answers with something else: {error}") from None

    def record(self, agent: bytes, station: PublicKey, visit: int) -> StayRecord:
        """The record of one stay. Raises as `visits`."""
        request, data = sign_request(agent, station, self.now(), self.key), bytearray()
        while True:
            value = self._asked(station, [REQUEST_VERSION, "get", request, visit, len(data)])
            try:
                size, piece = array(value, "record", 2)
                uint(size, "size", MAX_STAY_BYTES)
                data += byte_string(piece, "piece", 1, PIECE_BYTES)
            except (CredentialError, ValueError) as error:
                raise BadRecord(f"the station answers with something else: {error}") from None
            if len(data) >= size:
                return StayRecord.decode(bytes(data))

    def _asked(self, station: PublicKey, question: list[object]) -> object:
        answer = self.ask(station, question)
        try:
            kind, *rest = array(answer, "answer", 3)
            if kind == "refused" and len(rest) == 2:
                raise BadRecord("".join(c if c.isprintable() else "?" for c in str(rest[1]))[:300])
            if kind != "sealed" or len(rest) != 1:
                raise MalformedCredential("neither sealed nor refused")
            opened = sealing.open_sealed(byte_string(rest[0], "answer", 1, 1 << 20), self.key.box(), _CONTEXT)
            return canonical.decode(opened, _BOUNDS)
        except (CredentialError, NotCanonical, ValueError) as error:
            raise BadRecord(f"the station answers with something else: {error}") from None
