"""BLAKE3 in Python, for places where the package `blake3` has no build: a browser's Python (Pyodide).

Not for stations: it is thousands of times slower. Facts: the BLAKE3 specification (O'Connor, Aumasson, Neves,
Wilcox-O'Hearn: "BLAKE3, one function, fast everywhere", 2020). Invariant: `blake3` here gives the digests that the
package's class gives, for the arguments that this project uses.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeAlias

_Buffer: TypeAlias = "bytes | bytearray | memoryview"
_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
_ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_BLOCK, _CHUNK = 64, 1024  # bytes
_CHUNK_START, _CHUNK_END, _PARENT, _ROOT = 1, 2, 4, 8
_DERIVE_CONTEXT, _DERIVE_MATERIAL = 32, 64
_MASK = 0xFFFFFFFF
_ROUNDS = 7
#: Of each quarter round: four words of the state, columns first, then diagonals.
_MIXED = (
    *((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)),
    *((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)),
)


def _compress(chain: Sequence[int], words: Sequence[int], counter: int, size: int, flags: int) -> list[int]:
    """The 16 words of a compression; the first eight are the chaining value."""
    v = [*chain, *_IV[:4], counter & _MASK, counter >> 32, size, flags]
    m = list(words)
    for turn in range(_ROUNDS):
        for number, (a, b, c, d) in enumerate(_MIXED):
            va, vb, vc, vd = v[a], v[b], v[c], v[d]
            va = (va + vb + m[2 * number]) & _MASK
            vd ^= va
            vd = (vd >> 16 | vd << 16) & _MASK
            vc = (vc + vd) & _MASK
            vb ^= vc
            vb = (vb >> 12 | vb << 20) & _MASK
            va = (va + vb + m[2 * number + 1]) & _MASK
            vd ^= va
            vd = (vd >> 8 | vd << 24) & _MASK
            vc = (vc + vd) & _MASK
            vb ^= vc
            vb = (vb >> 7 | vb << 25) & _MASK
            v[a], v[b], v[c], v[d] = va, vb, vc, vd
        if turn < _ROUNDS - 1:
            m = [m[place] for place in _ORDER]
    return [v[at] ^ v[at + 8] for at in range(8)] + [v[at + 8] ^ chain[at] for at in range(8)]


_Node: TypeAlias = "tuple[Sequence[int], Sequence[int], int, int, int]"
"""What is compressed last for a chunk or a parent: chain, words, counter, size, flags."""


class blake3:  # as the package names it
    """A hash that is being computed."""

    def __init__(self, data: _Buffer = b"", /, *, derive_key_context: str | None = None) -> None:
        self._key: Sequence[int] = _IV
        self._flags = 0
        if derive_key_context is not None:
            context = blake3()
            context._flags = _DERIVE_CONTEXT
            self._key = struct.unpack("<8I", context.update(derive_key_context.encode()).digest())
            self._flags = _DERIVE_MATERIAL
        self._rest = bytearray()  # of the chunk that is not complete
        self._chunks = 0
        self._stack: list[list[int]] = []  # chaining values of complete subtrees, the largest first
        self.update(data)

    def update(self, data: _Buffer, /) -> blake3:
        """More bytes; returns itself."""
        self._rest += data
        at = 0
        while len(self._rest) - at > _CHUNK:  # the last chunk waits, since it may be the root
            chain = _compress(*self._chunk(bytes(self._rest[at : at + _CHUNK])))[:8]
            at += _CHUNK
            self._chunks += 1
            total = self._chunks
            while total & 1 == 0:
                chain = _compress(*self._parent(self._stack.pop(), chain))[:8]
                total >>= 1
            self._stack.append(chain)
        del self._rest[:at]
        return self

    def _chunk(self, data: bytes) -> _Node:
        chain = self._key
        flags = self._flags | _CHUNK_START
        last = max(0, (len(data) - 1) // _BLOCK) * _BLOCK
        for at in range(0, last, _BLOCK):
            words = struct.unpack_from("<16I", data, at)
            chain = _compress(chain, words, self._chunks, _BLOCK, flags)[:8]
            flags = self._flags
        block = data[last:]
        words = struct.unpack("<16I", block.ljust(_BLOCK, b"\0"))
        return chain, words, self._chunks, len(block), flags | _CHUNK_END

    def _parent(self, left: Sequence[int], right: Sequence[int]) -> _Node:
        return self._key, [*left, *right], 0, _BLOCK, self._flags | _PARENT

    def digest(self, length: int = 32) -> bytes:
        """The digest so far."""
        node = self._chunk(bytes(self._rest))
        for left in reversed(self._stack):
            node = self._parent(left, _compress(*node)[:8])
        chain, words, _, size, flags = node
        found = b""
        for counter in range(-(-length // _BLOCK)):
            found += struct.pack("<16I", *_compress(chain, words, counter, size, flags | _ROOT))
        return found[:length]
