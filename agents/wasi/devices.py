"""The devices that programs expect under `/dev`: `null`, `zero`, `random` and `urandom`, and no others.

Interpreters look there for randomness (MicroPython's `import random` does) and programs for a place to throw
output away. Randomness is the station's and is never captured. Invariant: an open device has no state but its
name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from agents.errors import BadSnapshot, CallFailed

from .abi import CHARACTER_DEVICE, DIRECTORY, ENOENT, FD_READ, FD_WRITE, STREAM_RIGHTS
from .fixed import FixedSpot, descend
from .luggage_codec import fields
from .paths import Route
from .trees import Bytes, Entry, Stat

if TYPE_CHECKING:
    from agents.hostcalls import Context

MOUNT = "dev"
DEVICE = 3
NAMES = ("null", "zero", "random", "urandom")
CHUNK = 1 << 16  # bytes of one read: a guest that reads a gigabyte makes many calls, not one large buffer


@attrs.frozen(eq=False)
class DeviceFile:
    """One open device."""

    name: str

    def read(self, ctx: Context, size: int, wait: bool) -> Bytes:
        """See `trees.Channel`."""
        size = min(size, CHUNK)
        if self.name == "null" or not size:
            return b""
        return bytes(size) if self.name == "zero" else ctx.ambient.random(size)

    def write(self, ctx: Context, data: bytes) -> int:
        """See `trees.Channel`. Thrown away."""
        return len(data)

    def pending(self, ctx: Context) -> int | None:
        """See `trees.Channel`."""
        return 0 if self.name == "null" else CHUNK

    def seek(self, old: int, new: int) -> bool:
        """See `trees.Channel`."""
        return False

    def rights(self) -> int:
        """See `trees.Channel`."""
        return STREAM_RIGHTS | FD_READ | FD_WRITE

    def stat(self) -> Stat:
        """See `trees.Channel`."""
        return Stat(DEVICE, 2 + NAMES.index(self.name), CHARACTER_DEVICE, 1, 0, 0, 0, 0)

    def close(self) -> None:
        """See `trees.Channel`."""

    def encode(self) -> list[Any]:
        """See `trees.Channel`."""
        return ["device", self.name]


def decode_device(value: list[Any]) -> DeviceFile:
    """The device that `DeviceFile.encode` wrote. Raises `BadSnapshot`."""
    _, name = fields(value, 2)
    if name not in NAMES:
        raise BadSnapshot("no such device")
    return DeviceFile(name)


@attrs.frozen(eq=False)
class DeviceFolder:
    """`/dev` itself."""

    def walk(self, route: Route, follow: bool) -> FixedSpot:
        """See `trees.Directory`."""
        names = descend(route, (), ())
        return FixedSpot(MOUNT, lambda: self._find(names), route.directory)

    def _find(self, names: tuple[str, ...]) -> DeviceFile | DeviceFolder:
        if not names:
            return self
        if names[0] not in NAMES:
            raise CallFailed(ENOENT, f"/{MOUNT}/{names[0]}")
        return DeviceFile(names[0])

    def entries(self, cookie: int) -> Iterator[Entry]:
        """See `trees.Directory`."""
        lines = [(1, DIRECTORY, "."), (1, DIRECTORY, "..")]
        lines += [(index, CHARACTER_DEVICE, name) for index, name in enumerate(NAMES, 2)]
        for index, (inode, kind, name) in enumerate(lines):
            if index >= cookie:
                yield Entry(index + 1, inode, kind, name.encode())

    def stat(self) -> Stat:
        """See `trees.Directory`."""
        return Stat(DEVICE, 1, DIRECTORY, 1, 0, 0, 0, 0)

    def set_times(self, atim: int | None, mtim: int | None, now: int) -> None:
        """See `trees.Directory`."""

    def close(self) -> None:
        """See `trees.Directory`."""

    def encode(self) -> list[Any]:
        """See `trees.Directory`."""
        return ["devices"]
