"""A cursor over bytes: the binary format's values (WebAssembly 3.0, section 5.2) and types (5.3).

It knows nothing of sections or instructions. Invariant: nothing outside [position, end) is read, and every
error is `MalformedModule` or `UnsupportedFeature` with the offset of what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agents.errors import MalformedModule, UnsupportedFeature

from .bounds import ModuleBounds
from .opcodes import GC, SWITCHING, THREADS
from .syntax import (
    F32,
    F64,
    I32,
    I64,
    V128,
    AbsHeapType,
    BlockType,
    FuncType,
    GlobalType,
    HeapType,
    MemType,
    RefType,
    TableType,
    TypeLimits,
    ValType,
)

_VALUE_TYPES: Final[Mapping[int, ValType]] = {0x7F: I32, 0x7E: I64, 0x7D: F32, 0x7C: F64, 0x7B: V128}
HEAP_CODES: Final[Mapping[int, AbsHeapType]] = {
    0x70: "func",
    0x6F: "extern",
    0x69: "exn",
    0x73: "nofunc",
    0x72: "noextern",
    0x74: "noexn",
}
_REFUSED_HEAPS: Final[Mapping[int, str]] = {
    0x6E: f"{GC} (any)",
    0x6D: f"{GC} (eq)",
    0x6C: f"{GC} (i31)",
    0x6B: f"{GC} (struct)",
    0x6A: f"{GC} (array)",
    0x71: f"{GC} (none)",
    0x68: f"{SWITCHING} (cont)",
    0x75: f"{SWITCHING} (nocont)",
    0x65: f"{THREADS} (shared references)",
}
_REFUSED_TYPES: Final[Mapping[int, str]] = {
    0x5F: f"{GC} (struct types)",
    0x5E: f"{GC} (array types)",
    0x50: f"{GC} (subtypes)",
    0x4F: f"{GC} (final subtypes)",
    0x4E: f"{GC} (recursive type groups)",
    0x5D: f"{SWITCHING} (continuation types)",
    0x65: f"{THREADS} (shared types)",
}
SHORT_TYPES: Final[Mapping[int, ValType]] = {
    **_VALUE_TYPES,
    **{code: RefType(True, heap) for code, heap in HEAP_CODES.items()},
}
"""Value types that are one byte."""


class Reader:
    """Reads `data[position:end]` and moves `position`. `function` goes into errors."""

    __slots__ = ("data", "end", "function", "position")

    def __init__(self, data: bytes, position: int = 0, end: int | None = None, function: int | None = None) -> None:
        self.data = data
        self.position = position
        self.end = len(data) if end is None else end
        self.function = function

    def malformed(self, message: str, offset: int | None = None) -> MalformedModule:
        """The error to raise for bytes that are wrong at `offset`, by default here."""
        return MalformedModule(message, self.position if offset is None else offset, self.function)

    def unsupported(self, feature: str, offset: int | None = None) -> UnsupportedFeature:
        """The error to raise for a refused feature at `offset`, by default here."""
        return UnsupportedFeature(feature, self.function, self.position if offset is None else offset)

    # --- values (5.2) --------------------------------------------------------------------------------------

    def byte(self) -> int:
        """One byte."""
        position = self.position
        if position >= self.end:
            raise self.malformed("unexpected end")
        self.position = position + 1
        return self.data[position]

    def take(self, size: int) -> bytes:
        """`size` bytes."""
        start = self.position
        if size > self.end - start:
            raise self.malformed("unexpected end: length out of bounds")
        self.position = start + size
        return self.data[start : start + size]

    def unsigned(self, bits: int) -> int:
        """An unsigned LEB128 number of at most `bits` bits, in at most ceil(bits / 7) bytes."""
        start = position = self.position
        data, end = self.data, self.end
        result = shift = 0
        while True:
            if position >= end:
                raise self.malformed("unexpected end", end)
            byte = data[position]
            position += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift >= bits:
                raise self.malformed("integer representation too long", start)
        if result >> bits:
            raise self.malformed("integer too large", start)
        self.position = position
        return result

    def u32(self) -> int:
        """An unsigned 32-bit number; one byte, most of the time."""
        position = self.position
        if position < self.end:
            byte = self.data[position]
            if byte < 0x80:
                self.position = position + 1
                return byte
        return self.unsigned(32)

    def signed(self, bits: int) -> int:
        """A signed LEB128 number of at most `bits` bits, in at most ceil(bits / 7) bytes."""
        start = position = self.position
        data, end = self.data, self.end
        result = shift = 0
        while True:
            if position >= end:
                raise self.malformed("unexpected end", end)
            byte = data[position]
            position += 1
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= bits:
                raise self.malformed("integer representation too long", start)
        if byte & 0x40:
            result -= 1 << shift
        if not -(1 << (bits - 1)) <= result < 1 << (bits - 1):
            raise self.malformed("integer too large", start)
        self.position = position
        return result

    def count(self, bounds: ModuleBounds, name: str = "entries", least: int = 1) -> int:
        """The length of a list whose entries take at least `least` bytes each: a false length is caught before
        allocation.
        """
        start = self.position
        size = self.u32()
        if size * least > self.end - self.position:
            raise self.malformed("unexpected end: length out of bounds", start)
        bounds.check(name, size, start, self.function)
        return size

    def name(self) -> str:
        """A name: its length and that many bytes of UTF-8."""
        size = self.u32()
        start = self.position
        try:
            return self.take(size).decode()
        except UnicodeDecodeError:
            raise self.malformed("malformed UTF-8 encoding", start) from None

    # --- types (5.3) ---------------------------------------------------------------------------------------

    def heap_type(self) -> HeapType:
        """A heap type: a type index or an abstract one."""
        start = self.position
        code = self.byte()
        if code in HEAP_CODES:
            return HEAP_CODES[code]
        if code in _REFUSED_HEAPS:
            raise self.unsupported(_REFUSED_HEAPS[code], start)
        self.position = start
        index = self.signed(33)
        if index < 0:
            raise self.malformed("malformed heap type", start)
        return index

    def val_type(self) -> ValType:
        """A value type."""
        start = self.position
        code = self.byte()
        found = SHORT_TYPES.get(code)
        if found is not None:
            return found
        if code in (0x63, 0x64):
            return RefType(code == 0x63, self.heap_type())
        if code in _REFUSED_HEAPS:
            raise self.unsupported(_REFUSED_HEAPS[code], start)
        raise self.malformed("malformed value type", start)

    def ref_type(self) -> RefType:
        """A reference type."""
        start = self.position
        found = self.val_type()
        if not isinstance(found, RefType):
            raise self.malformed("malformed reference type", start)
        return found

    def block_type(self) -> BlockType:
        """A block type: empty, one result, or a type index."""
        start = self.position
        code = self.byte()
        if code == 0x40:
            return None
        self.position = start
        if code < 0x40 or code >= 0x80:
            index = self.signed(33)
            if index < 0:
                raise self.malformed("malformed block type", start)
            return index
        return self.val_type()

    def func_type(self, bounds: ModuleBounds) -> FuncType:
        """A type definition, which has to be a function type."""
        start = self.position
        code = self.byte()
        if code in _REFUSED_TYPES:
            raise self.unsupported(_REFUSED_TYPES[code], start)
        if code != 0x60:
            raise self.malformed("malformed type definition", start)
        params = tuple(self.val_type() for _ in range(self.count(bounds, "params")))
        results = tuple(self.val_type() for _ in range(self.count(bounds, "results")))
        return FuncType(params, results)

    def limits(self) -> tuple[TypeLimits, bool]:
        """Limits, and whether addresses are 64 bits wide."""
        start = self.position
        flags = self.byte()
        if flags >= 0x10:
            raise self.malformed("malformed limits flags", start)
        if flags & 0x08:
            raise self.unsupported("custom page sizes", start)
        if flags & 0x02:
            raise self.unsupported(f"{THREADS} (shared)", start)
        bits = 64 if flags & 0x04 else 32
        least = self.unsigned(bits)
        return TypeLimits(least, self.unsigned(bits) if flags & 0x01 else None), bits == 64

    def table_type(self) -> TableType:
        """A table type."""
        elem = self.ref_type()
        limits, addr64 = self.limits()
        return TableType(elem, limits, addr64)

    def mem_type(self) -> MemType:
        """A memory type."""
        limits, addr64 = self.limits()
        return MemType(limits, addr64)

    def global_type(self) -> GlobalType:
        """A global type."""
        val = self.val_type()
        start = self.position
        mutable = self.byte()
        if mutable > 3:
            raise self.malformed("malformed mutability", start)
        if mutable > 1:
            raise self.unsupported(f"{THREADS} (shared globals)", start)
        return GlobalType(val, mutable == 1)
