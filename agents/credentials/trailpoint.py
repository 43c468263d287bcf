"""Where a trail stands: what a station remembers of a verified trail, and what home may sign for others.

Not here: the verification of links (`trail`), which advances a point.

Invariant: a `TrailPoint` is made by `begin`, or by `trail.follow` from another one, or read from this
station's own store or from a checkpoint whose signature by home was verified. It never comes from a stranger.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar

from attrs import frozen

from agents.canonical import DIGEST_SIZE
from agents.credentials import envelope
from agents.credentials.envelope import Signed
from agents.credentials.fields import Fields
from agents.credentials.itinerary import START, Position
from agents.credentials.keys import PublicKey
from agents.credentials.passport import MAX_CLONES, MAX_GENERATIONS, Passport
from agents.credentials.permit import Budget
from agents.credentials.visits import Head
from agents.errors import CredentialError


class Phase(IntEnum):
    """Which link comes next. While a receipt is due, the agent is in transit."""

    VISIT = 0
    RECEIPT = 1
    COMMIT = 2
    ENDED = 3


@frozen
class TrailPoint:
    """Everything known after `links` links.

    `agent`: the current id (a clone's, after a clone statement). `index`: of the next visit. `previous`: what
    that visit links to. `holder`: who signs it. `source`: who signed the last visit. `position`, `state`,
    `results`, `cloned`: as the last visit left them (`results` None before the launch). `used`: total over
    all visits. `image`: the digest of its image, where that is not the passport's any more; `upgraded`: when the owner
    signed the last upgrade, ms since 1970."""

    passport: bytes
    agent: bytes
    generation: int
    links: int
    head: bytes
    phase: Phase
    index: int
    previous: bytes
    holder: PublicKey
    source: PublicKey
    position: Position
    state: bytes
    results: Head | None
    used: Budget
    cloned: int
    handoff: bytes = b""
    receipt: bytes = b""
    image: bytes = b""
    upgraded: int = 0

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR, for a store and for checkpoints."""
        value: dict[int, Any] = {
            1: self.passport,
            2: self.agent,
            3: self.generation,
            4: self.links,
            5: self.head,
            6: int(self.phase),
            7: self.index,
            8: self.previous,
            9: self.holder.raw,
            10: self.source.raw,
            11: self.position.value(),
            12: self.state,
            13: None if self.results is None else self.results.value(),
            14: self.used.payload(),
            15: self.cloned,
            16: self.handoff,
            17: self.receipt,
        }
        return value | {18: self.image, 19: self.upgraded} if self.image else value

    @classmethod
    def from_payload(cls, value: object) -> TrailPoint:
        """The inverse of `payload`. Raises `MalformedCredential`. Says nothing about who made it."""
        read = Fields.of(value, "trail point")
        point = cls(
            passport=read.digest(1, "passport"),
            agent=read.digest(2, "agent id"),
            generation=read.uint(3, "generation", MAX_GENERATIONS),
            links=read.uint(4, "links"),
            head=read.digest(5, "head"),
            phase=Phase(read.uint(6, "phase", 3)),
            index=read.uint(7, "index"),
            previous=read.digest(8, "previous visit"),
            holder=read.key(9, "holder"),
            source=read.key(10, "source"),
            position=Position.from_value(read.take(11, "position")),
            state=read.digest(12, "state"),
            results=None if read.take(13, "results") is None else Head.of(read.pair(13, "results")),
            used=Budget.from_payload(read.take(14, "budget")),
            cloned=read.uint(15, "clones", MAX_CLONES),
            handoff=_digest_or_nothing(read, 16, "handoff id"),
            receipt=_digest_or_nothing(read, 17, "receipt"),
            image=read.digest(18, "image") if read.has(18) else b"",
            upgraded=read.time(19, "upgrade") if read.has(18) else 0,
        )
        read.done()
        return point


@frozen
class Checkpoint:
    """Home verified the trail up to `point`, at `time` (ms)."""

    KIND: ClassVar[str] = "checkpoint"

    point: TrailPoint
    time: int

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR."""
        return {1: self.point.payload(), 2: self.time}

    @classmethod
    def from_payload(cls, value: object) -> Checkpoint:
        """The inverse of `payload`. Raises `MalformedCredential`."""
        read = Fields.of(value, "checkpoint")
        checkpoint = cls(TrailPoint.from_payload(read.take(1, "point")), read.time(2, "time"))
        read.done()
        return checkpoint


def launch_point(passport: Signed[Passport]) -> TrailPoint:
    """The point before the launch. Only home launches: a stolen passport is useless anywhere else."""
    body = passport.body
    return TrailPoint(
        passport=passport.digest,
        agent=body.agent,
        generation=0,
        links=0,
        head=passport.digest,
        phase=Phase.VISIT,
        index=0,
        previous=passport.digest,
        holder=body.home.station,
        source=body.home.station,
        position=START,
        state=body.state,
        results=None,
        used=Budget(),
        cloned=0,
    )


def verify_checkpoint(data: bytes, passport: Signed[Passport]) -> TrailPoint:
    """The point of a checkpoint by the agent's home. Raises `CredentialError` `checkpoint`."""
    try:
        signed = envelope.verify(Checkpoint, data, passport.body.home.station)
    except CredentialError as error:
        raise CredentialError("checkpoint", f"the checkpoint does not hold: {error.reason}") from error
    if signed.body.point.passport != passport.digest:
        raise CredentialError("checkpoint", "the checkpoint belongs to another agent")
    return signed.body.point


def _digest_or_nothing(read: Fields, key: int, name: str) -> bytes:
    value = read.octets(key, name, 0, DIGEST_SIZE)
    return read.digest(key, name) if value else value
