"""Where a store keeps bodies that are too large to be copied through its tables.

`MemoryBodies`: as they came, for a store without a file. `FileBodies`: a file each, named by digest, in a
folder beside the database: SQLite would write every byte twice, in small pieces, and look at each of them
on the way.

Not the rows: which bodies are needed is said by the table `parts`, and these follow it. Invariants: when a
row is committed, its body is on the disk, in a folder that is; a body without a row is removed, at the
latest when the store is opened the next time; a file is never changed, only made and removed.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from docking.errors import StoreError
from docking.handoff.messages import Buffer


class Bodies(Protocol):
    """Large bodies by digest. `least`: from which size on (bytes) a body is one."""

    least: int

    def put(self, digest: bytes, body: Buffer) -> None:
        """Keep a body whose row is being written. Raises `StoreError`: nothing is kept then."""
        ...

    def get(self, digest: bytes) -> bytes | None:
        """The body of this digest, or None."""
        ...

    def flush(self) -> None:
        """Before a commit: what was put lasts."""
        ...

    def settle(self) -> None:
        """After a commit: what has no row is removed."""
        ...


class _Touched:
    """The digests whose rows were written or deleted since the last `settle`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.digests: set[bytes] = set()
        connection.create_function("touched", 1, self.digests.add)
        connection.execute("CREATE TEMP TRIGGER large AFTER DELETE ON main.parts BEGIN SELECT touched(old.digest); END")

    def orphans(self) -> list[bytes]:
        """Those without a row, once."""
        digests, found = list(self.digests), []
        self.digests.clear()
        for digest in digests:
            if self._connection.execute("SELECT 1 FROM parts WHERE digest = ?", (digest,)).fetchone() is None:
                found.append(digest)
        return found


class MemoryBodies:
    """Bodies as they came."""

    def __init__(self, connection: sqlite3.Connection, least: int) -> None:
        self.least = least
        self._touched = _Touched(connection)
        self._bodies: dict[bytes, Buffer] = {}

    def put(self, digest: bytes, body: Buffer) -> None:
        self._bodies[digest] = body
        self._touched.digests.add(digest)

    def get(self, digest: bytes) -> bytes | None:
        body = self._bodies.get(digest)
        return None if body is None else bytes(body)

    def flush(self) -> None:
        pass

    def settle(self) -> None:
        for digest in self._touched.orphans():
            self._bodies.pop(digest, None)


class FileBodies:
    """A file for each body. `failpoint` is called when a body is written, and before its row is committed."""

    def __init__(
        self, connection: sqlite3.Connection, least: int, folder: Path, failpoint: Callable[[str], None]
    ) -> None:
        self.least = least
        self._touched = _Touched(connection)
        self._folder = folder
        self._failpoint = failpoint
        self._made = False
        folder.mkdir(mode=0o700, exist_ok=True)
        # Bodies that a crash has left without their rows. `least` may have been another one when they were written.
        rows = connection.execute("SELECT digest FROM parts WHERE size > 0 AND length(body) = 0")
        known = {digest.hex() for (digest,) in rows}
        for path in folder.iterdir():
            if path.name not in known:
                path.unlink()
        sync_folder(folder)

    def put(self, digest: bytes, body: Buffer) -> None:
        path = self._folder / digest.hex()
        try:
            # One that is there is whole: an unfinished one was removed, by us or at the start.
            with contextlib.suppress(FileExistsError):
                self._write(path, body)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StoreError(f"a body of {len(body)} bytes could not be written: {error.strerror}") from error
        self._touched.digests.add(digest)

    def _write(self, path: Path, body: Buffer) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            rest = memoryview(body)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._made = True
        self._failpoint("store.body-written")

    def get(self, digest: bytes) -> bytes | None:
        try:
            return (self._folder / digest.hex()).read_bytes()
        except FileNotFoundError:
            return None

    def flush(self) -> None:
        if self._made:
            sync_folder(self._folder)
            self._made = False

    def settle(self) -> None:
        for digest in self._touched.orphans():
            (self._folder / digest.hex()).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """A file that was just made survives a power cut only if its folder was written too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
