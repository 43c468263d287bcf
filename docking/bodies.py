"""Where a store on the disk keeps bodies that are too large to be copied through its tables.

A file each, named by digest, in a folder beside the database: SQLite would write every byte twice, in small
pieces, and look at each of them on the way.

Not the rows: which bodies are needed is said by the table `parts`, and these follow it. Invariants: when a
row is committed, its body is on the disk, in a folder that is; a body without a row is removed, at the
latest when the store is opened the next time; a file is never changed, only made and removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from docking.errors import StoreError, StoreFull
from docking.handoff.messages import Buffer

# No room; and a disk that cannot be read or written, or not any more: then nothing else can be either.
FULL = (errno.ENOSPC, errno.EDQUOT)
FAILING = (errno.EIO, errno.EROFS, errno.ENODEV, errno.ENXIO, errno.ESTALE)


class FileBodies:
    """A file for each body. `least`: from which size on (bytes) a body is one.

    `failpoint` is called when a body is written, and before its row is committed.
    """

    def __init__(
        self, connection: sqlite3.Connection, least: int, folder: Path, failpoint: Callable[[str], None]
    ) -> None:
        self.least = least
        self._connection = connection
        self._touched: set[bytes] = set()
        self._folder = folder
        self._failpoint = failpoint
        self._made = False
        folder.mkdir(mode=0o700, exist_ok=True)
        # Bodies that a crash has left without their rows. `least` may have been another one when they were written.
        self._here = {digest for (digest,) in connection.execute("SELECT digest FROM parts WHERE number IS NULL")}
        known = {digest.hex() for digest in self._here}
        for path in folder.iterdir():
            if path.name not in known:
                path.unlink()
        sync_folder(folder)

    def put(self, digest: bytes, body: Buffer) -> None:
        """Keep a body whose row is being written.

        Raises `StoreError`: nothing is kept then; `OSError`: likewise, and the disk fails.
        """
        path = self._folder / digest.hex()
        try:
            # One that is there is whole: an unfinished one was removed, by us or at the start.
            with contextlib.suppress(FileExistsError):
                self._write(path, body)
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            if error.errno in FAILING:
                raise  # not for the sake of this body
            kind = StoreFull if error.errno in FULL else StoreError
            raise kind(f"a body of {len(body)} bytes could not be written: {error.strerror}") from error
        self._here.add(digest)
        self._touched.add(digest)

    @property
    def any(self) -> bool:
        """Whether there is a body at all."""
        return bool(self._here)

    def touch(self, digests: Iterable[bytes]) -> None:
        """The rows of these may be deleted."""
        self._touched.update(self._here.intersection(digests))

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
        """The body of this digest, or None."""
        try:
            return (self._folder / digest.hex()).read_bytes()
        except FileNotFoundError:
            return None

    def flush(self) -> None:
        """Before a commit: what was put lasts."""
        if self._made:
            sync_folder(self._folder)
            self._made = False

    def settle(self) -> None:
        """After a commit: what has no row is removed."""
        while self._touched:
            digest = self._touched.pop()
            if self._connection.execute("SELECT 1 FROM parts WHERE digest = ?", (digest,)).fetchone() is None:
                self._here.discard(digest)
                (self._folder / digest.hex()).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """A file that was just made survives a power cut only if its folder was written too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
