"""The station's durable memory: an SQLite file with the ledger, the parts, the capsules and the outbox.

Bodies of some size lie beside it (`docking.bodies`).

What it is not: a cache in front of anything, or a place for decisions. It does what it is told, in
transactions; who waits for them, and how, is `docking.journal`'s business.

Invariants:
- A commit that returned is on the disk: WAL mode, `synchronous=FULL`, one `fdatasync` per commit. A store
  without a path is volatile: the same tables, in memory.
- Changes of one group are written together or not at all; a group that cannot be written does not hinder
  its neighbours.
- What the ledger says and what the capsules say changes in the same transaction.
- A part is kept as long as a capsule needs it; one of a kind worth keeping (an image) longer, until `Purge`.
- One process has a store open at a time. A store has an epoch, drawn when it was made: the life that its
  memory spans.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from attrs import define

from docking.bodies import Bodies, FileBodies, MemoryBodies, sync_folder
from docking.changes import Capsule, Change, Letter
from docking.errors import StoreError, StoreUnusable, WriteFailed
from docking.handoff.actions import Record
from docking.handoff.messages import EPOCH_SIZE, Side
from docking.handoff.states import Destination, Source
from docking.writing import COLUMNS, Writing, cargo_of

Failpoint: TypeAlias = Callable[[str], None]
"""Called with the name of a place where a crash is interesting; tests crash there."""

APPLICATION_ID = 0x50434C4C
# The log is moved into the file when it has grown by this many bytes; beyond it, it is cut when it begins
# anew.
LOG_BYTES = 8 << 20
# From these sizes on (bytes), copying a body through the tables costs more than what it spares: in memory,
# nothing but the copy; on the disk, two more waits for it.
LARGE_IN_MEMORY = 32 * 1024
LARGE_ON_DISK = 4 << 20
SCHEMA = Path(__file__).with_name("schema.sql")


def never(place: str) -> None:
    """The failpoint of real life."""


@define(eq=False)
class Store:
    """An open store. `commit` from one thread at a time; everything else from any."""

    path: Path | None
    epoch: bytes
    _clock: Callable[[], int]
    _failpoint: Failpoint
    _writer: sqlite3.Connection
    _reader: sqlite3.Connection
    _reading: threading.RLock
    _lock_file: int | None
    _large: Bodies
    _broken: str | None = None

    @classmethod
    def open(
        cls,
        path: Path | None,
        *,
        new_epoch: bytes,
        clock: Callable[[], int],
        failpoint: Failpoint = never,
        schema: str | None = None,
        large_from: int | None = None,
    ) -> Store:
        """Open the store at `path`, or make it; None for one in memory.

        `new_epoch`: 16 random bytes, for a store that is made now; `clock`: milliseconds since 1970;
        `large_from`: the size (bytes) from which on a body is kept outside the tables. Raises
        `StoreUnusable`.
        """
        if len(new_epoch) != EPOCH_SIZE:
            raise ValueError(f"an epoch has {EPOCH_SIZE} bytes")
        steps = schema_steps(SCHEMA.read_text("utf-8") if schema is None else schema)
        lock_file = None if path is None else _lock(path)
        opened: list[sqlite3.Connection] = []
        try:
            writer = _connect(path, opened)
            reader = writer if path is None else _connect(path, opened)
            with _sqlite_errors(path):
                _migrate(writer, steps, path)
                writer.execute("INSERT OR IGNORE INTO facts (name, value) VALUES ('epoch', ?)", (new_epoch,))
                epoch = writer.execute("SELECT value FROM facts WHERE name = 'epoch'").fetchone()[0]
                if path is not None:
                    reader.execute("PRAGMA query_only = ON")
                    sync_folder(path.parent)
                large = _bodies(writer, path, large_from, failpoint)
        except BaseException:
            for connection in opened:
                connection.close()
            if lock_file is not None:
                os.close(lock_file)
            raise
        return cls(path, epoch, clock, failpoint, writer, reader, threading.RLock(), lock_file, large)

    @property
    def volatile(self) -> bool:
        """Whether nothing of it survives the process."""
        return self.path is None

    def close(self) -> None:
        """Close the file. What was not committed is lost."""
        self._broken = "it is closed"
        with self._reading:
            for connection in {self._writer, self._reader}:
                connection.close()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    # Writing

    def commit(self, groups: Sequence[Sequence[Change]]) -> list[StoreError | None]:
        """Write groups of changes in one transaction; for each, None, or why it alone was left out.

        Raises `WriteFailed` if it is not known what was written: the store must be closed, and opened again.
        """
        if self._broken is not None:
            raise WriteFailed(f"the store does not write any more: {self._broken}")
        with self._reading if self.volatile else contextlib.nullcontext():
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                writing = Writing(self._writer, self._clock, self._large)
                if len(groups) == 1:
                    writing.changes(groups[0])
                    results: list[StoreError | None] = [None]
                else:
                    results = [writing.group(group) for group in groups]
            except (StoreError, sqlite3.Error) as error:
                return self._one_by_one(groups, error)
            self._failpoint("store.before-commit")
            try:
                self._large.flush()
                self._writer.execute("COMMIT")
            except (OSError, sqlite3.Error) as error:
                # The commit may be in the log, and come to light when it is read the next time.
                self._broken = str(error)
                raise WriteFailed(f"the store could not be written: {error}") from error
            self._large.settle()
            self._failpoint("store.after-commit")
        return results

    def _one_by_one(self, groups: Sequence[Sequence[Change]], error: Exception) -> list[StoreError | None]:
        """Nothing is written yet; one group may be too large for the disk, and the others not."""
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")
        if isinstance(error, StoreError):
            return [error]
        if len(groups) == 1:
            return [StoreError(f"the store could not take this: {error}")]
        return [result for group in groups for result in self.commit([group])]

    # Reading

    def record(self, hid: bytes, side: Side) -> Record | None:
        """The row of the ledger for this handoff, or None."""
        rows = self._records("hid = ? AND side = ?", (hid, side.value))
        return rows[0] if rows else None

    def copies(self, agent: bytes, hop: int) -> list[Record]:
        """The handoffs by which this agent arrived here when it left visit `hop`."""
        return self._records("agent = ? AND hop = ? AND side = 'destination'", (agent, hop))

    def history(self, agent: bytes) -> list[Record]:
        """All handoffs of this agent here, by hop."""
        return self._records("agent = ? ORDER BY hop, changed", (agent,))

    def unfinished(self) -> list[Record]:
        """The handoffs that a restart has to take up."""
        return self._records("state IN ('frozen', 'committed', 'held') ORDER BY changed", ())

    def capsule(self, agent: bytes, hop: int) -> Capsule | None:
        """The capsule of this agent and visit, or None."""
        rows = self._read("SELECT standing, note FROM capsules WHERE agent = ? AND hop = ?", (agent, hop))
        if not rows:
            return None
        standing, note = rows[0]
        with self._reading, _sqlite_errors(self.path):
            return Capsule(agent, hop, standing, note, cargo_of(self._reader, agent, hop))

    def capsules(self, standing: str = "live") -> list[Capsule]:
        """All capsules of this standing, longest unchanged first."""
        rows = self._read("SELECT agent, hop FROM capsules WHERE standing = ? ORDER BY changed", (standing,))
        found = [self.capsule(agent, hop) for agent, hop in rows]
        return [capsule for capsule in found if capsule is not None]

    def has_part(self, digest: bytes) -> bool:
        """Whether the store has the body of this digest."""
        return bool(self._read("SELECT 1 FROM parts WHERE digest = ?", (digest,)))

    def part(self, digest: bytes) -> bytes | None:
        """The body of this digest, or None."""
        rows = self._read("SELECT size, body FROM parts WHERE digest = ?", (digest,))
        if rows and rows[0][0] and not rows[0][1]:
            return self._large.get(digest)
        return rows[0][1] if rows else None

    def point(self, head: bytes) -> bytes | None:
        """The encoded point of a verified trail with this head, or None."""
        rows = self._read("SELECT point FROM points WHERE head = ?", (head,))
        return rows[0][0] if rows else None

    def last_point(self, agent: bytes) -> bytes | None:
        """The farthest point of this agent's trail that is known, or None."""
        rows = self._read("SELECT point FROM points WHERE agent = ? ORDER BY links DESC LIMIT 1", (agent,))
        return rows[0][0] if rows else None

    def links(self, head: bytes, after: bytes, most: int) -> list[bytes] | None:
        """The links of a chain after the head `after` up to `head`, in order; None if they are not all here."""
        if head == after:
            return []
        rows = self._read(
            "WITH RECURSIVE chain (previous, body, number) AS ("
            "SELECT previous, body, 1 FROM links WHERE head = :head UNION ALL "
            "SELECT links.previous, links.body, number + 1 FROM chain JOIN links ON links.head = chain.previous "
            "WHERE chain.previous != :after AND number < :most) "
            "SELECT previous, body FROM chain ORDER BY number DESC",
            {"head": head, "after": after, "most": most},
        )
        return [body for _, body in rows] if rows and rows[0][0] == after else None

    def journey(self, agent: bytes) -> tuple[bytes, bytes] | None:
        """What was noted of the journey of this agent: record and capsule (empty while it is not over)."""
        rows = self._read("SELECT record, capsule FROM journeys WHERE agent = ?", (agent,))
        return None if not rows else (rows[0][0], rows[0][1])

    def journeys(self) -> list[tuple[bytes, bytes]]:
        """The agents that were launched here, and what was noted of each."""
        return [(agent, record) for agent, record in self._read("SELECT agent, record FROM journeys", ())]

    def letters(self, now: int, most: int) -> list[Letter]:
        """Up to `most` letters that are due, longest due first."""
        return [
            Letter(*row)
            for row in self._read(
                "SELECT number, recipient, kind, body, due, expires, attempts FROM outbox "
                "WHERE due <= ? ORDER BY due, number LIMIT ?",
                (now, most),
            )
        ]

    def fact(self, name: str) -> bytes | None:
        """What was remembered under this name, or None."""
        rows = self._read("SELECT value FROM facts WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def _records(self, where: str, values: tuple[Any, ...]) -> list[Record]:
        return [_record(row) for row in self._read(f"SELECT {COLUMNS} FROM ledger WHERE {where}", values)]

    def _read(self, sql: str, values: tuple[Any, ...] | dict[str, Any]) -> list[Any]:
        with self._reading, _sqlite_errors(self.path):
            return self._reader.execute(sql, values).fetchall()

    # Care of the file

    def log_size(self) -> int:
        """The size of the write-ahead log, in bytes."""
        if self.path is None:
            return 0
        with contextlib.suppress(FileNotFoundError):
            return self.path.with_name(self.path.name + "-wal").stat().st_size
        return 0

    def empty_log(self, wholly: bool = False) -> None:
        """Move what the write-ahead log holds into the file.

        May run beside `commit`, in another thread; with `wholly` between commits, and then the next commit
        begins the log anew. Raises `StoreError`; nothing is lost then.
        """
        if self.path is None:
            return
        opened: list[sqlite3.Connection] = []
        try:
            connection = _connect(self.path, opened)
            connection.execute(f"PRAGMA wal_checkpoint({'RESTART' if wholly else 'PASSIVE'})").fetchone()
        except sqlite3.Error as error:
            raise StoreError(f"the write-ahead log could not be moved: {error}") from error
        finally:
            for connection in opened:
                connection.close()


def schema_steps(text: str) -> list[str]:
    """The blocks of a schema: `steps[n]` brings a store from version n to n + 1."""
    return [block.partition("\n")[2] for block in text.split("-- version ")[1:]]


def _record(row: tuple[Any, ...]) -> Record:
    hid, side, state, *rest = row
    states = Source if side == Side.SOURCE.value else Destination
    return Record(hid, Side(side), states(state), *rest)


def _connect(path: Path | None, opened: list[sqlite3.Connection]) -> sqlite3.Connection:
    name = ":memory:" if path is None else str(path)
    with _sqlite_errors(path):
        connection = sqlite3.connect(name, isolation_level=None, check_same_thread=False, timeout=10)
        opened.append(connection)
        # The log is emptied beside the commits (`empty_log`), not by an unlucky one of them.
        for pragma in (
            "page_size = 16384",
            "journal_mode = WAL",
            "synchronous = FULL",
            "wal_autocheckpoint = 0",
            "cache_size = -16000",
            f"journal_size_limit = {LOG_BYTES}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection


def _migrate(connection: sqlite3.Connection, steps: Sequence[str], path: Path | None) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (tables or version) and owner != APPLICATION_ID:
        raise StoreUnusable(f"{path} is a database of another program")
    if version > len(steps):
        raise StoreUnusable(
            f"{path} has version {version}, and this release knows up to {len(steps)}: use a newer release"
        )
    for number, step in enumerate(steps[version:], version + 1):
        marks = f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {number};"
        connection.executescript(f"BEGIN IMMEDIATE;\n{step}\n{marks}\nCOMMIT;")


def _lock(path: Path) -> int:
    """A lock that ends with the process. Two stations with one store would each believe to decide."""
    try:
        # The states of agents are nobody else's business. The log takes its mode from the file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        file = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusable(f"{path} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise StoreUnusable(f"{path} is in use by another process: is this station running already?") from error
    return file


def _bodies(writer: sqlite3.Connection, path: Path | None, least: int | None, failpoint: Failpoint) -> Bodies:
    if path is None:
        return MemoryBodies(writer, LARGE_IN_MEMORY if least is None else least)
    folder = path.with_name(path.name + ".bodies")
    return FileBodies(writer, LARGE_ON_DISK if least is None else least, folder, failpoint)


@contextlib.contextmanager
def _sqlite_errors(path: Path | None) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnusable(f"{path} cannot be used: {error}") from error
