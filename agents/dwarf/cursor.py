"""A place in a section, from which numbers and texts are read, and the count of the work that is left.

Invariant: nothing outside the section is read; `BadDwarf` instead.
"""

from __future__ import annotations

from agents.errors import BadDwarf

MAX_STEPS = 20_000_000  # of work: half a minute at worst. 6 MB of debug information of Rust need 1 million
OBJECT = 10  # steps that something counts for which some 100 bytes of memory are kept
_MAX_LEB_BYTES = 10  # of a number of 64 bits


class Budget:
    """How much work may still be done: what is small to write may be long to read, and large."""

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self.left = steps

    def spend(self, steps: int) -> None:
        """Count `steps` of work. Raises `BadDwarf` if that is too much."""
        self.left -= steps
        if self.left < 0:
            raise BadDwarf("it takes more steps to read than anybody's needs")


class Cursor:
    """Reads `data[at:end]`, little endian, and moves `at`."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self.data = data
        self.end = len(data) if end is None else end
        self.at = at
        if not 0 <= at <= self.end <= len(data):
            raise BadDwarf("an offset lies outside its section")

    def number(self, size: int) -> int:
        """An unsigned number of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        at = self.at
        self.skip(size)
        return self.data[at : self.at]

    def skip(self, size: int) -> None:
        """Pass over `size` bytes."""
        if size > self.end - self.at:
            raise BadDwarf("a section ends inside a value")
        self.at += size

    def unsigned(self) -> int:
        """An unsigned LEB128 number."""
        data, at, end = self.data, self.at, self.end
        found = shift = 0
        for position in range(at, min(end, at + _MAX_LEB_BYTES)):
            byte = data[position]
            found |= (byte & 127) << shift
            if byte < 128:
                self.at = position + 1
                return found
            shift += 7
        raise BadDwarf("a number that does not end")

    def signed(self) -> int:
        """A signed LEB128 number."""
        at = self.at
        found = self.unsigned()
        bits = 7 * (self.at - at)
        return found - (1 << bits) if found >> (bits - 1) else found

    def string(self) -> bytes:
        """A text that ends with a zero byte, without that."""
        stop = self.data.find(0, self.at, self.end)
        if stop < 0:
            raise BadDwarf("a text that does not end")
        found = self.data[self.at : stop]
        self.at = stop + 1
        return found

    def unit(self) -> tuple[Cursor, int]:
        """What begins with its length: its content, and the size of offsets in it. This cursor moves behind it."""
        length, size = self.number(4), 4
        if length == 0xFFFFFFFF:
            length, size = self.number(8), 8
        start = self.at
        self.skip(length)
        return Cursor(self.data, start, self.at), size
