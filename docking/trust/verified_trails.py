"""What this station has verified before: points of trails, by head, and the links that lead to them.

Because of it, only new links travel and are verified: the two-thousandth hop costs as much as the tenth. What a peer
knows follows from the trail itself: whoever signed a commit knows the trail up to there (`KnownUpTo`).

Not here: the verification (`agents.credentials.trail`). Invariant: a point is remembered only together with every link
before it, back to the passport or to a home's checkpoint that is remembered too, so this station can always give
the whole trail.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from agents import canonical
from agents.brief import brief
from agents.credentials.envelope import Signed
from agents.credentials.fields import array, byte_string, uint
from agents.credentials.keys import KEY_SIZE, PublicKey, public_key
from agents.credentials.trailpoint import TrailPoint
from agents.credentials.visits import Head
from agents.errors import CredentialError, MalformedCredential
from docking.store.changes import Learn, Link
from docking.store.store import Store

# Stations whose knowledge is remembered for one agent; beyond that, the oldest one is sent the whole trail again.
MAX_MARKS = 64
# Points kept in memory, for agents that move back and forth now.
_KEPT = 4096
# Links kept in memory: recently learned ones are not in the store yet.
_KEPT_LINKS = 8192
MAX_TRAIL_LINKS = 30_000
_BOUNDS = canonical.DecodeBounds(max_bytes=128 * 1024, max_depth=6, max_items=4096)


@frozen
class KnownUpTo:
    """How much a station knows of an agent's trail and results: number of links and their head, head of the results."""

    links: int
    head: bytes
    results: Head


Marks = Mapping[PublicKey, KnownUpTo]


@frozen
class VerifiedTrail:
    """A remembered point, who else knows which part of the trail, and the checkpoint that the links start after."""

    point: TrailPoint
    marks: Marks = field(factory=dict)
    checkpoint: bytes | None = field(default=None, repr=brief)
    amendments: bytes | None = field(default=None, repr=brief)
    """Under which it was verified."""

    def encode(self) -> bytes:
        """The point as bytes, for the store."""
        marks = [[key.raw, m.links, m.head, m.results.value()] for key, m in self.marks.items()]
        amended = [] if self.amendments is None else [self.amendments]
        return canonical.encode([self.point.payload(), marks, self.checkpoint, *amended], ordered=True)

    @classmethod
    def decode(cls, data: bytes) -> VerifiedTrail:
        """The inverse of `encode`. Raises `CredentialError` if the store is damaged."""
        whole = array(canonical.decode(data, _BOUNDS), "known point", 4)
        marks = {}
        for item in array(whole[1], "marks", MAX_MARKS):
            key, links, head, results = array(item, "mark", 4)
            pair = array(results, "results", 2)
            mark = KnownUpTo(uint(links, "links"), byte_string(head, "head", 32), Head.of((pair[0], pair[1])))
            marks[public_key(byte_string(key, "key", KEY_SIZE))] = mark
        return cls(TrailPoint.from_payload(whole[0]), marks, *whole[2:])


def moved_on(marks: Marks, steps: Iterable[tuple[TrailPoint, Signed[Any]]], end: TrailPoint) -> Marks:
    """`marks`, updated by these steps of a trail that now stands at `end`."""
    updated = dict(marks)
    steps = list(steps)
    afters = [before for before, _ in steps[1:]] + [end]
    for (_, signed), after in zip(steps, afters, strict=True):
        if signed.body.KIND == "commit" and after.results is not None:
            updated.pop(signed.signer, None)
            updated[signed.signer] = KnownUpTo(after.links, after.head, after.results)
    for key in list(updated)[: max(0, len(updated) - MAX_MARKS)]:
        del updated[key]
    return updated


def trail_links(
    steps: Iterable[tuple[TrailPoint, Signed[Any]]], end: TrailPoint
) -> tuple[tuple[bytes, bytes, bytes], ...]:
    """For each step: the head after it, the head before it, its envelope."""
    steps = list(steps)
    heads = [before.head for before, _ in steps] + [end.head]
    return tuple((heads[index + 1], heads[index], signed.envelope) for index, (_, signed) in enumerate(steps))


def result_links(entries: Sequence[bytes], start: Head | None) -> list[Link]:
    """Entries of a results chain as links. `start`: the head before them; None if the chain begins with its opening."""
    links = []
    previous = bytes(32) if start is None else start.digest
    for entry in entries:
        head = canonical.digest(entry)
        links.append(Link(head, previous, entry))
        previous = head
    return links


@define(eq=False, repr=False)
class VerifiedTrails(Mapping[bytes, TrailPoint]):
    """The points that this station remembers, by head: the `known` of `agents.capsule.Trust`."""

    _store: Store
    recent: OrderedDict[bytes, VerifiedTrail] = field(factory=OrderedDict)
    """Those in memory, which may be dropped; the store has all points."""
    _links: OrderedDict[bytes, Link] = field(factory=OrderedDict)

    def known(self, head: bytes) -> VerifiedTrail | None:
        """What is remembered under `head`, or None. Thread-safe."""
        found = self.recent.get(head)
        if found is None:
            data = self._store.point(head)
            if data is None:
                return None
            try:
                found = VerifiedTrail.decode(data)
            except CredentialError:
                return None
        return found

    def __getitem__(self, head: bytes) -> TrailPoint:
        found = self.known(head)
        if found is None:
            raise KeyError(head)
        return found.point

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.recent)

    def __len__(self) -> int:
        return len(self.recent)

    def learn(self, known: VerifiedTrail, links: Sequence[Link], expires: int) -> Learn:
        """Remember a point and the links to it from a remembered one; returns the change to write."""
        self.keep(known, links)
        return self.change(known, links, expires)

    def keep(self, known: VerifiedTrail, links: Sequence[Link]) -> None:
        """The first half of `learn`: remember it in memory. `change` must follow soon, and be written."""
        self.recent[known.point.head] = known
        while len(self.recent) > _KEPT:
            self.recent.popitem(last=False)
        for link in links:
            self._links[link.head] = link
        while len(self._links) > _KEPT_LINKS:
            self._links.popitem(last=False)

    @staticmethod
    def change(known: VerifiedTrail, links: Sequence[Link], expires: int) -> Learn:
        """The second half of `learn`: the change to write."""
        point = known.point
        return Learn(point.agent, expires, tuple(links), point.head, point.links, known.encode())

    def trail(self, head: bytes, after: bytes) -> list[bytes]:
        """The links after the head `after` up to `head`. Raises `MalformedCredential` if any is missing here."""
        return self._chain(head, after, MAX_TRAIL_LINKS, "trail")

    def results(self, head: Head, after: Head | None) -> list[bytes]:
        """The results after `after` up to `head`; they start with the opening if `after` is None."""
        return self._chain(head.digest, bytes(32) if after is None else after.digest, 1_000_001, "results")

    def _chain(self, head: bytes, after: bytes, most: int, what: str) -> list[bytes]:
        """The end of a chain from memory, and what comes before it from the store."""
        found: list[bytes] = []
        while head != after and (link := self._links.get(head)) is not None:
            found.append(link.body)
            head = link.previous
        rest = self._store.links(head, after, most)
        if rest is None:
            raise MalformedCredential(f"the beginning of the {what} is not remembered here any more")
        return rest + found[::-1]
