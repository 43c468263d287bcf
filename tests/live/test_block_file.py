"""Files of blocks: what was written and signed is read again, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.blocks import BLOCK_BYTES, BLOCKS_PER_PAGE, INITIAL, BlockBatch, BlockTree
from agents.errors import BadSnapshot
from agents.snapshot import MemoryRoot
from docking.live.block_file import BlockFile, named

PAGES = 3
CAPACITY = 2 * PAGES * BLOCKS_PER_PAGE

contents = st.dictionaries(
    st.integers(0, PAGES * BLOCKS_PER_PAGE - 1), st.none() | st.integers(1, 255), min_size=1, max_size=6
)


def batch(memory: int, found: dict[int, int | None]) -> BlockBatch:
    blocks = sorted(found)
    contents = b"".join(bytes([found[block] or 0]) * BLOCK_BYTES for block in blocks)
    return BlockBatch.of(
        memory, PAGES, blocks, contents, [at for at, block in enumerate(blocks) if found[block] is None]
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 1), contents), max_size=5), st.integers(0, 5))
def test_memories_are_as_they_were_written_last(
    tmp_path: Path, writes: list[tuple[int, dict[int, int | None]]], in_file: int
) -> None:
    path = tmp_path / "blocks"
    path.unlink(missing_ok=True)
    file = BlockFile.make(path, (CAPACITY, CAPACITY))
    batches = [batch(memory, found) for memory, found in writes]
    trees = [BlockTree(PAGES), BlockTree(PAGES)]
    memories = [bytearray(PAGES << 16), bytearray(PAGES << 16)]
    for each in batches:
        for block, digest, data in named(each):
            trees[each.memory][block] = digest
            memories[each.memory][BLOCK_BYTES * block : BLOCK_BYTES * (block + 1)] = data or bytes(BLOCK_BYTES)
    for each in batches[:in_file]:
        file.write(each.memory, named(each))
    file.sync()
    file.close()
    roots = [MemoryRoot(PAGES, tree.root()) for tree in trees]
    found = BlockFile.open(path)
    try:
        states = found.states(roots, batches[in_file:])
    finally:
        found.close()
    for tree, expected, state in zip(trees, memories, states, strict=True):
        restored = bytearray(PAGES << 16)
        state.restore(memoryview(restored))
        for block in range(tree.blocks):
            if tree[block] == INITIAL:  # as in a fresh instance: not in the state
                restored[BLOCK_BYTES * block : BLOCK_BYTES * (block + 1)] = bytes(BLOCK_BYTES)
        assert restored == expected


def made(path: Path) -> MemoryRoot:
    file, tree = BlockFile.make(path, (CAPACITY,)), BlockTree(PAGES)
    for block, digest, data in named(batch(0, {0: 1, 5: 2})):
        tree[block] = digest
        file.write(0, [(block, digest, data)])
    file.close()
    return MemoryRoot(PAGES, tree.root())


def states(path: Path, *roots: MemoryRoot) -> None:
    file = BlockFile.open(path)
    try:
        file.states(roots, [])
    finally:
        file.close()


def test_other_memories_than_were_signed_are_refused(tmp_path: Path) -> None:
    root = made(tmp_path / "blocks")
    states(tmp_path / "blocks", root)
    for roots in (
        (),
        (root, root),
        (MemoryRoot(PAGES, bytes(32)),),
        (MemoryRoot(PAGES - 1, root.root),),
        (MemoryRoot(1 << 20, root.root),),
    ):
        with pytest.raises(BadSnapshot):
            states(tmp_path / "blocks", *roots)


@pytest.mark.parametrize("at", [0, 24, 60, 64, 70, -5 * BLOCK_BYTES])
def test_a_damaged_file_is_refused(tmp_path: Path, at: int) -> None:
    path = tmp_path / "blocks"
    root = made(path)
    data = bytearray(path.read_bytes())
    if at < 0:  # inside the contents of block 5
        at = len(data) - (CAPACITY - 5) * BLOCK_BYTES + 7
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadSnapshot):
        states(path, root)


def test_a_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "blocks"
    root = made(path)
    for size in (0, 10, 40, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(BadSnapshot):
            states(path, root)
