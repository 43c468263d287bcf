"""An ambient for agents that run alone, without a station: `portcall run`, tests, and teaching.

Time and randomness are arguments, so that a run can be repeated exactly. Nothing leaves the process except
output.
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable

import attrs

from agents.brief import brief

from .errors import CallFailed
from .hostcalls import EHOSTUNREACH, ENOSPC

REPORTS_MAX = 64 << 20  # bytes of reports kept: an agent in a loop must not fill memory
_NAMES = ("error", "warning", "info", "detail")


class Terminal:
    """Where `print` goes: what the agent writes to its descriptors 1 and 2, byte by byte.

    Where the stream accepts only text, as in a notebook, a character split over two writes is first joined.
    """

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {1: decoder("replace"), 2: decoder("replace")}

    def __call__(self, fd: int, data: bytes) -> None:
        """Write `data` immediately."""
        stream = sys.stderr if fd == 2 else sys.stdout
        if stream is None:  # a program without a console, or one that closed it
            return
        binary = getattr(stream, "buffer", None)
        if binary is None:
            stream.write(self._decoders[fd].decode(data))
        else:
            stream.flush()  # earlier text must come first
            binary.write(data)
        stream.flush()


@attrs.define
class StandaloneHost:
    """One agent, alone. See `agents.hostcalls.Ambient` for the methods."""

    wall: Callable[[], int]
    monotonic: Callable[[], int]
    entropy: Callable[[int], bytes]
    station: str = "here"
    agent_id: str = "agent"
    stops: list[str] = attrs.field(factory=list, repr=brief)
    """What is left of its itinerary."""
    sink: Callable[[int, bytes], None] = attrs.field(factory=Terminal)
    reports: list[tuple[str, bytes]] = attrs.field(factory=list, repr=brief)
    native: bool = False
    """See `hostcalls.native`."""
    _reported: int = attrs.field(default=0, init=False)

    lost: bool = attrs.field(default=False, init=False)
    """Whether the agent asked for its next stop when there was none."""

    @property
    def next_stop(self) -> str:
        """See `Ambient`."""
        self.lost = self.lost or not self.stops
        return self.stops[0] if self.stops else ""

    def wall_ns(self) -> int:
        """See `Ambient`."""
        return self.wall()

    def monotonic_ns(self) -> int:
        """See `Ambient`."""
        return self.monotonic()

    def random(self, size: int) -> bytes:
        """See `Ambient`."""
        return self.entropy(size)

    def output(self, fd: int, data: bytes) -> None:
        """See `Ambient`."""
        self.sink(fd, data)

    def log(self, level: int, text: str) -> None:
        """See `Ambient`."""
        self.sink(2, f"{_NAMES[level]}: {text}\n".encode())

    def report(self, key: str, value: bytes) -> None:
        """See `Ambient`. Kept in `reports`."""
        self._reported += len(key.encode(errors="replace")) + len(value) + 64
        if self._reported > REPORTS_MAX:
            raise CallFailed(ENOSPC, "more reports than are kept")
        self.reports.append((key, value))

    def lookup(self, service: str) -> tuple[str, ...]:
        """See `Ambient`. There are no other stations."""
        return ()

    def send(self, to: str, body: bytes) -> None:
        """See `Ambient`. There are no other agents."""
        raise CallFailed(EHOSTUNREACH, f"no agent {to!r} can be reached from here")
