"""Standard input, output and error.

Output goes to the station as bytes and is not kept. Each visit may write `Limits.log_bytes`; then writes
fail with ENOSPC. Input is bytes given at the launch; when it is *live* more may come, and a read that finds none
suspends the agent until the station supplies some.

Both look like terminals (output always, input when live), so that the C library writes whole
lines as they are printed: what an agent prints before it moves appears where it printed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from agents.errors import CallFailed
from agents.waits import Failed, Input, InputReady, Refused, Suspend, TimedOut

from .abi import CHARACTER_DEVICE, EAGAIN, EBADF, EIO, ENOSPC, FD_READ, FD_WRITE, STREAM_RIGHTS, UNKNOWN
from .vfs import Bytes, Stat

if TYPE_CHECKING:
    from agents.hostcalls import CallContext

STDIN, STDOUT, STDERR = 0, 1, 2


@attrs.define(eq=False, repr=False)
class InputStream:
    """Standard input: `data` from `position` on is still to be read."""

    data: bytes = b""
    position: int = 0
    live: bool = False

    def read(self, ctx: CallContext, size: int, wait: bool) -> Bytes | Suspend:
        """See `vfs.Channel`."""
        if self.position >= len(self.data) and self.live and size:
            if ctx.event is None:
                return Suspend(Input(STDIN, None if wait else 0))
            self.take(ctx)
        chunk = self.data[self.position : self.position + size]
        self.position += len(chunk)
        return chunk

    def take(self, ctx: CallContext) -> None:
        """Append the event's bytes; no bytes mean the end of the input. Raises `CallFailed`."""
        event = ctx.event
        if isinstance(event, TimedOut):
            raise CallFailed(EAGAIN, "no input")
        if isinstance(event, (Refused, Failed)):
            raise CallFailed(event.errno, event.reason)
        if not isinstance(event, InputReady):
            raise CallFailed(EIO, f"{type(event).__name__} is not input")
        most = ctx.wasi.limits.stdin_bytes
        self.data, self.position = self.data[self.position :] + event.data[:most], 0
        self.live = bool(event.data)

    def write(self, ctx: CallContext, data: bytes) -> int:
        """See `vfs.Channel`."""
        raise CallFailed(EBADF, "standard input is not written")

    def pending(self, ctx: CallContext) -> int | None:
        """See `vfs.Channel`."""
        left = len(self.data) - self.position
        return None if not left and self.live else left

    def seek(self, old: int, new: int) -> bool:
        """See `vfs.Channel`."""
        return False

    def rights(self) -> int:
        """See `vfs.Channel`."""
        return STREAM_RIGHTS | FD_READ

    def stat(self) -> Stat:
        """See `vfs.Channel`."""
        return Stat(0, 0, CHARACTER_DEVICE if self.live else UNKNOWN, 0, 0, 0, 0, 0)

    def close(self) -> None:
        """See `vfs.Channel`."""

    def encode(self) -> list[Any]:
        """See `vfs.Channel`."""
        return ["stdin"]


@attrs.define(eq=False, repr=False)
class OutputStream:
    """Standard output (`fd` 1) or error (2)."""

    fd: int

    def read(self, ctx: CallContext, size: int, wait: bool) -> Bytes:
        """See `vfs.Channel`."""
        raise CallFailed(EBADF, "standard output is not read")

    def write(self, ctx: CallContext, data: bytes) -> int:
        """See `vfs.Channel`. Bytes beyond the visit's budget are not accepted."""
        state = ctx.wasi
        room = state.limits.log_bytes - state.logged
        if len(data) > room:
            if room <= 0:
                raise CallFailed(ENOSPC, "the log of this visit is full")
            data = data[:room]
        state.logged += len(data)
        ctx.ambient.output(self.fd, data)
        return len(data)

    def pending(self, ctx: CallContext) -> int | None:
        """See `vfs.Channel`."""
        return 0

    def seek(self, old: int, new: int) -> bool:
        """See `vfs.Channel`."""
        return False

    def rights(self) -> int:
        """See `vfs.Channel`."""
        return STREAM_RIGHTS | FD_WRITE

    def stat(self) -> Stat:
        """See `vfs.Channel`."""
        return Stat(0, 0, CHARACTER_DEVICE, 0, 0, 0, 0, 0)

    def close(self) -> None:
        """See `vfs.Channel`."""

    def encode(self) -> list[Any]:
        """See `vfs.Channel`."""
        return ["stdout" if self.fd == STDOUT else "stderr"]
