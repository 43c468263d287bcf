"""What the store keeps of a berth: the parts of its capsule, and a note by the station; and how both are read after a
restart.

Not the writing itself. Invariants: what is stored is one moment of the agent, its state with the reports made and the
messages not yet received *as of that state*; a capsule without a note, or with the wait `ARRIVED`, has the state that
came.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve, field, frozen

from agents import canonical
from agents.brief import brief
from agents.credentials.fields import AMOUNT, array, byte_string, uint
from agents.credentials.visits import Head
from agents.errors import CredentialError, NotCanonical
from agents.waits import Cloned, Event, Forked
from docking.handoff.messages import Part
from docking.residents.berth import Berth, Standing
from docking.store.changes import Link, PutCheckpoint, StoredCapsule, StoredPart
from docking.store.store import Store
from docking.trust.agent_credentials import part
from docking.trust.mailbox import read_mailbox, read_outflows, write_mailbox

NOTE_VERSION = 1
# The wait of a state that came here and was not stored since: its `go` has succeeded.
ARRIVED = "arrived"
# Bytes of state whose writing counts as a microsecond of its agent's time; measured, on one disk, without the waiting.
WRITTEN_IN_A_US = 2048
_BOUNDS = canonical.DecodeBounds(max_bytes=1 << 20, max_depth=4, max_items=5000)
_REPORT_BOUNDS = canonical.DecodeBounds(max_bytes=64 << 20, max_depth=2, max_items=20_000)


@frozen
class BerthNote:
    """What the station notes of an agent beside its state.

    `trail`: head of its trail; `came`: head of its results when it came; `since`, `until`: ms since 1970; `child`: id
    of the clone, or number and ids of a fork, which the agent gets when it resumes; `wait`: the kind of what it waits
    for, or `ARRIVED`.
    """

    standing: Standing
    trail: bytes
    came: Head
    since: int
    until: int = 0
    cpu_us: int = 0
    memory_bytes: int = 0
    calls: int = 0
    sent: int = 0
    cloned: int = 0
    child: str = ""
    wait: str = ""
    text: str = ""
    sent_to: list[list[object]] = field(factory=list, repr=brief)
    """The streams from the agent, as of its state (`Streams.outflows`)."""
    offers: list[list[str]] = field(factory=list, repr=brief)
    """The services that it offers here, as of its state."""
    spent: int = 0
    """As of `Berth.spent`."""
    brought: bool = False
    """Whether it was brought home by an order, and its state does not know."""
    noted: int = 0
    """When this was noted, of an agent that waits until some time: ms since 1970, by the clock that `until` is of."""

    def ends(self, now: int) -> int:
        """When its wait ends. A clock that was ahead when it was noted, and is right again, does not prolong it.

        now: ms since 1970
        """
        return self.until if now >= self.noted else min(self.until, now + max(0, self.until - self.noted))

    @staticmethod
    def _more(more: list[Any]) -> tuple[list[list[object]], list[list[str]], int, bool, int]:
        if len(more) < 2:
            return [], [], 0, False, 0
        rest: list[Any] = [*more[2:], *(0, False, 0)[len(more) - 2 :]]
        spent, brought, noted = rest
        if not isinstance(brought, bool):
            raise ValueError("a flag that is none")
        return more[0], more[1], uint(spent, "time", AMOUNT), brought, uint(noted, "time", AMOUNT)

    def encode(self) -> bytes:
        """As bytes, for the store."""
        counts = [self.cpu_us, self.memory_bytes, self.calls, self.sent, self.cloned]
        fields = [NOTE_VERSION, self.standing.value, self.trail, self.came.value(), self.since, self.until]
        more: list[object] = [self.sent_to, self.offers, self.spent, self.brought, self.noted]
        while more and not more[-1]:
            more.pop()
        more += [[]] if len(more) == 1 else []
        return canonical.encode([*fields, counts, self.child, self.wait, self.text, *more])

    @classmethod
    def decode(cls, data: bytes) -> BerthNote:
        """The inverse of `encode`. Raises `CredentialError`: the store is of another program, or damaged."""
        try:
            version, standing, trail, came, since, until, counts, child, wait, text, *more = array(
                canonical.decode(data, _BOUNDS), "note", 15
            )
            if type(version) is not int or version != NOTE_VERSION:
                raise ValueError("another version")
            count, digest = array(came, "results", 2)
            cpu, memory, calls, sent, cloned = (uint(each, "count", AMOUNT) for each in array(counts, "counts", 5))
            times = uint(since, "since", AMOUNT), uint(until, "until", AMOUNT)
            if not all(isinstance(each, str) for each in (child, wait, text)):
                raise ValueError("a text is none")
            head = Head.of((count, digest))
            stand, trail = Standing(standing), byte_string(trail, "trail", 32)
            sent_to, offers, spent, brought, noted = cls._more(more)
            read_outflows(sent_to)
            if not all(len(row) == 2 and all(isinstance(each, str) for each in row) for row in offers):
                raise ValueError("an offer that is none")
            counted = cpu, memory, calls, sent, cloned
            made = cls(stand, trail, head, *times, *counted, child, wait, text, sent_to, offers)
            return evolve(made, spent=spent, brought=brought, noted=noted)
        except (NotCanonical, ValueError, TypeError) as error:
            raise CredentialError("note", f"what the store says of an agent cannot be read: {error}") from error


@frozen
class StoredState:
    """What the store has of a berth: the part with its state, the note, and how many reports were stored with it.

    blocks: the part with the blocks of its memories, where these are not in the state
    """

    state: Part
    note: BerthNote
    reports: int
    blocks: Part | None = None


def note_of(berth: Berth, event: Event | None = None, arrived: bool = False) -> BerthNote:
    """The note on a berth. `event`: what the agent gets when it resumes, if its wait does not determine it.

    `arrived`: its state is the one that came.
    """
    credentials = berth.credentials
    child = event.child or "" if isinstance(event, Cloned) else ""
    if isinstance(event, Forked):
        child = " ".join([str(event.number), *event.children])
    return BerthNote(
        standing=berth.standing,
        trail=credentials.point.head,
        came=credentials.results,
        since=credentials.since,
        until=berth.until,
        cpu_us=berth.cpu_us,
        memory_bytes=berth.memory_bytes,
        calls=berth.calls,
        sent=berth.sent,
        cloned=berth.cloned,
        child=child,
        wait=ARRIVED if arrived else "" if berth.wait is None else type(berth.wait).__name__.lower(),
        text=berth.text[:1000],
        sent_to=berth.streams.outflows(),
        offers=[list(each) for each in berth.offers.items()],
        spent=berth.spent,
        noted=berth.wall_ns() // 1_000_000 if berth.until else 0,
        brought=berth.brought,
    )


def put_checkpoint(
    berth: Berth, state: bytes, event: Event | None = None, digest: bytes | None = None
) -> PutCheckpoint:
    """The berth as it is now, suspended in `state`. A crash falls back to this.

    `digest`: of the state, where it is known.
    """
    stored = Part("state", berth.digest_of(state) if digest is None else digest, len(state))
    berth.cpu_us += len(state) // WRITTEN_IN_A_US
    berth.saved = StoredState(stored, note_of(berth, event), len(berth.reports))
    berth.stored()
    return _checkpoint(berth, berth.saved, StoredPart(stored, state))


def noted(berth: Berth) -> PutCheckpoint:
    """The berth as it is now, in the state that was stored last, with the messages received since."""
    assert isinstance(berth.saved, StoredState)
    berth.saved = evolve(berth.saved, note=note_of(berth))
    return with_mail(berth)


def with_mail(berth: Berth) -> PutCheckpoint:
    """The berth as it was last stored, plus the messages received since."""
    assert isinstance(berth.saved, StoredState)
    return _checkpoint(berth, berth.saved, StoredPart(berth.saved.state, None))


def _checkpoint(berth: Berth, saved: StoredState, state: StoredPart) -> PutCheckpoint:
    passport = berth.credentials.passport.envelope
    parts = [StoredPart(part("passport", passport), passport), StoredPart(berth.image_part, None), state]
    if saved.blocks is not None:
        parts.append(StoredPart(saved.blocks, None))
    amendments = berth.credentials.amendments.encode()
    if amendments is not None:
        parts.append(StoredPart(part("amendments", amendments), amendments))
    messages = [*berth.taken, *berth.inbox]
    if messages or berth.seen or berth.streams.came or berth.questions or berth.topics:
        mail = write_mailbox(messages, berth.seen, berth.streams, berth.questions, berth.topics)
        parts.append(StoredPart(part("mailbox", mail), mail))
    if berth.trace is not None:
        trace = berth.trace.encode()
        parts.append(StoredPart(part("trace", trace), trace))
    if saved.reports:
        rows = [[link.head, link.previous, link.body] for link in berth.reports[: saved.reports]]
        reports = canonical.encode(rows)
        parts.append(StoredPart(part("reports", reports), reports))
    return PutCheckpoint(berth.agent, berth.visit, tuple(parts), saved.note.encode())


def bodies_of(store: Store, capsule: StoredCapsule, but: frozenset[str] = frozenset({"image"})) -> dict[str, bytes]:
    """The parts of a stored capsule, by kind. Raises `CredentialError`, `StoreUnusable`: the store is damaged."""
    found: dict[str, bytes] = {}
    for each in capsule.parts:
        if each.kind not in but:
            body = store.part(each.digest)
            if body is None:
                raise CredentialError("note", f"the agent's {each.kind} is not in the store")
            if canonical.digest(body) != each.digest:
                raise CredentialError("note", f"the agent's {each.kind} was damaged in the store")
            found[each.kind] = body
    return found


def part_of(capsule: StoredCapsule, kind: str) -> Part:
    """The part of this kind. Raises `CredentialError`: the store is damaged."""
    for each in capsule.parts:
        if each.kind == kind:
            return each
    raise CredentialError("note", f"a stored agent has no {kind}")


def blocks_of(capsule: StoredCapsule) -> Part | None:
    """The part with the blocks of its memories, where these are not in its state."""
    return next((each for each in capsule.parts if each.kind == "blocks"), None)


def wake_mail(berth: Berth, mailbox: bytes | None, reports: bytes | None) -> None:
    """Give a berth the messages and reports that were stored with its state."""
    berth.open_mailbox(read_mailbox(mailbox))
    if reports is None:
        return
    try:
        rows: Any = canonical.decode(reports, _REPORT_BOUNDS)
        berth.reports = [Link(*(byte_string(each, "report", 0, 64 << 20) for each in row)) for row in rows]
    except (NotCanonical, ValueError, TypeError) as error:
        raise CredentialError("note", "the reports of a stored agent cannot be read") from error
    count = berth.credentials.results.count + len(berth.reports)
    if berth.reports:
        berth.head = Head(count, berth.reports[-1].head)
    berth.report_bytes = sum(len(link.body) for link in berth.reports)


def message_parts(berth: Berth) -> list[tuple[str, bytes]]:
    """The mailbox as a part that travels, unless it is empty."""
    streams = berth.streams
    if not (berth.inbox or berth.seen or streams.came or streams.sent or berth.questions or berth.topics):
        return []
    asked = {name: evolve(each, stored_known=each.known) for name, each in berth.questions.items() if not each.taken}
    return [("mailbox", write_mailbox(berth.inbox, berth.seen, streams, asked, berth.topics))]
