"""Standard input, output and error.

Output goes to the station as bytes and is not kept; each visit may write `Limits.log_bytes`, then the answer
is ENOSPC. Input is bytes given at the launch; when it is *live* more may come, and a read that finds none
suspends the agent until the station brings some.

Both present themselves as terminals (output always, input when live), so that the C library writes whole
lines as they are printed: what an agent prints before it moves appears where it printed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from agents.errors import CallFailed
from agents.waits import Failed, InputReady, Refused, Suspend, TimedOut
from agents.waits import Input as WaitForInput

from .abi import CHARACTER_DEVICE, EAGAIN, EBADF, EIO, ENOSPC, FD_READ, FD_WRITE, STREAM_RIGHTS, UNKNOWN
from .trees import Bytes, Stat

if TYPE_CHECKING:
    from agents.hostcalls import Context

STDIN, STDOUT, STDERR = 0, 1, 2


@attrs.define(eq=False)
class Input:
    """Standard input: `data` from `position` on waits to be read."""

    data: bytes = b""
    position: int = 0
    live: bool = False

    def read(self, ctx: Context, size: int, wait: bool) -> Bytes | Suspend:
        """See `trees.Channel`."""
        if self.position >= len(self.data) and self.live and size:
            if ctx.event is None:
                return Suspend(WaitForInput(STDIN, None if wait else 0))
            self.take(ctx)
        chunk = self.data[self.position : self.position + size]
        self.position += len(chunk)
        return chunk

    def take(self, ctx: Context) -> None:
        """Take in what the event brings; no bytes mean the end of the input. Raises `CallFailed`."""
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

    def write(self, ctx: Context, data: bytes) -> int:
        """See `trees.Channel`."""
        raise CallFailed(EBADF, "standard input is not written")

    def pending(self, ctx: Context) -> int | None:
        """See `trees.Channel`."""
        left = len(self.data) - self.position
        return None if not left and self.live else left

    def seek(self, old: int, new: int) -> bool:
        """See `trees.Channel`."""
        return False

    def rights(self) -> int:
        """See `trees.Channel`."""
        return STREAM_RIGHTS | FD_READ

    def stat(self) -> Stat:
        """See `trees.Channel`."""
        return Stat(0, 0, CHARACTER_DEVICE if self.live else UNKNOWN, 0, 0, 0, 0, 0)

    def close(self) -> None:
        """See `trees.Channel`."""

    def encode(self) -> list[Any]:
        """See `trees.Channel`."""
        return ["stdin"]


@attrs.define(eq=False)
class Output:
    """Standard output (`fd` 1) or error (2)."""

    fd: int

    def read(self, ctx: Context, size: int, wait: bool) -> Bytes:
        """See `trees.Channel`."""
        raise CallFailed(EBADF, "standard output is not read")

    def write(self, ctx: Context, data: bytes) -> int:
        """See `trees.Channel`. What is beyond the visit's budget is not taken."""
        state = ctx.wasi
        room = state.limits.log_bytes - state.logged
        if len(data) > room:
            if room <= 0:
                raise CallFailed(ENOSPC, "the log of this visit is full")
            data = data[:room]
        state.logged += len(data)
        ctx.ambient.output(self.fd, data)
        return len(data)

    def pending(self, ctx: Context) -> int | None:
        """See `trees.Channel`."""
        return 0

    def seek(self, old: int, new: int) -> bool:
        """See `trees.Channel`."""
        return False

    def rights(self) -> int:
        """See `trees.Channel`."""
        return STREAM_RIGHTS | FD_WRITE

    def stat(self) -> Stat:
        """See `trees.Channel`."""
        return Stat(0, 0, CHARACTER_DEVICE, 0, 0, 0, 0, 0)

    def close(self) -> None:
        """See `trees.Channel`."""

    def encode(self) -> list[Any]:
        """See `trees.Channel`."""
        return ["stdout" if self.fd == STDOUT else "stderr"]
