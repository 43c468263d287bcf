"""The memory of a frozen agent, to be read here and there: what its image begins with, and what the snapshot changes.

Nothing is decompressed before it is read. Memory is hostile input: it may hold lists that contain themselves and
lengths that are lies. Invariants: an address outside raises `Unreadable`, and so does the read after the last
one of the budget, so that whoever follows pointers comes to an end.
"""

from __future__ import annotations

import functools
import struct
from bisect import bisect_right
from itertools import pairwise

from agents.canonical import digest
from agents.errors import BadSnapshot, Unreadable
from agents.image import AgentImage
from agents.snapshot import CHUNK_BYTES, PAGE_BYTES, MemoryState, Snapshot
from agents.wasm import opcodes as op
from agents.wasm.bounds import WASM_PAGE_BYTES
from agents.wasm.decode import DATA, IMPORT, TYPE, decode_sections

MAX_READS = 400_000  # of one memory
MAX_READ_BYTES = 64 << 10  # of one read
MAX_KEPT_BYTES = 4 << 20  # of code whose data is kept for the next time
Segments = tuple[tuple[int, bytes], ...]
_U16, _U32, _F64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<d")


def data_segments(image: AgentImage) -> Segments:
    """Address and contents of the data that memory 0 begins with, by address. Raises `ModuleError`, `Unreadable`."""
    return (_kept if len(image.code) <= MAX_KEPT_BYTES else _segments)(image.code)


def _segments(code: bytes) -> Segments:
    found = []
    for data in decode_sections(code, TYPE, IMPORT, DATA).datas:
        if data.mode == "active" and data.memory == 0:
            offset = data.offset or ()
            if len(offset) != 2 or offset[0].code not in (op.I32_CONST, op.I64_CONST):
                raise Unreadable("data whose address is not a number")
            found.append((offset[0].imm, data.bytes))
    found.sort()
    if any(first + len(data) > second for (first, data), (second, _) in pairwise(found)):
        raise Unreadable("data segments that overlap")
    return tuple(found)


# Whoever steps through a journey reads one image again and again.
_kept = functools.lru_cache(maxsize=4)(_segments)


@functools.lru_cache(maxsize=4)
def fingerprint(segments: Segments) -> str:
    """Names a build of an interpreter, however it was packed: the digest of its data, in hexadecimal digits."""
    return digest(*(part for address, data in segments for part in (address.to_bytes(8, "little"), data))).hex()


class FrozenMemory:
    """Memory 0 of a frozen agent. Every read raises `Unreadable` outside of it, and when there were `MAX_READS`."""

    def __init__(self, segments: Segments, state: MemoryState) -> None:
        self._segments, self._starts = segments, [address for address, _ in segments]
        self._changed = state.changed()
        self._pages: dict[int, bytes | bytearray] = {}
        self.size = state.pages * WASM_PAGE_BYTES
        """In bytes."""
        self.reads = MAX_READS
        """How many reads are left."""

    @classmethod
    def of(cls, segments: Segments, snapshot: Snapshot) -> FrozenMemory:
        """Raises `Unreadable` for a snapshot without a memory."""
        if not snapshot.memories:
            raise Unreadable("no memory")
        return cls(segments, snapshot.memories[0])

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`."""
        self.reads -= 1
        if self.reads < 0:
            raise Unreadable("more than is read of one memory")
        if not 0 <= address <= self.size - size or not 0 <= size <= MAX_READ_BYTES:
            raise Unreadable(f"{size} bytes at {address}")
        page, offset = divmod(address, PAGE_BYTES)
        if offset + size <= PAGE_BYTES:
            return bytes(self._page(page)[offset : offset + size])
        last = (address + size - 1) // PAGE_BYTES
        return b"".join(bytes(self._page(each)) for each in range(page, last + 1))[offset : offset + size]

    def u8(self, address: int) -> int:
        """A byte."""
        return self.read(address, 1)[0]

    def u16(self, address: int) -> int:
        """Two bytes, as a number."""
        value: int = _U16.unpack(self.read(address, 2))[0]
        return value

    def u32(self, address: int) -> int:
        """Four bytes, as a number."""
        value: int = _U32.unpack(self.read(address, 4))[0]
        return value

    def f64(self, address: int) -> float:
        """Eight bytes, as a number."""
        value: float = _F64.unpack(self.read(address, 8))[0]
        return value

    def words(self, address: int, count: int) -> tuple[int, ...]:
        """`count` numbers of four bytes."""
        return struct.unpack(f"<{count}I", self.read(address, 4 * count))

    def _page(self, number: int) -> bytes | bytearray:
        if number not in self._pages:
            self._load(number)
        return self._pages[number]

    def _load(self, number: int) -> None:
        changed = self._changed.pop(number * PAGE_BYTES // CHUNK_BYTES, None)
        if changed is not None:
            try:
                contents = changed.contents()
            except BadSnapshot as error:
                raise Unreadable(str(error)) from None
            for (address, size), part in zip(changed.parts, contents, strict=True):
                for offset in range(0, size, PAGE_BYTES):
                    self._pages[(address + offset) // PAGE_BYTES] = part[offset : offset + PAGE_BYTES]
        if number not in self._pages:
            self._pages[number] = self._initial(number * PAGE_BYTES)

    def _initial(self, start: int) -> bytearray:
        page = bytearray(PAGE_BYTES)
        for place in range(max(bisect_right(self._starts, start) - 1, 0), len(self._starts)):
            address, data = self._segments[place]
            if address >= start + PAGE_BYTES:
                break
            first, end = max(start, address), min(start + PAGE_BYTES, address + len(data))
            if first < end:
                page[first - start : end - start] = data[first - address : end - address]
        return page
