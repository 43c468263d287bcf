"""The signed chain of visits, verified one link at a time and never twice.

A trail is a sequence of links: visit, receipt, commit, visit, receipt, commit, ..., visit. While the agent is in
transit the last visit is open: it stands alone at the end. A clone statement may stand before a visit. The
head of a trail is a running digest, `h' = H("portcall trail" | h | H(link))`, that starts at the passport's
digest: it identifies all links so far.

The result of verification is a `TrailPoint`: a few hundred bytes with everything that the next links are checked
against. A station stores the point under its head. When the agent comes back, only the links after that head
travel and are verified: hop 2,000 costs as much as hop 10. For a station that knows nothing
yet, a `Checkpoint` (a point signed by the agent's home) stands for the beginning; home answers for it, as it
does for the launch.

Not here: whom to trust, and what the agent did. A trail proves route and custody, not honest execution.

Checks run in the order of the admission: all links (3), then states (4), then the route (5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen

from agents import canonical
from agents.brief import brief
from agents.canonical import DIGEST_SIZE
from agents.credentials import envelope
from agents.credentials.amendments import NONE, Amendments, Terms
from agents.credentials.envelope import Readable, Signed, Unverified
from agents.credentials.fields import COUNT, array, byte_string, uint
from agents.credentials.itinerary import START, Position, PositionKind
from agents.credentials.keys import PublicKey
from agents.credentials.passport import Passport
from agents.credentials.trailpoint import Phase, TrailPoint, launch_point, verify_checkpoint
from agents.credentials.upgrades import Upgraded, check_upgrade, read_upgrade
from agents.credentials.visits import CloneStatement, Commit, Receipt, Visit, certifier
from agents.errors import CredentialError, MalformedCredential
from agents.evolve import evolve

# Links in one part of a trail: three for each of 10,000 hops, at most seconds of checking.
MAX_LINKS = 30_000


@frozen
class Trail:
    """A trail, or its end: `links` after the first `start` links, whose head is `head` (empty when `start` is
    0)."""

    links: tuple[bytes, ...] = field(default=(), repr=lambda links: f"<{len(links)}>")
    start: int = 0
    head: bytes = b""

    def value(self) -> list[Any]:
        """As an array for CBOR."""
        return [self.start, self.head, list(self.links)]

    @classmethod
    def from_value(cls, value: object) -> Trail:
        """The inverse of `value`. Raises `MalformedCredential`."""
        parts = array(value, "trail", 3)
        if len(parts) != 3:
            raise MalformedCredential("trail: not a start, a head and links")
        start = uint(parts[0], "trail: start", COUNT)
        head = byte_string(parts[1], "trail: head", DIGEST_SIZE if start else 0)
        links = array(parts[2], "trail: links", MAX_LINKS)
        return cls(tuple(byte_string(k, "trail: link", 1, envelope.MAX_STATEMENT_BYTES) for k in links), start, head)

    def since(self, point: TrailPoint) -> Trail:
        """The part after `point`, for a peer that knows it. Raises `MalformedCredential` if `point` is not in this
        part."""
        skip = point.links - self.start
        if not 0 <= skip <= len(self.links):
            raise MalformedCredential("trail: that point is not within this part of the trail")
        return self if skip == 0 else Trail(self.links[skip:], point.links, point.head)


@frozen
class Arrival:
    """The station where an agent asks for admission.

    `here`: its key. `sender`: the offering peer. `at`: now (ms). `state`: digest of the received state.
    `certifiers`: who certified this station, verified by itself.
    """

    here: PublicKey
    sender: PublicKey
    at: int
    state: bytes
    certifiers: frozenset[PublicKey] = field(default=frozenset(), repr=brief)


@frozen
class Followed:
    """The result: the points before and after the new links, the new statements, each with the point before
    it, and the positions that the agent may have here (none in an audit)."""

    start: TrailPoint
    point: TrailPoint
    steps: tuple[tuple[TrailPoint, Signed[Any]], ...] = field(repr=brief)
    here: tuple[Position, ...] = field(default=(), repr=brief)

    @property
    def visits(self) -> tuple[Signed[Visit], ...]:
        """The new visits."""
        return tuple(signed for _, signed in self.steps if isinstance(signed.body, Visit))


def follow(point: TrailPoint, link: bytes) -> tuple[TrailPoint, Signed[Any]]:
    """Check one link against `point` (check 3 only) and advance. Raises `CredentialError` with a code that begins
    with `trail-`."""
    opened = envelope.look(link)
    kind = opened.kind
    if point.phase is Phase.ENDED:
        raise CredentialError("trail-ended", f"a {kind} follows the end of the trail")
    if point.phase is Phase.VISIT and kind == CloneStatement.KIND:
        return _clone(point, _verified(CloneStatement, opened, point.holder, "trail-next"))
    if point.phase is Phase.VISIT and kind == Upgraded.KIND:
        return _upgraded(point, _verified(Upgraded, opened, point.holder, "trail-next"))
    if point.phase is Phase.VISIT and kind == Visit.KIND:
        return _visit(point, _verified(Visit, opened, point.holder, "trail-next"))
    if point.phase is Phase.RECEIPT and kind == Receipt.KIND:
        return _receipt(point, _verified(Receipt, opened, point.holder, "trail-signer"))
    if point.phase is Phase.COMMIT and kind == Commit.KIND:
        return _commit(point, _verified(Commit, opened, point.source, "trail-signer"))
    raise CredentialError("trail-order", f"a {kind} stands where a {point.phase.name.lower()} belongs")


def close(point: TrailPoint, *links: bytes) -> TrailPoint:
    """`point` after links that this station made, or received one by one: `follow`, without the
    statements."""
    for link in links:
        point = follow(point, link)[0]
    return point


def verify_trail(
    trail: Trail,
    passport: Signed[Passport],
    known_prefix: TrailPoint | Mapping[bytes, TrailPoint] | None = None,
    checkpoint: bytes | None = None,
    arrival: Arrival | None = None,
    amendments: Amendments = NONE,
) -> Followed:
    """Verify the links of `trail`: checks 3 to 5 of the admission, in this order, over the new links.

    `known_prefix`: what this station verified before: a point, or its points by head. `checkpoint`: the
    envelope of one by home, used if the beginning is not known. `arrival`: the admitting station; None for an
    audit, which accepts any trail that is legal so far. `amendments`: of the agent, verified. Raises
    `CredentialError`; the codes are in docs/reference/credentials.md. One of them, `trail-unknown`, is not the
    agent's fault: the sender should send the links from the beginning."""
    start = point = _start(trail, passport, known_prefix, checkpoint)
    steps: list[tuple[TrailPoint, Signed[Any]]] = []
    for link in trail.links:
        before = point
        point, signed = follow(point, link)
        steps.append((before, signed))
    if arrival is not None:
        _check_arrival(point, arrival)
    for before, signed in steps:
        _check_state(before, signed.body)
    if arrival is not None and arrival.state != point.state:
        raise CredentialError("state-digest", "the state that arrived is not the one that was sent")
    terms = amendments.terms(passport.body, point.agent)
    for before, signed in steps:
        if isinstance(signed.body, Visit):
            _check_stop(passport.body, terms, before, signed.body)
        elif isinstance(signed.body, CloneStatement):
            _check_clone(passport.body, before, signed.body)
        elif isinstance(signed.body, Upgraded):
            check_upgrade(passport, before, signed.body.statement, signed.body.time)
    _check_amounts(terms, point)
    here = () if arrival is None else _places(passport.body, point, arrival)
    for before, signed in steps:
        _check_results(before, signed.body)
    return Followed(start, point, tuple(steps), here)


def is_complete(passport: Passport, point: TrailPoint) -> bool:
    """Whether a journey that ended at `point` completed the itinerary, or went home on a recall."""
    return point.position.place is PositionKind.HOME or passport.itinerary.complete(point.position)


def conflicting(commits: Iterable[Signed[Commit]]) -> tuple[Signed[Commit], Signed[Commit]] | None:
    """Two commits of one station that hand the same visit of the same agent to two handoffs, or None.

    The pair proves fraud: both signatures are the station's. It is found where commits come together, at home.
    """
    seen: dict[tuple[PublicKey, bytes, int], Signed[Commit]] = {}
    for commit in commits:
        other = seen.setdefault((commit.signer, commit.body.agent, commit.body.index), commit)
        if other.body.handoff != commit.body.handoff:
            return other, commit
    return None


def _start(
    trail: Trail,
    passport: Signed[Passport],
    known: TrailPoint | Mapping[bytes, TrailPoint] | None,
    checkpoint: bytes | None,
) -> TrailPoint:
    if trail.start == 0:
        return launch_point(passport)
    point = known if isinstance(known, TrailPoint) or known is None else known.get(trail.head)
    if checkpoint is not None and (point is None or point.head != trail.head):
        point = verify_checkpoint(checkpoint, passport)
    if point is None or point.head != trail.head or point.links != trail.start:
        raise CredentialError("trail-unknown", "this station does not know the beginning of the trail")
    if point.passport != passport.digest:
        raise CredentialError("trail-agent", "the beginning of the trail belongs to another agent")
    return point


def _verified(cls: type[Readable], link: Unverified | Signed[Any], signer: PublicKey, other: str) -> Signed[Any]:
    try:
        return envelope.verify(cls, link, signer)
    except MalformedCredential:
        raise
    except CredentialError as error:
        code = "trail-signature" if error.code == "signature" else other
        raise CredentialError(code, f"trail: {error.reason}") from error


def _head(point: TrailPoint, signed: Signed[Any]) -> bytes:
    return canonical.digest(b"portcall trail", point.head, signed.digest)


def _check_chain(point: TrailPoint, body: Visit | CloneStatement | Upgraded, agent: bytes) -> None:
    what = f"{body.KIND} {body.index}"
    if agent != point.agent or body.passport != point.passport:
        raise CredentialError("trail-agent", f"{what} belongs to another agent")
    if body.index != point.index:
        raise CredentialError("trail-index", f"{what} stands where index {point.index} comes next")
    if body.previous != point.previous:
        raise CredentialError("trail-link", f"{what} does not link to the one before it")
    if body.station != point.holder:
        raise CredentialError("trail-next", f"{what} is not by the station that the agent went to")


def _visit(point: TrailPoint, signed: Signed[Visit]) -> tuple[TrailPoint, Signed[Any]]:
    body = signed.body
    _check_chain(point, body, body.agent)
    return evolve(
        point,
        links=point.links + 1,
        head=_head(point, signed),
        phase=Phase.ENDED if body.next is None else Phase.RECEIPT,
        index=body.index + 1,
        previous=signed.digest,
        holder=body.next or body.station,
        source=body.station,
        position=body.position,
        state=body.state_out,
        results=body.results,
        used=point.used.plus(body.used),
        cloned=body.cloned,
        handoff=body.handoff or b"",
        receipt=b"",
    ), signed


def _clone(point: TrailPoint, signed: Signed[CloneStatement]) -> tuple[TrailPoint, Signed[Any]]:
    body = signed.body
    _check_chain(point, body, body.parent)
    return evolve(
        point,
        agent=body.agent,
        generation=point.generation + 1,
        links=point.links + 1,
        head=_head(point, signed),
        previous=signed.digest,
        state=body.state,
        results=body.results,
        cloned=0,
    ), signed


def _upgraded(point: TrailPoint, signed: Signed[Upgraded]) -> tuple[TrailPoint, Signed[Any]]:
    body = signed.body
    _check_chain(point, body, body.agent)
    order, upgrade = read_upgrade(body.statement)
    return evolve(
        point,
        links=point.links + 1,
        head=_head(point, signed),
        previous=signed.digest,
        image=upgrade.new,
        upgraded=order.time,
    ), signed


def _receipt(point: TrailPoint, signed: Signed[Receipt]) -> tuple[TrailPoint, Signed[Any]]:
    body = signed.body
    if (body.visit, body.handoff, body.station) != (point.previous, point.handoff, point.holder):
        raise CredentialError("trail-link", f"the receipt after visit {point.index - 1} is for another move")
    return evolve(
        point,
        links=point.links + 1,
        head=_head(point, signed),
        phase=Phase.COMMIT,
        receipt=signed.digest,
    ), signed


def _commit(point: TrailPoint, signed: Signed[Commit]) -> tuple[TrailPoint, Signed[Any]]:
    body = signed.body
    expected = (point.agent, point.index - 1, point.handoff, point.previous, point.receipt)
    if (body.agent, body.index, body.handoff, body.visit, body.receipt) != expected:
        raise CredentialError("trail-link", f"the commit after visit {point.index - 1} is for another move")
    return evolve(point, links=point.links + 1, head=_head(point, signed), phase=Phase.VISIT), signed


def _check_arrival(point: TrailPoint, arrival: Arrival) -> None:
    if point.phase is Phase.ENDED:
        raise CredentialError("trail-ended", "the agent's journey has ended")
    if point.phase is not Phase.RECEIPT:
        raise CredentialError("trail-order", "the trail does not end with an open visit")
    if point.holder != arrival.here:
        raise CredentialError("not-for-us", f"the agent is on its way to {point.holder}, not to this station")
    if point.source != arrival.sender:
        raise CredentialError("wrong-sender", f"the agent left {point.source}, and another station offers it")


def _check_state(before: TrailPoint, body: object) -> None:
    if isinstance(body, Visit) and body.state_in != before.state:
        raise CredentialError("state-chain", f"visit {body.index} began with a state that nobody handed over")
    if isinstance(body, Receipt) and body.state != before.state:
        raise CredentialError("state-chain", f"the receipt after visit {before.index - 1} is for another state")


def _check_results(before: TrailPoint, body: object) -> None:
    if isinstance(body, (Visit, CloneStatement)) and before.results is not None:
        count, last = before.results.count, before.results.digest
        # Fewer entries than before: a station removed some. As many, but with another head: it replaced some.
        if body.results.count < count or (body.results.count == count and body.results.digest != last):
            raise CredentialError("results-chain", f"results were removed or replaced in visit {body.index}")


def _check_stop(passport: Passport, terms: Terms, before: TrailPoint, visit: Visit) -> None:
    certifiers = [certifier(visit.certificate, visit.station, visit.arrived)] if visit.certificate else []
    legal = passport.itinerary.reach(before.position, visit.station, visit.arrived, passport.home.station, certifiers)
    # The launch may happen before the first stop; each later visit is at a stop.
    launched = visit.index == 0 and visit.position == START
    if visit.position not in legal and not launched:
        raise CredentialError("itinerary", f"visit {visit.index} is not where the itinerary leads")
    if visit.arrived > terms.expires:
        raise CredentialError("itinerary", f"visit {visit.index} began after the passport had expired")
    if not before.cloned <= visit.cloned <= passport.clones.each:
        raise CredentialError("clones", f"visit {visit.index} states {visit.cloned} clones of the agent")


def _check_clone(passport: Passport, before: TrailPoint, clone: CloneStatement) -> None:
    if before.generation >= passport.clones.generations:
        raise CredentialError("clones", f"a clone of generation {before.generation + 1}, which is not allowed")
    if not before.cloned <= clone.serial < passport.clones.each:
        raise CredentialError("clones", f"a clone with the serial {clone.serial}, which is not allowed")


def _check_amounts(terms: Terms, point: TrailPoint) -> None:
    moves = point.index - (point.phase is Phase.ENDED)
    if moves > terms.hops:
        raise CredentialError("hops", f"this is hop {moves}, and the passport allows {terms.hops}")
    beyond = terms.budget.exceeded_by(point.used)
    if beyond is not None:
        raise CredentialError("budget", f"the agent has used more {beyond} than its permit allows")


def _places(passport: Passport, point: TrailPoint, arrival: Arrival) -> tuple[Position, ...]:
    found = passport.itinerary.reach(
        point.position, arrival.here, arrival.at, passport.home.station, arrival.certifiers
    )
    if not found:
        raise CredentialError("itinerary", "the itinerary does not lead here from the last stop")
    return found
