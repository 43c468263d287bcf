"""Host directories that a station lets an agent use: `--dir HOST::GUEST`, never anything else.

Whoever runs an agent makes a `HostGrant` and hands it in; nothing else in `agents.wasi` imports this module.

A path is walked one name at a time, each opened relative to the descriptor of the one before and never
through a symbolic link: links are read and walked by this code, '..' goes back to a descriptor that it still
holds. So no rename or link that another process makes at the same time can lead the walk out of the granted
directory. Only regular files and directories are opened; a FIFO or a device could block the station or worse.

Invariants: every descriptor of the host's is closed by `close` or with its holder; what does not travel is
not encoded: a snapshot keeps the guest's name of the grant and the names below it, which the next station
opens again if it grants the same name (see `state.WasiState.decode`).

A directory that may be written has a `Quota`, when whoever grants it gives one; without, agents can fill the disk.
Not defended: hard links that are already in a granted directory lead wherever they lead.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as stats
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import attrs

from agents.errors import CallFailed

from . import abi
from .hostfiles import (
    ERRNOS,
    KINDS,
    Borrowed,
    Handle,
    HostFile,
    Leases,
    Terms,
    cut,
    fail,
    open_at,
    set_host_times,
    stat_of,
)
from .hostquota import Quota
from .limits import Limits
from .paths import Route, parse_text
from .trees import Entry, Spot, Stat

_LEVELS = 64  # descriptors that one walk may hold: a/a/a/... would use up the station's
_LEASED = 1024  # files and directories that agents may have open through one grant
_LISTINGS = 16  # of these, in memory for one grant
_LISTED = 65_536  # names of one directory that are shown: a listing is held in memory while it is read
_Opened = TypeVar("_Opened", "HostFile", "HostDirectory")


class HostGrant:
    """A host directory under a guest name, for any number of agents, in any thread.

    `read_only` refuses everything that would change it; `quota` says how much it may hold, and counts what is there
    already; `leases`: descriptors that agents may have open through it, together.
    """

    def __init__(
        self,
        host: str | Path,
        guest: str,
        *,
        read_only: bool = False,
        limits: Limits | None = None,
        quota: Quota | None = None,
        leases: int = _LEASED,
    ) -> None:
        """Raises `CallFailed` when `host` is no directory that can be opened, or `guest` no name."""
        if os.open not in os.supports_dir_fd or os.utime not in os.supports_dir_fd:
            raise CallFailed(abi.ENOTSUP, "this platform cannot open files relative to a directory safely")
        if not guest:
            raise CallFailed(abi.EINVAL, "a granted directory needs a name")
        self._listed: deque[HostDirectory] = deque()
        self.terms, self.limits = Terms(guest, read_only, quota, Leases(leases)), limits or Limits()
        try:
            self._handle = Handle(os.open(host, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            if quota is not None:
                quota.measure(self._handle.fd)
        except OSError as error:
            raise CallFailed(ERRNOS.get(error.errno or 0, abi.EIO), f"{host}: {error.strerror}") from None

    def root(self) -> HostDirectory:
        """See `trees.Grant`."""
        return HostDirectory(self, Borrowed(self._handle), ())

    def reopen(self, names: tuple[str, ...], kind: int) -> HostFile | HostDirectory:
        """See `trees.Grant`. A file is opened for writing too, when that is allowed: the descriptor's rights
        say what the agent had."""
        if not names and kind == abi.DIRECTORY:
            return self.root()
        with self.root().walk(Route(names), False) as spot:
            if kind == abi.DIRECTORY:
                return _expect(spot.open(abi.O_DIRECTORY, True, False, 0), HostDirectory)
            try:
                return _expect(spot.open(0, True, True, 0), HostFile)
            except CallFailed:
                return _expect(spot.open(0, True, False, 0), HostFile)

    def keep(self, directory: HostDirectory) -> None:
        """`directory` has listed its names. Of the last few only they are kept: each may be megabytes, and agents open
        a directory hundreds of times. One that was forgotten is listed again where a guest reads on."""
        with self.terms.lock:
            self._listed.append(directory)
            if len(self._listed) > _LISTINGS:
                oldest = self._listed.popleft()
                if oldest not in self._listed:
                    oldest.listed = None

    def close(self) -> None:
        """No further opening through this grant."""
        self._handle.close()


def _expect(opened: Any, kind: type[_Opened]) -> _Opened:
    if not isinstance(opened, kind):
        opened.close()
        raise CallFailed(abi.ENOENT, "something else is there now")
    return opened


@attrs.define(eq=False)
class HostDirectory:
    """An open directory of the host's."""

    grant: HostGrant
    handle: Handle | Borrowed
    names: tuple[str, ...]
    listed: list[str] | None = None  # the names, while a guest reads through them; see `HostGrant.keep`

    def walk(self, route: Route, follow: bool) -> Spot:
        """See `trees.Directory`."""
        try:
            return _walk(self, route, follow)
        except OSError as error:
            fail(error)

    def entries(self, cookie: int) -> Iterator[Entry]:
        """See `trees.Directory`. Names come as they were when the first line was read. A name that is not
        UTF-8 cannot be told to the guest and is left out."""
        listed = self.listed
        if cookie == 0 or listed is None:
            listed = self.listed = self._list()
            self.grant.keep(self)
        own = self.stat().inode
        if cookie == 0:
            yield Entry(1, own, abi.DIRECTORY, b".")
        if cookie <= 1:
            yield Entry(2, own, abi.DIRECTORY, b"..")  # the parent of the granted directory is nobody's business
        for index in range(max(cookie, 2) - 2, len(listed)):
            name = listed[index]
            try:
                found = os.stat(name, dir_fd=self.handle.fd, follow_symlinks=False)
            except OSError:
                continue  # gone since
            kind = KINDS.get(stats.S_IFMT(found.st_mode), abi.UNKNOWN)
            yield Entry(index + 3, found.st_ino, kind, name.encode())

    def _list(self) -> list[str]:
        try:
            with os.scandir(self.handle.fd) as lines:
                names = [line.name for line in islice(lines, _LISTED)]
        except OSError as error:
            fail(error)
        return sorted(name for name in names if _is_utf8(name))

    def stat(self) -> Stat:
        """See `trees.Directory`."""
        try:
            return stat_of(os.fstat(self.handle.fd))
        except OSError as error:
            fail(error)

    def set_times(self, atim: int | None, mtim: int | None, now: int) -> None:
        """See `trees.Directory`."""
        self.grant.terms.check_writable()
        try:
            set_host_times(self.handle.fd, os.fstat(self.handle.fd), atim, mtim)
        except OSError as error:
            fail(error)

    def close(self) -> None:
        """See `trees.Directory`."""
        self.listed = None
        self.handle.close()

    def encode(self) -> list[Any]:
        """See `trees.Directory`."""
        return ["host-directory", self.grant.terms.guest, list(self.names)]


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _link(name: str, at: int) -> str | None:
    """The text of the link `name`; None when it is no link, or nothing."""
    try:
        return os.readlink(name, dir_fd=at)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


@contextlib.contextmanager
def _host_errors() -> Iterator[None]:
    """The host's errors are the guest's."""
    try:
        yield
    except OSError as error:
        fail(error)


def _walk(start: HostDirectory, route: Route, follow: bool) -> HostSpot:
    limits = start.grant.limits
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
            if not _is_utf8(link):
                raise CallFailed(abi.EILSEQ, "a link that is not UTF-8")
            expansion = parse_text(link, limits)
            directory = directory or (expansion.directory and not todo)
            todo.extend(reversed(expansion.names))
            continue
        if not todo:
            return HostSpot(start, trail, name, directory)
        trail.append((name, open_at(name, os.O_RDONLY | os.O_DIRECTORY, here.fd)))
    return HostSpot(start, trail, "", True)


@attrs.define(eq=False)
class HostSpot:
    """Where a path leads in a host directory: a name in the innermost directory of `trail`, or that directory
    itself when the name is empty."""

    start: HostDirectory
    trail: list[tuple[str, Handle]]
    name: str
    directory: bool

    def __enter__(self) -> HostSpot:
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
        """Raises when nothing here may be changed, or when the path is no plain name (then with `error`)."""
        self.start.grant.terms.check_writable()
        if not self.name:
            raise CallFailed(error, "'.' and '..' are not made, moved or removed")

    def stat(self) -> Stat:
        """See `trees.Spot`."""
        return stat_of(self._lstat())

    def set_times(self, atim: int | None, mtim: int | None, now: int) -> None:
        """See `trees.Spot`."""
        self.start.grant.terms.check_writable()
        found = self._lstat()
        try:
            if self.name:
                set_host_times(self.name, found, atim, mtim, dir_fd=self._at, follow_symlinks=False)
            else:
                set_host_times(self._at, found, atim, mtim)
        except OSError as error:
            fail(error)

    def open(self, oflags: int, read: bool, write: bool, now: int) -> HostFile | HostDirectory:
        """See `trees.Spot`."""
        terms = self.start.grant.terms
        if write or oflags & (abi.CREAT | abi.TRUNC):
            terms.check_writable()
        # Under one lock with what is counted: another agent may make or unlink the same file at this moment.
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
        terms = self.start.grant.terms
        with self._named() if new else _host_errors():
            handle = open_at(self.name, flags, self._at)
        with _host_errors():
            if not stats.S_ISREG(os.fstat(handle.fd).st_mode):  # changed since `_lstat`
                raise CallFailed(abi.EACCES, f"{self.name} is no regular file")
            if empty:
                cut(handle.fd, 0, terms.quota)
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

    def _open_directory(self) -> HostDirectory:
        try:
            if self.name:
                handle = open_at(self.name, os.O_RDONLY | os.O_DIRECTORY, self._at)
            else:
                handle = Handle(os.dup(self._at))
        except OSError as error:
            fail(error)
        return HostDirectory(self.start.grant, self.start.grant.terms.leases.lend(handle), self._names)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Around what adds a name here: it is counted."""
        quota = self.start.grant.terms.quota
        with _host_errors(), contextlib.nullcontext() if quota is None else quota.naming():
            yield

    @contextlib.contextmanager
    def _unnamed(self, spot: HostSpot) -> Iterator[None]:
        """Around what takes away the name at `spot`, if there is one."""
        quota = self.start.grant.terms.quota
        with _host_errors(), contextlib.nullcontext() if quota is None else quota.lock:
            try:
                was = os.stat(spot.name, dir_fd=spot._at, follow_symlinks=False)
            except FileNotFoundError:
                was = None
            yield
            if was is not None and quota is not None:
                quota.unnamed(was)

    def mkdir(self, now: int) -> None:
        """See `trees.Spot`."""
        self._change()
        with self._named():
            os.mkdir(self.name, dir_fd=self._at)

    def rmdir(self, now: int) -> None:
        """See `trees.Spot`."""
        self._change(abi.EINVAL)
        with self._unnamed(self):
            os.rmdir(self.name, dir_fd=self._at)

    def unlink(self, now: int) -> None:
        """See `trees.Spot`."""
        self._change(abi.EISDIR)
        if stats.S_ISDIR(self._lstat().st_mode):
            raise CallFailed(abi.EISDIR, self.name)
        with self._unnamed(self):
            os.unlink(self.name, dir_fd=self._at)

    def readlink(self) -> bytes:
        """See `trees.Spot`."""
        if not self.name:
            raise CallFailed(abi.EINVAL, "a directory is no link")
        try:
            return os.readlink(self.name, dir_fd=self._at).encode("utf-8", "surrogateescape")
        except OSError as error:
            fail(error)

    def symlink(self, text: str, now: int) -> None:
        """See `trees.Spot`. Agents do not follow a link that climbs, but other programs of the host would: one that
        holds '..' is EPERM, since it may be moved to where it leads out."""
        self._change()
        if ".." in text.split("/"):
            raise CallFailed(abi.EPERM, "a link of a granted directory cannot hold '..'")
        with self._named():
            os.symlink(text, self.name, dir_fd=self._at)

    def rename_to(self, target: Spot, now: int) -> None:
        """See `trees.Spot`."""
        if not isinstance(target, HostSpot) or target.start.grant is not self.start.grant:
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
            return  # two names of one file: POSIX leaves both
        with self._unnamed(target):
            os.rename(self.name, target.name, src_dir_fd=self._at, dst_dir_fd=target._at)

    def link_to(self, target: Spot, now: int) -> None:
        """See `trees.Spot`."""
        if not isinstance(target, HostSpot) or target.start.grant is not self.start.grant:
            raise CallFailed(abi.EXDEV, "between file systems")
        self._change(abi.EPERM)
        target._change()
        if stats.S_ISDIR(self._lstat().st_mode):
            raise CallFailed(abi.EPERM, "a directory has one name")
        with self._named():
            os.link(self.name, target.name, src_dir_fd=self._at, dst_dir_fd=target._at, follow_symlinks=False)


def parse_grant(text: str) -> tuple[str, str, bool]:
    """Host directory, guest name and whether it is for reading only, from `HOST::GUEST[::ro]` or `HOST`.

    Raises `CallFailed` EINVAL for anything else.
    """
    parts = text.split("::")
    read_only = len(parts) == 3 and parts[2] == "ro"
    if not parts[0] or len(parts) > 2 + read_only or (len(parts) > 1 and not parts[1]):
        raise CallFailed(abi.EINVAL, f"{text!r} is not HOST::GUEST or HOST::GUEST::ro")
    return parts[0], parts[1] if len(parts) > 1 else parts[0], read_only
