"""Journeys for tests: real keys, signatures and chains, made link by link, and bent on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve

from agents import canonical
from agents.capsule import Capsule, Trust
from agents.credentials import envelope, logbook
from agents.credentials.itinerary import START, Itinerary, Position
from agents.credentials.keys import PublicKey, SecretKey
from agents.credentials.passport import Clones, Home, Passport, issue
from agents.credentials.permit import Budget, Permit
from agents.credentials.results import Results, append, begin_results
from agents.credentials.trail import Arrival, Trail, close, follow
from agents.credentials.trailpoint import launch_point
from agents.credentials.visits import Head
from agents.errors import CredentialError
from docking.handoff.messages import handoff_id

NOW = 1_760_000_000_000
HOUR = 3_600_000
IMAGE = b"\0asm\1\0\0\0 an image"
PERMIT = Permit(
    Budget(cpu=10_000_000, memory=2**26, carried=2**30, messages=1000),
    ("host:clone", "service:*"),
    ("service:thermometer.read",),
)


def key(name: str) -> SecretKey:
    """A key pair that depends on `name` alone."""
    return SecretKey(canonical.digest(b"test key " + name.encode()))


def public(name: str) -> PublicKey:
    return key(name).public


def fresh(*parts: object) -> bytes:
    """32 bytes that depend on `parts` alone: the randomness of these tests."""
    return canonical.digest(repr(parts).encode())


def state(number: int) -> bytes:
    return b"state %d" % number


def make_passport(itinerary: Itinerary, owner: str = "owner", **changes: Any) -> Passport:
    passport = Passport(
        owner=public(owner),
        nonce=fresh("nonce")[:16],
        image=canonical.digest(IMAGE),
        state=canonical.digest(state(0)),
        home=Home(public("home"), ("home.local:7707",)),
        not_before=NOW - HOUR,
        expires=NOW + 24 * HOUR,
        itinerary=itinerary,
        hops=100,
        clones=Clones(2, 1),
        permit=PERMIT,
        results=public(owner).box(),
        label="tourist",
    )
    return evolve(passport, **changes)


class Journey:
    """An agent under way. `point` is where the trail stands; `links`, `entries` are all so far."""

    def __init__(self, passport: Passport, owner: str = "owner") -> None:
        self.owner = key(owner)
        self.passport = issue(passport, self.owner)
        self.point = launch_point(self.passport)
        self.links: list[bytes] = []
        opening = begin_results(self.passport, fresh("opening")[:16], self.owner)
        self.entries = [opening.envelope]
        self.head = Head(0, opening.digest)
        self.positions: tuple[Position, ...] = (START,)
        self.station = key("home")
        self.now = NOW
        self.steps = 0
        # Bends a statement just before it is signed: (kind, body) -> body.
        self.bend: Callable[[str, Any], Any] = lambda kind, body: body

    @classmethod
    def via(cls, *names: str, **changes: Any) -> Journey:
        return cls(make_passport(Itinerary.via([public(name) for name in names]), **changes))

    def report(self, name: str, value: bytes) -> None:
        entry, self.head = append(
            self.head,
            self.point.agent,
            self.point.index,
            self.now,
            (name, value),
            self.passport.body.results,
            self.station,
            fresh("report", self.head.count, name),
        )
        self.entries.append(entry.envelope)

    def leave(self, to: str | None, signer: SecretKey | None = None, **changes: Any) -> None:
        """Sign the visit that ends here, for `to`; None ends the journey."""
        self.steps += 1
        position = self.positions[0]
        if to is not None and "position" not in changes:
            certifiers = [public("certifier")]
            body = self.passport.body
            found = body.itinerary.toward(self.positions, public(to), self.now, body.home.station, certifiers)
            if found is None:
                raise CredentialError("itinerary", f"the itinerary does not lead to {to} from here")
            position = found
        stay = logbook.StayRecord(
            position=position,
            arrived=self.now,
            departed=self.now + 1000,
            state=canonical.digest(state(self.steps)),
            results=self.head,
            used=Budget(cpu=1000, memory=4096, carried=len(state(self.steps)), messages=1),
        )
        way = None
        if to is not None:
            nonce = fresh("handoff", self.steps)[:16]
            hid = handoff_id(self.point.agent, self.point.index, self.station.public.raw, public(to).raw, nonce)
            way = (public(to), hid)
        self.add(logbook.sign_visit(self.point, stay, self.station, way).body, signer, **changes)
        self.now += 2000

    def arrive(self, at: str, certified: bool = False) -> None:
        """The destination acknowledges, the source commits."""
        source = self.station
        self.add(logbook.sign_receipt(self.point, self.now, key(at)).body, key(at))
        self.add(logbook.sign_commit(self.point, source).body, source)
        self.station = key(at)
        self.now += 1000
        body = self.passport.body
        certifiers = [public("certifier")] if certified else []
        self.positions = body.itinerary.reach(self.point.position, public(at), self.now, body.home.station, certifiers)

    def hop(self, to: str, **changes: Any) -> None:
        self.leave(to, **changes)
        self.arrive(to)

    def add(self, body: Any, signer: SecretKey | None = None, **changes: Any) -> None:
        body = self.bend(body.KIND, evolve(body, **changes))
        signed = envelope.sign(body, signer or self.station)
        self.links.append(signed.envelope)
        try:
            self.point = close(self.point, signed.envelope)
        except Exception:
            # A bent link: what follows is chained to it as a dishonest station would.
            self.point = evolve(self.point, links=self.point.links + 1, previous=signed.digest)

    def trail(self, since: int = 0) -> Trail:
        if since == 0:
            return Trail(tuple(self.links))
        point = launch_point(self.passport)
        for link in self.links[:since]:
            point, _ = follow(point, link)
        return Trail(tuple(self.links[since:]), point.links, point.head)

    def capsule(self, **changes: Any) -> Capsule:
        body = state(self.steps)
        capsule = Capsule(
            passport=self.passport.envelope,
            trail=Trail(tuple(self.links)),
            results=Results(tuple(self.entries)),
            image=canonical.digest(IMAGE),
            state=canonical.digest(body),
            image_bytes=IMAGE,
            state_bytes=body,
        )
        return evolve(capsule, **changes)

    def arrival(self, here: str, sender: str, **changes: Any) -> Arrival:
        body = canonical.digest(state(self.steps))
        return evolve(Arrival(public(here), public(sender), self.now, body), **changes)


def trust(here: str, sender: str, **changes: Any) -> Trust:
    return evolve(Trust(frozenset([public("owner")]), here=public(here), sender=public(sender)), **changes)
