"""An agent's credentials while it stays here: put together from what arrived, and made into what leaves.

Not the decision whether it may come in (`docking.admission`), and no I/O but reading what this station verified
before (`docking.knowledge`). Keys, times and randomness are arguments.

Invariant: the point of `Papers` is where the trail stands for *this* station, which signs next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from attrs import evolve, field, frozen

from agents import canonical
from agents.capsule import Capsule
from agents.credentials import envelope, logbook
from agents.credentials.envelope import Signed
from agents.credentials.itinerary import START, Any, Position, Stop
from agents.credentials.keys import PublicKey, SecretKey
from agents.credentials.passport import Passport
from agents.credentials.results import Results
from agents.credentials.trail import Followed, Trail, close, follow
from agents.credentials.trailpoint import Phase, TrailPoint, begin, verify_checkpoint
from agents.credentials.visits import Commit, Head, Receipt, Visit, handoff_id
from agents.errors import CredentialError, MalformedCredential
from docking.certificates import Certificates
from docking.changes import Link
from docking.handoff.actions import Record
from docking.handoff.messages import Body, Buffer, Offer, Part
from docking.knowledge import Knowledge, Known, Mark, Marks, moved_on, result_links, trail_links
from docking.refusal import Refusal

# What an offer is made of, in this order; the last two only where they are needed.
KINDS = ("passport", "trail", "results", "image", "state", "checkpoint", "mailbox")
NEEDED = frozenset(KINDS[:5])
# These come with the offer itself: by them it is judged whether the rest is wanted.
PAPERS = frozenset({"passport", "trail", "results", "checkpoint"})
# Home vouches for the beginning of a trail that is longer than this, for stations that are new to the agent.
CHECKPOINT_AFTER = 24
MAX_TRAIL = 64 << 20
_BOUNDS = canonical.Bounds(max_bytes=MAX_TRAIL, max_depth=4, max_items=2_000_000)


@frozen
class Papers:
    """The credentials of an agent that is here.

    `links`, `entries`: of trail and results, as far as they are at hand (the end of both chains); `positions`: where
    in its itinerary it may stand here; `since`: ms when it arrived. `vouched` is False for an agent that a person
    adopted without a commit: it cannot travel on, since nobody would believe its trail.
    """

    passport: Signed[Passport]
    point: TrailPoint
    results: Head
    positions: tuple[Position, ...]
    since: int
    marks: Marks = field(factory=dict, repr=False)
    checkpoint: bytes | None = field(default=None, repr=False)
    links: tuple[Link, ...] = field(default=(), repr=lambda links: f"<{len(links)}>")
    entries: tuple[Link, ...] = field(default=(), repr=lambda links: f"<{len(links)}>")
    vouched: bool = True
    certificates: Certificates = field(factory=Certificates, repr=False)
    """This station's, for stops that ask for one."""

    @property
    def agent(self) -> bytes:
        """The agent's id."""
        return self.point.agent

    @property
    def visit(self) -> int:
        """The index of the visit that it makes here."""
        return self.point.index

    @property
    def known(self) -> Known:
        """What is worth remembering of it."""
        return Known(self.point, self.marks, self.checkpoint)

    def next_stops(self) -> list[Stop | Any]:
        """Where the itinerary leads from here, the preferred first."""
        body = self.passport.body
        steps = [step for position in self.positions for step in body.itinerary.steps(position)]
        return list(dict.fromkeys(step.stop for step in steps))


def launched(passport: Signed[Passport], opening: bytes, here: PublicKey, now: int) -> Papers:
    """The papers of an agent that begins here, at home."""
    if passport.body.home.station != here:
        raise CredentialError("home", "an agent is launched by the station that its passport calls home")
    head = Head(0, canonical.digest(opening))
    position = logbook.launch_position(passport.body, now)
    entries = (Link(head.digest, bytes(32), opening),)
    return Papers(passport, begin(passport), head, (position,), now, entries=entries)


def arrived(
    passport: Signed[Passport],
    capsule: Capsule,
    followed: Followed,
    results: Head,
    proofs: tuple[bytes, bytes],
    knowledge: Knowledge,
    certificates: Certificates,
) -> Papers:
    """The papers of an agent whose trail was `followed`. `proofs`: this station's receipt, and the source's commit.

    The commit is empty if a person adopted the agent.
    """
    point, steps = followed.point, list(followed.steps)
    for link in proofs:
        if link:
            before = point
            point, signed = follow(point, link)
            steps.append((before, signed))
    start = followed.start
    remembered = knowledge.known(start.head)
    checkpoint = None if remembered is None else remembered.checkpoint
    if remembered is None and capsule.trail.start:
        checkpoint = capsule.checkpoint
    return Papers(
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
    )


def remembered(
    passport: Signed[Passport], known: Known, here: PublicKey, since: int, results: Head, certificates: Certificates
) -> Papers:
    """The papers of an agent that was here before the station was restarted. `results`: the head when it came."""
    body, certifiers = passport.body, certificates.certifiers(since)
    positions = body.itinerary.reach(known.point.position, here, since, body.home.station, certifiers)
    if known.point.index == 0:
        positions = (logbook.launch_position(body, since),)
    vouched = known.point.phase is Phase.VISIT
    return Papers(
        passport=passport,
        point=known.point,
        results=results,
        positions=positions,
        since=since,
        marks=known.marks,
        checkpoint=known.checkpoint,
        vouched=vouched,
        certificates=certificates,
    )


def cloned(
    parent: Papers, serial: int, state: bytes, results: tuple[Head, Sequence[Link]], now: int, key: SecretKey
) -> Papers:
    """The papers of a clone that is made here. `results`: the parent's head now, and what it reported here."""
    head, reports = results
    link = logbook.clone(parent.point, serial, canonical.digest(state), head, now, key).envelope
    point = close(parent.point, link)
    return evolve(
        parent,
        point=point,
        results=head,
        links=(*parent.links, Link(point.head, parent.point.head, link)),
        entries=(*parent.entries, *reports),
    )


@frozen
class Leaving:
    """An agent that is about to leave: `visit` is signed, and `point` stands after it. `entries`: reports made here."""

    papers: Papers
    visit: Signed[Visit]
    point: TrailPoint
    nonce: bytes
    entries: tuple[Link, ...]

    @property
    def hid(self) -> bytes:
        """The handoff's id."""
        return self.point.handoff

    def handed_over(self, receipt: bytes, commit: bytes) -> tuple[Known, list[Link]]:
        """What this station then remembers: the point after the commit, and the links that are new."""
        point = close(self.point, receipt)
        end, signed = follow(point, commit)
        mark = Mark(end.links, end.head, self.visit.body.results)
        marks = {key: known for key, known in self.papers.marks.items() if key != signed.signer}
        heads = [self.papers.point.head, self.point.head, point.head, end.head]
        links = [
            Link(heads[index + 1], heads[index], link)
            for index, link in enumerate((self.visit.envelope, receipt, commit))
        ]
        return Known(end, {**marks, signed.signer: mark}, self.papers.checkpoint), [*links, *self.entries]


def leave(
    papers: Papers,
    stay: logbook.Stay,
    entries: Sequence[Link],
    station: SecretKey,
    to: PublicKey | None,
    nonce: bytes = b"",
) -> Leaving:
    """Sign the visit that ends here. `to`: the next station, with 16 fresh random bytes; None at the end."""
    way = None
    if to is not None:
        way = (to, handoff_id(papers.agent, papers.visit, station.public, to, nonce))
    certificate = papers.certificates.asked_for(papers.passport.body.itinerary, stay.position, stay.arrived)
    visit = logbook.depart(papers.point, evolve(stay, certificate=certificate), station, way)
    return Leaving(papers, visit, close(papers.point, visit.envelope), nonce, tuple(entries))


def choose(papers: Papers, to: PublicKey, now: int) -> Position:
    """The position here from which the agent may go to `to`. `CredentialError` `itinerary` if it may not."""
    if not papers.vouched:
        raise CredentialError("itinerary", "the agent was adopted without a commit: no station would believe it")
    body = papers.passport.body
    try:
        return logbook.choose(body, papers.positions, to, now)
    except CredentialError:
        # Who certified `to` is its own to show: where any certified station may be next, it is asked.
        certifiers = [stop.certifier for stop in papers.next_stops() if isinstance(stop, Any)]
        return logbook.choose(body, papers.positions, to, now, certifiers)


def ending_position(papers: Papers) -> Position:
    """The position to sign when the journey ends here."""
    return papers.positions[0] if papers.positions else START


def tail(links: Sequence[Link], end: bytes, after: bytes) -> list[bytes] | None:
    """The bodies of `links` after the head `after` up to the head `end`, or None if they are not all there."""
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
class Carried:
    """The variable parts of an offer: bytes, or digest and size of what the destination probably has."""

    trail: bytes
    results: bytes
    checkpoint: bytes | None


def carried(leaving: Leaving, knowledge: Knowledge, to: PublicKey, whole: bool) -> Carried:
    """What `to` needs of trail and results. `whole`: it has forgotten what it knew, and needs all there is."""
    mark = None if whole else leaving.papers.marks.get(to)
    checkpoint = None
    if mark is None and leaving.papers.checkpoint is not None:
        checkpoint = leaving.papers.checkpoint
        mark = _vouched(checkpoint, leaving.papers)
    trail, results = chains(leaving, knowledge, mark)
    return Carried(canonical.encode(trail.value()), canonical.encode(results.value()), checkpoint)


def _vouched(checkpoint: bytes, papers: Papers) -> Mark:
    point = verify_checkpoint(checkpoint, papers.passport)
    if point.results is None:
        raise CredentialError("checkpoint", "a checkpoint before the launch")
    return Mark(point.links, point.head, point.results)


def chains(leaving: Leaving, knowledge: Knowledge, mark: Mark | None) -> tuple[Trail, Results]:
    """Trail and results after `mark`, or whole, or where only home has the beginning after what home vouches for.

    Raises `MalformedCredential` if they are not all here any more.
    """
    checkpoint = leaving.papers.checkpoint
    if mark is None and checkpoint is not None:
        # Whether the beginning is here is asked of the links: its first point may have been replaced by later ones.
        with contextlib.suppress(MalformedCredential):
            return _chains(leaving, knowledge, None)
        mark = _vouched(checkpoint, leaving.papers)
    return _chains(leaving, knowledge, mark)


def _chains(leaving: Leaving, knowledge: Knowledge, mark: Mark | None) -> tuple[Trail, Results]:
    papers = leaving.papers
    start = begin(papers.passport).head if mark is None else mark.head
    links = tail(papers.links, papers.point.head, start)
    if links is None:
        links = knowledge.trail(papers.point.head, start)
    # The end of the chain is at hand, its beginning perhaps only in the store.
    before = bytes(32) if mark is None else mark.results.digest
    last = leaving.visit.body.results.digest
    entries = tail([*papers.entries, *leaving.entries], last, before)
    if entries is None:
        entries = knowledge.results(papers.results, None if mark is None else mark.results)
        entries += tail(leaving.entries, last, papers.results.digest) or []
    if mark is None:
        return Trail((*links, leaving.visit.envelope)), Results(tuple(entries))
    trail = Trail((*links, leaving.visit.envelope), mark.links, mark.head)
    return trail, Results(tuple(entries), mark.results.count + 1, mark.results.digest)


def last_capsule(leaving: Leaving, knowledge: Knowledge, mark: Mark | None) -> Capsule:
    """Trail and results of a journey that ends here, after `mark` or whole, for its home."""
    trail, results = chains(leaving, knowledge, mark)
    body = leaving.papers.passport.body
    return Capsule(leaving.papers.passport.envelope, trail, results, body.image, leaving.point.state)


def so_far(passport: Signed[Passport], known: Known, knowledge: Knowledge, came: Head | None = None) -> Capsule:
    """Trail and results up to a remembered point. `came`: the results with which an agent that has not left yet began.

    Raises `MalformedCredential` if they are not all here.
    """
    point, start = known.point, begin(passport)
    trail = Trail(tuple(knowledge.trail(point.head, start.head)))
    head = point.results or came
    entries = [] if head is None else knowledge.results(head, None)
    return Capsule(passport.envelope, trail, Results(tuple(entries)), passport.body.image, point.state)


def part(kind: str, body: Buffer) -> Part:
    """A part that is `body`."""
    return Part(kind, canonical.digest(body), len(body))


def offer_of(leaving: Leaving, epoch: bytes, parts: Sequence[Part], bodies: Sequence[Body], to: PublicKey) -> Offer:
    """The offer of an agent that leaves."""
    point, body = leaving.point, leaving.papers.passport.body
    return Offer(
        hid=point.handoff,
        agent=point.agent,
        hop=point.index - 1,
        source=point.source.raw,
        destination=to.raw,
        nonce=leaving.nonce,
        epoch=epoch,
        visit=leaving.visit.digest,
        expires=body.expires,
        parts=tuple(parts),
        bodies=tuple(bodies),
    )


def check_kinds(parts: Sequence[Part]) -> dict[str, int]:
    """The index of each kind of part. `CredentialError` `malformed` unless each is there once, and nothing else."""
    found = {item.kind: index for index, item in enumerate(parts)}
    if len(found) != len(parts) or not found.keys() >= NEEDED or not found.keys() <= set(KINDS):
        raise MalformedCredential("the offer is not made of the parts of an agent")
    return found


def with_checkpoint(papers: Papers, now: int, home: SecretKey) -> Papers:
    """At home, before a departure: if the trail has become long since home vouched for it, it does so again."""
    if papers.passport.body.home.station != home.public:
        return papers
    vouched = 0 if papers.checkpoint is None else verify_checkpoint(papers.checkpoint, papers.passport).links
    if papers.point.links - vouched < CHECKPOINT_AFTER:
        return papers
    return evolve(papers, checkpoint=logbook.checkpoint(papers.point, now, home).envelope)


def verify_receipt(leaving: Leaving | None, record: Record, receipt: bytes) -> Refusal | None:
    """None if `receipt` is the destination's, for exactly what left."""
    try:
        signed = envelope.verify(Receipt, receipt, PublicKey(record.peer))
        if leaving is not None:
            follow(leaving.point, receipt)
            if signed.body.state != leaving.point.state:
                raise CredentialError("state-digest", "the receipt is for another state")
        elif (signed.body.visit, signed.body.handoff) != (record.visit, record.hid):
            raise CredentialError("trail-link", "the receipt is for another handoff")
    except CredentialError as error:
        return Refusal(error.code, error.reason)
    return None


def commit_of(record: Record) -> Commit:
    """What the source says when it gives an agent away for the receipt in `record`."""
    return Commit(record.agent, record.hop, record.hid, record.visit, canonical.digest(record.receipt))


def verify_commit(record: Record, commit: bytes) -> Refusal | None:
    """None if `commit` is the source's, for this handoff and the receipt that was given."""
    try:
        body = envelope.verify(Commit, commit, PublicKey(record.peer)).body
    except CredentialError as error:
        return Refusal(error.code, error.reason)
    if body != commit_of(record):
        return Refusal("trail-link", "the commit is for another handoff")
    return None
