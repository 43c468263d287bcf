"""The rows of a volatile store: dictionaries. A station that keeps nothing has nothing to gain from a database.

It is not a cache of one. Invariants: a row is a value that is replaced and never changed, and every replacement is
noted until its group is whole, so that a group that fails leaves no trace; an index says what its table says; a part
has as many uses as rows of cargo name it; a small part does not keep the message alive that it came in.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from attrs import define, evolve, field

from docking.changes import (
    Annotate,
    Capsule,
    Change,
    Checkpoint,
    DropCapsule,
    DropLetter,
    KeepPart,
    Learn,
    Letter,
    PostLetter,
    Purge,
    PutFact,
    PutJourney,
    RetryLetter,
    StoredPart,
)
from docking.errors import StoreError
from docking.handoff.actions import Persist, Record
from docking.handoff.messages import DIGEST_SIZE, Buffer, Part, Side
from docking.handoff.states import Destination, Source
from docking.tables import KEPT_KINDS, OPEN, OVER, capsules_follow, forgotten
from docking.undo import Undo

# From this size on (bytes), a body is kept as it came: copying it costs more than what lies around it.
_LARGE = 32 * 1024
_STATES = {
    Side.SOURCE: frozenset(s for s in (*OPEN, *OVER) if isinstance(s, Source)),
    Side.DESTINATION: frozenset(s for s in (*OPEN, *OVER) if isinstance(s, Destination)),
}

_Key: TypeAlias = "tuple[bytes, Side]"
_Visit: TypeAlias = "tuple[bytes, int]"
_PartRow: TypeAlias = "tuple[int, int, int | None, Buffer]"  # size, uses, idle since, body
_CapsuleRow: TypeAlias = "tuple[str, int, bytes, tuple[Part, ...]]"  # standing, changed, note, cargo


@define(eq=False)
class MemoryTables:
    """The tables. `clock`: milliseconds since 1970; `facts`: those that it begins with."""

    _clock: Callable[[], int]
    _facts: dict[str, bytes]
    _ledger: dict[_Key, tuple[Record, int]] = field(factory=dict)
    _visits: dict[bytes, dict[int, tuple[_Key, ...]]] = field(factory=dict)  # rows of the ledger by agent and hop
    _open: dict[_Key, bool] = field(factory=dict)
    _parts: dict[bytes, _PartRow] = field(factory=dict)
    _capsules: dict[_Visit, _CapsuleRow] = field(factory=dict)
    _outbox: dict[int, Letter] = field(factory=dict)
    _numbers: dict[str, int] = field(factory=dict)
    _due: list[tuple[int, int]] = field(factory=list)  # due and number of each letter, sorted
    _links: dict[bytes, tuple[bytes, bytes, int]] = field(factory=dict)  # previous, body, expires
    _points: dict[bytes, tuple[bytes, int, bytes, int]] = field(factory=dict)  # agent, number, point, expires
    _trails: dict[bytes, dict[bytes, int]] = field(factory=dict)  # numbers of points by agent and head
    _journeys: dict[bytes, tuple[int, bytes, bytes]] = field(factory=dict)  # expires, record, capsule
    _undo: Undo = field(factory=Undo)
    _lock: threading.RLock = field(factory=threading.RLock)

    # Writing

    def write(self, groups: Sequence[Sequence[Change]]) -> list[StoreError | None]:
        return [self._group(group) for group in groups]

    def commit(self) -> None:
        pass

    def close(self) -> None:
        pass

    def log_size(self) -> int:
        return 0

    def log_used(self) -> int:
        return 0

    def empty_log(self, wholly: bool) -> None:
        pass

    def _group(self, group: Sequence[Change]) -> StoreError | None:
        with self._lock:
            try:
                for change in group:
                    self._write(change)
            except BaseException as error:
                self._undo.roll_back()
                self._due = sorted((letter.due, number) for number, letter in self._outbox.items())
                if isinstance(error, StoreError):
                    return error
                raise
            self._undo.forget()
        return None

    def _write(self, change: Change) -> None:
        match change:
            case Persist():
                self._persist(change)
            case Learn():
                self._learn(change)
            case Checkpoint(agent, hop, parts, note):
                self._put_capsule(agent, hop, "live", parts, note)
            case Annotate(agent, hop, note):
                row = self._capsules.get((agent, hop))
                if row is None:
                    raise _missing()
                self._undo.set(self._capsules, (agent, hop), (row[0], row[1], note, row[3]))
            case DropCapsule(agent, hop):
                self._drop_capsule(agent, hop)
            case KeepPart(part, body):
                before = self._parts.get(part.digest)
                if before is None:
                    self._add_part(part, 0, self._clock(), body)
                elif before[1] == 0:
                    self._undo.set(self._parts, part.digest, (before[0], 0, self._clock(), before[3]))
            case PostLetter() | RetryLetter() | DropLetter():
                self._correspond(change)
            case PutFact(name, value):
                if value is None:
                    self._undo.drop(self._facts, name)
                else:
                    self._undo.set(self._facts, name, value)
            case PutJourney(agent, expires, record, capsule):
                _check(agent)
                there = self._journeys.get(agent, (0, b"", b""))[2] if capsule is None else capsule
                self._undo.set(self._journeys, agent, (expires, record, there))
            case Purge(idle_bytes):
                self._purge(idle_bytes)

    def _correspond(self, change: PostLetter | RetryLetter | DropLetter) -> None:
        if isinstance(change, PostLetter):
            number = self._numbers.get("letter", 0) + 1
            self._undo.set(self._numbers, "letter", number)
            letter = Letter(number, change.recipient, change.kind, change.body, self._clock(), change.expires, 0)
            self._undo.set(self._outbox, number, letter)
            bisect.insort(self._due, (letter.due, number))
            return
        before = self._outbox.get(change.number)
        if before is None:
            return
        del self._due[bisect.bisect_left(self._due, (before.due, before.number))]
        if isinstance(change, DropLetter):
            self._undo.drop(self._outbox, change.number)
        else:
            self._undo.set(self._outbox, change.number, evolve(before, due=change.due, attempts=before.attempts + 1))
            bisect.insort(self._due, (change.due, change.number))

    def _learn(self, change: Learn) -> None:
        for link in change.links:
            _check(link.head)
            self._undo.set(self._links, link.head, (link.previous, link.body, change.expires))
        _check(change.head)
        self._forget_point(change.head)
        self._undo.set(self._points, change.head, (change.agent, change.number, change.point, change.expires))
        self._undo.set_below(self._trails, change.agent, change.head, change.number)
        limit = forgotten(change)
        if limit is not None:
            for head in [head for head, number in self._trails[change.agent].items() if number < limit]:
                self._forget_point(head)

    def _forget_point(self, head: bytes) -> None:
        row = self._points.get(head)
        if row is not None:
            self._undo.drop(self._points, head)
            self._undo.drop_below(self._trails, row[0], head)

    def _persist(self, change: Persist) -> None:
        record, state = change.record, change.record.state
        if state not in _STATES[record.side]:
            raise StoreError(f"{state} is no state of the {record.side.value} that is written")
        _check(record.hid, record.agent, record.peer)
        key = record.hid, record.side
        before = self._ledger.get(key)
        if before is not None and (before[0].agent, before[0].hop) != (record.agent, record.hop):
            self._unlist(key, before[0])
            before = None
        self._undo.set(self._ledger, key, (record, self._clock()))
        if before is None:
            there = self._visits.get(record.agent, {}).get(record.hop, ())
            self._undo.set_below(self._visits, record.agent, record.hop, (*there, key))
        if state in OPEN:
            self._undo.set(self._open, key, True)
        else:
            self._undo.drop(self._open, key)
        capsules_follow(change, self._stand, self._put_capsule, self._drop_capsule)

    def _unlist(self, key: _Key, record: Record) -> None:
        rest = tuple(each for each in self._visits[record.agent][record.hop] if each != key)
        if rest:
            self._undo.set_below(self._visits, record.agent, record.hop, rest)
        else:
            self._undo.drop_below(self._visits, record.agent, record.hop)

    def _put_capsule(self, agent: bytes, hop: int, standing: str, parts: tuple[StoredPart, ...], note: bytes) -> None:
        _check(agent)
        there = self._capsules.get((agent, hop))
        if there is not None and (standing, there[0]) != ("live", "live"):
            raise StoreError(f"there is a capsule of this agent and hop already, and it is {there[0]}")
        # First the new, then the old: what both have stays.
        for stored in sorted(parts, key=lambda stored: stored.body is None):
            self._use(stored)
        if there is not None:
            self._unuse(there[3])
        row = (standing, self._clock(), note, tuple(stored.part for stored in parts))
        self._undo.set(self._capsules, (agent, hop), row)

    def _use(self, stored: StoredPart) -> None:
        part, body = stored.part, stored.body
        row = self._parts.get(part.digest)
        if row is None and body is not None:
            self._add_part(part, 1, None, body)
        elif row is None or (body is None and row[0] != part.size):
            raise _missing()
        else:
            self._undo.set(self._parts, part.digest, (row[0], row[1] + 1, None, row[3]))

    def _add_part(self, part: Part, uses: int, idle: int | None, body: Buffer) -> None:
        _check(part.digest)
        self._undo.set(self._parts, part.digest, (part.size, uses, idle, _kept(body)))

    def _unuse(self, parts: tuple[Part, ...]) -> None:
        now = self._clock()
        kept = {part.digest for part in parts if part.kind in KEPT_KINDS}
        for part in parts:
            size, uses, _, body = self._parts[part.digest]
            if uses > 1 or part.digest in kept:
                self._undo.set(self._parts, part.digest, (size, uses - 1, now if uses == 1 else None, body))
            else:
                self._undo.drop(self._parts, part.digest)

    def _drop_capsule(self, agent: bytes, hop: int) -> None:
        row = self._capsules.get((agent, hop))
        if row is not None:
            self._unuse(row[3])
            self._undo.drop(self._capsules, (agent, hop))

    def _stand(self, agent: bytes, hop: int, standing: str) -> None:
        row = self._capsules.get((agent, hop))
        if row is not None:
            self._undo.set(self._capsules, (agent, hop), (standing, self._clock(), *row[2:]))

    def _purge(self, idle_bytes: int) -> None:
        now = self._clock()
        over = [(key, r) for key, (r, _) in self._ledger.items() if r.expires < now and r.state in OVER]
        for key, record in over:
            self._undo.drop(self._ledger, key)
            self._unlist(key, record)
        for letter in [letter for letter in self._outbox.values() if letter.expires < now]:
            self._correspond(DropLetter(letter.number))
        for head in [head for head, row in self._links.items() if row[2] < now]:
            self._undo.drop(self._links, head)
        for head in [head for head, row in self._points.items() if row[3] < now]:
            self._forget_point(head)
        for agent in [agent for agent, row in self._journeys.items() if row[0] < now]:
            self._undo.drop(self._journeys, agent)
        idle = ((row[2], digest, row[0]) for digest, row in self._parts.items() if row[2] is not None)
        for _, digest, size in sorted(idle, reverse=True):
            idle_bytes -= size
            if idle_bytes < 0:
                self._undo.drop(self._parts, digest)

    # Reading

    def record(self, hid: bytes, side: Side) -> Record | None:
        with self._lock:
            row = self._ledger.get((hid, side))
        return None if row is None else row[0]

    def copies(self, agent: bytes, hop: int) -> list[Record]:
        with self._lock:
            return self._listed(key for key in self._at(agent, hop) if key[1] is Side.DESTINATION)

    def history(self, agent: bytes) -> list[Record]:
        with self._lock:
            hops = sorted(self._visits.get(agent, ()))
            return [record for hop in hops for record in self._listed(self._at(agent, hop))]

    def unfinished(self) -> list[Record]:
        with self._lock:
            return self._listed(self._open)

    def _at(self, agent: bytes, hop: int) -> tuple[_Key, ...]:
        return self._visits.get(agent, {}).get(hop, ())

    def _listed(self, keys: Iterable[_Key]) -> list[Record]:
        """Rows of the ledger, longest unchanged first."""
        rows = [self._ledger[key] for key in keys]
        rows.sort(key=lambda row: (row[1], row[0].hid, row[0].side.value))
        return [record for record, _ in rows]

    def capsule(self, agent: bytes, hop: int) -> Capsule | None:
        with self._lock:
            row = self._capsules.get((agent, hop))
        return None if row is None else Capsule(agent, hop, row[0], row[2], row[3])

    def capsules(self, standing: str) -> list[Capsule]:
        with self._lock:
            rows = [(row[1], *visit, row) for visit, row in self._capsules.items() if row[0] == standing]
        rows.sort(key=lambda row: row[:3])
        return [Capsule(agent, hop, row[0], row[2], row[3]) for _, agent, hop, row in rows]

    def has_part(self, digest: bytes) -> bool:
        with self._lock:
            return digest in self._parts

    def part(self, digest: bytes) -> bytes | None:
        with self._lock:
            row = self._parts.get(digest)
        return None if row is None else bytes(row[3])

    def point(self, head: bytes) -> bytes | None:
        with self._lock:
            row = self._points.get(head)
        return None if row is None else row[2]

    def last_point(self, agent: bytes) -> bytes | None:
        with self._lock:
            trail = self._trails.get(agent)
            return None if trail is None else self._points[max(trail, key=lambda head: (trail[head], head))][2]

    def links(self, head: bytes, after: bytes, most: int) -> list[bytes] | None:
        found: list[bytes] = []
        with self._lock:
            while head != after:
                row = self._links.get(head)
                if row is None or len(found) >= most:
                    return None
                head = row[0]
                found.append(row[1])
        return found[::-1]

    def journey(self, agent: bytes) -> tuple[bytes, bytes] | None:
        with self._lock:
            row = self._journeys.get(agent)
        return None if row is None else row[1:]

    def journeys(self) -> list[tuple[bytes, bytes]]:
        with self._lock:
            return sorted((agent, row[1]) for agent, row in self._journeys.items())

    def letters(self, now: int, most: int) -> list[Letter]:
        with self._lock:
            due = bisect.bisect_left(self._due, (now + 1, 0))
            return [self._outbox[number] for _, number in self._due[: min(due, most)]]

    def fact(self, name: str) -> bytes | None:
        with self._lock:
            return self._facts.get(name)


def _kept(body: Buffer) -> Buffer:
    """`body`, to be kept for long: of a larger message, only what is wanted."""
    if isinstance(body, bytes):
        return body
    whole = memoryview(body).obj
    size = len(whole) if isinstance(whole, bytes | bytearray) else len(body)
    return body if len(body) >= _LARGE and size <= 2 * len(body) else bytes(body)


def _check(*names: bytes) -> None:
    for name in names:
        if len(name) != DIGEST_SIZE:
            raise StoreError(f"a digest, an id or a key has {DIGEST_SIZE} bytes")


def _missing() -> StoreError:
    return StoreError("what this change builds on is not in the store")
