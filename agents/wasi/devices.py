"""The devices that programs expect under `/dev`: `null`, `zero`, `random` and `urandom`, and no others.

Interpreters look there for randomness (MicroPython's `import random` does), and programs for a place to discard
output. Random bytes come from the station and are never captured. Invariant: an open device has no state but its
name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from agents.errors import BadSnapshot, CallFailed

from .abi import CHARACTER_DEVICE, DIRECTORY, ENOENT, FD_READ, FD_WRITE, STREAM_RIGHTS
from .fixed import ResolvedFixedPath, descend
from .luggage_codec import fields
from .paths import Route
from .vfs import Bytes, DirectoryEntry, Stat

if TYPE_CHECKING:
    from agents.hostcalls import CallContext

DEVICES_MOUNT = "dev"
DEVICES_DEVICE = 3
DEVICE_NAMES = ("null", "zero", "random", "urandom")
FILL_CHUNK_BYTES = 1 << 16  # bytes of one read: a guest that reads a gigabyte makes many calls, not one large buffer


@attrs.frozen(eq=False, repr=False)
class DeviceFile:
    """One open device."""

    name: str

    def read(self, ctx: CallContext, size: int, wait: bool) -> Bytes:
        """See `vfs.Channel`."""
        size = min(size, FILL_CHUNK_BYTES)
        if self.name == "null" or not size:
            return b""
        return bytes(size) if self.name == "zero" else ctx.ambient.random(size)

    def write(self, ctx: CallContext, data: bytes) -> int:
        """See `vfs.Channel`. Discards the data."""
        return len(data)

    def pending(self, ctx: CallContext) -> int | None:
        """See `vfs.Channel`."""
        return 0 if self.name == "null" else FILL_CHUNK_BYTES

    def seek(self, old: int, new: int) -> bool:
        """See `vfs.Channel`."""
        return False

    def rights(self) -> int:
        """See `vfs.Channel`."""
        return STREAM_RIGHTS | FD_READ | FD_WRITE

    def stat(self) -> Stat:
        """See `vfs.Channel`."""
        return Stat(DEVICES_DEVICE, 2 + DEVICE_NAMES.index(self.name), CHARACTER_DEVICE, 1, 0, 0, 0, 0)

    def close(self) -> None:
        """See `vfs.Channel`."""

    def encode(self) -> list[Any]:
        """See `vfs.Channel`."""
        return ["device", self.name]


def decode_device(value: list[Any]) -> DeviceFile:
    """The device that `DeviceFile.encode` wrote. Raises `BadSnapshot`."""
    _, name = fields(value, 2)
    if name not in DEVICE_NAMES:
        raise BadSnapshot("no such device")
    return DeviceFile(name)


@attrs.frozen(eq=False, repr=False)
class DeviceFolder:
    """`/dev` itself."""

    def walk(self, route: Route, follow: bool) -> ResolvedFixedPath:
        """See `vfs.Directory`."""
        names = descend(route, (), ())
        return ResolvedFixedPath(DEVICES_MOUNT, lambda: self._find(names), route.directory)

    def _find(self, names: tuple[str, ...]) -> DeviceFile | DeviceFolder:
        if not names:
            return self
        if names[0] not in DEVICE_NAMES:
            raise CallFailed(ENOENT, f"/{DEVICES_MOUNT}/{names[0]}")
        return DeviceFile(names[0])

    def entries(self, cookie: int) -> Iterator[DirectoryEntry]:
        """See `vfs.Directory`."""
        lines = [(1, DIRECTORY, "."), (1, DIRECTORY, "..")]
        lines += [(index, CHARACTER_DEVICE, name) for index, name in enumerate(DEVICE_NAMES, 2)]
        for index, (inode, kind, name) in enumerate(lines):
            if index >= cookie:
                yield DirectoryEntry(index + 1, inode, kind, name.encode())

    def stat(self) -> Stat:
        """See `vfs.Directory`."""
        return Stat(DEVICES_DEVICE, 1, DIRECTORY, 1, 0, 0, 0, 0)

    def set_times(self, atim: int | None, mtim: int | None, now: int) -> None:
        """See `vfs.Directory`."""

    def close(self) -> None:
        """See `vfs.Directory`."""

    def encode(self) -> list[Any]:
        """See `vfs.Directory`."""
        return ["devices"]
