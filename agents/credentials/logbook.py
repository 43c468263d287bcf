"""What a station signs: the next link of a trail, from the point where the trail stands.

The counterpart of `trail`, which verifies. Not here: when to sign what (the handoff decides). Keys, times and
states are arguments. Invariants: `trail.follow` accepts a link made here at the same point; the values in a link
were verified or measured here, so they are within their bounds."""

from __future__ import annotations

from attrs import field, frozen

from agents.credentials import envelope
from agents.credentials.envelope import Signed
from agents.credentials.itinerary import Position
from agents.credentials.keys import PublicKey, SecretKey
from agents.credentials.permit import Budget
from agents.credentials.trailpoint import Checkpoint, TrailPoint
from agents.credentials.visits import Certificate, CloneStatement, Commit, Head, Receipt, Visit


@frozen
class StayRecord:
    """What a station knows of a stay when it ends. `state`: digest of the outgoing state. Times in ms since
    1970."""

    position: Position
    arrived: int
    departed: int
    state: bytes
    results: Head
    used: Budget = field(factory=Budget)
    cloned: int = 0
    certificate: bytes | None = None


def sign_visit(
    point: TrailPoint, stay: StayRecord, station: SecretKey, to: tuple[PublicKey, bytes] | None
) -> Signed[Visit]:
    """The visit that ends here. `to`: the next station and the handoff's id; None at the end of the
    journey."""
    visit = Visit(
        agent=point.agent,
        passport=point.passport,
        index=point.index,
        previous=point.previous,
        station=station.public,
        position=stay.position,
        arrived=stay.arrived,
        departed=stay.departed,
        state_in=point.state,
        state_out=stay.state,
        results=stay.results,
        used=stay.used,
        next=to[0] if to else None,
        handoff=to[1] if to else None,
        cloned=stay.cloned,
        certificate=stay.certificate,
    )
    return envelope.sign(visit, station, readable=True)


def sign_receipt(point: TrailPoint, time: int, station: SecretKey) -> Signed[Receipt]:
    """The destination's receipt for the open visit at `point`, whose state it verified. `time`: ms since
    1970."""
    receipt = Receipt(point.previous, point.handoff, point.state, time, station.public)
    return envelope.sign(receipt, station, readable=True)


def sign_commit(point: TrailPoint, station: SecretKey) -> Signed[Commit]:
    """The source's commit, at the point after the receipt."""
    body = Commit(point.agent, point.index - 1, point.handoff, point.previous, point.receipt)
    return envelope.sign(body, station, readable=True)


def sign_clone(
    point: TrailPoint, serial: int, state: bytes, results: Head, time: int, station: SecretKey
) -> Signed[CloneStatement]:
    """The statement that begins a clone's own trail, while the station holds the parent at `point`."""
    body = CloneStatement(
        parent=point.agent,
        passport=point.passport,
        index=point.index,
        previous=point.previous,
        station=station.public,
        serial=serial,
        state=state,
        results=results,
        time=time,
    )
    return envelope.sign(body, station)


def sign_certificate(
    station: PublicKey, not_before: int, expires: int, label: str, certifier: SecretKey
) -> Signed[Certificate]:
    """A certificate: `station` qualifies for the stop `CertifiedStop(certifier.public)` of an itinerary."""
    return envelope.sign(Certificate(station, not_before, expires, label), certifier)


def sign_checkpoint(point: TrailPoint, time: int, home: SecretKey) -> Signed[Checkpoint]:
    """Home's signature on a point that it verified, for stations that do not know the beginning of the
    trail."""
    return envelope.sign(Checkpoint(point, time), home)
