"""Deterministic CBOR, and the digest of everything.

Core deterministic encoding (RFC 8949, section 4.2.1) over a small value model: None, bool, integers of 64
bits, bytes, text, lists, and maps whose keys are all text, all bytes or all integers from 0. No floats, no
tags, no indefinite lengths: two encodings of one value never differ, so a digest or a signature over the
bytes is one over the value.

Encoding is cbor2's. Decoding is ours, since a general decoder gives bytes from elsewhere far too much to say:
tags that compile regular expressions or share objects, containers of announced size.

Invariants: `decode(encode(v)) == v`; `encode(decode(b)) == b` for every `b` that decode accepts; decode
raises only `NotCanonical`, and allocates in proportion to the bytes that it was really given.
"""

from __future__ import annotations

from typing import Any, NoReturn

import attrs
import blake3
import cbor2

from .errors import NotCanonical

DIGEST_SIZE = 32  # bytes of a digest: BLAKE3-256


@attrs.frozen
class Bounds:
    """What a decoder accepts at most: whole size in bytes, depth of containers, items counted everywhere.

    Depth bounds the decoder's recursion; items bound the objects that one byte of input each can make.
    """

    max_bytes: int = 1 << 20
    max_depth: int = 16
    max_items: int = 100_000


DEFAULT_BOUNDS = Bounds()


def encode(value: Any) -> bytes:
    """The one encoding of `value`. Raises `NotCanonical` for a value outside the model."""
    try:
        return cbor2.dumps(value, canonical=True)
    except (cbor2.CBOREncodeError, UnicodeEncodeError, RecursionError) as error:
        raise NotCanonical(f"not a value that can be encoded: {error}") from None


def byte_string_head(size: int) -> bytes:
    """What precedes a byte string of `size` bytes: for joining large ones without a copy."""
    if 24 <= size < 256:
        return bytes((0x58, size))
    head = encode(size)
    return bytes([head[0] | 0x40]) + head[1:]


def digest(*parts: bytes | bytearray | memoryview) -> bytes:
    """BLAKE3-256 of the parts, one after the other: 32 bytes."""
    hasher = blake3.blake3()
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def decode(data: bytes | bytearray | memoryview, bounds: Bounds = DEFAULT_BOUNDS) -> Any:
    """The value whose encoding `data` is, exactly. Raises `NotCanonical` for everything else."""
    if len(data) > bounds.max_bytes:
        raise NotCanonical(f"{len(data)} bytes, where at most {bounds.max_bytes} are accepted")
    reader = _Reader(bytes(data), bounds)
    value = reader.item(0)
    if reader.at != len(reader.data):
        reader.fail("bytes after the value")
    return value


def byte_string_at(data: memoryview, at: int) -> tuple[int, int]:
    """Start and end of the contents of the byte string that begins at `at`. Raises `NotCanonical`."""
    reader = _Reader(bytes(data[at : at + 9]), DEFAULT_BOUNDS)
    major, size = reader.head()
    start = at + reader.at
    if major != 2 or size > len(data) - start:
        raise NotCanonical(f"no whole byte string at offset {at}")
    return start, start + size


def byte_strings(data: memoryview, at: int, count: int) -> list[memoryview]:
    """Contents of the `count` byte strings that begin at `at` and end with `data`, without a copy.

    Raises `NotCanonical`.
    """
    found = []
    for _ in range(count):
        start, at = byte_string_at(data, at)
        found.append(data[start:at])
    if at != len(data):
        raise NotCanonical(f"bytes after the last value at offset {at}")
    return found


_SIMPLE = {0xF4: False, 0xF5: True, 0xF6: None}


class _Reader:
    """One pass over the bytes. `at` is the offset of the next byte."""

    __slots__ = ("at", "data", "items", "max_depth")

    def __init__(self, data: bytes, bounds: Bounds) -> None:
        self.data, self.at, self.items, self.max_depth = data, 0, bounds.max_items, bounds.max_depth

    def fail(self, why: str) -> NoReturn:
        raise NotCanonical(f"{why} at offset {self.at}")

    def head(self) -> tuple[int, int]:
        """Major type and argument of the next item, checked to be in its shortest form."""
        data, at = self.data, self.at
        if at >= len(data):
            self.fail("the data ends inside a value")
        first = data[at]
        info = first & 31
        if info < 24:
            self.at = at + 1
            return first >> 5, info
        if info > 27:
            self.fail("an indefinite length or a reserved form")
        width = 1 << (info - 24)
        number = data[at + 1 : at + 1 + width]
        if len(number) != width:
            self.fail("the data ends inside a value")
        argument = int.from_bytes(number, "big")
        if argument < (24 if width == 1 else 1 << (width * 4)):
            self.fail("a number that is not in its shortest form")
        self.at = at + 1 + width
        return first >> 5, argument

    def item(self, depth: int) -> Any:
        self.items -= 1
        if self.items < 0:
            self.fail("more items than are accepted")
        data, at = self.data, self.at
        first = data[at] if at < len(data) else 0
        # Most items are numbers and short byte strings: these take no further call.
        if first < 0x18 and at < len(data):
            self.at = at + 1
            return first
        if first >= 0xC0:
            if first not in _SIMPLE:
                self.fail("a tag, a float or another simple value")
            self.at = at + 1
            return _SIMPLE[first]
        if 0x40 <= first <= 0x58:
            start = at + 1
            size = first & 31
            if size == 24:  # a digest, a key, a signature
                size = data[start] if start < len(data) else 0
                start += 1
                if size < 24:
                    self.fail("a number that is not in its shortest form, or missing")
            end = start + size
            if end > len(data):
                self.fail("the data ends inside a value")
            self.at = end
            return data[start:end]
        if 0x60 <= first < 0x78:
            end = at + first - 0x5F
            if end > len(data):
                self.fail("the data ends inside a value")
            self.at = end
            return self.text(data[at + 1 : end])
        major, argument = self.head()
        if major == 0:
            return argument
        if major == 1:
            return -1 - argument
        if major == 2:
            return self.take(argument)
        if major == 3:
            return self.text(self.take(argument))
        if depth >= self.max_depth:
            self.fail("containers nested too deeply")
        # Each element takes a byte at least: a container cannot announce more than the data can hold.
        if argument << (major - 4) > len(data) - self.at:
            self.fail("a container larger than the data")
        if major == 4:
            item, within = self.item, depth + 1
            return [item(within) for _ in range(argument)]
        return self.map(argument, depth + 1)

    def text(self, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            self.fail("a text that is not UTF-8")

    def map(self, size: int, depth: int) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        data, item, number = self.data, self.item, -1
        # Most maps have small numbers as keys.
        while len(result) < size and self.at < len(data) and number < data[self.at] < 0x18:
            number = data[self.at]
            self.at += 1
            self.items -= 1
            result[number] = item(depth)
        previous, major = (b"", None) if number < 0 else (bytes([number]), 0)
        for _ in range(size - len(result)):
            start = self.at
            key = self.item(depth)
            encoded = self.data[start : self.at]
            if encoded[0] >> 5 not in (0, 2, 3) or major not in (None, encoded[0] >> 5):
                self.fail("map keys that are not all text, all bytes or all integers from 0")
            if encoded <= previous:
                self.fail("map keys out of order or repeated")
            previous, major = encoded, encoded[0] >> 5
            result[key] = self.item(depth)
        return result

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            self.fail("the data ends inside a value")
        self.at += size
        return self.data[self.at - size : self.at]
