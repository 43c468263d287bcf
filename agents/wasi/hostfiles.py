"""Files of a granted host directory, and the host functions with which `hostdirs` opens them.

With `hostdirs`, `host_paths` and `hostquota` the only modules of `agents.wasi` that touch the disk. Invariant: a
host descriptor is closed at the latest with its owner.
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
from .vfs import Bytes, Stat

HOST_DEVICE = 4
_OPEN = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
FILE_KINDS = {
    stats.S_IFREG: abi.REGULAR_FILE,
    stats.S_IFDIR: abi.DIRECTORY,
    stats.S_IFLNK: abi.SYMBOLIC_LINK,
    stats.S_IFCHR: abi.CHARACTER_DEVICE,
}
WASI_ERRNOS: Mapping[int, int] = {
    errno.EACCES: abi.EACCES, errno.EBUSY: abi.EBUSY, errno.EEXIST: abi.EEXIST, errno.EFBIG: abi.EFBIG,
    errno.EINVAL: abi.EINVAL, errno.EISDIR: abi.EISDIR, errno.ELOOP: abi.ELOOP, errno.EMFILE: abi.EMFILE,
    errno.EMLINK: abi.EMLINK, errno.ENAMETOOLONG: abi.ENAMETOOLONG, errno.ENFILE: abi.EMFILE,
    errno.ENOENT: abi.ENOENT, errno.ENOMEM: abi.ENOMEM, errno.ENOSPC: abi.ENOSPC, errno.EDQUOT: abi.ENOSPC,
    errno.ENOTDIR: abi.ENOTDIR, errno.ENOTEMPTY: abi.ENOTEMPTY, errno.ENXIO: abi.EACCES,
    errno.EOVERFLOW: abi.EOVERFLOW, errno.EPERM: abi.EPERM, errno.EROFS: abi.EROFS, errno.EXDEV: abi.EXDEV,
    errno.ENOTSUP: abi.ENOTSUP,
}  # fmt: skip


def fail(error: OSError) -> NoReturn:
    """Raise the host's error as the guest's. Its message names host paths, so it is not passed on."""
    raise CallFailed(WASI_ERRNOS.get(error.errno or 0, abi.EIO), "the host directory refuses") from None


class Handle:
    """One host descriptor, closed at the latest when nothing refers to it any more.

    `closing`: called with its number just before that.
    """

    __slots__ = ("closing", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.closing: Callable[[int], None] | None = None

    def close(self) -> None:
        """Close the descriptor, once."""
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
    """A handle that somebody else closes: from then on its number is -1, and not that of another file."""

    __slots__ = ("_owner",)

    def __init__(self, owner: Handle) -> None:
        self._owner = owner

    @property
    def fd(self) -> int:
        """See `Handle`."""
        return self._owner.fd

    def close(self) -> None:
        """Does nothing: the owner closes it."""


def open_at(name: str, flags: int, at: int, mode: int = 0o666) -> Handle:
    """Open a name in the directory `at`, without following a link or blocking. Raises `OSError`."""
    return Handle(os.open(name, flags | _OPEN, mode, dir_fd=at))


def stat_of(found: os.stat_result) -> Stat:
    """The host's attributes as the guest's."""
    kind = FILE_KINDS.get(stats.S_IFMT(found.st_mode), abi.UNKNOWN)
    times = (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)
    return Stat(HOST_DEVICE, found.st_ino, kind, found.st_nlink, found.st_size, *(max(each, 0) for each in times))


def set_host_times(target: int | str, found: os.stat_result, atim: int | None, mtim: int | None, **where: Any) -> None:
    """Set the times that are not None; `found` has the others. Raises `OSError`, and EOVERFLOW."""
    times = (found.st_atime_ns if atim is None else atim, found.st_mtime_ns if mtim is None else mtim)
    try:
        os.utime(target, ns=times, **where)
    except OverflowError:
        raise CallFailed(abi.EOVERFLOW, "a time that the host cannot store") from None


class Leases:
    """How many host descriptors are open for agents through one grant: at most `most`.

    An agent may have some hundred descriptors, and a station many agents: together they would use up the
    descriptors that the station itself needs to listen and to write.
    """

    def __init__(self, most: int) -> None:
        self.most, self.count = most, 0
        self._lock = threading.RLock()

    def lend(self, handle: Handle, quota: Quota | None = None) -> Handle:
        """Count `handle` until it is closed, and as a file of `quota` if given. Raises EMFILE, after closing it."""
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
class GrantTerms:
    """The terms of a grant: the guest's name, whether it is read-only, how much it may hold (None: as much as
    the disk does), and the open files."""

    guest: str
    read_only: bool
    quota: Quota | None
    leases: Leases
    _own: threading.RLock = attrs.field(factory=threading.RLock, eq=False, repr=False)

    @property
    def lock(self) -> threading.RLock:
        """Hold it over what must not interleave with other agents' changes."""
        return self._own if self.quota is None else self.quota.lock

    def check_writable(self) -> None:
        """Raises EROFS."""
        if self.read_only:
            raise CallFailed(abi.EROFS, f"{self.guest} is granted for reading only")


def truncate(fd: int, size: int, quota: Quota | None) -> None:
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


@attrs.define(eq=False, repr=False)
class HostFile:
    """An open regular file of the host."""

    terms: GrantTerms
    handle: Handle
    names: tuple[str, ...]  # where it was when it was opened, from the grant's root

    def pread(self, offset: int, size: int) -> Bytes:
        """See `vfs.File`."""
        try:
            return os.pread(self.handle.fd, size, offset)
        except OSError as error:
            fail(error)

    def pwrite(self, offset: int, data: bytes, now: int) -> int:
        """See `vfs.File`."""
        self.terms.check_writable()
        fd, quota = self.handle.fd, self.terms.quota
        try:
            if quota is None:
                return os.pwrite(fd, data, offset)
            with quota.lock:
                size = os.fstat(fd).st_size
                if offset + len(data) - size > quota.room:  # write as much as fits
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
        """See `vfs.File`. Concurrent appends of two agents do not mix."""
        with self.terms.lock:
            end = self.size()
            return end, self.pwrite(end, data, now)

    def size(self) -> int:
        """See `vfs.File`."""
        return self.stat().size

    def resize(self, size: int, now: int) -> None:
        """See `vfs.File`."""
        self.terms.check_writable()
        try:
            truncate(self.handle.fd, size, self.terms.quota)
        except OSError as error:
            fail(error)

    def stat(self) -> Stat:
        """See `vfs.File`."""
        try:
            return stat_of(os.fstat(self.handle.fd))
        except OSError as error:
            fail(error)

    def set_times(self, atim: int | None, mtim: int | None, now: int) -> None:
        """See `vfs.File`."""
        self.terms.check_writable()
        try:
            set_host_times(self.handle.fd, os.fstat(self.handle.fd), atim, mtim)
        except OSError as error:
            fail(error)

    def sync(self) -> None:
        """See `vfs.File`. An agent that may not write cannot make the host's disk write."""
        if self.terms.read_only:
            return
        try:
            os.fsync(self.handle.fd)
        except OSError as error:
            fail(error)

    def close(self) -> None:
        """See `vfs.File`."""
        self.handle.close()

    def encode(self) -> list[Any]:
        """See `vfs.File`."""
        return ["host-file", self.terms.guest, list(self.names)]
