"""A memory as a tree of blocks: what of it changed is hashed and sent again, and the rest is not touched.

A memory is cut into blocks of `BLOCK_BYTES`. Each has a digest: of its contents, or `INITIAL` if they are those of a
fresh instance, which every station can make from the image. `NODE_BLOCKS` of these digests, one after the other, are a
node; the root of the memory is the digest of its size and of its nodes' digests. So the root covers every byte, and
after a change of one block one node and the root are hashed anew.

    root    digest(CBOR [size in 64 KiB pages, digest of each node, joined])
    node    digest(the digests of up to 256 blocks, joined)
    block   digest(16 KiB of contents), or 32 zero bytes

A `BlockBatch` is how blocks travel: which ones, and their contents, compressed together.

Not here: which blocks changed (`agents.engines`), and who may send them. Invariants: one state of a memory has one
root; `BlockBatch.decode` accepts what `encode` writes and nothing else, and expands to no more than it announces.
"""

from __future__ import annotations

import array
import itertools
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence

import attrs

from agents.brief import brief
from agents.wasm.bounds import WASM_PAGE_BYTES

from . import canonical
from .canonical import DIGEST_SIZE, Buffer, DecodeBounds
from .errors import BadSnapshot, NotCanonical

try:
    import zstandard
except ImportError:  # it has no build for a browser's Python
    from . import zstandard_fallback as zstandard  # type: ignore[no-redef]

BLOCK_BYTES = 16 << 10
NODE_BLOCKS = 256
INITIAL = bytes(DIGEST_SIZE)
BLOCKS_PER_PAGE = WASM_PAGE_BYTES // BLOCK_BYTES
# Of one batch: what is compressed, sent, and expanded at once.
BATCH_BLOCKS = 64
MAX_BATCH_BYTES = BATCH_BLOCKS * BLOCK_BYTES + (64 << 10)
_LEVEL = 1  # of zstd, as for whole snapshots
_BOUNDS = DecodeBounds(max_bytes=MAX_BATCH_BYTES, max_depth=2, max_items=8)

Runs = Iterable[tuple[int, int]]  # (first page, number of pages) of 4 KiB, ascending


class BlockTree:
    """The digests of the blocks of one memory of `pages` pages of 64 KiB, at first all as in a fresh instance."""

    def __init__(self, pages: int) -> None:
        self.pages = 0
        self._digests = bytearray()
        self._nodes: list[bytes] = []
        self._stale: set[int] = set()
        self.grow(pages)

    @property
    def blocks(self) -> int:
        """The number of its blocks."""
        return self.pages * BLOCKS_PER_PAGE

    def grow(self, pages: int) -> None:
        """The memory has `pages` pages now. What is new is as in a fresh instance: zero."""
        if pages < self.pages:
            raise ValueError("a memory does not shrink")
        before, self.pages = self.blocks, pages
        if self.blocks > before:
            self._digests += bytes(DIGEST_SIZE * (self.blocks - before))
            nodes = -(-self.blocks // NODE_BLOCKS)
            self._stale.update(range(before // NODE_BLOCKS, nodes))
            self._nodes += [b""] * (nodes - len(self._nodes))

    def __getitem__(self, block: int) -> bytes:
        if not 0 <= block < self.blocks:
            raise IndexError(block)
        return bytes(self._digests[DIGEST_SIZE * block : DIGEST_SIZE * (block + 1)])

    def __setitem__(self, block: int, digest: bytes) -> None:
        if not 0 <= block < self.blocks or len(digest) != DIGEST_SIZE:
            raise IndexError(block)
        self._digests[DIGEST_SIZE * block : DIGEST_SIZE * (block + 1)] = digest
        self._stale.add(block // NODE_BLOCKS)

    def digests(self, blocks: Sequence[int]) -> bytes:
        """The digests of these blocks, ascending, joined."""
        size = DIGEST_SIZE
        if blocks and not 0 <= blocks[0] <= blocks[-1] < self.blocks:
            raise IndexError(blocks[-1])
        return b"".join([self._digests[size * first : size * (last + 1)] for first, last in spans(blocks)])

    def put(self, blocks: Sequence[int], digests: bytes) -> None:
        """Set the digests of these blocks, ascending."""
        if not blocks:
            return
        if not 0 <= blocks[0] <= blocks[-1] < self.blocks or len(digests) != DIGEST_SIZE * len(blocks):
            raise IndexError(blocks[-1])
        at = 0
        for first, last in spans(blocks):
            size = DIGEST_SIZE * (last + 1 - first)
            self._digests[DIGEST_SIZE * first : DIGEST_SIZE * (last + 1)] = digests[at : at + size]
            self._stale.update(range(first // NODE_BLOCKS, last // NODE_BLOCKS + 1))
            at += size

    def root(self) -> bytes:
        """The root: hashes the nodes that changed since it was asked for last."""
        size = DIGEST_SIZE * NODE_BLOCKS
        for node in self._stale:
            self._nodes[node] = canonical.digest(bytes(self._digests[size * node : size * (node + 1)]))
        self._stale.clear()
        return canonical.digest(canonical.encode([self.pages, b"".join(self._nodes)]))

    def different(self) -> Iterator[int]:
        """The blocks that are not as in a fresh instance."""
        for node in range(len(self._nodes)):
            first = node * NODE_BLOCKS
            last = min(first + NODE_BLOCKS, self.blocks)
            if any(self._digests[DIGEST_SIZE * first : DIGEST_SIZE * last]):
                yield from (block for block in range(first, last) if self[block] != INITIAL)


def blocks_of(runs: Runs) -> list[int]:
    """The blocks that these pages of 4 KiB lie in, ascending."""
    found: list[int] = []
    pages = BLOCK_BYTES // 4096
    for first, count in runs:
        begin, end = first // pages, (first + count - 1) // pages + 1
        found.extend(range(max(begin, found[-1] + 1) if found else begin, end))
    return found


def runs_of(blocks: Sequence[int]) -> list[tuple[int, int]]:
    """The inverse: runs of pages of 4 KiB, of blocks that are ascending."""
    pages = BLOCK_BYTES // 4096
    return [(first * pages, (last + 1 - first) * pages) for first, last in spans(blocks)]


def spans(blocks: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of neighbours among blocks that are ascending, each as its first and its last."""
    if not blocks:
        return []
    found, first = [], blocks[0]
    previous = first
    for block in itertools.islice(blocks, 1, None):
        if block != previous + 1:
            found.append((first, previous))
            first = block
        previous = block
    found.append((first, previous))
    return found


class _Contexts(threading.local):
    """One of each per thread: making them takes longer than compressing a few blocks."""

    def __init__(self) -> None:
        parameters = zstandard.ZstdCompressionParameters.from_level(_LEVEL, source_size=BATCH_BLOCKS * BLOCK_BYTES)
        self.compressor = zstandard.ZstdCompressor(compression_params=parameters)
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=2 * BATCH_BLOCKS * BLOCK_BYTES)


_CONTEXTS = _Contexts()


@attrs.frozen
class BlockBatch:
    """Up to `BATCH_BLOCKS` blocks of one memory.

    memory: its index; pages: its size when they were read, in 64 KiB; blocks: with contents, ascending;
    initial: those that are as in a fresh instance, ascending; data: the contents, joined and compressed
    """

    memory: int
    pages: int
    blocks: tuple[int, ...] = attrs.field(repr=brief)
    initial: tuple[int, ...] = attrs.field(repr=brief)
    data: bytes = attrs.field(repr=False)

    @classmethod
    def of(
        cls, memory: int, pages: int, blocks: Sequence[int], contents: Buffer, fresh: Sequence[int] = ()
    ) -> BlockBatch:
        """Of `blocks`, ascending, with their contents joined. `fresh`: places in `blocks`, ascending, of those whose
        contents are those of a fresh instance.
        """
        if fresh:
            view, left = memoryview(contents), set(fresh)
            kept = [at for at in range(len(blocks)) if at not in left]
            contents = b"".join([view[BLOCK_BYTES * at : BLOCK_BYTES * (at + 1)] for at in kept])
            initial, blocks = tuple(blocks[at] for at in fresh), [blocks[at] for at in kept]
        else:
            initial = ()
        return cls(memory, pages, tuple(blocks), initial, _CONTEXTS.compressor.compress(contents) if blocks else b"")

    def contents(self) -> list[memoryview]:
        """The contents of `blocks`. Raises `BadSnapshot` unless the data is exactly these."""
        size = len(self.blocks) * BLOCK_BYTES
        if not size:
            return []
        try:
            if zstandard.get_frame_parameters(self.data).content_size != size:
                raise BadSnapshot("the blocks of a memory are not as long as announced")
            view = memoryview(_CONTEXTS.decompressor.decompress(self.data, max_output_size=size))
        except (zstandard.ZstdError, ValueError) as error:
            raise BadSnapshot(f"the blocks of a memory cannot be decompressed: {error}") from None
        if len(view) != size:
            raise BadSnapshot("the blocks of a memory are not as long as announced")
        return [view[at : at + BLOCK_BYTES] for at in range(0, size, BLOCK_BYTES)]

    def parts(self) -> tuple[bytes, bytes]:
        """As bytes, in two pieces: what stands before the contents, and these, which are not copied."""
        head = [self.memory, self.pages, packed(self.blocks), packed(self.initial), b""]
        return canonical.encode(head)[:-1] + canonical.byte_string_head(len(self.data)), self.data

    def encode(self) -> bytes:
        """As bytes."""
        return b"".join(self.parts())

    @classmethod
    def decode(cls, data: Buffer) -> BlockBatch:
        """The inverse of `encode`. Raises `BadSnapshot`."""
        try:
            memory, pages, blocks, initial, contents = canonical.decode(data, _BOUNDS)
        except (NotCanonical, ValueError, TypeError) as error:
            raise BadSnapshot(f"not a batch of blocks: {error}") from None
        if type(memory) is not int or type(pages) is not int or not 0 <= memory < 64 or not 0 <= pages <= 1 << 17:
            raise BadSnapshot("blocks of a memory that cannot be")
        if not all(isinstance(each, bytes) for each in (blocks, initial, contents)):
            raise BadSnapshot("not a batch of blocks")
        given, fresh = unpacked(blocks), unpacked(initial)
        if not 0 < len(given) + len(fresh) <= BATCH_BLOCKS or bool(contents) != bool(given):
            raise BadSnapshot(f"not 1 to {BATCH_BLOCKS} blocks")
        if set(given) & set(fresh) or max(*given, *fresh, -1) >= pages * BLOCKS_PER_PAGE:
            raise BadSnapshot("a block twice, or beyond the end of its memory")
        return cls(memory, pages, given, fresh, contents)


def packed(numbers: Sequence[int]) -> bytes:
    """Numbers of blocks, 32 bits each, little-endian."""
    found = array.array("I", numbers)
    if sys.byteorder == "big":
        found.byteswap()
    return found.tobytes()


def unpacked(data: bytes, most: int = BATCH_BLOCKS, ascending: bool = True) -> tuple[int, ...]:
    """The inverse: up to `most` numbers, which must be ascending where that is said. Raises `BadSnapshot`."""
    if len(data) % 4 or len(data) > 4 * most:
        raise BadSnapshot("not a list of blocks")
    found = array.array("I", data)
    if sys.byteorder == "big":
        found.byteswap()
    numbers = tuple(found)
    if ascending and any(a >= b for a, b in itertools.pairwise(numbers)):
        raise BadSnapshot("blocks that are not in ascending order")
    return numbers


def encode_batches(batches: Sequence[BlockBatch]) -> bytes:
    """Several batches as one part of an offer."""
    return b"".join(piece for batch in batches for piece in _framed(batch.encode()))


def _framed(data: bytes) -> tuple[bytes, bytes]:
    return canonical.byte_string_head(len(data)), data


def decode_batches(data: Buffer) -> Iterator[BlockBatch]:
    """The inverse of `encode_batches`, one after the other. Raises `BadSnapshot`."""
    view, at = memoryview(data), 0
    while at < len(view):
        try:
            begin, at = canonical.byte_string_at(view, at)
        except NotCanonical as error:
            raise BadSnapshot(f"not batches of blocks: {error}") from None
        yield BlockBatch.decode(view[begin:at])
