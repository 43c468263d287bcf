"""The contents of an agent's large files as blocks, so that what of them changed travels, and the rest does not again.

While an agent is sent ahead, its large files lie in one row of blocks of `BLOCK_BYTES`, as if it were a memory: each
file has its blocks somewhere in the row, and keeps them; the last one of a file is filled up with zeros. The blocks of
a file that is gone are given to others. In the encoded state stands, in place of the contents, of how many bytes they
are and which blocks have them (`luggage_codec`).

Not here: how blocks travel, and who decides what is sent. Invariants: a write is noted after it was made, and noted
blocks are taken before they are read, so no write is missed although the agent runs meanwhile; the row has at most as
many blocks as were allowed, and a file that finds no room in it stays in the state as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import attrs

from agents.blocks import BLOCK_BYTES, BLOCKS_PER_PAGE
from agents.brief import brief

from .abi import REGULAR_FILE
from .nodes import Luggage, Node
from .vfs import Bytes

# Bytes of the smallest file whose contents travel as blocks: a smaller one is not longer than what names its blocks
# and what fills up the last.
LEAST_FILE_BYTES = 64 << 10
# How often what the agent changes meanwhile may disturb the search for its files.
_TRIES = 10


def room_for(luggage_bytes: int) -> int:
    """Blocks of a row that has room for the files of an agent with so many bytes of luggage, each with a last block
    that is not full; in whole pages of 64 KiB.
    """
    blocks = luggage_bytes // BLOCK_BYTES + luggage_bytes // LEAST_FILE_BYTES
    return -(-blocks // BLOCKS_PER_PAGE) * BLOCKS_PER_PAGE


class FileContents(Protocol):
    """Where the contents of files are that a state does not have itself."""

    @property
    def blocks(self) -> int:
        """The number of blocks that there are."""

    def take(self, blocks: Sequence[int], size: int) -> Bytes:
        """The first `size` bytes of these blocks, joined."""


@attrs.frozen
class ContentsElsewhere:
    """Of a state that is only looked at: contents of the right size. `blocks`: the number that there are."""

    blocks: int

    def take(self, blocks: Sequence[int], size: int) -> Bytes:
        """See `FileContents`."""
        return bytes(size)


@attrs.frozen
class ContentsHere:
    """Contents in a row of blocks. `row`: its bytes, which stay as they are."""

    row: memoryview = attrs.field(repr=False)

    @property
    def blocks(self) -> int:
        """See `FileContents`."""
        return len(self.row) // BLOCK_BYTES

    def take(self, blocks: Sequence[int], size: int) -> Bytes:
        """See `FileContents`. Of neighbours, a view: nothing is copied."""
        if not blocks:
            return b""
        first = blocks[0]
        if list(blocks) == list(range(first, first + len(blocks))):
            return self.row[BLOCK_BYTES * first : BLOCK_BYTES * first + size]
        joined = b"".join([self.row[BLOCK_BYTES * each : BLOCK_BYTES * (each + 1)] for each in blocks])
        return memoryview(joined)[:size]


@attrs.define(eq=False, repr=False)
class _Placed:
    node: Node
    blocks: list[int] = attrs.field(factory=list)


@attrs.define(eq=False, repr=False)
class FileBlocks:
    """The row of blocks of one agent's files. `most`: blocks that it may have."""

    most: int
    blocks: int = 0
    """The number of blocks of the row."""
    _placed: dict[int, _Placed] = attrs.field(factory=dict, repr=brief)
    _free: list[int] = attrs.field(factory=list, repr=brief)
    _owner: dict[int, tuple[Node, int]] = attrs.field(factory=dict, repr=brief)
    """By block, the file, and which block of it."""

    def written(self, luggage: Luggage, open_nodes: Callable[[], Iterable[Node]]) -> list[int]:
        """The blocks that may have been written since this was asked last, ascending; all of a file that is new.

        open_nodes: gives what is open in the luggage, with a name or without

        The agent may run. One that changes many names meanwhile can hide a new file: that is found the next time.
        """
        nodes = _large(luggage, open_nodes)
        if nodes is None:
            nodes = {inode: placed.node for inode, placed in self._placed.items()}
        found: set[int] = set()
        for inode in [inode for inode in self._placed if inode not in nodes]:
            self._forget(inode)
        for inode, node in nodes.items():
            placed = self._placed.get(inode)
            if placed is None:
                placed = self._placed[inode] = _Placed(node)
                node.written = set()
            found.update(self._noted(placed))
        return sorted(found)

    def _noted(self, placed: _Placed) -> list[int]:
        """What was written of one file."""
        node, noted = placed.node, node_written(placed.node)
        need = -(-len(node.data) // BLOCK_BYTES)
        more = need - len(placed.blocks)
        if more > len(self._free) + self.most - self.blocks:
            self._forget(node.inode)
            return []
        new = [self._one(node, len(placed.blocks) + at) for at in range(max(0, more))]
        known = [placed.blocks[at] for at in noted if at < len(placed.blocks)]
        placed.blocks += new
        self._release(placed.blocks[need:])  # it is shorter now
        del placed.blocks[need:]
        return [block for block in (*known, *new) if block in self._owner]

    def _one(self, node: Node, at: int) -> int:
        if self._free:
            block = self._free.pop()
        else:
            block, self.blocks = self.blocks, self.blocks + 1
        self._owner[block] = node, at
        return block

    def _forget(self, inode: int) -> None:
        placed = self._placed.pop(inode)
        placed.node.written = None
        self._release(placed.blocks)

    def _release(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            del self._owner[block]
        self._free += blocks
        self._free.sort(reverse=True)  # the first ones are taken first, so that a file's blocks are neighbours

    def read(self, block: int) -> bytes:
        """The contents of a block, as they are now; zeros where no file has it. The agent may run."""
        owner = self._owner.get(block)
        if owner is None:
            return bytes(BLOCK_BYTES)
        node, at = owner
        return bytes(node.data[BLOCK_BYTES * at : BLOCK_BYTES * (at + 1)]).ljust(BLOCK_BYTES, b"\0")

    def blocks_of(self, node: Node) -> Sequence[int] | None:
        """The blocks that have the contents of a file, in order; None if they are not among them."""
        placed = self._placed.get(node.inode)
        if placed is None or placed.node is not node or len(placed.blocks) != -(-len(node.data) // BLOCK_BYTES):
            return None
        return placed.blocks

    def close(self) -> None:
        """Note no writes any more."""
        for inode in list(self._placed):
            self._forget(inode)


def node_written(node: Node) -> list[int]:
    """Take what was noted of a file: the numbers of its blocks. From any thread: one at a time, since the agent may
    note another meanwhile."""
    found: list[int] = []
    noted = node.written
    while noted:
        try:
            found.append(noted.pop())
        except KeyError:  # pragma: no cover - only where two take
            break
    return found


def _large(luggage: Luggage, open_nodes: Callable[[], Iterable[Node]]) -> dict[int, Node] | None:
    """The large files, by inode. What the agent changes meanwhile may be missing; None if it changes too much."""
    for _ in range(_TRIES):
        try:
            found = luggage.reachable(open_nodes())
        except RuntimeError:  # a dictionary changed while it was read
            continue
        return {i: n for i, n in found.items() if n.kind == REGULAR_FILE and len(n.data) >= LEAST_FILE_BYTES}
    return None
