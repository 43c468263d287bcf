"""Memories as trees of blocks: one state has one root, batches carry exactly what they announce."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import canonical
from agents.blocks import (
    BATCH_BLOCKS,
    BLOCK_BYTES,
    BLOCKS_PER_PAGE,
    INITIAL,
    NODE_BLOCKS,
    BlockBatch,
    BlockTree,
    blocks_of,
    decode_batches,
    encode_batches,
    runs_of,
)
from agents.errors import BadSnapshot

PAGES = 2 * NODE_BLOCKS // BLOCKS_PER_PAGE + 3
BLOCKS = PAGES * BLOCKS_PER_PAGE


def root_of(pages: int, digests: list[bytes]) -> bytes:
    """The root by its definition."""
    nodes = [
        canonical.digest(b"".join(digests[first : first + NODE_BLOCKS]))
        for first in range(0, pages * BLOCKS_PER_PAGE, NODE_BLOCKS)
    ]
    return canonical.digest(canonical.encode([pages, b"".join(nodes)]))


changes = st.lists(st.tuples(st.integers(0, BLOCKS - 1), st.integers(0, 5)), max_size=20)


@given(st.lists(changes, max_size=4))
def test_the_root_is_that_of_the_digests_however_they_came(rounds: list[list[tuple[int, int]]]) -> None:
    tree, digests = BlockTree(PAGES), [INITIAL] * BLOCKS
    for writes in rounds:
        for block, seed in writes:
            digests[block] = tree[block] = INITIAL if not seed else canonical.digest(bytes([seed]))
        assert tree.root() == root_of(PAGES, digests)
    assert list(tree.different()) == [block for block, digest in enumerate(digests) if digest != INITIAL]


def test_a_grown_memory_has_the_root_of_one_that_was_always_so_large() -> None:
    grown, always = BlockTree(1), BlockTree(PAGES)
    grown[3] = always[3] = canonical.digest(b"3")
    assert grown.root() != always.root()
    grown.grow(PAGES)
    assert grown.root() == always.root()
    with pytest.raises(ValueError, match="shrink"):
        grown.grow(1)


def test_an_empty_memory_has_a_root() -> None:
    assert BlockTree(0).root() == root_of(0, [])
    with pytest.raises(IndexError):
        BlockTree(0)[0] = INITIAL


@given(st.sets(st.integers(0, 4 * BLOCKS - 1), max_size=60))
def test_blocks_of_pages(pages: set[int]) -> None:
    runs: list[tuple[int, int]] = []
    for page in sorted(pages):
        if runs and sum(runs[-1]) == page:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((page, 1))
    assert blocks_of(runs) == sorted({page // (BLOCK_BYTES // 4096) for page in pages})


@given(st.dictionaries(st.integers(0, BLOCKS - 1), st.none() | st.binary(max_size=20), min_size=1, max_size=6))
def test_a_batch_is_what_was_put_in(found: dict[int, bytes | None]) -> None:
    contents = [
        (block, None if data is None else data.ljust(BLOCK_BYTES, b"x")) for block, data in sorted(found.items())
    ]
    joined = b"".join(bytes(BLOCK_BYTES) if data is None else data for _, data in contents)
    fresh = [at for at, (_, data) in enumerate(contents) if data is None]
    batch = BlockBatch.of(2, PAGES, sorted(found), joined, fresh)
    again = BlockBatch.decode(batch.encode())
    assert again == batch
    assert dict(zip(again.blocks, map(bytes, again.contents()), strict=True)) == {
        block: data for block, data in contents if data is not None
    }
    assert list(again.initial) == [block for block, data in contents if data is None]
    assert list(decode_batches(encode_batches([batch, batch]))) == [batch, batch]


def batch_of(blocks: list[int], data: bytes, initial: tuple[int, ...] = (), pages: int = PAGES) -> bytes:
    return BlockBatch(0, pages, tuple(blocks), initial, data).encode()


COMPRESSED = BlockBatch.of(0, PAGES, [0], bytes(BLOCK_BYTES)).data


@pytest.mark.parametrize(
    ("encoded", "said"),
    [
        (b"", "not a batch"),
        (canonical.encode([0, 1, b"", b""]), "not a batch"),
        (canonical.encode([0, 1, b"abc", b"", b"x"]), "not a list of blocks"),
        (canonical.encode([64, 1, bytes(4), b"", b"x"]), "cannot be"),
        (canonical.encode([0, 1, bytes(4), b"", 5]), "not a batch"),
        (batch_of([], b""), "not 1 to"),
        (batch_of([0], b""), "not 1 to"),
        (batch_of(list(range(BATCH_BLOCKS + 1)), COMPRESSED), "not a list of blocks"),
        (batch_of([1, 0], COMPRESSED), "ascending"),
        (batch_of([0, 0], COMPRESSED), "ascending"),
        (batch_of([0], COMPRESSED, (0,)), "twice"),
        (batch_of([BLOCKS], COMPRESSED), "beyond"),
    ],
)
def test_a_batch_that_is_none_is_refused(encoded: bytes, said: str) -> None:
    with pytest.raises(BadSnapshot, match=said):
        BlockBatch.decode(encoded)


@pytest.mark.parametrize("data", [b"nothing", COMPRESSED[:-3], BlockBatch.of(0, 1, [0], b"x" * 5).data])
def test_contents_that_are_not_as_long_as_announced_are_refused(data: bytes) -> None:
    with pytest.raises(BadSnapshot):
        BlockBatch.decode(batch_of([0], data)).contents()


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        for batch in decode_batches(data):
            batch.contents()
    except BadSnapshot:
        pass


@given(st.sets(st.integers(0, BLOCKS - 1)))
def test_digests_are_set_and_given_for_many_blocks_at_once(chosen: set[int]) -> None:
    blocks = sorted(chosen)
    named = [canonical.digest(bytes([block % 251])) for block in blocks]
    one, many = BlockTree(PAGES), BlockTree(PAGES)
    for block, digest in zip(blocks, named, strict=True):
        one[block] = digest
    many.put(blocks, b"".join(named))
    assert many.root() == one.root()
    assert many.digests(blocks) == b"".join(named)
    pages = [page for first, count in runs_of(blocks) for page in range(first, first + count)]
    assert pages == [page for block in blocks for page in range(4 * block, 4 * block + 4)]


@pytest.mark.parametrize("block", [-1, BLOCKS])
def test_there_is_no_digest_beyond_the_end(block: int) -> None:
    tree = BlockTree(PAGES)
    with pytest.raises(IndexError):
        tree.put([block], bytes(32))
    with pytest.raises(IndexError):
        tree.digests([block])
