"""What a station signs: the next link of a trail, from the point where the trail stands.

The counterpart of `trail`, which verifies. Not when to sign what: that is the handoff's. Keys, times and
states are arguments. Invariants: a link made here is one that `trail.follow` accepts at the same point; what the
fields of a link are made of was verified or measured here, so they are within their bounds."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from attrs import field, frozen

from agents.credentials import envelope
from agents.credentials.envelope import Signed
from agents.credentials.itinerary import HOME, START, Position
from agents.credentials.keys import PublicKey, SecretKey
from agents.credentials.passport import Passport
from agents.credentials.permit import Budget
from agents.credentials.trailpoint import Checkpoint, TrailPoint
from agents.credentials.visits import Certificate, Clone, Commit, Head, Receipt, Visit
from agents.errors import CredentialError


@frozen
class Stay:
    """What a station knows of a stay when it ends. `state`: digest of what goes out. Times in ms since
    1970."""

    position: Position
    arrived: int
    departed: int
    state: bytes
    results: Head
    used: Budget = field(factory=Budget)
    cloned: int = 0
    certificate: bytes | None = None


def depart(
    point: TrailPoint, stay: Stay, station: SecretKey, to: tuple[PublicKey, bytes] | None
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


def acknowledge(point: TrailPoint, time: int, station: SecretKey) -> Signed[Receipt]:
    """The destination's receipt for the open visit at `point`, whose state it verified. `time`: ms since
    1970."""
    receipt = Receipt(point.previous, point.handoff, point.state, time, station.public)
    return envelope.sign(receipt, station, readable=True)


def commit(point: TrailPoint, station: SecretKey) -> Signed[Commit]:
    """The source's commit, at the point after the receipt."""
    body = Commit(point.agent, point.index - 1, point.handoff, point.previous, point.receipt)
    return envelope.sign(body, station, readable=True)


def clone(
    point: TrailPoint, serial: int, state: bytes, results: Head, time: int, station: SecretKey
) -> Signed[Clone]:
    """The statement with which a clone's own trail begins, while the station holds the parent at `point`."""
    body = Clone(
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


def certify(
    station: PublicKey, not_before: int, expires: int, label: str, certifier: SecretKey
) -> Signed[Certificate]:
    """A certificate: `station` may stand where an itinerary says `Any(certifier.public)`."""
    return envelope.sign(Certificate(station, not_before, expires, label), certifier)


def checkpoint(point: TrailPoint, time: int, home: SecretKey) -> Signed[Checkpoint]:
    """Home's signature on a point that it verified, for stations that do not know the beginning of the
    trail."""
    return envelope.sign(Checkpoint(point, time), home)


def launch_position(passport: Passport, at: int) -> Position:
    """Where the agent stands at home when it is launched: at its first stop if that is home, else before
    it."""
    home = passport.home.station
    return next(iter(passport.itinerary.reach(START, home, at, home)), START)


def choose(
    passport: Passport,
    positions: Sequence[Position],
    to: PublicKey,
    at: int,
    certifiers: Collection[PublicKey] = (),
) -> Position:
    """The first of `positions`, where the agent may stand, from which it may go to `to` at time `at`.

    `certifiers`: who is known to have certified `to`. Raises `CredentialError` `itinerary` if it may not go
    there."""
    home = passport.home.station
    recalled = None
    for position in positions:
        found = passport.itinerary.reach(position, to, at, home, certifiers)
        if found and found != (HOME,):
            return position
        recalled = position if found and recalled is None else recalled
    if recalled is None:
        raise CredentialError("itinerary", f"the itinerary does not lead to {to} from here")
    return recalled
