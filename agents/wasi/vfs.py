"""What the WASI functions need of a file system, as Protocols, so that the agent's luggage, a granted host
directory and the files of `/portcall/` serve the same calls.

There are three kinds of open objects: a `File` has contents at offsets, a `Directory` is where paths start, a `Channel`
is read and written in order and may make the agent wait. A `ResolvedPath` is where a path leads: a name in a
directory, and what it names, if anything.

Invariants: every method raises only `CallFailed`; `now` is the station's wall clock in nanoseconds, passed as an
argument; no method of a `File` or a `Directory` waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from agents.waits import Suspend

from .paths import Route

if TYPE_CHECKING:
    from agents.hostcalls import CallContext

Bytes = bytes | bytearray | memoryview


class Stat(NamedTuple):
    """A `filestat`: times in nanoseconds since 1970, size in bytes."""

    device: int
    inode: int
    kind: int
    links: int
    size: int
    atim: int
    mtim: int
    ctim: int


class DirectoryEntry(NamedTuple):
    """One directory entry: the cookie of the next entry, inode, filetype, name in UTF-8."""

    following: int
    inode: int
    kind: int
    name: bytes


class File(Protocol):
    """An open regular file."""

    def pread(self, offset: int, size: int) -> Bytes:
        """At most `size` bytes from `offset`; fewer only at the end of the file."""

    def pwrite(self, offset: int, data: bytes, now: int) -> int:
        """Put `data` at `offset`; returns how much was written. Raises ENOSPC if that is nothing."""

    def append(self, data: bytes, now: int) -> tuple[int, int]:
        """Put `data` at the current end; returns where that was, and how much was written."""

    def size(self) -> int:
        """Bytes in the file."""

    def resize(self, size: int, now: int) -> None:
        """Truncate the file, or extend it with zeros."""

    def stat(self) -> Stat:
        """The file's attributes."""

    def set_times(self, atim: int | None, mtim: int | None, now: int) -> None:
        """Set the times that are not None."""

    def sync(self) -> None:
        """Make what was written durable, where that means something."""

    def close(self) -> None:
        """Close the file."""

    def encode(self) -> list[Any]:
        """What a snapshot keeps of it: its kind, then what the kind needs."""


class Directory(Protocol):
    """An open directory."""

    def walk(self, route: Route, follow: bool) -> ResolvedPath:
        """Where `route` leads from here; `follow` says whether a symbolic link at its end is followed."""

    def entries(self, cookie: int) -> Iterator[DirectoryEntry]:
        """Its entries from the one that `cookie` names (0: the first), including '.' and '..'."""

    def stat(self) -> Stat:
        """The directory's attributes."""

    def set_times(self, atim: int | None, mtim: int | None, now: int) -> None:
        """Set the times that are not None."""

    def close(self) -> None:
        """Close the directory."""

    def encode(self) -> list[Any]:
        """What a snapshot keeps of it: its kind, then what the kind needs."""


class Channel(Protocol):
    """Something that is read and written in order: a standard stream, a file of `/portcall/`."""

    def read(self, ctx: CallContext, size: int, wait: bool) -> Bytes | Suspend:
        """At most `size` bytes, none at the end; or what to wait for before calling this again.

        Without `wait` (the descriptor is NONBLOCK) it raises EAGAIN if nothing is there.
        """

    def write(self, ctx: CallContext, data: bytes) -> int | Suspend:
        """Write `data`; returns how much was written, or what to wait for before calling this again with the same
        data."""

    def pending(self, ctx: CallContext) -> int | None:
        """How many bytes a read would find (0: end of file, or unknown); None if it would have to wait."""

    def seek(self, old: int, new: int) -> bool:
        """Move the guest's offset from `old` to `new`. False if that is not possible: ESPIPE."""

    def rights(self) -> int:
        """The applicable rights."""

    def stat(self) -> Stat:
        """Its attributes."""

    def close(self) -> None:
        """Close it."""

    def encode(self) -> list[Any]:
        """What a snapshot keeps of it: its kind, then what the kind needs."""


class Grant(Protocol):
    """A host directory that a station lets an agent use under one guest name."""

    def root(self) -> Directory:
        """The directory itself. Always available, but useless once the grant is closed."""

    def reopen(self, names: tuple[str, ...], kind: int) -> File | Directory:
        """Open what is there under `names`, for an agent that had it open. Raises `CallFailed`."""


class ResolvedPath(Protocol):
    """Where a path leads. A context manager: a host directory keeps descriptors open for it."""

    def stat(self) -> Stat:
        """Attributes of what is there."""

    def set_times(self, atim: int | None, mtim: int | None, now: int) -> None:
        """Set the times that are not None."""

    def open(self, oflags: int, read: bool, write: bool, now: int) -> File | Directory | Channel:
        """Open or create what is there (`oflags` of path_open)."""

    def mkdir(self, now: int) -> None:
        """Make a directory."""

    def rmdir(self, now: int) -> None:
        """Remove an empty directory."""

    def unlink(self, now: int) -> None:
        """Remove a name that is not a directory's."""

    def readlink(self) -> bytes:
        """The text of a symbolic link."""

    def symlink(self, text: str, now: int) -> None:
        """Make a symbolic link that holds `text`."""

    def rename_to(self, target: ResolvedPath, now: int) -> None:
        """Move what is here to `target`, replacing what is there. Raises EXDEV between file systems."""

    def link_to(self, target: ResolvedPath, now: int) -> None:
        """Give what is here a second name. Raises EXDEV between file systems."""

    def __enter__(self) -> ResolvedPath: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
