"""How each change is written to the disk: the SQL of the store's transactions.

Not when, by whom, and whether it lasts (`docking.disk`). Few statements and few pages: each statement gives the
interpreter away and must get it back, and each page is checked, copied and waited for. Invariants: a group is written
whole or not at all; `uses` of a part is the number of rows of cargo that name it; an agent's capsule is `departed`
exactly while the ledger says COMMITTED.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define

from docking.bodies import FileBodies
from docking.changes import (
    Annotate,
    Change,
    Checkpoint,
    DropCapsule,
    DropLetter,
    KeepPart,
    Learn,
    PostLetter,
    Purge,
    PutFact,
    PutJourney,
    RetryLetter,
    StoredPart,
)
from docking.errors import StoreError
from docking.handoff.actions import Persist
from docking.handoff.messages import Buffer, Part
from docking.tables import KEPT_KINDS, OVER, capsules_follow, forgotten

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
_CARGO = "FROM cargo WHERE agent = :agent AND hop = :hop"
_COUNT = f"(SELECT count(*) {_CARGO} AND digest = parts.digest)"
_USED = f"digest IN (SELECT digest {_CARGO})"
_KEPT = ", ".join(f"'{kind}'" for kind in sorted(KEPT_KINDS))
_USELESS = f"{_USED} AND uses = 0 AND digest NOT IN (SELECT digest {_CARGO} AND kind IN ({_KEPT}))"
_UNUSE = (
    f"UPDATE parts SET uses = uses - {_COUNT}, idle = CASE uses WHEN {_COUNT} THEN :now END WHERE {_USED}",
    f"DELETE FROM bodies WHERE number IN (SELECT number FROM parts WHERE {_USELESS})",
    f"DELETE FROM parts WHERE {_USELESS}",
)


def cargo_of(connection: sqlite3.Connection, agent: bytes, hop: int) -> tuple[Part, ...]:
    """What a capsule is made of, in order."""
    rows = connection.execute(
        "SELECT kind, digest, size FROM cargo WHERE agent = ? AND hop = ? ORDER BY position", (agent, hop)
    )
    return tuple(Part(*row) for row in rows)


@define(eq=False)
class Writing:
    """Writes changes through `connection`. `number`: of the next body; `clock`: milliseconds since 1970."""

    _connection: sqlite3.Connection
    _clock: Callable[[], int]
    _large: FileBodies
    _number: int

    def groups(self, groups: Sequence[Sequence[Change]]) -> list[StoreError | None]:
        """Begin a transaction and write groups of changes; for each, None, or why it alone was left out.

        Raises `StoreError` or `sqlite3.Error`: the transaction must be rolled back.
        """
        self._run("BEGIN IMMEDIATE")
        try:
            for group in groups:
                self._changes(group)
            return [None] * len(groups)
        except StoreError:
            if len(groups) == 1:
                raise
        # Savepoints only now: with one open, every page that becomes free is written to the log.
        self._run("ROLLBACK")
        self._run("BEGIN IMMEDIATE")
        return [self._group(group) for group in groups]

    def _group(self, group: Sequence[Change]) -> StoreError | None:
        self._run("SAVEPOINT one")
        try:
            self._changes(group)
        except StoreError as error:
            self._run("ROLLBACK TO one")
            self._run("RELEASE one")
            return error
        self._run("RELEASE one")
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
            case Checkpoint(agent, hop, parts, note):
                self._put_capsule(agent, hop, "live", parts, note)
            case Annotate(agent, hop, note):
                self._one("UPDATE capsules SET note = ? WHERE agent = ? AND hop = ?", (note, agent, hop))
            case DropCapsule(agent, hop):
                self._drop_capsule(agent, hop)
            case KeepPart(part, body):
                now = self._clock()
                self._add([(part, body)], 0, now)
                self._run("UPDATE parts SET idle = ? WHERE digest = ? AND uses = 0", (now, part.digest))
            case PostLetter(recipient, kind, body, expires):
                self._run(
                    "INSERT INTO outbox (recipient, kind, body, due, expires, attempts) VALUES (?, ?, ?, ?, ?, 0)",
                    (recipient, kind, body, self._clock(), expires),
                )
            case RetryLetter(number, due):
                self._run("UPDATE outbox SET due = ?, attempts = attempts + 1 WHERE number = ?", (due, number))
            case DropLetter(number):
                self._run("DELETE FROM outbox WHERE number = ?", (number,))
            case PutFact(name, None):
                self._run("DELETE FROM facts WHERE name = ?", (name,))
            case PutFact(name, value):
                self._run("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (name, value))
            case Learn():
                self._learn(change)
            case PutJourney(agent, expires, record, capsule):
                self._run(
                    "INSERT INTO journeys VALUES (?, ?, ?, ?) ON CONFLICT (agent) DO UPDATE SET "
                    "expires = excluded.expires, record = excluded.record, "
                    "capsule = CASE WHEN ? THEN excluded.capsule ELSE capsule END",
                    (agent, expires, record, capsule or b"", capsule is not None),
                )
            case Purge(idle_bytes):
                self._purge(idle_bytes)

    def _learn(self, change: Learn) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO links VALUES (?, ?, ?, ?)",
            [(link.head, link.previous, link.body, change.expires) for link in change.links],
        )
        self._run(
            "INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?)",
            (change.head, change.agent, change.number, change.point, change.expires),
        )
        limit = forgotten(change)
        if limit is not None:
            self._run("DELETE FROM points WHERE agent = ? AND links < ?", (change.agent, limit))

    def _persist(self, change: Persist) -> None:
        record = change.record
        row = (
            record.hid,
            record.side.value,
            record.state.value,
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
        if self._run(_MOVE, row).rowcount == 0:  # of another agent or hop: its place in the index changes too
            self._run(f"INSERT OR REPLACE INTO ledger ({COLUMNS}, changed) VALUES ({_PLACES})", row)
        capsules_follow(change, self._stand, self._put_capsule, self._drop_capsule)

    def _put_capsule(self, agent: bytes, hop: int, standing: str, parts: tuple[StoredPart, ...], note: bytes) -> None:
        now = self._clock()
        self._use(parts)
        replaced = 0
        if standing == "live":
            sql = "UPDATE capsules SET changed = ?, note = ? WHERE agent = ? AND hop = ? AND standing = 'live'"
            replaced = self._run(sql, (now, note, agent, hop)).rowcount
        if replaced:
            # First the new, then the old: what both have stays.
            self._unuse(agent, hop)
        elif self._run(_NEW_CAPSULE, (agent, hop, standing, now, note)).rowcount == 0:
            raise StoreError("there is a capsule of this agent and hop already, and it is not to be replaced")
        self._connection.executemany(
            "INSERT INTO cargo VALUES (?, ?, ?, ?, ?, ?)",
            [(agent, hop, i, s.part.kind, s.part.digest, s.part.size) for i, s in enumerate(parts)],
        )

    def _use(self, parts: tuple[StoredPart, ...]) -> None:
        """One more use of each of these parts, in order."""
        added = [(stored.part, stored.body) for stored in parts if stored.body is not None]
        known = [(stored.part.digest, stored.part.size) for stored in parts if stored.body is None]
        self._add(added, 1, None)
        found = self._connection.executemany(
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
        self._connection.executemany(
            "INSERT INTO parts VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (digest) DO UPDATE SET uses = uses + excluded.uses, idle = excluded.idle "
            "WHERE excluded.uses > 0",
            rows,
        )
        self._connection.executemany(
            "INSERT INTO bodies SELECT ?, ? WHERE EXISTS (SELECT 1 FROM parts WHERE digest = ? AND number = ?)", bodies
        )

    def _unuse(self, agent: bytes, hop: int) -> None:
        """The capsule's parts are not its own any more, nor is its cargo."""
        names = {"agent": agent, "hop": hop, "now": self._clock()}
        if self._large.any:
            self._large.touch(part.digest for part in cargo_of(self._connection, agent, hop))
        for sql in _UNUSE:
            self._run(sql, names)
        self._run("DELETE FROM cargo WHERE agent = ? AND hop = ?", (agent, hop))

    def _drop_capsule(self, agent: bytes, hop: int) -> None:
        self._unuse(agent, hop)
        self._run("DELETE FROM capsules WHERE agent = ? AND hop = ?", (agent, hop))

    def _stand(self, agent: bytes, hop: int, standing: str) -> None:
        self._run(
            "UPDATE capsules SET standing = ?, changed = ? WHERE agent = ? AND hop = ?",
            (standing, self._clock(), agent, hop),
        )

    def _purge(self, idle_bytes: int) -> None:
        now = self._clock()
        self._run(
            f"DELETE FROM ledger WHERE expires < ? AND state IN ({', '.join(repr(state.value) for state in OVER)})",
            (now,),
        )
        for table in ("outbox", "links", "points", "journeys"):
            self._run(f"DELETE FROM {table} WHERE expires < ?", (now,))
        rows = self._run(
            "SELECT size, digest, number FROM parts WHERE idle IS NOT NULL ORDER BY idle DESC, digest DESC"
        ).fetchall()
        for size, digest, number in rows:
            idle_bytes -= size
            if idle_bytes < 0:
                self._run("DELETE FROM bodies WHERE number = ?", (number,))
                self._run("DELETE FROM parts WHERE digest = ?", (digest,))
                self._large.touch([digest])

    def _one(self, sql: str, values: tuple[Any, ...]) -> None:
        if self._run(sql, values).rowcount != 1:
            raise _missing()

    def _run(self, sql: str, values: tuple[Any, ...] | dict[str, Any] = ()) -> sqlite3.Cursor:
        return self._connection.execute(sql, values)


def _missing() -> StoreError:
    return StoreError("what this change builds on is not in the store")
