"""Files of a granted host directory, and what `hostdirs` needs of the host to open them.

These two are the only modules of `agents.wasi` that touch the disk. Invariant: a descriptor of the host's is closed
with its holder at the latest.
"""

from __future__ import annotations

import errno
import os
import stat as stats
from collections.abc import Mapping
from typing import Any, NoReturn

import attrs

from agents.errors import CallFailed

from . import abi
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
    """One descriptor of the host's, closed at the latest when nobody holds it any more."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Give the number back, once."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def __del__(self) -> None:
        self.close()


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


@attrs.frozen
class Terms:
    """The guest's name of a granted directory, and whether it is for reading only."""

    guest: str
    read_only: bool

    def check_writable(self) -> None:
        """Raises EROFS."""
        if self.read_only:
            raise CallFailed(abi.EROFS, f"{self.guest} is granted for reading only")


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
        try:
            return os.pwrite(self.handle.fd, data, offset)
        except OSError as error:
            fail(error)

    def size(self) -> int:
        """See `trees.File`."""
        return self.stat().size

    def resize(self, size: int, now: int) -> None:
        """See `trees.File`."""
        self.terms.check_writable()
        try:
            os.ftruncate(self.handle.fd, size)
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
        """See `trees.File`."""
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
