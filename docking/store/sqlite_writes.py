"""How each change is written: the SQL of the store's transactions.

Not when, by whom, and whether it lasts (`docking.store.sqlite`). Few statements and few pages: each statement gives the
interpreter away and must get it back, and each page is checked, copied and waited for. Invariants: a group is written
whole or not at all; `uses` of a part is the number of rows of cargo that name it; an agent's capsule is `departed`
exactly while the ledger says COMMITTED.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from attrs import define

from agents.canonical import Buffer
from docking.errors import StoreError
from docking.handoff.actions import Persist
from docking.handoff.messages import Part
from docking.handoff.states import Destination, Source
from docking.store.blobs import Blobs
from docking.store.changes import (
    Annotate,
    Change,
    DropCapsule,
    DropLetter,
    KeepPart,
    Learn,
    PostLetter,
    Prolong,
    Purge,
    PutCheckpoint,
    PutFact,
    PutJourney,
    RetryLetter,
    StoredPart,
)

# Images are what the next agent of the same kind needs; a passport is needed when its agent comes again.
KEPT_KINDS = frozenset({"image", "passport"})
# What is over may be purged.
FINAL_STATES: tuple[Source | Destination, ...] = (
    Source.GONE,
    Source.ABORTED,
    Destination.RUNNING,
    Destination.DISCARDED,
)
_FINAL_STATES = ", ".join(repr(state.value) for state in FINAL_STATES)
# A peer counts on the point where the agent last left us, a few links back; older ones nobody names.
_LINKS_BACK = 64
# Points are looked through for old ones once in as many links.
_LINKS_BETWEEN = 16
_PROLONG_CHAIN = (
    "WITH RECURSIVE chain(head) AS (VALUES (?1) UNION SELECT links.previous FROM links JOIN chain USING (head)) "
    "UPDATE links SET expires = ?2 WHERE head IN chain AND expires < ?2"
)
COLUMNS = "hid, side, state, agent, hop, peer, epoch, visit, expires, receipt, commitment, code, reason"
_PLACES = ", ".join("?" * 14)
# What becomes of a handoff touches one index of two.
_MOVE = (
    f"INSERT INTO ledger ({COLUMNS}, changed) VALUES ({_PLACES}) ON CONFLICT (hid, side) DO UPDATE SET "
    "state = excluded.state, peer = excluded.peer, epoch = excluded.epoch, visit = excluded.visit, "
    "expires = excluded.expires, receipt = excluded.receipt, commitment = excluded.commitment, code = excluded.code, "
    "reason = excluded.reason, changed = excluded.changed WHERE agent = excluded.agent AND hop = excluded.hop"
)
_NEW_CAPSULE = "INSERT INTO capsules VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_UNUSE = "UPDATE parts SET uses = uses - 1, idle = CASE uses WHEN 1 THEN ? END WHERE digest = ?"
_DROP_BODY = "DELETE FROM bodies WHERE number = (SELECT number FROM parts WHERE digest = ? AND uses = 0)"
_DROP_PART = "DELETE FROM parts WHERE digest = ? AND uses = 0"


def cargo_of(connection: sqlite3.Connection, agent: bytes, hop: int) -> tuple[Part, ...]:
    """What a capsule is made of, in order."""
    rows = connection.execute(
        "SELECT kind, digest, size FROM cargo WHERE agent = ? AND hop = ? ORDER BY position", (agent, hop)
    )
    return tuple(Part(*row) for row in rows)


@define(eq=False, repr=False)
class SqliteWriter:
    """Writes changes through `connection`.

    `clock`: milliseconds since 1970; `large`: where large bodies go; `number`: of the last of the others.
    """

    connection: sqlite3.Connection
    _clock: Callable[[], int]
    _large: Blobs
    _number: int

    def groups(self, groups: Sequence[Sequence[Change]]) -> list[StoreError | None]:
        """Begin a transaction and write groups of changes; for each, None, or why it alone was left out.

        Raises `StoreError` or `sqlite3.Error`: the transaction must be rolled back.
        """
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            for group in groups:
                self._changes(group)
            return [None] * len(groups)
        except StoreError:
            if len(groups) == 1:
                raise
        # Savepoints only now: with one open, every page that becomes free is written to the log.
        self.connection.execute("ROLLBACK")
        self._large.doubt()
        self.connection.execute("BEGIN IMMEDIATE")
        return [self._group(group) for group in groups]

    def _group(self, group: Sequence[Change]) -> StoreError | None:
        self.connection.execute("SAVEPOINT one")
        try:
            self._changes(group)
        except StoreError as error:
            self.connection.execute("ROLLBACK TO one")
            self._large.doubt()
            self.connection.execute("RELEASE one")
            return error
        self.connection.execute("RELEASE one")
        return None

    def _changes(self, group: Sequence[Change]) -> None:
        try:
            for change in group:
                self._write(change)
        except sqlite3.IntegrityError as error:
            raise StoreError(str(error)) from error

    def _write(self, change: Change) -> None:
        match change:
            case Persist():
                self._persist(change)
            case Learn():
                self._learn(change)
            case PutCheckpoint(agent, hop, parts, note):
                self._put_capsule(agent, hop, "live", parts, note)
            case Annotate(agent, hop, note):
                self._one("UPDATE capsules SET note = ? WHERE agent = ? AND hop = ?", (note, agent, hop))
            case DropCapsule(agent, hop):
                self._drop_capsule(agent, hop)
            case KeepPart(part, body):
                now = self._clock()
                self._add([(part, body)], 0, now)
                self.connection.execute("UPDATE parts SET idle = ? WHERE digest = ? AND uses = 0", (now, part.digest))
            case PostLetter(recipient, kind, body, expires):
                self.connection.execute(
                    "INSERT INTO outbox (recipient, kind, body, due, expires, attempts) VALUES (?, ?, ?, ?, ?, 0)",
                    (recipient, kind, body, self._clock(), expires),
                )
            case RetryLetter(number, due):
                self.connection.execute(
                    "UPDATE outbox SET due = ?, attempts = attempts + 1 WHERE number = ?", (due, number)
                )
            case DropLetter(number):
                self.connection.execute("DELETE FROM outbox WHERE number = ?", (number,))
            case PutFact(name, None):
                self.connection.execute("DELETE FROM facts WHERE name = ?", (name,))
            case PutFact(name, value):
                self.connection.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (name, value))
            case PutJourney(agent, expires, record, capsule):
                self.connection.execute(
                    "INSERT INTO journeys VALUES (?, ?, ?, ?) ON CONFLICT (agent) DO UPDATE SET "
                    "expires = excluded.expires, record = excluded.record, "
                    "capsule = CASE WHEN ? THEN excluded.capsule ELSE capsule END",
                    (agent, expires, record, capsule or b"", capsule is not None),
                )
            case Prolong(agent, heads, expires):
                self._prolong(agent, heads, expires)
            case Purge(idle_bytes):
                self._purge(idle_bytes)

    def _prolong(self, agent: bytes, heads: tuple[bytes, ...], expires: int) -> None:
        for table in ("points", "ledger"):
            self.connection.execute(
                f"UPDATE {table} SET expires = ?1 WHERE agent = ?2 AND expires < ?1", (expires, agent)
            )
        for head in heads:
            self.connection.execute(_PROLONG_CHAIN, (head, expires))

    def _learn(self, change: Learn) -> None:
        self.connection.executemany(
            "INSERT OR REPLACE INTO links VALUES (?, ?, ?, ?)",
            [(link.head, link.previous, link.body, change.expires) for link in change.links],
        )
        self.connection.execute(
            "INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?)",
            (change.head, change.agent, change.number, change.point, change.expires),
        )
        before = change.number - len(change.links)
        if change.number // _LINKS_BETWEEN != before // _LINKS_BETWEEN:
            limit = change.number - _LINKS_BACK
            self.connection.execute("DELETE FROM points WHERE agent = ? AND links < ?", (change.agent, limit))

    def _persist(self, change: Persist) -> None:
        record = change.record
        row = (
            record.hid,
            record.side.text,
            record.state.text,
            record.agent,
            record.hop,
            record.peer,
            record.epoch,
            record.visit,
            record.expires,
            record.receipt,
            record.commit,
            record.code,
            record.reason,
            self._clock(),
        )
        if (
            self.connection.execute(_MOVE, row).rowcount == 0
        ):  # of another agent or hop: its place in the index changes too
            self.connection.execute(f"INSERT OR REPLACE INTO ledger ({COLUMNS}, changed) VALUES ({_PLACES})", row)
        self._follow(change)

    def _follow(self, change: Persist) -> None:
        """Have the capsules say what the ledger says from this change on, in the same transaction."""
        record = change.record
        match record.state:
            case Source.COMMITTED:
                self._stand(record.agent, record.hop, "departed")
            case Source.ABORTED:
                self._stand(record.agent, record.hop, "live")
            case Source.GONE:
                self._drop_capsule(record.agent, record.hop)
            case Destination.HELD:
                assert change.cargo is not None
                bodies = {body.index: body.data for body in change.cargo.bodies}
                parts = (StoredPart(part, bodies.get(i)) for i, part in enumerate(change.cargo.offer.parts))
                self._put_capsule(record.agent, record.hop + 1, "held", tuple(parts), b"")
            case Destination.RUNNING:
                self._stand(record.agent, record.hop + 1, "live")
            case Destination.DISCARDED:
                self._drop_capsule(record.agent, record.hop + 1)
            case _:
                pass

    def _put_capsule(self, agent: bytes, hop: int, standing: str, parts: tuple[StoredPart, ...], note: bytes) -> None:
        now = self._clock()
        self._use(parts)
        replaced = 0
        if standing == "live":
            sql = "UPDATE capsules SET changed = ?, note = ? WHERE agent = ? AND hop = ? AND standing = 'live'"
            replaced = self.connection.execute(sql, (now, note, agent, hop)).rowcount
        if replaced:
            # First the new, then the old: what both have stays.
            self._unuse(agent, hop)
        elif self.connection.execute(_NEW_CAPSULE, (agent, hop, standing, now, note)).rowcount == 0:
            raise StoreError("there is a capsule of this agent and hop already, and it is not to be replaced")
        self.connection.executemany(
            "INSERT INTO cargo VALUES (?, ?, ?, ?, ?, ?)",
            [(agent, hop, i, s.part.kind, s.part.digest, s.part.size) for i, s in enumerate(parts)],
        )

    def _use(self, parts: tuple[StoredPart, ...]) -> None:
        """One more use of each of these parts, in order."""
        added = [(stored.part, stored.body) for stored in parts if stored.body is not None]
        known = [(stored.part.digest, stored.part.size) for stored in parts if stored.body is None]
        self._add(added, 1, None)
        found = self.connection.executemany(
            "UPDATE parts SET uses = uses + 1, idle = NULL WHERE digest = ? AND size = ?", known
        )
        if known and found.rowcount != len(known):
            raise _missing()

    def _add(self, parts: Sequence[tuple[Part, Buffer]], uses: int, idle: int | None) -> None:
        """Parts with their bodies, and so many uses of each; those that are here have their body already."""
        rows, bodies = [], []
        for part, body in parts:
            number = None
            if len(body) >= self._large.least:
                self._large.put(part.digest, body)
            else:
                self._number = number = self._number + 1
                bodies.append((number, body, part.digest, number))
            rows.append((part.digest, part.size, uses, idle, number))
        self.connection.executemany(
            "INSERT INTO parts VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (digest) DO UPDATE SET uses = uses + excluded.uses, idle = excluded.idle "
            "WHERE excluded.uses > 0",
            rows,
        )
        self.connection.executemany(
            "INSERT INTO bodies SELECT ?, ? WHERE EXISTS (SELECT 1 FROM parts WHERE digest = ? AND number = ?)", bodies
        )

    def _unuse(self, agent: bytes, hop: int) -> None:
        """The capsule's parts are not its own any more, nor is its cargo."""
        cargo = self.connection.execute(
            "SELECT digest, kind FROM cargo WHERE agent = ? AND hop = ?", (agent, hop)
        ).fetchall()
        if self._large.any:
            self._large.touch(digest for digest, _ in cargo)
        kept = {digest for digest, kind in cargo if kind in KEPT_KINDS}
        useless = [(digest,) for digest, _ in cargo if digest not in kept]
        now = self._clock()
        self.connection.executemany(_UNUSE, [(now, digest) for digest, _ in cargo])
        self.connection.executemany(_DROP_BODY, useless)
        self.connection.executemany(_DROP_PART, useless)
        self.connection.execute("DELETE FROM cargo WHERE agent = ? AND hop = ?", (agent, hop))

    def _drop_capsule(self, agent: bytes, hop: int) -> None:
        self._unuse(agent, hop)
        self.connection.execute("DELETE FROM capsules WHERE agent = ? AND hop = ?", (agent, hop))

    def _stand(self, agent: bytes, hop: int, standing: str) -> None:
        self.connection.execute(
            "UPDATE capsules SET standing = ?, changed = ? WHERE agent = ? AND hop = ?",
            (standing, self._clock(), agent, hop),
        )

    def _purge(self, idle_bytes: int) -> None:
        now = self._clock()
        self.connection.execute(
            f"DELETE FROM ledger WHERE expires < ? AND state IN ({_FINAL_STATES})",
            (now,),
        )
        for table in ("outbox", "links", "points", "journeys"):
            self.connection.execute(f"DELETE FROM {table} WHERE expires < ?", (now,))
        rows = self.connection.execute(
            "SELECT size, digest, number FROM parts WHERE idle IS NOT NULL ORDER BY idle DESC, digest DESC"
        ).fetchall()
        for size, digest, number in rows:
            idle_bytes -= size
            if idle_bytes < 0:
                self.connection.execute("DELETE FROM bodies WHERE number = ?", (number,))
                self.connection.execute("DELETE FROM parts WHERE digest = ?", (digest,))
                self._large.touch([digest])

    def _one(self, sql: str, values: tuple[object, ...]) -> None:
        if self.connection.execute(sql, values).rowcount != 1:
            raise _missing()


def _missing() -> StoreError:
    return StoreError("what this change builds on is not in the store")
