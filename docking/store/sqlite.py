"""The rows of a store: an SQLite file, with bodies of some size beside it (`docking.store.blobs`); or SQLite's tables
in memory, for a store that is volatile.

How each change is written is in `docking.store.sqlite_writes`; what a failure means, in `docking.store.store`.
Invariants: what is read is what whole groups have written. On the disk: WAL mode, `synchronous=FULL`, one `fdatasync`
for each commit; the log is checkpointed beside the commits and its room is used again, since a file that does not grow
is on the disk sooner; one process has the file open at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field

from docking.errors import MalformedMessage, StoreError, StoreFull, StoreUnusable, WriteFailed
from docking.handoff.actions import Record
from docking.handoff.messages import Side
from docking.handoff.states import Destination, Source
from docking.store.blobs import FAILING_ERRNOS, FULL_ERRNOS, BlobFolder, BlobMemory, Blobs, sync_folder
from docking.store.changes import Change, Letter, StoredCapsule
from docking.store.sqlite_writes import COLUMNS, SqliteWriter, cargo_of

_log = logging.getLogger(__name__)
APPLICATION_ID = 0x50434C4C
# The log is moved into the file when it holds so many bytes; beyond twice as many, it is cut when it begins
# anew. Less would cut what grows again at once, and a file that grows is on the disk later.
LOG_BYTES = 8 << 20
# SQLITE_FULL, and SQLITE_IOERR_SHMSIZE for the index of the log.
_FULL = (13, 4874)
# SQLITE_READONLY, SQLITE_IOERR, SQLITE_CANTOPEN; and what Python 3.10 has of them.
_FAILING = (8, 10, 14)
_FAILING_SAID = ("attempt to write a readonly", "disk I/O error", "unable to open database file")
# Each is made ready once: all of them fit.
_STATEMENTS = 256
# Of the log, in bytes.
_LOG_HEAD, _FRAME_HEAD = 32, 24
_ROUNDS = 4
_PRAGMAS = (
    "page_size = 8192",
    "temp_store = MEMORY",
    # Some builds write zeros over all that is deleted, and so each departed state a third time.
    "secure_delete = FAST",
)
_PRAGMAS_ON_DISK = (
    "journal_mode = WAL",
    "synchronous = FULL",
    # The log is emptied beside the commits (`empty_log`), not by an unlucky one of them.
    "wal_autocheckpoint = 0",
    "cache_size = -16000",
    f"journal_size_limit = {2 * LOG_BYTES}",
)
SCHEMA_FILE = Path(__file__).with_name("schema.sql")


@define(eq=False, repr=False)
class SqliteBackend:
    """The tables, open. `commit` from one thread at a time; everything else from any.

    `_reader` sees what `writer` has committed. Tables in memory have one connection for both, and so one lock for
    both: `_reading` and `_committing`. `writing` writes changes through `writer`; `large`: the bodies beside the
    tables.
    """

    path: Path | None
    writer: sqlite3.Connection
    _reader: sqlite3.Connection
    writing: SqliteWriter
    large: Blobs
    _failpoint: Callable[[str], None]
    _lock_file: int | None
    _page: int
    _reading: threading.RLock = field(factory=threading.RLock)
    _committing: threading.RLock = field(factory=threading.RLock)

    @classmethod
    def open(
        cls,
        path: Path | None,
        *,
        new_epoch: bytes,
        clock: Callable[[], int],
        failpoint: Callable[[str], None],
        schema: str,
        large_from: int,
    ) -> SqliteBackend:
        """Open the tables at `path`, or make them. Arguments and errors are those of `Store.open`."""
        lock_file = None if path is None else _lock(path)
        opened: list[sqlite3.Connection] = []
        try:
            writer = _connect(path, opened)
            reader = writer if path is None else _connect(path, opened)
            with _sqlite_errors(path):
                _migrate(writer, schema_steps(schema), path)
                writer.execute("INSERT OR IGNORE INTO facts (name, value) VALUES ('epoch', ?)", (new_epoch,))
                (page,) = writer.execute("PRAGMA page_size").fetchone()
                (number,) = writer.execute("SELECT coalesce(max(number), 0) FROM bodies").fetchone()
                large: Blobs
                if path is None:
                    large = BlobMemory(writer, large_from)
                else:
                    reader.execute("PRAGMA query_only = ON")
                    sync_folder(path.parent)
                    large = BlobFolder(writer, large_from, path.with_name(path.name + ".bodies"), failpoint)
        except BaseException:
            for connection in opened:
                connection.close()
            if lock_file is not None:
                os.close(lock_file)
            raise
        writing = SqliteWriter(writer, clock, large, number)
        tables = cls(path, writer, reader, writing, large, failpoint, lock_file, page)
        if reader is writer:
            tables._committing = tables._reading
        return tables

    def close(self) -> None:
        """Give everything back. What was not committed is lost."""
        with self._reading:
            for connection in (self.writer, self._reader):
                connection.close()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    # Writing

    def commit(self, groups: Sequence[Sequence[Change]]) -> list[StoreError | None]:
        """Write groups of changes in one transaction; for each, None, or why it alone was left out.

        Raises `StoreError` if none of them was written, `WriteFailed` if nobody knows.
        """
        with self._committing:
            results = self._write(groups)
            self._failpoint("store.before-commit")
            self._end()
        return results

    def _write(self, groups: Sequence[Sequence[Change]]) -> list[StoreError | None]:
        try:
            try:
                return self.writing.groups(groups)
            except BaseException:
                # One group may be too large for the disk, and the others not.
                self._roll_back()
                raise
        except StoreError:
            raise
        except (OSError, sqlite3.Error) as error:
            if disk_fails(error):
                # Nothing was written, and nothing will be: what is said from now on would not last.
                raise WriteFailed(f"the store could not be written: {error}") from error
            kind = StoreFull if _is_full(error) else StoreError
            raise kind(f"the store could not take this: {error}") from error

    def _end(self) -> None:
        """Commit."""
        try:
            self.large.flush()
            self.writer.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            if _is_full(error):
                # What makes it a commit is written last, and was not written whole (sqlite.org/walformat.html);
                # the next commit begins at the same place.
                self._roll_back()
                raise StoreFull("the store's disk is full") from error
            # The commit may be in the log, and come to light when it is read the next time.
            raise WriteFailed(f"the store could not be written: {error}") from error
        with contextlib.suppress(OSError, sqlite3.Error):  # what was not removed now is when the store is opened
            self.large.settle()

    def _roll_back(self) -> None:
        if self.writer.in_transaction:
            self.writer.execute("ROLLBACK")
        self.large.doubt()
        self.large.settle()

    # Reading

    def record(self, hid: bytes, side: Side) -> Record | None:
        rows = self._records("hid = ? AND side = ?", (hid, side.text))
        return rows[0] if rows else None

    def copies(self, agent: bytes, hop: int) -> list[Record]:
        return self._records("agent = ? AND hop = ? AND side = 'destination' ORDER BY changed, hid", (agent, hop))

    def history(self, agent: bytes) -> list[Record]:
        return self._records("agent = ? ORDER BY hop, changed, hid, side", (agent,))

    def unfinished(self) -> list[Record]:
        return self._records("state IN ('frozen', 'committed', 'held') ORDER BY changed, hid, side", ())

    def settled_with(self, peer: bytes, now: int, most: int) -> list[Record]:
        return self._records(
            "peer = ? AND expires > ? AND (state = 'running' OR state = 'gone') AND length(commitment) > 0"
            " ORDER BY changed DESC, hid LIMIT ?",
            (peer, now, most),
        )

    def capsule(self, agent: bytes, hop: int) -> StoredCapsule | None:
        rows = self.read("SELECT standing, note FROM capsules WHERE agent = ? AND hop = ?", (agent, hop))
        if not rows:
            return None
        standing, note = rows[0]
        with self._reading, _sqlite_errors(self.path):
            try:
                return StoredCapsule(agent, hop, standing, note, cargo_of(self._reader, agent, hop))
            except MalformedMessage as error:
                # Of one agent, which cannot be taken up without it.
                _log.error("what an agent is made of was damaged in the store: %s", error)
                return StoredCapsule(agent, hop, standing, note, ())

    def parts_of(self, kind: str) -> list[bytes]:
        return [digest for (digest,) in self.read("SELECT DISTINCT digest FROM cargo WHERE kind = ?", (kind,))]

    def capsules(self, standing: str) -> Iterator[StoredCapsule]:
        rows = self.read("SELECT agent, hop FROM capsules WHERE standing = ? ORDER BY changed, agent, hop", (standing,))
        # One at a time: thousands of agents may sleep here.
        each = (self.capsule(agent, hop) for agent, hop in rows)
        return (found for found in each if found is not None and found.standing == standing)

    def has_part(self, digest: bytes) -> bool:
        return bool(self.read("SELECT 1 FROM parts WHERE digest = ?", (digest,)))

    def part(self, digest: bytes) -> bytes | None:
        rows = self.read("SELECT body FROM parts LEFT JOIN bodies USING (number) WHERE digest = ?", (digest,))
        if rows and rows[0][0] is None:
            with _sqlite_errors(self.path):
                return self.large.get(digest)
        return rows[0][0] if rows else None

    def point(self, head: bytes) -> bytes | None:
        rows = self.read("SELECT point FROM points WHERE head = ?", (head,))
        return rows[0][0] if rows else None

    def last_point(self, agent: bytes) -> bytes | None:
        rows = self.read("SELECT point FROM points WHERE agent = ? ORDER BY links DESC, head DESC LIMIT 1", (agent,))
        return rows[0][0] if rows else None

    def links(self, head: bytes, after: bytes, most: int) -> list[bytes] | None:
        if head == after:
            return []
        rows = self.read(
            "WITH RECURSIVE chain (previous, body, number) AS ("
            "SELECT previous, body, 1 FROM links WHERE head = :head UNION ALL "
            "SELECT links.previous, links.body, number + 1 FROM chain JOIN links ON links.head = chain.previous "
            "WHERE chain.previous != :after AND number < :most) "
            "SELECT previous, body FROM chain ORDER BY number DESC",
            {"head": head, "after": after, "most": most},
        )
        return [body for _, body in rows] if rows and rows[0][0] == after else None

    def journey(self, agent: bytes) -> tuple[bytes, bytes] | None:
        rows = self.read("SELECT record, capsule FROM journeys WHERE agent = ?", (agent,))
        return None if not rows else (rows[0][0], rows[0][1])

    def journeys(self) -> list[tuple[bytes, bytes]]:
        return [(agent, record) for agent, record in self.read("SELECT agent, record FROM journeys ORDER BY agent", ())]

    def letters(self, now: int, far: int, most: int, without: Sequence[bytes]) -> list[Letter]:
        marks = ", ".join("?" * len(without))
        return [
            Letter(*row)
            for row in self.read(
                "SELECT number, recipient, kind, body, due, expires, attempts FROM outbox "
                f"WHERE (due <= ? OR due > ?) AND recipient NOT IN ({marks}) ORDER BY due, number LIMIT ?",
                (now, far, *without, most),
            )
        ]

    def copy_to(self, path: Path) -> None:
        """Copy the tables, as they are at one moment, to a new file. From any thread. Raises `sqlite3.Error`."""
        with contextlib.closing(sqlite3.connect(path)) as target, self._reading:
            self._reader.backup(target)

    def kept_for(self, recipient: bytes, kind: str) -> tuple[int, int]:
        sql = "SELECT count(*), coalesce(sum(length(body)), 0) FROM outbox WHERE recipient = ? AND kind = ?"
        ((count, size),) = self.read(sql, (recipient, kind))
        return count, size

    def first_kept(self, recipient: bytes, kind: str, number: int) -> Letter | None:
        rows = self.read(
            "SELECT number, recipient, kind, body, due, expires, attempts FROM outbox "
            "WHERE recipient = ? AND kind = ? AND number >= ? ORDER BY number LIMIT 1",
            (recipient, kind, number),
        )
        return Letter(*rows[0]) if rows else None

    def fact(self, name: str) -> bytes | None:
        rows = self.read("SELECT value FROM facts WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def _records(self, where: str, values: tuple[object, ...]) -> list[Record]:
        return [_record(row) for row in self.read(f"SELECT {COLUMNS} FROM ledger WHERE {where}", values)]

    def read(self, sql: str, values: tuple[object, ...] | dict[str, object]) -> list[Any]:
        """The rows of a query. Raises `StoreUnusable`."""
        # Some of these each hop waits for: no context manager for their errors.
        with self._reading:
            try:
                return self._reader.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise _unusable(self.path, error) from error

    # Care of the file

    def log_size(self) -> int:
        """Bytes of the write-ahead log; 0 if there is none."""
        with contextlib.suppress(OSError):
            return 0 if self.path is None else os.stat(f"{self.path}-wal").st_size
        return 0

    def log_used(self) -> int:
        """Bytes in it since it began anew.

        By the salts: those of all frames since the log began anew are its header's, and older frames lie behind.

        Source: SQLite, "WAL-mode File Format". Other than at the `-shm` file, we may look at this one: SQLite has its
        locks on that, and would lose them when we close it.
        """
        if self.path is None:
            return 0
        try:
            with open(f"{self.path}-wal", "rb", buffering=0) as log:
                frames = (os.fstat(log.fileno()).st_size - _LOG_HEAD) // (self._page + _FRAME_HEAD)
                salts = os.pread(log.fileno(), 8, 16)
                low, high = 0, max(frames, 0)
                while low < high:
                    middle = (low + high) // 2
                    at = _LOG_HEAD + middle * (self._page + _FRAME_HEAD) + 8
                    if os.pread(log.fileno(), 8, at) == salts:
                        low = middle + 1
                    else:
                        high = middle
        except OSError:  # there is none; or the next commit will tell of a failing disk
            return 0
        return low * (self._page + _FRAME_HEAD)

    def empty_log(self, wholly: bool) -> None:
        """Move what is in the log to where it belongs. Raises `StoreError`."""
        if self.path is None:
            return
        opened: list[sqlite3.Connection] = []
        mode = "RESTART" if wholly else "PASSIVE"
        try:
            connection = _connect(self.path, opened)
            # What was committed meanwhile is left over, and the log begins anew only when nothing is.
            before = None
            for _ in range(_ROUNDS):
                _, there, moved = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
                if there == moved == before:
                    break
                before = there
        except sqlite3.Error as error:
            raise StoreError(f"the write-ahead log could not be moved: {error}") from error
        finally:
            for connection in opened:
                connection.close()


def _is_full(error: Exception) -> bool:
    """Whether there was no room: for the log, for what SQLite keeps beside it, or for a body."""
    if isinstance(error, OSError):
        return error.errno in FULL_ERRNOS
    code = getattr(error, "sqlite_errorcode", None)  # not on Python 3.10
    return code in _FULL if code is not None else str(error) == "database or disk is full"


def disk_fails(error: Exception) -> bool:
    """Whether the disk is at fault, and not what was to be written: it cannot be read or written, or not any more."""
    if isinstance(error, OSError):
        return error.errno in FAILING_ERRNOS
    if _is_full(error):
        return False
    code = getattr(error, "sqlite_errorcode", None)  # not on Python 3.10
    if code is not None:
        return code & 0xFF in _FAILING
    return str(error).startswith(_FAILING_SAID)


def schema_steps(text: str) -> list[str]:
    """The blocks of a schema: `steps[n]` brings a store from version n to n + 1."""
    return [block.partition("\n")[2] for block in text.split("-- version ")[1:]]


def _record(row: tuple[Any, ...]) -> Record:
    hid, side, state, *rest = row
    states = Source if side == Side.SOURCE.text else Destination
    return Record(hid, Side(side), states(state), *rest)


def _connect(path: Path | None, opened: list[sqlite3.Connection]) -> sqlite3.Connection:
    with _sqlite_errors(path):
        connection = sqlite3.connect(
            # Whole: SQLite takes a name that begins with "file:" for a URI, on some systems.
            ":memory:" if path is None else os.path.abspath(path),
            isolation_level=None,
            check_same_thread=False,
            timeout=10,
            cached_statements=_STATEMENTS,
        )
        opened.append(connection)
        for pragma in (*_PRAGMAS, *(() if path is None else _PRAGMAS_ON_DISK)):
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
    _check(connection, path)
    for number, step in enumerate(steps[version:], version + 1):
        marks = f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {number};"
        connection.executescript(f"BEGIN IMMEDIATE;\n{step}\n{marks}\nCOMMIT;")


def _check(connection: sqlite3.Connection, path: Path | None) -> None:
    """That pages are where they belong, and rows what they should be: else agents would be missing, and nobody told.

    Indices too, through which agents are found: not `quick_check`. Half a second for a gigabyte.
    """
    if path is None:
        return
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found == "ok":
        found = _of_another_type(connection)
    if found != "ok":
        said = " ".join(found.split())[:200]
        raise StoreUnusable(
            f"{path} is damaged ({said}): restore it from a copy, or move it away and lose the agents in it"
        )


def _of_another_type(connection: sqlite3.Connection) -> str:
    """A table with a value of another type than its column's: SQLite itself takes any. Else "ok"."""
    tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    for (table,) in connection.execute(tables).fetchall():
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        # A column of a primary key is not null either, and is not always said to be so.
        wrong = " OR ".join(f"typeof({name}) NOT IN ('{kind.lower()}', 'null')" for _, name, kind, *_ in columns)
        if connection.execute(f"SELECT 1 FROM {table} WHERE {wrong} LIMIT 1").fetchone() is not None:
            return f"values of another type in the table {table}"
    return "ok"


def _lock(path: Path) -> int:
    """A lock that ends with the process. Two stations with one store would each believe to decide."""
    try:
        # The states of agents are nobody else's business. The log takes its mode from the file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnusable(f"{path} cannot be opened: {error.strerror}") from error
    return hold(path)


def hold(path: Path) -> int:
    """Lock the place of a store, which need not be there, until the file that is given back is closed.

    Raises `StoreUnusable`.
    """
    try:
        file = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusable(f"{path} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise StoreUnusable(
            f"{path} is in use by another process: is this station running already?"
            " An application with a station inside runs in one worker process"
        ) from error
    return file


@contextlib.contextmanager
def _sqlite_errors(path: Path | None) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise _unusable(path, error) from error


def _unusable(path: Path | None, error: sqlite3.Error | OSError) -> StoreUnusable:
    name = path or "the store in memory"
    if isinstance(error, OSError):
        return StoreUnusable(f"{name} cannot be used ({error.strerror}): look at the disk")
    if isinstance(error, sqlite3.ProgrammingError):
        return StoreUnusable(f"{name} is closed: the station has stopped")
    advice = "is the disk full, or the folder not yours?"
    if disk_fails(error):
        advice = "look at the disk: can it be read and written?"
    elif isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        advice = "restore it from a copy, or move it away and lose the agents in it"
    return StoreUnusable(f"{name} cannot be used ({error}): {advice}")
