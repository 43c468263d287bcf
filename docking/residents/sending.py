"""The memory of an agent on its way to another station, while it runs: reads blocks, and sends them round after round.
Its large files too: their blocks are those of one more memory, behind the last.

Not here: when the agent is stopped, and the handoff (`moves`). Invariants: pages are marked as not written before they
are read, so that no write is lost; a block is on its way once at most; nothing is read after the instance is closed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from attrs import define, field, frozen

from agents import canonical
from agents.blocks import (
    BATCH_BLOCKS,
    BLOCK_BYTES,
    BLOCKS_PER_PAGE,
    INITIAL,
    BlockBatch,
    BlockTree,
    blocks_of,
    spans,
)
from agents.brief import brief
from agents.engines.pages import Initial, touched
from agents.engines.raw import RawMemory
from agents.engines.writes import WriteWatch, watch_writes
from agents.errors import BadSnapshot
from agents.execution import Execution
from agents.snapshot import MAX_MEMORIES, MemoryRoot, Snapshot
from agents.wasi.file_blocks import FileBlocks, room_for
from agents.wasi.state import WasiState
from agents.wasm.bounds import WASM_PAGE_BYTES
from docking.aio.threads import in_thread
from docking.handoff.refusal import Refusal
from docking.live.block_file import BlockFile
from docking.live.block_server import Backing
from docking.live.wire import Blocks, Owed, Request, Rest
from docking.residents.berth import Berth

# Batches on their way at once.
WINDOW = 4
# Seconds without sending after each batch where it is sent gently, at most.
LONGEST_REST_S = 0.05


class SessionRefused(Exception):
    """The destination does not take it, or cannot be reached."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(why.reason)
        self.why = why


class MoveOver(Exception):
    """The agent has ended, has left by itself, or obeys another order: nothing is to be moved any more."""


@define(eq=False, repr=False)
class SentMemory:
    """One memory that is sent ahead, by its address: the agent runs meanwhile."""

    index: int
    raw: RawMemory = field(repr=False)
    initial: Initial = field(repr=False)
    tree: BlockTree = field(repr=False)
    watch: WriteWatch = field(init=False, repr=False)
    """From `Sending.watch` on."""
    sent: set[int] = field(factory=set, repr=brief)
    """The blocks that were sent."""

    def different(self) -> list[int]:
        """The blocks that may not be as in a fresh instance. What is written meanwhile is reported as written."""
        with self.raw.held():
            return blocks_of(touched(self.raw.address, self.raw.size()))

    def written(self) -> list[int]:
        """The blocks that may have been written since this was asked last."""
        return blocks_of(self.watch.scan(self.raw.size()))

    def read(self, blocks: Sequence[int]) -> BlockBatch:
        """These blocks, as they are now."""
        pages, copies, fresh = self._hashed(blocks)
        self.sent.update(blocks)
        return BlockBatch.of(self.index, pages, blocks, copies, fresh)

    def note(self, blocks: Sequence[int], file: BlockFile | None) -> set[int]:
        """Hash these blocks, which come later, and write them to `file`. Returns those that need not come: they are as
        in a fresh instance. Raises `OSError`.
        """
        unneeded: set[int] = set()
        for at in range(0, len(blocks), BATCH_BLOCKS):
            chunk = blocks[at : at + BATCH_BLOCKS]
            _, copies, fresh = self._hashed(chunk)
            unneeded.update(chunk[each] for each in fresh)
            if file is not None:
                whole = memoryview(copies)
                rows = [(b, self.tree[b], whole[BLOCK_BYTES * n : BLOCK_BYTES * (n + 1)]) for n, b in enumerate(chunk)]
                file.write(self.index, rows)
        return unneeded

    def _hashed(self, blocks: Sequence[int]) -> tuple[int, bytes, list[int]]:
        """Copies of these blocks, joined, with their digests in the tree; the size of the memory in pages, and the
        places of those that are as in a fresh instance.
        """
        pages = self.raw.size() // WASM_PAGE_BYTES
        with self.watch.contents() as view:
            # Copied before it is hashed: the agent may be writing it. In one piece, where they are neighbours.
            copies = b"".join([view[BLOCK_BYTES * first : BLOCK_BYTES * (last + 1)] for first, last in spans(blocks)])
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
        return pages, copies, fresh


@define(eq=False, repr=False)
class SentFiles:
    """The contents of an agent's large files, as `SentMemory`. `index`: after the last memory."""

    index: int
    state: WasiState = field(repr=False)
    blocks: FileBlocks = field(repr=False)
    tree: BlockTree = field(factory=lambda: BlockTree(0), repr=False)
    sent: set[int] = field(factory=set, repr=brief)

    def different(self) -> list[int]:
        """All blocks."""
        return self.written()

    def written(self) -> list[int]:
        """The blocks that may have been written since this was asked last, and those of files that are new."""
        return self.state.written(self.blocks)

    def read(self, blocks: Sequence[int]) -> BlockBatch:
        """These blocks, as they are now."""
        self.sent.update(blocks)
        self.tree.grow(max(self.tree.pages, blocks[-1] // BLOCKS_PER_PAGE + 1))
        copies, fresh = [], []
        for at, block in enumerate(blocks):
            copies.append(self.blocks.read(block))
            empty = not any(copies[-1])
            self.tree[block] = INITIAL if empty else canonical.digest(copies[-1])
            if empty:
                fresh.append(at)
        return BlockBatch.of(self.index, self.tree.pages, blocks, b"".join(copies), fresh)

    def root(self) -> tuple[FileBlocks, MemoryRoot] | None:
        """Which blocks have the contents, and their root; None if there are none."""
        return (self.blocks, MemoryRoot(self.tree.pages, self.tree.root())) if self.tree.pages else None


@frozen
class InstanceBacking:
    """The memories of an agent that has left, in the instance in which it ran; see `docking.live.block_server`."""

    life: Execution
    memories: tuple[RawMemory, ...] = field(repr=brief)

    def held(self) -> int:
        """See `Backing`."""
        return self.life.usage().memory

    def pages(self, memory: int) -> int:
        """See `Backing`."""
        return self.memories[memory].size() // WASM_PAGE_BYTES

    def read(self, memory: int, blocks: Sequence[int]) -> bytes:
        """See `Backing`."""
        if memory >= len(self.memories):
            raise BadSnapshot("a memory that the agent does not have")
        with self.memories[memory].reading() as view:
            if max(blocks) >= len(view) // BLOCK_BYTES:
                raise BadSnapshot("a block beyond the memory's end")
            return b"".join([view[BLOCK_BYTES * each : BLOCK_BYTES * (each + 1)] for each in blocks])

    def close(self, remove: bool) -> None:
        """See `Backing`."""
        self.life.close()


@define(eq=False, repr=False)
class Sending:
    """The blocks of one agent on their way. `speed`: bytes a second, as measured."""

    berth: Berth
    life: Execution
    session: bytes
    ask: Callable[[Request], Awaitable[object]]
    memories: list[SentMemory] = field(factory=list, repr=brief)
    files: SentFiles | None = None
    rounds: int = 0
    sent_blocks: int = 0
    sent_bytes: int = 0
    speed: float = 100e6
    gentle: bool = False
    """Whether the agent has clients, which need the processor too."""
    later: bool = False
    """Whether the destination can have blocks that come later."""
    file: BlockFile | None = None
    """Where blocks that come later are kept."""
    owed: list[set[int]] = field(factory=list, repr=brief)
    """Of each memory, the blocks that come later."""
    _unneeded: list[set[int]] = field(factory=list, repr=brief)
    """Those that are as in a fresh instance again, and that the destination was not told of."""
    _watching: bool = False
    _pending: set[asyncio.Task[None]] = field(factory=set)

    def begin(self) -> None:
        """Find its memories. It stands still. Raises `EngineError` for one that may move."""
        instance = self.life.instance
        assert instance is not None
        for index, name in enumerate(self.life.memories):
            raw, tree = instance.raw(name), BlockTree(instance.memory_pages(name))
            self.memories.append(SentMemory(index, raw, self.life.initial(name), tree))
            self.owed.append(set())
            self._unneeded.append(set())
        state, index = self.life.wasi, len(self.memories)
        if state is not None and index < MAX_MEMORIES:
            blocks = FileBlocks(room_for(state.limits.luggage_bytes))
            self.files = SentFiles(index, state, blocks)

    @property
    def parts(self) -> list[SentMemory | SentFiles]:
        """All that is sent: the memories, and the files. Lists of blocks are in this order."""
        return [*self.memories, *([] if self.files is None else [self.files])]

    def watch(self) -> None:
        """Watch what the agent writes from now on. In a thread; it may run. Raises `EngineError`."""
        for memory in self.memories:
            memory.watch = watch_writes(memory.raw)
        self._watching = True

    def stop(self) -> None:
        """Send no more."""
        for task in self._pending:
            if not task.cancel() and not task.cancelled():
                task.exception()  # retrieved: another batch was refused first

    def close(self) -> None:
        """Watch no more. In a thread: the kernel takes some milliseconds for each 100 MiB."""
        if self._watching:
            for memory in self.memories:
                memory.watch.close()
        if self.files is not None:
            self.files.blocks.close()
        if self.file is not None:  # nothing left in this way
            self.file.close(remove=True)

    @property
    def resent_blocks(self) -> int:
        """How many blocks were sent again."""
        return self.sent_blocks - sum(len(part.sent) for part in self.parts)

    def different(self) -> list[list[int]]:
        """The blocks of each part that are not as in a fresh instance. In a thread."""
        return [part.different() for part in self.parts]

    def written(self) -> list[list[int]]:
        """The blocks of each part that may have been written since they were looked at last. In a thread."""
        return [part.written() for part in self.parts]

    async def send(self, found: list[list[int]]) -> None:
        """Send these blocks of each part; returns when they have arrived."""
        began, before, rested = time.perf_counter(), self.sent_bytes, 0.0
        for part, blocks in zip(self.parts, found, strict=True):
            for at in range(0, len(blocks), BATCH_BLOCKS):
                read, chunk = time.perf_counter(), blocks[at : at + BATCH_BLOCKS]
                batch = await in_thread(part.read, chunk)
                # While the agent computes, at most one: it needs the processor too.
                while len(self._pending) >= (1 if self.berth.running else WINDOW):
                    await self._one()
                self._pending.add(asyncio.get_running_loop().create_task(self._give(batch)))
                self.sent_blocks += len(chunk)
                self.sent_bytes += len(chunk) * BLOCK_BYTES
                if self.gentle:  # a batch at a time, and a third of the time nothing
                    await self._arrived()
                    rest = min((time.perf_counter() - read) / 2, LONGEST_REST_S)
                    rested += rest
                    await asyncio.sleep(rest)
        await self._arrived()
        took = time.perf_counter() - began - rested
        if self.sent_bytes - before >= BATCH_BLOCKS * BLOCK_BYTES:
            self.speed = (self.sent_bytes - before) / took

    def note(self, found: list[list[int]]) -> None:
        """These blocks of each memory come later. In a thread. Raises `OSError`, `EngineError`.

        found: also of the files, which cannot: the caller sends these
        """
        for at, (memory, blocks) in enumerate(zip(self.memories, found, strict=False)):
            fresh = memory.note(blocks, self.file)
            self.owed[at] = (self.owed[at] | set(blocks)) - fresh
            self._unneeded[at] = (self._unneeded[at] - set(blocks)) | fresh

    async def _arrived(self) -> None:
        while self._pending:
            await self._one()

    async def _one(self) -> None:
        done, self._pending = await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def _give(self, batch: BlockBatch) -> None:
        answer = await self.ask(Blocks(self.session, batch))
        if isinstance(answer, Refusal):
            raise SessionRefused(answer)

    def of_files(self, found: list[list[int]]) -> list[list[int]]:
        """Of these blocks, those of files."""
        return [blocks if part is self.files else [] for part, blocks in zip(self.parts, found, strict=True)]

    def rest(self, found: list[list[int]]) -> tuple[Rest, Snapshot]:
        """The last blocks, what comes later, and the agent's state, which has their roots. It stands still."""
        batches = []
        unneeded: list[set[int]] = [*self._unneeded, set()]
        for part, blocks, more in zip(self.parts, found, unneeded, strict=False):
            last = sorted(more.union(blocks))
            self.sent_blocks += len(last)
            for at in range(0, len(last), BATCH_BLOCKS):
                batches.append(part.read(last[at : at + BATCH_BLOCKS]))
        owed = []
        for memory, blocks, later in zip(self.memories, found, self.owed, strict=False):
            memory.tree.grow(memory.raw.size() // WASM_PAGE_BYTES)
            later.difference_update(blocks)
            if later:
                numbers = tuple(sorted(later))
                owed.append(Owed(memory.index, numbers, memory.tree.digests(numbers)))
        roots = tuple(MemoryRoot(memory.tree.pages, memory.tree.root()) for memory in self.memories)
        files = None if self.files is None else self.files.root()
        return Rest(self.session, tuple(batches), tuple(owed)), self.life.snapshot(roots, files)

    def backing(self) -> Backing:
        """What has the blocks that come later, once the agent has left."""
        if self.file is not None:
            return self.file
        return InstanceBacking(self.life, tuple(memory.raw for memory in self.memories))
