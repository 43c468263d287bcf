"""Gives the memory of agents that have left back to the system, slowly.

On a virtual machine that reports free pages to its host (`virtio_balloon` with free page reporting), memory that is
freed at once is given to the host at once, two seconds later: all processors stand still meanwhile, for 25 ms after
256 MiB, and requests of agents that serve wait for longer than the agent's move took (docs/topics/live-moves.md). In
pieces, with pauses, they stand still for 5 ms at a time. Invariant: what waits is bounded; beyond that it is freed at
once.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from attrs import define, field

from agents.engines.pages import discard
from agents.engines.raw import RawMemory
from agents.errors import EngineError
from agents.execution import Execution
from docking.aio.threads import in_thread
from docking.aio.timeouts import within

PIECE_BYTES: Final = 8 << 20
PAUSE_S: Final = 0.5
MAX_WAITING_BYTES: Final = 1 << 30


@define(eq=False, repr=False)
class Unmapping:
    """What one station has yet to give back. `waiting`: bytes."""

    waiting: int = 0
    _hurried: asyncio.Event = field(factory=asyncio.Event)

    async def close(self, life: Execution) -> None:
        """Close an execution that nobody uses any more. Also if this is cancelled."""
        try:
            memories = _memories(life)
            size = sum(memory.size() for memory in memories)
            if self.waiting + size <= MAX_WAITING_BYTES:
                self.waiting += size
                try:
                    for memory in memories:
                        await self._give_back(memory)
                finally:
                    self.waiting -= size
        except (EngineError, OSError):  # closed meanwhile, or not on this system: at once then
            pass
        except asyncio.CancelledError:
            life.close()
            raise
        await in_thread(life.close)

    def hurry(self) -> None:
        """Free everything now: the station closes."""
        self._hurried.set()

    async def _give_back(self, memory: RawMemory) -> None:
        size = memory.size()
        for at in range(0, size, PIECE_BYTES):
            if self._hurried.is_set():
                return
            await in_thread(_discard, memory, at, min(PIECE_BYTES, size - at))
            with contextlib.suppress(asyncio.TimeoutError):
                await within(PAUSE_S, self._hurried.wait())


def _memories(life: Execution) -> list[RawMemory]:
    return [] if life.instance is None else [life.instance.raw(name) for name in life.memories]


def _discard(memory: RawMemory, at: int, size: int) -> None:
    with memory.held():
        discard(memory.address + at, size)
