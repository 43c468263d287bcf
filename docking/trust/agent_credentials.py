"""An agent's credentials while it stays here: assembled from what arrived, and turned into what leaves.

Not here: the decision whether it may come in (`docking.trust.admission`). No I/O, except reading what this station
verified before (`docking.trust.verified_trails`). Keys, times and randomness are arguments.

Invariant: the point of `AgentCredentials` is where the trail stands for *this* station, which signs next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from attrs import field, frozen

from agents import canonical
from agents.brief import brief
from agents.canonical import Buffer
from agents.capsule import Capsule
from agents.credentials import envelope, logbook
from agents.credentials.amendments import NONE, Amendments, Terms
from agents.credentials.envelope import Signed
from agents.credentials.itinerary import START, CertifiedStop, Leaf, Position
from agents.credentials.keys import PublicKey, SecretKey, public_key
from agents.credentials.passport import Passport
from agents.credentials.results import Results
from agents.credentials.trail import Followed, Trail, close, follow
from agents.credentials.trailpoint import Phase, TrailPoint, launch_point, verify_checkpoint
from agents.credentials.upgrades import current_image, sign_upgraded
from agents.credentials.visits import Commit, Head, Receipt, Visit
from agents.errors import CredentialError, MalformedCredential
from agents.evolve import evolve
from docking.handoff.actions import Record
from docking.handoff.messages import Body, Offer, Part, handoff_id
from docking.handoff.refusal import Refusal
from docking.store.changes import Link
from docking.trust.certificates import Certificates
from docking.trust.verified_trails import (
    KnownUpTo,
    Marks,
    VerifiedTrail,
    VerifiedTrails,
    moved_on,
    result_links,
    trail_links,
)

# The parts of an offer: those that each has, and those that it may have.
NEEDED_PARTS = frozenset({"passport", "trail", "results", "image", "state"})
PART_KINDS = NEEDED_PARTS | {"checkpoint", "mailbox", "trace", "blocks", "amendments"}
# These come with the offer itself, since they decide whether the rest is wanted.
PAPER_PARTS = frozenset({"passport", "trail", "results", "checkpoint", "amendments"})
# Links. Beyond this, home vouches for the beginning of a trail, for stations that are new to the agent.
CHECKPOINT_LINKS = 24
MAX_TRAIL_BYTES = 64 << 20
_BOUNDS = canonical.DecodeBounds(max_bytes=MAX_TRAIL_BYTES, max_depth=4, max_items=2_000_000)


@frozen
class AgentCredentials:
    """The credentials of an agent that is here.

    `links`, `entries`: of trail and results, as far as they are in memory (the end of both chains); `positions`: where
    in its itinerary it may be here; `since`: ms when it arrived. `vouched` is False for an agent that an operator
    adopted without a commit: it cannot travel on, since nobody would believe its trail.
    """

    passport: Signed[Passport]
    point: TrailPoint
    results: Head
    positions: tuple[Position, ...] = field(repr=brief)
    since: int
    marks: Marks = field(factory=dict, repr=False)
    checkpoint: bytes | None = field(default=None, repr=False)
    links: tuple[Link, ...] = field(default=(), repr=lambda links: f"<{len(links)}>")
    entries: tuple[Link, ...] = field(default=(), repr=lambda links: f"<{len(links)}>")
    vouched: bool = True
    certificates: Certificates = field(factory=Certificates, repr=False)
    """Those of this station, for stops that require one."""
    amendments: Amendments = NONE
    """What its owner has changed since the launch."""

    @property
    def agent(self) -> bytes:
        """The agent's id."""
        return self.point.agent

    @property
    def visit(self) -> int:
        """The index of its visit here."""
        return self.point.index

    @property
    def known(self) -> VerifiedTrail:
        """The part worth remembering."""
        return VerifiedTrail(self.point, self.marks, self.checkpoint, self.amendments.encode())

    @property
    def terms(self) -> Terms:
        """What holds for it now: its passport, as amended."""
        return self.amendments.terms(self.passport.body, self.agent)

    def next_stops(self) -> list[Leaf]:
        """Where the itinerary leads from here, the preferred first; see `Itinerary.ahead`."""
        return self.passport.body.itinerary.ahead(self.positions, self.point.holder)


def launched(passport: Signed[Passport], opening: bytes, here: PublicKey, now: int) -> AgentCredentials:
    """The credentials of an agent that starts here, at home."""
    if passport.body.home.station != here:
        raise CredentialError("home", "an agent is launched by the station that its passport calls home")
    head = Head(0, canonical.digest(opening))
    positions = passport.body.itinerary.begin(here, now)
    entries = (Link(head.digest, bytes(32), opening),)
    return AgentCredentials(passport, launch_point(passport), head, positions, now, entries=entries)


def arrived(
    passport: Signed[Passport],
    capsule: Capsule,
    followed: Followed,
    results: Head,
    proofs: tuple[bytes, bytes],
    trails: VerifiedTrails,
    certificates: Certificates,
) -> AgentCredentials:
    """The credentials of an agent whose trail was `followed`.

    `proofs`: this station's receipt and the source's commit, which is empty if an operator adopted the agent.
    """
    point, steps = followed.point, list(followed.steps)
    for link in proofs:
        if link:
            before = point
            point, signed = follow(point, link)
            steps.append((before, signed))
    start = followed.start
    remembered = trails.known(start.head)
    checkpoint = None if remembered is None else remembered.checkpoint
    if remembered is None and capsule.trail.start:
        checkpoint = capsule.checkpoint
    return AgentCredentials(
        passport=passport,
        point=point,
        results=results,
        positions=followed.here,
        since=envelope.verify(Receipt, proofs[0]).body.time,
        marks=moved_on({} if remembered is None else remembered.marks, steps, point),
        checkpoint=checkpoint,
        links=tuple(Link(*link) for link in trail_links(steps, point)),
        entries=tuple(result_links(capsule.results.entries, start.results)),
        vouched=bool(proofs[1]),
        certificates=certificates,
        amendments=Amendments.read(capsule.amendments, passport),
    )


def committed(credentials: AgentCredentials, commit: bytes) -> AgentCredentials:
    """The credentials of a held agent that now belongs to this station by the source's `commit`: as in `arrived`."""
    before = credentials.point
    point, signed = follow(before, commit)
    return evolve(
        credentials,
        point=point,
        marks=moved_on(credentials.marks, [(before, signed)], point),
        links=(*credentials.links, Link(point.head, before.head, commit)),
        vouched=True,
    )


def remembered(
    passport: Signed[Passport],
    known: VerifiedTrail,
    here: PublicKey,
    since: int,
    results: Head,
    certificates: Certificates,
    amendments: Amendments = NONE,
) -> AgentCredentials:
    """The credentials of an agent that was here before the restart. `results`: their head when the agent came."""
    body, certifiers = passport.body, certificates.certifiers(since)
    positions = body.itinerary.reach(known.point.position, here, since, body.home.station, certifiers)
    if known.point.index == 0:
        positions = body.itinerary.begin(here, since)
    vouched = known.point.phase is Phase.VISIT
    return AgentCredentials(
        passport=passport,
        point=known.point,
        results=results,
        positions=positions,
        since=since,
        marks=known.marks,
        checkpoint=known.checkpoint,
        vouched=vouched,
        certificates=certificates,
        amendments=amendments,
    )


def cloned(
    parent: AgentCredentials, serial: int, state: bytes, results: tuple[Head, Sequence[Link]], now: int, key: SecretKey
) -> AgentCredentials:
    """The credentials of a clone made here. `results`: the parent's head now, and what it reported here."""
    head, reports = results
    link = logbook.sign_clone(parent.point, serial, canonical.digest(state), head, now, key).envelope
    point = close(parent.point, link)
    return evolve(
        parent,
        point=point,
        results=head,
        links=(*parent.links, Link(point.head, parent.point.head, link)),
        entries=(*parent.entries, *reports),
    )


def upgraded(own: AgentCredentials, statement: bytes, now: int, key: SecretKey) -> AgentCredentials:
    """The credentials of an agent that gets new code here, by its owner's `statement`, which was checked."""
    link = sign_upgraded(own.point, statement, now, key).envelope
    point = close(own.point, link)
    return evolve(own, point=point, links=(*own.links, Link(point.head, own.point.head, link)))


@frozen
class SignedDeparture:
    """An agent about to leave. `visit`: signed; `point`: the trail's after it; `entries`: reports made here."""

    credentials: AgentCredentials
    visit: Signed[Visit]
    point: TrailPoint
    nonce: bytes
    entries: tuple[Link, ...] = field(repr=brief)
    # By receipt: the last valid one. It is judged, committed to and remembered, but followed only once.
    _received: dict[bytes, tuple[TrailPoint, Signed[Receipt]]] = field(factory=dict, init=False, repr=False, eq=False)

    @property
    def hid(self) -> bytes:
        """The handoff's id."""
        return self.point.handoff

    def received(self, receipt: bytes) -> tuple[TrailPoint, Signed[Receipt]]:
        """The trail's point after the destination's receipt, and the receipt. Raises `CredentialError`."""
        found = self._received.get(receipt)
        if found is None:
            found = follow(self.point, receipt)
            self._received.clear()
            self._received[receipt] = found
        return found

    def handed_over(self, receipt: bytes, commit: bytes) -> tuple[VerifiedTrail, list[Link]]:
        """What this station remembers after the handoff: the point after the commit, and the new links."""
        point, _ = self.received(receipt)
        end, signed = follow(point, commit)
        mark = KnownUpTo(end.links, end.head, self.visit.body.results)
        marks = {key: known for key, known in self.credentials.marks.items() if key != signed.signer}
        heads = [self.credentials.point.head, self.point.head, point.head, end.head]
        links = [
            Link(heads[index + 1], heads[index], link)
            for index, link in enumerate((self.visit.envelope, receipt, commit))
        ]
        own = self.credentials
        known = VerifiedTrail(end, {**marks, signed.signer: mark}, own.checkpoint, own.amendments.encode())
        return known, [*links, *self.entries]


def leave(
    credentials: AgentCredentials,
    stay: logbook.StayRecord,
    entries: Sequence[Link],
    station: SecretKey,
    to: PublicKey | None,
    nonce: bytes = b"",
) -> SignedDeparture:
    """Sign the visit that ends here. `to`: the next station, with `nonce` of 16 random bytes; None at the end."""
    way = None
    if to is not None:
        way = (to, handoff_id(credentials.agent, credentials.visit, station.public.raw, to.raw, nonce))
    certificate = credentials.certificates.asked_for(credentials.passport.body.itinerary, stay.position, stay.arrived)
    visit = logbook.sign_visit(credentials.point, evolve(stay, certificate=certificate), station, way)
    return SignedDeparture(credentials, visit, close(credentials.point, visit.envelope), nonce, tuple(entries))


def leaving_position(credentials: AgentCredentials, to: PublicKey, now: int) -> Position:
    """The position here from which the agent may go to `to`. Raises `CredentialError` `itinerary` if it may not."""
    if not credentials.vouched:
        raise CredentialError("itinerary", "the agent was adopted without a commit: no station would believe it")
    body = credentials.passport.body
    way, home = body.itinerary, body.home.station
    found = way.toward(credentials.positions, to, now, home)
    if found is None:
        # Which certificates `to` has only `to` can show: where any certified station may be next, it is asked.
        certifiers = [stop.certifier for stop in credentials.next_stops() if isinstance(stop, CertifiedStop)]
        found = way.toward(credentials.positions, to, now, home, certifiers)
    if found is None:
        raise CredentialError("itinerary", f"the itinerary does not lead to {to} from here")
    return found


def ending_position(credentials: AgentCredentials) -> Position:
    """The position to sign when the journey ends here."""
    complete = credentials.passport.body.itinerary.complete
    return next(filter(complete, credentials.positions), (*credentials.positions, START)[0])


def tail(links: Sequence[Link], end: bytes, after: bytes) -> list[bytes] | None:
    """The bodies of `links` after the head `after` up to the head `end`; None if any is missing."""
    found: list[bytes] = []
    for link in reversed(links):
        if end == after:
            break
        if link.head != end:
            continue
        found.append(link.body)
        end = link.previous
    return found[::-1] if end == after else None


@frozen
class OfferParts:
    """The variable parts of an offer: as bytes, or as digest and size where the destination probably has them."""

    trail: bytes = field(repr=brief)
    results: bytes = field(repr=brief)
    checkpoint: bytes | None = field(repr=brief)


def parts_for(leaving: SignedDeparture, trails: VerifiedTrails, to: PublicKey, whole: bool) -> OfferParts:
    """What `to` needs of trail and results. `whole`: it has forgotten what it knew, and needs everything."""
    mark = None if whole else leaving.credentials.marks.get(to)
    checkpoint = None
    if mark is None and leaving.credentials.checkpoint is not None:
        checkpoint = leaving.credentials.checkpoint
        mark = _vouched(checkpoint, leaving.credentials)
    trail, results = chains(leaving, trails, mark)
    return OfferParts(canonical.encode(trail.value()), canonical.encode(results.value()), checkpoint)


def untold(credentials: AgentCredentials, trails: VerifiedTrails) -> int:
    """Bytes of the results with which an agent came, and that its home does not know. From any thread."""
    mark = credentials.marks.get(credentials.passport.body.home.station)
    with contextlib.suppress(MalformedCredential):  # the beginning is at home alone
        return sum(map(len, trails.results(credentials.results, None if mark is None else mark.results)))
    return sum(len(link.body) for link in credentials.entries)


def _vouched(checkpoint: bytes, credentials: AgentCredentials) -> KnownUpTo:
    point = verify_checkpoint(checkpoint, credentials.passport)
    if point.results is None:
        raise CredentialError("checkpoint", "a checkpoint before the launch")
    return KnownUpTo(point.links, point.head, point.results)


def chains(leaving: SignedDeparture, trails: VerifiedTrails, mark: KnownUpTo | None) -> tuple[Trail, Results]:
    """Trail and results after `mark`; or whole; or, where only home has the beginning, after the checkpoint.

    Raises `MalformedCredential` if any link is missing here.
    """
    checkpoint = leaving.credentials.checkpoint
    if mark is None and checkpoint is not None:
        # Ask the links, not the first point: later points may have replaced it.
        with contextlib.suppress(MalformedCredential):
            return _chains(leaving, trails, None)
        mark = _vouched(checkpoint, leaving.credentials)
    return _chains(leaving, trails, mark)


def _chains(leaving: SignedDeparture, trails: VerifiedTrails, mark: KnownUpTo | None) -> tuple[Trail, Results]:
    credentials = leaving.credentials
    start = launch_point(credentials.passport).head if mark is None else mark.head
    links = tail(credentials.links, credentials.point.head, start)
    if links is None:
        links = trails.trail(credentials.point.head, start)
    # The end of the chain is in memory, its beginning perhaps only in the store.
    before = bytes(32) if mark is None else mark.results.digest
    last = leaving.visit.body.results.digest
    entries = tail([*credentials.entries, *leaving.entries], last, before)
    if entries is None:
        entries = trails.results(credentials.results, None if mark is None else mark.results)
        entries += tail(leaving.entries, last, credentials.results.digest) or []
    if mark is None:
        return Trail((*links, leaving.visit.envelope)), Results(tuple(entries))
    trail = Trail((*links, leaving.visit.envelope), mark.links, mark.head)
    return trail, Results(tuple(entries), mark.results.count + 1, mark.results.digest)


def last_capsule(leaving: SignedDeparture, trails: VerifiedTrails, mark: KnownUpTo | None) -> Capsule:
    """Trail and results of a journey that ends here, for its home: after `mark`, or whole."""
    trail, results = chains(leaving, trails, mark)
    own = leaving.credentials
    image, amendments = current_image(own.passport.body, leaving.point), own.amendments.encode()
    return Capsule(own.passport.envelope, trail, results, image, leaving.point.state, amendments=amendments)


def so_far(
    passport: Signed[Passport], known: VerifiedTrail, trails: VerifiedTrails, came: Head | None = None
) -> Capsule:
    """Trail and results up to a remembered point. `came`: the results an agent arrived with, if it has not left yet.

    Raises `MalformedCredential` if any link is missing here.
    """
    point, start = known.point, launch_point(passport)
    trail = Trail(tuple(trails.trail(point.head, start.head)))
    head = point.results or came
    entries = [] if head is None else trails.results(head, None)
    image, reported = current_image(passport.body, point), Results(tuple(entries))
    return Capsule(passport.envelope, trail, reported, image, point.state, amendments=known.amendments)


def part(kind: str, body: Buffer) -> Part:
    """The part whose body is `body`."""
    return Part(kind, canonical.digest(body), len(body))


def offer_of(
    leaving: SignedDeparture, epoch: bytes, parts: Sequence[Part], bodies: Sequence[Body], to: PublicKey
) -> Offer:
    """The offer of a departing agent."""
    point = leaving.point
    return Offer(
        hid=point.handoff,
        agent=point.agent,
        hop=point.index - 1,
        source=point.source.raw,
        destination=to.raw,
        nonce=leaving.nonce,
        epoch=epoch,
        visit=leaving.visit.digest,
        expires=leaving.credentials.terms.expires,
        parts=tuple(parts),
        bodies=tuple(bodies),
    )


def amendments_in(bodies: Mapping[str, Buffer]) -> bytes | None:
    """The encoded amendments among the bodies of an offer, by kind of part."""
    found = bodies.get("amendments")
    return None if found is None else bytes(found)


def check_kinds(parts: Sequence[Part]) -> dict[str, int]:
    """The index of each kind of part. Raises `CredentialError` `malformed` if any is missing, double or unknown."""
    found = {item.kind: index for index, item in enumerate(parts)}
    if len(found) != len(parts) or not found.keys() >= NEEDED_PARTS or not found.keys() <= PART_KINDS:
        raise MalformedCredential("the offer is not made of the parts of an agent")
    return found


def with_checkpoint(
    credentials: AgentCredentials, now: int, home: SecretKey, trails: VerifiedTrails
) -> AgentCredentials:
    """Before a departure from home: adds a new checkpoint if the trail has become long since the last one.

    Not where home does not have all of it itself, since others do without what is before a checkpoint.
    """
    passport, point = credentials.passport, credentials.point
    if passport.body.home.station != home.public:
        return credentials
    last = None if credentials.checkpoint is None else verify_checkpoint(credentials.checkpoint, passport)
    if point.links - (0 if last is None else last.links) < CHECKPOINT_LINKS:
        return credentials
    try:
        trails.trail(point.head, (last or launch_point(passport)).head)
        trails.results(credentials.results, None if last is None else last.results)
    except MalformedCredential:
        return credentials
    return evolve(credentials, checkpoint=logbook.sign_checkpoint(point, now, home).envelope)


def verify_receipt(leaving: SignedDeparture | None, record: Record, receipt: bytes) -> Refusal | None:
    """None if `receipt` is the destination's for exactly what left; else why not."""
    try:
        if leaving is not None:
            _, signed = leaving.received(receipt)
            if signed.signer.raw != record.peer:
                raise CredentialError("signer", "the receipt is another station's")
            if signed.body.state != leaving.point.state:
                raise CredentialError("state-digest", "the receipt is for another state")
            return None
        signed = envelope.verify(Receipt, receipt, public_key(record.peer))
        if (signed.body.visit, signed.body.handoff) != (record.visit, record.hid):
            raise CredentialError("trail-link", "the receipt is for another handoff")
    except CredentialError as error:
        return Refusal(error.code, error.reason)
    return None


def commit_of(record: Record) -> Commit:
    """The source's commit statement for the receipt in `record`."""
    return Commit(record.agent, record.hop, record.hid, record.visit, canonical.digest(record.receipt))


def verify_commit(record: Record, commit: bytes) -> Refusal | None:
    """None if `commit` is the source's for this handoff and the receipt that was given; else why not."""
    try:
        body = envelope.verify(Commit, commit, public_key(record.peer)).body
    except CredentialError as error:
        return Refusal(error.code, error.reason)
    if body != commit_of(record):
        return Refusal("trail-link", "the commit is for another handoff")
    return None
