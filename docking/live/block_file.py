"""The blocks of an agent that is on its way, on the disk: a sparse file with a place for each block.

    magic | note | number of memories | capacity of each, in blocks | digests of all blocks | blocks, in the same order

The note is 32 bytes for whoever has the file, and the first 8 bytes of their digest; zeros at first.

Written as the blocks come, and synced beside: when the agent is held, only what came last is not on the disk, and that
is in the offer's part `blocks`, which the store has. What is read is compared with the roots that are signed.

Not here: which files are needed (`sessions`). Invariant: a file that passed `states` has exactly the memories that the
roots name.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from agents.blocks import BLOCK_BYTES, BLOCKS_PER_PAGE, INITIAL, BlockBatch, BlockTree
from agents.canonical import DIGEST_SIZE, Buffer, digest
from agents.errors import BadSnapshot
from agents.snapshot import MAX_MEMORIES, MemoryRoot, MemoryState
from agents.wasm.bounds import WASM_PAGE_BYTES
from docking.store.blobs import sync_folder

_MAGIC = b"portcall blocks file 2\n\0"
NOTE_BYTES = 32
_CHECK_BYTES = 8
_HEAD = len(_MAGIC) + NOTE_BYTES + _CHECK_BYTES
_COUNT = struct.Struct("<I")
_PAGES_IN_BLOCK = BLOCK_BYTES // 4096


class BlockFile:
    """An open file. `capacities`: blocks of each memory that there is room for. All methods raise `OSError`."""

    note: bytes = bytes(NOTE_BYTES)

    def __init__(self, path: Path, descriptor: int, capacities: Sequence[int]) -> None:
        self.path, self.capacities = path, tuple(capacities)
        self._descriptor = descriptor
        head = _HEAD + _COUNT.size * (1 + len(capacities))
        self._digests = [head + DIGEST_SIZE * sum(capacities[:n]) for n in range(len(capacities))]
        first = -(-(head + DIGEST_SIZE * sum(capacities)) // BLOCK_BYTES) * BLOCK_BYTES
        self._blocks = [first + BLOCK_BYTES * sum(capacities[:n]) for n in range(len(capacities) + 1)]

    @classmethod
    def make(cls, path: Path, capacities: Sequence[int]) -> BlockFile:
        """A new file."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        made = cls(path, descriptor, capacities)
        try:
            head = (
                _MAGIC
                + cls.note
                + bytes(_CHECK_BYTES)
                + b"".join(_COUNT.pack(n) for n in (len(capacities), *capacities))
            )
            os.pwrite(descriptor, head, 0)
            os.truncate(descriptor, made._blocks[-1])
            os.fsync(descriptor)
            sync_folder(path.parent)
        except OSError:
            made.close(remove=True)
            raise
        return made

    @classmethod
    def open(cls, path: Path) -> BlockFile:
        """One that was made earlier. Raises `BadSnapshot` too."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            head = os.pread(descriptor, _HEAD + _COUNT.size * (2 + MAX_MEMORIES), 0)
            count = int.from_bytes(head[_HEAD : _HEAD + 4], "little")
            numbers = head[_HEAD + 4 : _HEAD + 4 * (1 + count)]
            if not head.startswith(_MAGIC) or not 0 < count <= MAX_MEMORIES + 1 or len(numbers) != 4 * count:
                raise BadSnapshot("a file of blocks that is damaged")
            capacities = [each for (each,) in _COUNT.iter_unpack(numbers)]
            found = cls(path, descriptor, capacities)
            if os.fstat(descriptor).st_size != found._blocks[-1]:
                raise BadSnapshot("a file of blocks that is damaged")
            found.note = head[len(_MAGIC) : _HEAD - _CHECK_BYTES]
            if head[_HEAD - _CHECK_BYTES : _HEAD] != (_check(found.note) if any(found.note) else bytes(_CHECK_BYTES)):
                raise BadSnapshot("a file of blocks that is damaged")
            return found
        except BaseException:
            os.close(descriptor)
            raise

    def remark(self, note: bytes) -> None:
        """Write the note, 32 bytes."""
        if len(note) != NOTE_BYTES:
            raise ValueError("a note of another size")
        os.pwrite(self._descriptor, note + _check(note), len(_MAGIC))
        self.note = note

    def held(self) -> int:
        """Bytes of memory that it takes: none."""
        return 0

    def pages(self, memory: int) -> int:
        """The size that a memory can have, in 64 KiB."""
        return self.capacities[memory] // BLOCKS_PER_PAGE

    def has(self, memory: int, block: int, named: bytes) -> bool:
        """Whether the file has the block with this digest."""
        given = os.pread(self._descriptor, DIGEST_SIZE, self._digests[memory] + DIGEST_SIZE * block)
        return given == named and digest(self.read(memory, [block])) == named

    def read(self, memory: int, blocks: Sequence[int]) -> bytes:
        """The contents of these blocks, joined. Raises `BadSnapshot`."""
        if not 0 <= memory < len(self.capacities) or not all(0 <= each < self.capacities[memory] for each in blocks):
            raise BadSnapshot("a block beyond the file's end")
        first = self._blocks[memory]
        found = b"".join([os.pread(self._descriptor, BLOCK_BYTES, first + BLOCK_BYTES * each) for each in blocks])
        if len(found) != BLOCK_BYTES * len(blocks):
            raise BadSnapshot("a file of blocks that is damaged")
        return found

    def write(self, memory: int, blocks: Sequence[tuple[int, bytes, Buffer | None]]) -> None:
        """Write blocks, each with its digest; None if it is as in a fresh instance."""
        for block, named, contents in blocks:
            if block >= self.capacities[memory]:
                raise BadSnapshot("a block beyond the file's end")
            if contents is not None:
                os.pwrite(self._descriptor, contents, self._blocks[memory] + BLOCK_BYTES * block)
            os.pwrite(self._descriptor, named, self._digests[memory] + DIGEST_SIZE * block)

    def sync(self) -> None:
        """Return when everything that was written is on the disk."""
        os.fdatasync(self._descriptor) if hasattr(os, "fdatasync") else os.fsync(self._descriptor)

    def states(self, roots: Sequence[MemoryRoot], rest: Iterable[BlockBatch]) -> tuple[MemoryState, ...]:
        """The memories with these roots: what is in the file, and the blocks that came last.

        One without pages is empty. Raises `BadSnapshot` if they are not these.
        """
        if len(roots) != len(self.capacities) or any(
            memory.pages * BLOCKS_PER_PAGE > most for memory, most in zip(roots, self.capacities, strict=True)
        ):
            raise BadSnapshot("other memories than the file has room for")
        for batch in rest:
            if batch.memory >= len(roots):
                raise BadSnapshot("blocks of a memory that the agent does not have")
            self.write(batch.memory, named(batch))
        return tuple(self._state(number, memory) for number, memory in enumerate(roots))

    def _state(self, number: int, memory: MemoryRoot) -> MemoryState:
        tree = BlockTree(memory.pages)
        digests = os.pread(self._descriptor, DIGEST_SIZE * tree.blocks, self._digests[number])
        size = memory.pages * WASM_PAGE_BYTES
        if not size:
            return MemoryState(0, (), ())
        with mmap.mmap(self._descriptor, self._blocks[-1], access=mmap.ACCESS_READ) as mapped:
            whole = memoryview(mapped)
            view = whole[self._blocks[number] : self._blocks[number] + size]
            try:
                runs: list[tuple[int, int]] = []
                for block in range(tree.blocks):
                    given = digests[DIGEST_SIZE * block : DIGEST_SIZE * (block + 1)]
                    if given == INITIAL:
                        continue
                    if digest(view[BLOCK_BYTES * block : BLOCK_BYTES * (block + 1)]) != given:
                        raise BadSnapshot("a block was damaged on the disk")
                    tree[block] = given
                    _add(runs, block * _PAGES_IN_BLOCK)
                if tree.root() != memory.root:
                    raise BadSnapshot("the blocks on the disk are not those of the agent's memory")
                return MemoryState.capture(view, runs)
            finally:
                view.release()
                whole.release()

    def close(self, remove: bool = False) -> None:
        """Close the file. `remove`: and remove it, else it stays."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        if remove:
            self.path.unlink(missing_ok=True)


def _add(runs: list[tuple[int, int]], page: int) -> None:
    if runs and runs[-1][0] + runs[-1][1] == page:
        runs[-1] = (runs[-1][0], runs[-1][1] + _PAGES_IN_BLOCK)
    else:
        runs.append((page, _PAGES_IN_BLOCK))


def _check(note: bytes) -> bytes:
    return digest(note)[:_CHECK_BYTES]


def named(batch: BlockBatch) -> list[tuple[int, bytes, Buffer | None]]:
    """The blocks of a batch, each with its digest; without contents where they are those of a fresh instance.

    Raises `BadSnapshot`.
    """
    contents = batch.contents()
    fresh: list[tuple[int, bytes, Buffer | None]] = [(block, INITIAL, None) for block in batch.initial]
    return [*zip(batch.blocks, map(digest, contents), contents, strict=True), *fresh]
