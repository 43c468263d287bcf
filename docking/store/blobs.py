"""Where a store keeps bodies that are too large to be copied through its tables.

On the disk, a file each, named by digest, in a folder beside the database: SQLite would write every byte twice, in
small pieces, and look at each of them on the way. In memory, as they came.

Not the rows: which bodies are needed is said by the table `parts`, and these follow it. Invariants: when a
row is committed, its body lasts as long: on the disk it is written, in a folder that is; a body without a row is
removed, at the latest when the store is opened the next time; a body is never changed, only made and removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path

from agents.canonical import Buffer
from docking.errors import StoreError, StoreFull

# No room; and a disk that cannot be read or written, or not any more: then nothing else can be either.
FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
FAILING_ERRNOS = (errno.EIO, errno.EROFS, errno.ENODEV, errno.ENXIO, errno.ESTALE)


class Blobs(ABC):
    """The bodies, and which of them have rows. `least`: from which size on (bytes) a body is kept here; `here`: their
    digests.
    """

    def __init__(self, connection: sqlite3.Connection, least: int) -> None:
        self.least = least
        self._connection = connection
        # `least` may have been another one when they were written.
        self.here = {digest for (digest,) in connection.execute("SELECT digest FROM parts WHERE number IS NULL")}
        # Whose rows are being written, and whose rows may be gone.
        self._fresh: set[bytes] = set()
        self._touched: set[bytes] = set()

    def put(self, digest: bytes, body: Buffer) -> None:
        """Keep a body whose row is being written.

        Raises `StoreError`: nothing is kept then; `OSError`: likewise, and the disk fails.
        """
        self._keep(digest, body)
        self.here.add(digest)
        self._fresh.add(digest)

    @property
    def any(self) -> bool:
        """Whether there is a body at all."""
        return bool(self.here)

    def touch(self, digests: Iterable[bytes]) -> None:
        """The rows of these may be deleted."""
        self._touched.update(self.here.intersection(digests))

    def doubt(self) -> None:
        """What was written since the last commit, or some of it, is undone: a body of it may have no row any more."""
        self._touched |= self._fresh
        self._fresh.clear()

    def settle(self) -> None:
        """After a commit, or after `doubt`: what has no row is removed."""
        self._fresh.clear()
        while self._touched:
            digest = self._touched.pop()
            if self._connection.execute("SELECT 1 FROM parts WHERE digest = ?", (digest,)).fetchone() is None:
                self.here.discard(digest)
                self._remove(digest)

    @abstractmethod
    def get(self, digest: bytes) -> bytes | None:
        """The body of this digest, or None."""

    @abstractmethod
    def flush(self) -> None:
        """Before a commit: what was put lasts as long as the store."""

    @abstractmethod
    def _keep(self, digest: bytes, body: Buffer) -> None: ...

    @abstractmethod
    def _remove(self, digest: bytes) -> None: ...


class BlobMemory(Blobs):
    """Of a store in memory: each body as it came, if it does not keep much more alive."""

    def __init__(self, connection: sqlite3.Connection, least: int) -> None:
        super().__init__(connection, least)
        self.bodies: dict[bytes, Buffer] = {}

    def get(self, digest: bytes) -> bytes | None:
        body = self.bodies.get(digest)
        return None if body is None else bytes(body)

    def flush(self) -> None:
        pass

    def _keep(self, digest: bytes, body: Buffer) -> None:
        # Not the whole message for the sake of a small part of it.
        whole = body if isinstance(body, bytes) else memoryview(body).obj
        size = len(whole) if isinstance(whole, bytes | bytearray) else len(body)
        self.bodies.setdefault(digest, body if size <= 2 * len(body) else bytes(body))

    def _remove(self, digest: bytes) -> None:
        self.bodies.pop(digest, None)


class BlobFolder(Blobs):
    """Of a store on the disk: a file for each body. `failpoint` is called when one is written, before its row is
    committed.
    """

    def __init__(
        self, connection: sqlite3.Connection, least: int, folder: Path, failpoint: Callable[[str], None]
    ) -> None:
        super().__init__(connection, least)
        self.folder = folder
        self._failpoint = failpoint
        self._made = False
        folder.mkdir(mode=0o700, exist_ok=True)
        # Bodies that a crash has left without their rows.
        known = {digest.hex() for digest in self.here}
        for path in folder.iterdir():
            if path.name not in known:
                path.unlink()
        sync_folder(folder)

    def get(self, digest: bytes) -> bytes | None:
        try:
            return (self.folder / digest.hex()).read_bytes()
        except FileNotFoundError:
            return None

    def flush(self) -> None:
        if self._made:
            sync_folder(self.folder)
            self._made = False

    def _keep(self, digest: bytes, body: Buffer) -> None:
        path = self.folder / digest.hex()
        try:
            # One that is there is whole: an unfinished one was removed, by us or at the start.
            with contextlib.suppress(FileExistsError):
                self._write(path, body)
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            if error.errno in FAILING_ERRNOS:
                raise  # not for the sake of this body
            kind = StoreFull if error.errno in FULL_ERRNOS else StoreError
            raise kind(f"a body of {len(body)} bytes could not be written: {error.strerror}") from error

    def _remove(self, digest: bytes) -> None:
        (self.folder / digest.hex()).unlink(missing_ok=True)

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


def sync_folder(folder: Path) -> None:
    """A file that was just made survives a power cut only if its folder was written too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
