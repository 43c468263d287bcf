"""Where a path leads in a granted host directory, and what can be done there.

A path is walked one name at a time. Each name is opened relative to the descriptor of the one before, and never
through a symbolic link: this code reads and walks links itself, and '..' goes back to a descriptor that it still
holds. So no rename or link that another process makes at the same time can lead the walk out of the granted
directory. Only regular files and directories are opened; a FIFO or a device could block the station or worse.

Invariant: the descriptors of a walk are closed with its `ResolvedHostPath`; a change of the directory and its count in
the `Quota` happen under one lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as stats
from collections.abc import Iterator
from typing import Protocol

import attrs

from agents.errors import CallFailed

from . import abi
from .hostfiles import Borrowed, GrantTerms, Handle, HostFile, fail, open_at, set_host_times, stat_of, truncate
from .limits import WasiLimits
from .paths import Route, parse_text
from .vfs import Directory, ResolvedPath, Stat

_LEVELS = 64  # descriptors that one walk may hold: a/a/a/... would use up the station's


class WalkStart(Directory, Protocol):
    """The open host directory where a walk begins, and below which it stays."""

    handle: Handle | Borrowed
    names: tuple[str, ...]

    @property
    def limits(self) -> WasiLimits:
        """Bounds on paths."""

    @property
    def terms(self) -> GrantTerms:
        """What agents may do there. The same object for all directories of one grant, and no other's."""

    def below(self, handle: Handle, names: tuple[str, ...]) -> Directory:
        """The directory opened as `handle`, at `names` below the granted one."""


def is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _link(name: str, at: int) -> str | None:
    """The text of the link `name`; None if it is not a link, or does not exist."""
    try:
        return os.readlink(name, dir_fd=at)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


@contextlib.contextmanager
def _host_errors() -> Iterator[None]:
    """Raise the host's errors as the guest's."""
    try:
        yield
    except OSError as error:
        fail(error)


def walk_host(start: WalkStart, route: Route, follow: bool) -> ResolvedHostPath:
    """Where `route` leads from `start`. Raises `OSError`, `CallFailed`."""
    limits = start.limits
    trail: list[tuple[str, Handle]] = []  # below `start`
    todo, steps, expanded, directory = list(reversed(route.names)), 0, 0, route.directory
    while todo:
        name = todo.pop()
        here = trail[-1][1] if trail else start.handle
        steps += 1
        if steps > limits.depth or len(trail) >= _LEVELS:
            raise CallFailed(abi.ENAMETOOLONG, "a path of too many steps")
        if name == ".":
            continue
        if name == "..":
            if not trail:
                raise CallFailed(abi.EPERM, "a path that leads out of its directory")
            trail.pop()[1].close()
            continue
        link = _link(name, here.fd) if todo or follow or directory else None
        if link is not None:
            expanded += 1
            if expanded > limits.symlinks:
                raise CallFailed(abi.ELOOP, f"more than {limits.symlinks} links in one path")
            if not is_utf8(link):
                raise CallFailed(abi.EILSEQ, "a link that is not UTF-8")
            expansion = parse_text(link, limits)
            directory = directory or (expansion.directory and not todo)
            todo.extend(reversed(expansion.names))
            continue
        if not todo:
            return ResolvedHostPath(start, trail, name, directory)
        trail.append((name, open_at(name, os.O_RDONLY | os.O_DIRECTORY, here.fd)))
    return ResolvedHostPath(start, trail, "", True)


@attrs.define(eq=False, repr=False)
class ResolvedHostPath:
    """Where a path leads in a host directory: a name in the innermost directory of `trail`, or that directory
    itself if the name is empty."""

    start: WalkStart
    trail: list[tuple[str, Handle]]
    name: str
    directory: bool

    def __enter__(self) -> ResolvedHostPath:
        return self

    def __exit__(self, *_: object) -> None:
        for _name, handle in self.trail:
            handle.close()

    @property
    def _at(self) -> int:
        return self.trail[-1][1].fd if self.trail else self.start.handle.fd

    @property
    def _names(self) -> tuple[str, ...]:
        return (*self.start.names, *(name for name, _ in self.trail), *((self.name,) if self.name else ()))

    def _lstat(self) -> os.stat_result:
        try:
            if not self.name:
                return os.fstat(self._at)
            found = os.stat(self.name, dir_fd=self._at, follow_symlinks=False)
        except OSError as error:
            fail(error)
        if self.directory and not stats.S_ISDIR(found.st_mode):
            raise CallFailed(abi.ENOTDIR, self.name)
        return found

    def _change(self, error: int = abi.EEXIST) -> None:
        """Raises if nothing here may be changed, or if the path is not a plain name (then with `error`)."""
        self.start.terms.check_writable()
        if not self.name:
            raise CallFailed(error, "'.' and '..' are not made, moved or removed")

    def stat(self) -> Stat:
        """See `vfs.ResolvedPath`."""
        return stat_of(self._lstat())

    def set_times(self, atim: int | None, mtim: int | None, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        self.start.terms.check_writable()
        found = self._lstat()
        try:
            if self.name:
                set_host_times(self.name, found, atim, mtim, dir_fd=self._at, follow_symlinks=False)
            else:
                set_host_times(self._at, found, atim, mtim)
        except OSError as error:
            fail(error)

    def open(self, oflags: int, read: bool, write: bool, now: int) -> HostFile | Directory:
        """See `vfs.ResolvedPath`."""
        terms = self.start.terms
        if write or oflags & (abi.CREAT | abi.TRUNC):
            terms.check_writable()
        # Under one lock with the count: another agent may create or unlink the same file at this moment.
        with contextlib.nullcontext() if terms.quota is None else terms.quota.lock:
            new = False
            try:
                found = self._lstat()
            except CallFailed as error:
                if error.errno != abi.ENOENT or not oflags & abi.CREAT:
                    raise
                if self.directory:
                    raise CallFailed(abi.EISDIR, self.name) from None
                new = True
            else:
                self._check_kind(found, oflags, write)
                if stats.S_ISDIR(found.st_mode):
                    return self._open_directory()
            flags = (os.O_RDWR if read else os.O_WRONLY) if write or oflags & abi.TRUNC else os.O_RDONLY
            flags |= (os.O_CREAT if oflags & abi.CREAT else 0) | (os.O_EXCL if oflags & abi.EXCL else 0)
            return self._open_file(flags, new, bool(oflags & abi.TRUNC))

    def _open_file(self, flags: int, new: bool, empty: bool) -> HostFile:
        terms = self.start.terms
        with self._named() if new else _host_errors():
            handle = open_at(self.name, flags, self._at)
        with _host_errors():
            if not stats.S_ISREG(os.fstat(handle.fd).st_mode):  # changed since `_lstat`
                raise CallFailed(abi.EACCES, f"{self.name} is no regular file")
            if empty:
                truncate(handle.fd, 0, terms.quota)
        return HostFile(terms, terms.leases.lend(handle, terms.quota), self._names)

    def _check_kind(self, found: os.stat_result, oflags: int, write: bool) -> None:
        if oflags & abi.CREAT and oflags & abi.EXCL:
            raise CallFailed(abi.EEXIST, self.name)
        if stats.S_ISLNK(found.st_mode):
            raise CallFailed(abi.ELOOP, f"{self.name} is a link, and links are not followed")
        if stats.S_ISDIR(found.st_mode):
            if write or oflags & (abi.CREAT | abi.TRUNC):
                raise CallFailed(abi.EISDIR, self.name)
        elif oflags & abi.O_DIRECTORY:
            raise CallFailed(abi.ENOTDIR, self.name)
        elif not stats.S_ISREG(found.st_mode):
            raise CallFailed(abi.EACCES, f"{self.name} is no regular file")

    def _open_directory(self) -> Directory:
        try:
            if self.name:
                handle = open_at(self.name, os.O_RDONLY | os.O_DIRECTORY, self._at)
            else:
                handle = Handle(os.dup(self._at))
        except OSError as error:
            fail(error)
        return self.start.below(handle, self._names)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Wraps the creation of a name here, and counts it."""
        quota = self.start.terms.quota
        with _host_errors(), contextlib.nullcontext() if quota is None else quota.naming():
            yield

    @contextlib.contextmanager
    def _unnamed(self, spot: ResolvedHostPath) -> Iterator[None]:
        """Wraps the removal of the name at `spot`, if there is one."""
        quota = self.start.terms.quota
        with _host_errors(), contextlib.nullcontext() if quota is None else quota.lock:
            try:
                was = os.stat(spot.name, dir_fd=spot._at, follow_symlinks=False)
            except FileNotFoundError:
                was = None
            yield
            if was is not None and quota is not None:
                quota.unnamed(was)

    def mkdir(self, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        self._change()
        with self._named():
            os.mkdir(self.name, dir_fd=self._at)

    def rmdir(self, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        self._change(abi.EINVAL)
        with self._unnamed(self):
            os.rmdir(self.name, dir_fd=self._at)

    def unlink(self, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        self._change(abi.EISDIR)
        if stats.S_ISDIR(self._lstat().st_mode):
            raise CallFailed(abi.EISDIR, self.name)
        with self._unnamed(self):
            os.unlink(self.name, dir_fd=self._at)

    def readlink(self) -> bytes:
        """See `vfs.ResolvedPath`."""
        if not self.name:
            raise CallFailed(abi.EINVAL, "a directory is no link")
        try:
            return os.readlink(self.name, dir_fd=self._at).encode("utf-8", "surrogateescape")
        except OSError as error:
            fail(error)

    def symlink(self, text: str, now: int) -> None:
        """See `vfs.ResolvedPath`. Agents do not follow a link that climbs, but other programs of the host would: a link
        that contains '..' fails with EPERM, since it could be moved to where it leads out."""
        self._change()
        if ".." in text.split("/"):
            raise CallFailed(abi.EPERM, "a link of a granted directory cannot hold '..'")
        with self._named():
            os.symlink(text, self.name, dir_fd=self._at)

    def rename_to(self, target: ResolvedPath, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        if not isinstance(target, ResolvedHostPath) or target.start.terms is not self.start.terms:
            raise CallFailed(abi.EXDEV, "between file systems")
        self._change(abi.EBUSY)
        target._change(abi.EBUSY)
        found = self._lstat()
        if target.directory and not stats.S_ISDIR(found.st_mode):
            raise CallFailed(abi.ENOTDIR, target.name)
        try:
            there = target._lstat()
        except CallFailed:
            there = None
        if there is not None and (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino):
            return  # two names of one file: POSIX keeps both
        with self._unnamed(target):
            os.rename(self.name, target.name, src_dir_fd=self._at, dst_dir_fd=target._at)

    def link_to(self, target: ResolvedPath, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        if not isinstance(target, ResolvedHostPath) or target.start.terms is not self.start.terms:
            raise CallFailed(abi.EXDEV, "between file systems")
        self._change(abi.EPERM)
        target._change()
        if stats.S_ISDIR(self._lstat().st_mode):
            raise CallFailed(abi.EPERM, "a directory has one name")
        with self._named():
            os.link(self.name, target.name, src_dir_fd=self._at, dst_dir_fd=target._at, follow_symlinks=False)
