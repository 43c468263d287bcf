"""Files of a granted host directory, and what `hostdirs` needs of the host to open them.

With `hostdirs`, `hostspots` and `hostquota` the only modules of `agents.wasi` that touch the disk. Invariant: a
descriptor of the host's is closed with its holder at the latest.
"""

from __future__ import annotations

import errno
import os
import stat as stats
import threading
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import attrs

from agents.errors import CallFailed

from . import abi
from .hostquota import Quota
from .trees import Bytes, Stat

DEVICE = 4
_OPEN = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
KINDS = {
    stats.S_IFREG: abi.REGULAR_FILE,
    stats.S_IFDIR: abi.DIRECTORY,
    stats.S_IFLNK: abi.SYMBOLIC_LINK,
    stats.S_IFCHR: abi.CHARACTER_DEVICE,
}
ERRNOS: Mapping[int, int] = {
    errno.EACCES: abi.EACCES, errno.EBUSY: abi.EBUSY, errno.EEXIST: abi.EEXIST, errno.EFBIG: abi.EFBIG,
    errno.EINVAL: abi.EINVAL, errno.EISDIR: abi.EISDIR, errno.ELOOP: abi.ELOOP, errno.EMFILE: abi.EMFILE,
    errno.EMLINK: abi.EMLINK, errno.ENAMETOOLONG: abi.ENAMETOOLONG, errno.ENFILE: abi.EMFILE,
    errno.ENOENT: abi.ENOENT, errno.ENOMEM: abi.ENOMEM, errno.ENOSPC: abi.ENOSPC, errno.EDQUOT: abi.ENOSPC,
    errno.ENOTDIR: abi.ENOTDIR, errno.ENOTEMPTY: abi.ENOTEMPTY, errno.ENXIO: abi.EACCES,
    errno.EOVERFLOW: abi.EOVERFLOW, errno.EPERM: abi.EPERM, errno.EROFS: abi.EROFS, errno.EXDEV: abi.EXDEV,
    errno.ENOTSUP: abi.ENOTSUP,
}  # fmt: skip


def fail(error: OSError) -> NoReturn:
    """The host's error as the guest's. Its message names host paths, so it is not passed on."""
    raise CallFailed(ERRNOS.get(error.errno or 0, abi.EIO), "the host directory refuses") from None


class Handle:
    """One descriptor of the host's, closed at the latest when nobody holds it any more.

    `closing`: called with its number just before that.
    """

    __slots__ = ("closing", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.closing: Callable[[int], None] | None = None

    def close(self) -> None:
        """Give the number back, once."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            try:
                if self.closing is not None:
                    self.closing(fd)
            finally:
                os.close(fd)

    def __del__(self) -> None:
        self.close()


class Borrowed:
    """A handle that is closed by somebody else: its number from then on is -1, and not that of another file."""

    __slots__ = ("_owner",)

    def __init__(self, owner: Handle) -> None:
        self._owner = owner

    @property
    def fd(self) -> int:
        """See `Handle`."""
        return self._owner.fd

    def close(self) -> None:
        """Not here."""


def open_at(name: str, flags: int, at: int, mode: int = 0o666) -> Handle:
    """Open a name in the directory `at`, never through a link and without waiting. Raises `OSError`."""
    return Handle(os.open(name, flags | _OPEN, mode, dir_fd=at))


def stat_of(found: os.stat_result) -> Stat:
    """The host's attributes as the guest's."""
    kind = KINDS.get(stats.S_IFMT(found.st_mode), abi.UNKNOWN)
    times = (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)
    return Stat(DEVICE, found.st_ino, kind, found.st_nlink, found.st_size, *(max(each, 0) for each in times))


def set_host_times(target: int | str, found: os.stat_result, atim: int | None, mtim: int | None, **where: Any) -> None:
    """Set the times that are not None; `found` has the others. Raises `OSError`, and EOVERFLOW."""
    times = (found.st_atime_ns if atim is None else atim, found.st_mtime_ns if mtim is None else mtim)
    try:
        os.utime(target, ns=times, **where)
    except OverflowError:
        raise CallFailed(abi.EOVERFLOW, "a time that the host cannot store") from None


class Leases:
    """How many descriptors of the host's are open for agents through one grant: at most `most`.

    An agent may have some hundred descriptors, and a station many agents: together they would use up those of the
    station's own, with which it listens and writes.
    """

    def __init__(self, most: int) -> None:
        self.most, self.count = most, 0
        self._lock = threading.RLock()

    def lend(self, handle: Handle, quota: Quota | None = None) -> Handle:
        """Count `handle` until it is closed, as a file of `quota` if given. Raises EMFILE, and closes it."""
        with self._lock:
            if self.count >= self.most:
                handle.close()
                raise CallFailed(abi.EMFILE, f"{self.most} files of this directory are open")
            self.count += 1
        if quota is not None:
            quota.opened(handle.fd)

        def closing(fd: int) -> None:
            with self._lock:
                self.count -= 1
            if quota is not None:
                quota.closing(fd)

        handle.closing = closing
        return handle


@attrs.frozen
class Terms:
    """The guest's name of a granted directory, whether it is for reading only, how much it may hold (None: as much as
    the disk does), and who has how many files of it open."""

    guest: str
    read_only: bool
    quota: Quota | None
    leases: Leases
    _own: threading.RLock = attrs.field(factory=threading.RLock, eq=False, repr=False)

    @property
    def lock(self) -> threading.RLock:
        """Around what must not be mixed with what other agents do."""
        return self._own if self.quota is None else self.quota.lock

    def check_writable(self) -> None:
        """Raises EROFS."""
        if self.read_only:
            raise CallFailed(abi.EROFS, f"{self.guest} is granted for reading only")


def cut(fd: int, size: int, quota: Quota | None) -> None:
    """Make the file `size` bytes long. Raises `OSError`, and ENOSPC."""
    if quota is None:
        os.ftruncate(fd, size)
        return
    with quota.lock:
        more = size - os.fstat(fd).st_size
        quota.grow(more)
        try:
            os.ftruncate(fd, size)
        except OSError:
            quota.grow(-more)
            raise


@attrs.define(eq=False)
class HostFile:
    """An open regular file of the host's."""

    terms: Terms
    handle: Handle
    names: tuple[str, ...]  # where it was when it was opened, from the grant's root

    def pread(self, offset: int, size: int) -> Bytes:
        """See `trees.File`."""
        try:
            return os.pread(self.handle.fd, size, offset)
        except OSError as error:
            fail(error)

    def pwrite(self, offset: int, data: bytes, now: int) -> int:
        """See `trees.File`."""
        self.terms.check_writable()
        fd, quota = self.handle.fd, self.terms.quota
        try:
            if quota is None:
                return os.pwrite(fd, data, offset)
            with quota.lock:
                size = os.fstat(fd).st_size
                if offset + len(data) - size > quota.room:  # what still fits is written
                    data = data[: max(size + quota.room - offset, 0)]
                    if not data:
                        raise CallFailed(abi.ENOSPC, f"{self.terms.guest} may hold no more bytes")
                taken = os.pwrite(fd, data, offset)
                if taken:
                    quota.grow(max(offset + taken - size, 0))
                return taken
        except OSError as error:
            fail(error)

    def append(self, data: bytes, now: int) -> tuple[int, int]:
        """See `trees.File`. Two agents that append at once write one after the other."""
        with self.terms.lock:
            end = self.size()
            return end, self.pwrite(end, data, now)

    def size(self) -> int:
        """See `trees.File`."""
        return self.stat().size

    def resize(self, size: int, now: int) -> None:
        """See `trees.File`."""
        self.terms.check_writable()
        try:
            cut(self.handle.fd, size, self.terms.quota)
        except OSError as error:
            fail(error)

    def stat(self) -> Stat:
        """See `trees.File`."""
        try:
            return stat_of(os.fstat(self.handle.fd))
        except OSError as error:
            fail(error)

    def set_times(self, atim: int | None, mtim: int | None, now: int) -> None:
        """See `trees.File`."""
        self.terms.check_writable()
        try:
            set_host_times(self.handle.fd, os.fstat(self.handle.fd), atim, mtim)
        except OSError as error:
            fail(error)

    def sync(self) -> None:
        """See `trees.File`. Whoever may not write makes the host's disk write nothing."""
        if self.terms.read_only:
            return
        try:
            os.fsync(self.handle.fd)
        except OSError as error:
            fail(error)

    def close(self) -> None:
        """See `trees.File`."""
        self.handle.close()

    def encode(self) -> list[Any]:
        """See `trees.File`."""
        return ["host-file", self.terms.guest, list(self.names)]
