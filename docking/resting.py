"""A berth as the store keeps it: the parts of its capsule, and the station's note on it; and back, after a restart.

Not the writing itself. Invariants: what is stored is one moment of the agent, its state with the reports made and the
messages not yet received *as of that state*; a capsule without a note is one that arrived and was not stored again.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from agents import canonical
from agents.credentials.fields import AMOUNT, array, byte_string, uint
from agents.credentials.visits import Head
from agents.errors import CredentialError, NotCanonical
from agents.waits import Cloned, Event, Message
from docking.berth import Berth, Standing
from docking.changes import Capsule, Checkpoint, Link, StoredPart
from docking.customs import read_mailbox, write_mailbox
from docking.handoff.messages import Part
from docking.papers import part
from docking.store import Store

VERSION = 1
_BOUNDS = canonical.Bounds(max_bytes=1 << 20, max_depth=4, max_items=5000)
_REPORT_BOUNDS = canonical.Bounds(max_bytes=64 << 20, max_depth=2, max_items=20_000)


@frozen
class Note:
    """What the station notes of an agent beside its state.

    `trail`: head of its trail; `came`: head of its results when it came; `since`, `until`: ms; `cpu`: us; `child`: id
    of the clone that the agent is to be told of when it goes on; `wait`: the kind of what it waits for.
    """

    standing: Standing
    trail: bytes
    came: Head
    since: int
    until: int = 0
    cpu: int = 0
    memory: int = 0
    calls: int = 0
    sent: int = 0
    cloned: int = 0
    child: str = ""
    wait: str = ""
    text: str = ""

    def encode(self) -> bytes:
        """As bytes, for the store."""
        counts = [self.cpu, self.memory, self.calls, self.sent, self.cloned]
        fields = [VERSION, self.standing.value, self.trail, self.came.value(), self.since, self.until]
        return canonical.encode([*fields, counts, self.child, self.wait, self.text])

    @classmethod
    def decode(cls, data: bytes) -> Note:
        """The inverse of `encode`. Raises `CredentialError`: the store is of another program, or damaged."""
        try:
            version, standing, trail, came, since, until, counts, child, wait, text = array(
                canonical.decode(data, _BOUNDS), "note", 10
            )
            if type(version) is not int or version != VERSION:
                raise ValueError("another version")
            count, digest = array(came, "results", 2)
            cpu, memory, calls, sent, cloned = (uint(each, "count", AMOUNT) for each in array(counts, "counts", 5))
            times = uint(since, "since", AMOUNT), uint(until, "until", AMOUNT)
            if not all(isinstance(each, str) for each in (child, wait, text)):
                raise ValueError("a text is none")
            head = Head.of((count, digest))
            stand, trail = Standing(standing), byte_string(trail, "trail", 32)
            return cls(stand, trail, head, *times, cpu, memory, calls, sent, cloned, child, wait, text)
        except (NotCanonical, ValueError, TypeError) as error:
            raise CredentialError("note", f"what the store says of an agent cannot be read: {error}") from error


@frozen
class Saved:
    """What the store has of a berth: the part that is its state, the note, and how many reports went with it."""

    state: Part
    note: Note
    reports: int


def note_of(berth: Berth, event: Event | None = None) -> Note:
    """The note on a berth. `event`: what the agent is to be told when it goes on, if its wait does not tell."""
    papers = berth.papers
    child = event.child or "" if isinstance(event, Cloned) else ""
    return Note(
        standing=berth.standing,
        trail=papers.point.head,
        came=papers.results,
        since=papers.since,
        until=berth.until,
        cpu=berth.cpu,
        memory=berth.memory,
        calls=berth.calls,
        sent=berth.sent,
        cloned=berth.cloned,
        child=child,
        wait=type(berth.wait).__name__.lower() if berth.wait is not None else "",
        text=berth.text[:1000],
    )


def checkpoint(berth: Berth, state: bytes, event: Event | None = None, digest: bytes | None = None) -> Checkpoint:
    """The berth as it is now, suspended in `state`. From now on this is what a crash goes back to.

    `digest`: of the state, where it is known."""
    stored = part("state", state) if digest is None else Part("state", digest, len(state))
    berth.saved = Saved(stored, note_of(berth, event), len(berth.reports))
    berth.taken.clear()
    return _checkpoint(berth, berth.saved, StoredPart(stored, state))


def with_mail(berth: Berth) -> Checkpoint:
    """The berth as it was stored last, and the messages that came since."""
    assert isinstance(berth.saved, Saved)
    return _checkpoint(berth, berth.saved, StoredPart(berth.saved.state, None))


def _checkpoint(berth: Berth, saved: Saved, state: StoredPart) -> Checkpoint:
    passport = berth.papers.passport.envelope
    parts = [StoredPart(part("passport", passport), passport), StoredPart(berth.image_part, None), state]
    messages = [*berth.taken, *berth.inbox]
    if messages:
        mail = write_mailbox(messages)
        parts.append(StoredPart(part("mailbox", mail), mail))
    if saved.reports:
        rows = [[link.head, link.previous, link.body] for link in berth.reports[: saved.reports]]
        reports = canonical.encode(rows)
        parts.append(StoredPart(part("reports", reports), reports))
    return Checkpoint(berth.agent, berth.visit, tuple(parts), saved.note.encode())


def bodies_of(store: Store, capsule: Capsule, but: frozenset[str] = frozenset({"image"})) -> dict[str, bytes]:
    """The parts of a stored capsule, by kind."""
    found: dict[str, bytes] = {}
    for each in capsule.parts:
        if each.kind not in but:
            body = store.part(each.digest)
            if body is not None:
                found[each.kind] = body
    return found


def part_of(capsule: Capsule, kind: str) -> Part:
    """The part of this kind. Raises `CredentialError`: the store is damaged."""
    for each in capsule.parts:
        if each.kind == kind:
            return each
    raise CredentialError("note", f"a stored agent has no {kind}")


def wake_mail(berth: Berth, mailbox: bytes | None, reports: bytes | None) -> None:
    """Give a berth the messages and reports that were stored with its state."""
    berth.inbox.extend(read_mailbox(mailbox))
    if reports is None:
        return
    try:
        rows: Any = canonical.decode(reports, _REPORT_BOUNDS)
        berth.reports = [Link(*row) for row in rows]
    except (NotCanonical, TypeError) as error:
        raise CredentialError("note", "the reports of a stored agent cannot be read") from error
    count = berth.papers.results.count + len(berth.reports)
    if berth.reports:
        berth.head = Head(count, berth.reports[-1].head)
    berth.report_bytes = sum(len(link.body) for link in berth.reports)


def message_parts(messages: list[Message]) -> list[tuple[str, bytes]]:
    """The mailbox as a part that travels, if there is anything in it."""
    return [("mailbox", write_mailbox(messages))] if messages else []
