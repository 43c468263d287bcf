"""The world of `portcall run`: this machine's clocks and randomness, and the user's terminal."""

from __future__ import annotations

import os
import select
import time

from agents.ambient import Terminal
from docking.simulation import SimulatedAgent

INPUT_CHUNK_BYTES = 65536  # bytes of input at once
POLL_S = 0.1  # seconds between checks whether the user wants to stop


class TerminalWorld:
    """See `docking.simulation.World`."""

    native = True

    def __init__(self) -> None:
        self._terminal = Terminal()

    def wall_ns(self) -> int:
        """See `World`."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """See `World`."""
        return time.monotonic_ns()

    def random(self, size: int) -> bytes:
        """See `World`."""
        return os.urandom(size)

    def output(self, agent: SimulatedAgent, fd: int, data: bytes) -> None:
        """Print what any agent writes."""
        self._terminal(fd, data)

    def idle(self, ns: int | None, listening: bool) -> bytes | None:
        """See `World`. Returns every `POLL_S` seconds, so that whoever waits can be asked to stop."""
        left = POLL_S if ns is None else min(ns / 1e9, POLL_S)
        if not listening:
            time.sleep(left)
        elif select.select([0], [], [], left)[0]:
            return os.read(0, INPUT_CHUNK_BYTES)
        return None
