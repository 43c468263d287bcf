"""The memory of an agent on its way to another station, while it runs: reads blocks, and sends them round after round.

Not here: when the agent is stopped, and the handoff (`moves`). Invariants: pages are marked as not written before they
are read, so that no write is lost; a block is on its way once at most; nothing is read after the instance is closed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from attrs import define, field, frozen

from agents import canonical
from agents.blocks import BATCH_BLOCKS, BLOCK_BYTES, INITIAL, BlockBatch, BlockTree, blocks_of
from agents.brief import brief
from agents.engines.pages import Initial, touched
from agents.engines.raw import RawMemory
from agents.engines.writes import WriteWatch
from agents.execution import Execution
from agents.snapshot import MemoryRoot
from agents.wasm.bounds import WASM_PAGE_BYTES
from docking.aio.threads import in_thread
from docking.handoff.refusal import Refusal
from docking.live.wire import Blocks, Request, Rest
from docking.residents.berth import Berth

# Batches on their way at once.
WINDOW = 4


class SessionRefused(Exception):
    """The destination does not take it, or cannot be reached."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(why.reason)
        self.why = why


class MoveOver(Exception):
    """The agent has ended, has left by itself, or obeys another order: nothing is to be moved any more."""


@frozen
class SentMemory:
    """One memory that is sent ahead, by its address: the agent runs meanwhile."""

    index: int
    raw: RawMemory = field(repr=False)
    initial: Initial = field(repr=False)
    tree: BlockTree = field(repr=False)
    watch: WriteWatch = field(repr=False)

    def different(self) -> list[int]:
        """The blocks that may not be as in a fresh instance. What is written meanwhile is reported as written."""
        with self.raw.held():
            return blocks_of(touched(self.raw.address, self.raw.size()))

    def written(self) -> list[int]:
        """The blocks that may have been written since this was asked last."""
        return blocks_of(self.watch.scan(self.raw.size()))

    def read(self, blocks: Sequence[int]) -> BlockBatch:
        """These blocks, as they are now."""
        pages = self.raw.size() // WASM_PAGE_BYTES
        with self.watch.contents() as view:
            # Copied before it is hashed: the agent may be writing it. In one piece, where they are neighbours.
            copies = b"".join([view[BLOCK_BYTES * first : BLOCK_BYTES * (last + 1)] for first, last in _spans(blocks)])
        if pages > self.tree.pages:
            self.tree.grow(pages)
        whole, fresh = memoryview(copies), []
        for at, block in enumerate(blocks):
            copy = whole[BLOCK_BYTES * at : BLOCK_BYTES * (at + 1)]
            if self.initial.has(BLOCK_BYTES * block, copy):
                self.tree[block] = INITIAL
                fresh.append(at)
            else:
                self.tree[block] = canonical.digest(copy)
        return BlockBatch.of(self.index, pages, blocks, copies, fresh)


@define(eq=False, repr=False)
class Sending:
    """The blocks of one agent on their way. `speed`: bytes a second, as measured."""

    berth: Berth
    life: Execution
    session: bytes
    ask: Callable[[Request], Awaitable[object]]
    memories: list[SentMemory] = field(factory=list, repr=brief)
    rounds: int = 0
    sent_blocks: int = 0
    sent_bytes: int = 0
    speed: float = 100e6
    _pending: set[asyncio.Task[None]] = field(factory=set)

    def begin(self) -> None:
        """Watch what the agent writes from now on. It stands still. Raises `EngineError`."""
        instance = self.life.instance
        assert instance is not None
        for index, name in enumerate(self.life.memories):
            raw, tree = instance.raw(name), BlockTree(instance.memory_pages(name))
            self.memories.append(SentMemory(index, raw, self.life.initial(name), tree, instance.watch_writes(name)))

    def close(self) -> None:
        """Watch no more."""
        for task in self._pending:
            task.cancel()
        for memory in self.memories:
            memory.watch.close()

    @property
    def resent_blocks(self) -> int:
        """How many blocks were sent again."""
        return self.sent_blocks - sum(1 for memory in self.memories for _ in memory.tree.different())

    def different(self) -> list[list[int]]:
        """The blocks of each memory that are not as in a fresh instance. In a thread."""
        return [memory.different() for memory in self.memories]

    def written(self) -> list[list[int]]:
        """The blocks of each memory that may have been written since they were looked at last. In a thread."""
        return [memory.written() for memory in self.memories]

    async def send(self, found: list[list[int]]) -> None:
        """Send these blocks of each memory; returns when they have arrived."""
        began, before = time.perf_counter(), self.sent_bytes
        for memory, blocks in zip(self.memories, found, strict=True):
            for at in range(0, len(blocks), BATCH_BLOCKS):
                chunk = blocks[at : at + BATCH_BLOCKS]
                batch = await in_thread(memory.read, chunk)
                while len(self._pending) >= WINDOW:
                    await self._one()
                self._pending.add(asyncio.get_running_loop().create_task(self._give(batch)))
                self.sent_blocks += len(chunk)
                self.sent_bytes += len(chunk) * BLOCK_BYTES
        while self._pending:
            await self._one()
        took = time.perf_counter() - began
        if self.sent_bytes - before >= BATCH_BLOCKS * BLOCK_BYTES:
            self.speed = (self.sent_bytes - before) / took

    async def _one(self) -> None:
        done, self._pending = await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def _give(self, batch: BlockBatch) -> None:
        answer = await self.ask(Blocks(self.session, batch))
        if isinstance(answer, Refusal):
            raise SessionRefused(answer)

    def rest(self, found: list[list[int]]) -> tuple[Rest, tuple[MemoryRoot, ...]]:
        """The last blocks, and the roots of the memories with them. The agent stands still."""
        batches = []
        for memory, blocks in zip(self.memories, found, strict=True):
            for at in range(0, len(blocks), BATCH_BLOCKS):
                batches.append(memory.read(blocks[at : at + BATCH_BLOCKS]))
        for memory in self.memories:
            memory.tree.grow(memory.raw.size() // WASM_PAGE_BYTES)
        roots = tuple(MemoryRoot(memory.tree.pages, memory.tree.root()) for memory in self.memories)
        return Rest(self.session, tuple(batches)), roots


def _spans(blocks: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of neighbours, each as its first and its last."""
    found: list[tuple[int, int]] = []
    for block in blocks:
        if found and found[-1][1] == block - 1:
            found[-1] = (found[-1][0], block)
        else:
            found.append((block, block))
    return found
