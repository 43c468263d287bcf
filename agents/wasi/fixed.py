"""Folders that consist of calls, not of stored files: `/portcall` and `/dev`. What both have in common.

Nothing in them can be made, removed, renamed or linked. Creating and truncating existing files is what
`open(..., "w")` asks for, and does nothing. Invariant: no path leads out of such a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import attrs

from agents.errors import CallFailed

from .abi import CREAT, EACCES, EEXIST, EINVAL, EISDIR, ENOTDIR, EPERM, EROFS, EXCL, FD_READ, FD_WRITE, O_DIRECTORY
from .paths import Route
from .vfs import Channel, Directory, ResolvedPath, Stat


def descend(route: Route, above: tuple[str, ...], folders: Collection[str]) -> tuple[str, ...]:
    """The names that `route` leads to from the folder named `above`; only names in `folders` contain others.

    Raises ENOTDIR for a path through a file and EPERM for one that leads out.
    """
    trail = list(above)
    for name in route.names:
        if trail and trail[0] not in folders:
            raise CallFailed(ENOTDIR, trail[0])
        if name not in (".", ".."):
            trail.append(name)
        elif name == ".":
            continue
        elif len(trail) > len(above):
            trail.pop()
        else:
            raise CallFailed(EPERM, "a path that leads out of its directory")
    return tuple(trail)


@attrs.frozen(eq=False, repr=False)
class ResolvedFixedPath:
    """Where a path in such a folder leads. `find` returns what is there, a directory or a channel, or raises.

    mount: the folder's name, for error messages; directory: the path ended in a slash.
    """

    mount: str
    find: Callable[[], Any]
    directory: bool

    def __enter__(self) -> ResolvedFixedPath:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def _found(self) -> tuple[Any, bool]:
        """What is there, and whether it is a directory."""
        found = self.find()
        folder = hasattr(found, "entries")
        if self.directory and not folder:
            raise CallFailed(ENOTDIR, f"a file in /{self.mount}")
        return found, folder

    def stat(self) -> Stat:
        """See `vfs.ResolvedPath`."""
        stat: Stat = self._found()[0].stat()
        return stat

    def set_times(self, atim: int | None, mtim: int | None, now: int) -> None:
        """See `vfs.ResolvedPath`. A file here has no times, and setting them is harmless."""
        self._found()

    def open(self, oflags: int, read: bool, write: bool, now: int) -> Channel | Directory:
        """See `vfs.ResolvedPath`."""
        found, folder = self._found()
        if oflags & CREAT and oflags & EXCL:
            raise CallFailed(EEXIST, f"/{self.mount} does not change")
        if folder:
            if write or oflags & CREAT:
                raise CallFailed(EISDIR, f"a folder of /{self.mount}")
            directory: Directory = found
            return directory
        if oflags & O_DIRECTORY:
            raise CallFailed(ENOTDIR, f"a file in /{self.mount}")
        channel: Channel = found
        rights = channel.rights()
        if (read or write) and not ((read and rights & FD_READ) or (write and rights & FD_WRITE)):
            raise CallFailed(EACCES, f"this file in /{self.mount} is not for that")
        return channel

    def _refuse(self) -> CallFailed:
        self._found()
        return CallFailed(EROFS, f"/{self.mount} does not change")

    def mkdir(self, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        raise self._refuse()

    def rmdir(self, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        raise self._refuse()

    def unlink(self, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        raise self._refuse()

    def readlink(self) -> bytes:
        """See `vfs.ResolvedPath`."""
        self._found()
        raise CallFailed(EINVAL, f"no links in /{self.mount}")

    def symlink(self, text: str, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        raise self._refuse()

    def rename_to(self, target: ResolvedPath, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        raise self._refuse()

    def link_to(self, target: ResolvedPath, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        raise self._refuse()
