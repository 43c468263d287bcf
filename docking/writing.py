"""How each change is written: the SQL of the store's transactions.

Not when, by whom, and whether it lasts (`docking.store`). Invariants: a group is written whole or not at
all; `uses` of a part is the number of rows of cargo that name it; an agent's capsule is `departed` exactly
while the ledger says COMMITTED.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen

from docking.bodies import Bodies
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
from docking.handoff.states import Destination, Source

# Images are what the next agent of the same kind needs; a passport is needed when its agent comes again.
KEPT_KINDS = frozenset({"image", "passport"})
# A peer counts on the point where the agent last left us, a few links back; older ones nobody names.
_LINKS_BACK = 64
COLUMNS = "hid, side, state, agent, hop, peer, epoch, visit, expires, receipt, commitment, code, reason"


def cargo_of(connection: sqlite3.Connection, agent: bytes, hop: int) -> tuple[Part, ...]:
    """What a capsule is made of, in order."""
    rows = connection.execute(
        "SELECT kind, digest, size FROM cargo WHERE agent = ? AND hop = ? ORDER BY position", (agent, hop)
    )
    return tuple(Part(*row) for row in rows)


@frozen
class Writing:
    """Writes changes through `connection`, inside a transaction that somebody else begins and ends."""

    _connection: sqlite3.Connection
    _clock: Callable[[], int]
    _large: Bodies

    def group(self, group: Sequence[Change]) -> StoreError | None:
        """Write all of these changes, or none: then why not.

        An `sqlite3.Error` ends the whole transaction.
        """
        self._run("SAVEPOINT one")
        try:
            self.changes(group)
        except StoreError as error:
            self._run("ROLLBACK TO one")
            self._run("RELEASE one")
            return error
        self._run("RELEASE one")
        return None

    def changes(self, group: Sequence[Change]) -> None:
        """Write these changes, which are all of the transaction: it must be rolled back upon `StoreError`."""
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
                self._run(
                    "INSERT INTO parts (digest, size, uses, idle, body) VALUES (?, ?, 0, ?, ?) "
                    "ON CONFLICT (digest) DO UPDATE SET idle = excluded.idle WHERE uses = 0",
                    (part.digest, part.size, self._clock(), self._stored(part.digest, body)),
                )
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
        self._run("DELETE FROM points WHERE agent = ? AND links < ?", (change.agent, change.number - _LINKS_BACK))

    def _persist(self, change: Persist) -> None:
        record, state = change.record, change.record.state
        row = (
            record.hid,
            record.side.value,
            state.value,
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
        self._run(f"INSERT OR REPLACE INTO ledger ({COLUMNS}, changed) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)", row)
        arrived = record.agent, record.hop + 1
        match state:
            case Source.COMMITTED:
                self._stand(record.agent, record.hop, "departed")
            case Source.ABORTED:
                self._stand(record.agent, record.hop, "live")
            case Source.GONE:
                self._drop_capsule(record.agent, record.hop)
            case Destination.HELD:
                assert change.cargo is not None
                bodies = {body.index: body.data for body in change.cargo.bodies}
                parts = change.cargo.offer.parts
                stored = tuple(StoredPart(part, bodies.get(index)) for index, part in enumerate(parts))
                self._put_capsule(*arrived, "held", stored, b"")
            case Destination.RUNNING:
                self._stand(*arrived, "live")
            case Destination.DISCARDED:
                self._drop_capsule(*arrived)
            case _:
                pass

    def _put_capsule(self, agent: bytes, hop: int, standing: str, parts: tuple[StoredPart, ...], note: bytes) -> None:
        there = self._run("SELECT standing FROM capsules WHERE agent = ? AND hop = ?", (agent, hop)).fetchone()
        if there is not None and (standing, there[0]) != ("live", "live"):
            raise StoreError(f"there is a capsule of this agent and hop already, and it is {there[0]}")
        # First the new, then the old: what both have stays.
        for stored in parts:
            self._use(stored)
        if there is not None:
            self._unuse(agent, hop)
        self._run(
            "INSERT OR REPLACE INTO capsules (agent, hop, standing, changed, note) VALUES (?, ?, ?, ?, ?)",
            (agent, hop, standing, self._clock(), note),
        )
        self._connection.executemany(
            "INSERT INTO cargo (agent, hop, position, kind, digest, size) VALUES (?, ?, ?, ?, ?, ?)",
            [(agent, hop, i, s.part.kind, s.part.digest, s.part.size) for i, s in enumerate(parts)],
        )

    def _use(self, stored: StoredPart) -> None:
        part, body = stored.part, stored.body
        if body is not None:
            self._run(
                "INSERT INTO parts (digest, size, uses, body) VALUES (?, ?, 1, ?) "
                "ON CONFLICT (digest) DO UPDATE SET uses = uses + 1, idle = NULL",
                (part.digest, part.size, self._stored(part.digest, body)),
            )
            return
        self._one(
            "UPDATE parts SET uses = uses + 1, idle = NULL WHERE digest = ? AND size = ?",
            (part.digest, part.size),
        )

    def _stored(self, digest: bytes, body: Buffer) -> Buffer:
        """What goes into the table for this body."""
        if len(body) < self._large.least:
            return body
        self._large.put(digest, body)
        return b""

    def _unuse(self, agent: bytes, hop: int) -> None:
        parts = cargo_of(self._connection, agent, hop)
        self._run("DELETE FROM cargo WHERE agent = ? AND hop = ?", (agent, hop))
        now = self._clock()
        for part in parts:
            self._run(
                "UPDATE parts SET uses = uses - 1, idle = CASE WHEN uses = 1 THEN ? END WHERE digest = ?",
                (now, part.digest),
            )
            if part.kind not in KEPT_KINDS:
                self._run("DELETE FROM parts WHERE digest = ? AND uses = 0", (part.digest,))

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
            "DELETE FROM ledger WHERE expires < ? AND state IN ('gone', 'aborted', 'running', 'discarded')",
            (now,),
        )
        for table in ("outbox", "links", "points", "journeys"):
            self._run(f"DELETE FROM {table} WHERE expires < ?", (now,))
        rows = self._run("SELECT rowid, size FROM parts WHERE idle IS NOT NULL ORDER BY idle DESC").fetchall()
        for rowid, size in rows:
            idle_bytes -= size
            if idle_bytes < 0:
                self._run("DELETE FROM parts WHERE rowid = ?", (rowid,))

    def _one(self, sql: str, values: tuple[Any, ...]) -> None:
        if self._run(sql, values).rowcount != 1:
            raise StoreError("what this change builds on is not in the store")

    def _run(self, sql: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        return self._connection.execute(sql, values)
