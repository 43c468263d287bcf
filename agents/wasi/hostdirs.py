"""Host directories that a station lets an agent use: `--dir HOST::GUEST`, never anything else.

Whoever runs an agent makes a `HostGrant` and passes it in; nothing else in `agents.wasi` imports this module.

`host_paths` walks paths so that none leads out.

Invariants: every host descriptor is closed by `close` or with its owner; what does not travel is
not encoded: a snapshot keeps the guest's name of the grant and the names below it, which the next station
opens again if it grants the same name (see `state.WasiState.decode`, docs/adr/granted-directories-stay).

A writable directory has a `Quota` if the grant includes one; without a quota, agents can fill the disk.
Not defended against: hard links that are already in a granted directory lead wherever they lead.
"""

from __future__ import annotations

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
from .host_paths import is_utf8, walk_host
from .hostfiles import (
    FILE_KINDS,
    WASI_ERRNOS,
    Borrowed,
    GrantTerms,
    Handle,
    HostFile,
    Leases,
    fail,
    set_host_times,
    stat_of,
)
from .hostquota import Quota
from .limits import WasiLimits
from .paths import Route
from .vfs import DirectoryEntry, ResolvedPath, Stat

_LEASED = 1024  # files and directories that agents may have open through one grant
_LISTINGS = 16  # of these, kept in memory for one grant
_LISTED = 65_536  # names of one directory that are shown: a listing is held in memory while it is read
_Opened = TypeVar("_Opened", "HostFile", "HostDirectory")


class HostGrant:
    """A host directory under a guest name, for any number of agents, in any thread.

    `read_only` refuses every change; `quota`: how much the directory may hold, including what is there
    already; `leases`: the most descriptors that all agents together may have open through it.
    """

    def __init__(
        self,
        host: str | Path,
        guest: str,
        *,
        read_only: bool = False,
        limits: WasiLimits | None = None,
        quota: Quota | None = None,
        leases: int = _LEASED,
    ) -> None:
        """Raises `CallFailed` if `host` is not a directory that can be opened, or `guest` is not a name."""
        if os.open not in os.supports_dir_fd or os.utime not in os.supports_dir_fd:
            raise CallFailed(abi.ENOTSUP, "this platform cannot open files relative to a directory safely")
        if not guest:
            raise CallFailed(abi.EINVAL, "a granted directory needs a name")
        self._listed: deque[HostDirectory] = deque()
        self.terms, self.limits = GrantTerms(guest, read_only, quota, Leases(leases)), limits or WasiLimits()
        try:
            self._handle = Handle(os.open(host, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            if quota is not None:
                quota.measure(self._handle.fd)
        except OSError as error:
            raise CallFailed(WASI_ERRNOS.get(error.errno or 0, abi.EIO), f"{host}: {error.strerror}") from None

    def root(self) -> HostDirectory:
        """See `vfs.Grant`."""
        return HostDirectory(self, Borrowed(self._handle), ())

    def reopen(self, names: tuple[str, ...], kind: int) -> HostFile | HostDirectory:
        """See `vfs.Grant`. A file is also opened for writing if that is allowed: the descriptor's rights
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
        """Note that `directory` has listed its names, and drop all but the latest few listings.

        A listing may take megabytes, and agents open directories by the hundred. A dropped one is made again when a
        guest reads on.
        """
        with self.terms.lock:
            self._listed.append(directory)
            if len(self._listed) > _LISTINGS:
                oldest = self._listed.popleft()
                if oldest not in self._listed:
                    oldest.listed = None

    def close(self) -> None:
        """Open nothing more through this grant."""
        self._handle.close()


def _expect(opened: Any, kind: type[_Opened]) -> _Opened:
    if not isinstance(opened, kind):
        opened.close()
        raise CallFailed(abi.ENOENT, "something else is there now")
    return opened


@attrs.define(eq=False, repr=False)
class HostDirectory:
    """An open host directory."""

    grant: HostGrant
    handle: Handle | Borrowed
    names: tuple[str, ...]
    listed: list[str] | None = None  # the names, while a guest reads through them; see `HostGrant.keep`

    @property
    def limits(self) -> WasiLimits:
        """Bounds on paths."""
        return self.grant.limits

    @property
    def terms(self) -> GrantTerms:
        """What agents may do here."""
        return self.grant.terms

    def walk(self, route: Route, follow: bool) -> ResolvedPath:
        """See `vfs.Directory`."""
        try:
            return walk_host(self, route, follow)
        except OSError as error:
            fail(error)

    def entries(self, cookie: int) -> Iterator[DirectoryEntry]:
        """See `vfs.Directory`. Names are as they were when the first entry was read. A name that is not
        UTF-8 cannot be passed to the guest and is omitted."""
        listed = self.listed
        if cookie == 0 or listed is None:
            listed = self.listed = self._list()
            self.grant.keep(self)
        own = self.stat().inode
        if cookie == 0:
            yield DirectoryEntry(1, own, abi.DIRECTORY, b".")
        if cookie <= 1:
            yield DirectoryEntry(2, own, abi.DIRECTORY, b"..")  # the parent of the granted directory is hidden
        for index in range(max(cookie, 2) - 2, len(listed)):
            name = listed[index]
            try:
                found = os.stat(name, dir_fd=self.handle.fd, follow_symlinks=False)
            except OSError:
                continue  # deleted since
            kind = FILE_KINDS.get(stats.S_IFMT(found.st_mode), abi.UNKNOWN)
            yield DirectoryEntry(index + 3, found.st_ino, kind, name.encode())

    def _list(self) -> list[str]:
        try:
            with os.scandir(self.handle.fd) as lines:
                names = [line.name for line in islice(lines, _LISTED)]
        except OSError as error:
            fail(error)
        return sorted(name for name in names if is_utf8(name))

    def stat(self) -> Stat:
        """See `vfs.Directory`."""
        try:
            return stat_of(os.fstat(self.handle.fd))
        except OSError as error:
            fail(error)

    def set_times(self, atim: int | None, mtim: int | None, now: int) -> None:
        """See `vfs.Directory`."""
        self.terms.check_writable()
        try:
            set_host_times(self.handle.fd, os.fstat(self.handle.fd), atim, mtim)
        except OSError as error:
            fail(error)

    def close(self) -> None:
        """See `vfs.Directory`."""
        self.listed = None
        self.handle.close()

    def below(self, handle: Handle, names: tuple[str, ...]) -> HostDirectory:
        """The directory opened as `handle`, at `names` below the granted one."""
        return HostDirectory(self.grant, self.terms.leases.lend(handle), names)

    def encode(self) -> list[Any]:
        """See `vfs.Directory`."""
        return ["host-directory", self.terms.guest, list(self.names)]


def parse_grant(text: str) -> tuple[str, str, bool]:
    """Host directory, guest name and whether it is read-only, from `HOST::GUEST[::ro]` or `HOST`.

    Raises `CallFailed` EINVAL for anything else.
    """
    parts = text.split("::")
    read_only = len(parts) == 3 and parts[2] == "ro"
    if not parts[0] or len(parts) > 2 + read_only or (len(parts) > 1 and not parts[1]):
        raise CallFailed(abi.EINVAL, f"{text!r} is not HOST::GUEST or HOST::GUEST::ro")
    return parts[0], parts[1] if len(parts) > 1 else parts[0], read_only
