"""The table of open descriptors: numbers, rights, offsets.

A descriptor holds exactly one of a file, a directory or a channel, or nothing if it is *lost*: it led to a
host directory that the agent's current station does not grant. A lost descriptor gives EBADF, but
keeps its number until it is closed, so that the agent cannot mistake another file for it
(docs/adr/granted-directories-stay).

Invariants: at most `WasiLimits.descriptors` are open; a new one gets the lowest free number (POSIX open); rights
are only ever narrowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from agents.errors import CallFailed

from .abi import EBADF, EMFILE, ENOTCAPABLE, FD_READ, FD_READDIR, FD_WRITE
from .limits import WasiLimits
from .vfs import Channel, Directory, File

# Missing one of these rights gives EBADF, as in POSIX for the access mode; missing any other, ENOTCAPABLE.
_ACCESS = FD_READ | FD_WRITE | FD_READDIR


@attrs.define(eq=False, repr=False)
class Descriptor:
    """What a number stands for. `preopen`: the guest's name of a directory that it starts with."""

    rights: int
    inheriting: int
    flags: int = 0
    offset: int = 0
    file: File | None = None
    directory: Directory | None = None
    channel: Channel | None = None
    preopen: str | None = None

    @property
    def thing(self) -> File | Directory | Channel | None:
        """The one that is not None; None if the descriptor is lost."""
        return self.file or self.directory or self.channel

    def close(self) -> None:
        """Close what it stands for."""
        if self.thing is not None:
            self.thing.close()

    def encode(self) -> list[Any]:
        """Plain values: what it stands for, rights, inheriting rights, flags, offset, name."""
        what = ["lost"] if self.thing is None else self.thing.encode()
        return [what, self.rights, self.inheriting, self.flags, self.offset, self.preopen]


@attrs.define(eq=False, repr=False)
class DescriptorTable:
    """Descriptors by number."""

    limits: WasiLimits
    open: dict[int, Descriptor] = attrs.field(factory=dict)
    _lowest: int = 0  # every number below it is taken

    def get(self, fd: int, rights: int = 0) -> Descriptor:
        """The descriptor, if it has all of `rights`. Raises `CallFailed`: EBADF, ENOTCAPABLE."""
        found = self.open.get(fd)
        if found is None or found.thing is None:
            raise CallFailed(EBADF, f"descriptor {fd} is not open")
        missing = rights & ~found.rights
        if missing:
            raise CallFailed(EBADF if missing & _ACCESS else ENOTCAPABLE, f"descriptor {fd} lacks a right")
        return found

    def check_room(self) -> None:
        """Raises EMFILE if no further descriptor can be opened."""
        if len(self.open) >= self.limits.descriptors:
            raise CallFailed(EMFILE, f"{len(self.open)} descriptors are open")

    def add(self, descriptor: Descriptor) -> int:
        """Give the descriptor the lowest free number. Raises EMFILE."""
        self.check_room()
        while self._lowest in self.open:
            self._lowest += 1
        self.open[self._lowest] = descriptor
        return self._lowest

    def close(self, fd: int) -> None:
        """Close the descriptor, lost or not. Raises EBADF."""
        found = self.open.pop(fd, None)
        if found is None:
            raise CallFailed(EBADF, f"descriptor {fd} is not open")
        self._lowest = min(self._lowest, fd)
        found.close()

    def renumber(self, fd: int, to: int) -> None:
        """Close `to` and let its number stand for what `fd` stood for. Both must be open. Raises EBADF."""
        self.get(fd)
        if to not in self.open:
            raise CallFailed(EBADF, f"descriptor {to} is not open")
        if fd != to:
            self.open[to].close()
            self.open[to] = self.open.pop(fd)
            self._lowest = min(self._lowest, fd)

    def __iter__(self) -> Iterator[tuple[int, Descriptor]]:
        """Numbers and descriptors, in ascending order."""
        return iter(sorted(self.open.items()))
