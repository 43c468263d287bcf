"""Deterministic CBOR, and the digest used everywhere.

Core deterministic encoding (RFC 8949, section 4.2.1) over a small value model: None, bool, integers of 64
bits, bytes, text, lists, and maps whose keys are all text, all bytes or all non-negative integers. No floats, no
tags, no indefinite lengths: a value has exactly one encoding, so a digest or a signature over the
bytes is one over the value.

cbor2 does the encoding. The decoder is ours, since a general one gives foreign bytes far too much power:
tags that compile regular expressions or share objects, containers of announced size.

Invariants: `decode(encode(v)) == v`; `encode(decode(b)) == b` for every `b` that decode accepts; decode
raises only `NotCanonical`, and allocates in proportion to the bytes that it was really given.
"""

from __future__ import annotations

import operator
from typing import Any, NoReturn, TypeAlias

import attrs
import cbor2

from .errors import NotCanonical

try:
    from blake3 import blake3
except ImportError:  # it has no build for a browser's Python
    from .blake3_fallback import blake3  # type: ignore[assignment]

Buffer: TypeAlias = "bytes | bytearray | memoryview"
DIGEST_SIZE = 32  # bytes of a digest: BLAKE3-256


@attrs.frozen
class DecodeBounds:
    """The most that a decoder accepts: total size in bytes, depth of containers, items in total.

    Depth bounds the decoder's recursion; items bound the objects that each byte of input can make.
    """

    max_bytes: int = 1 << 20
    max_depth: int = 16
    max_items: int = 100_000


DEFAULT_BOUNDS = DecodeBounds()


def encode(value: Any, ordered: bool = False) -> bytes:
    """The one encoding of `value`. Raises `NotCanonical` for a value outside the model.

    `ordered`: the keys of all its maps are already in the order of their encodings, as in the payloads of statements.
    This saves sorting them; the encoding of an unordered value would not be canonical.
    """
    try:
        return cbor2.dumps(value, canonical=not ordered)
    except (cbor2.CBOREncodeError, UnicodeEncodeError, RecursionError) as error:
        raise NotCanonical(f"not a value that can be encoded: {error}") from None


def byte_string_head(size: int) -> bytes:
    """The head of a byte string of `size` bytes: for joining large ones without a copy."""
    if 24 <= size < 256:
        return bytes((0x58, size))
    if 256 <= size < 65536:
        return b"\x59" + size.to_bytes(2, "big")
    head = encode(size)
    return bytes([head[0] | 0x40]) + head[1:]


def digest(*parts: Buffer) -> bytes:
    """BLAKE3-256 of the concatenated parts: 32 bytes."""
    if len(parts) == 1:
        return blake3(parts[0]).digest()
    hasher = blake3()
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def decode(data: Buffer, bounds: DecodeBounds = DEFAULT_BOUNDS) -> Any:
    """The value whose exact encoding is `data`. Raises `NotCanonical` for everything else."""
    if len(data) > bounds.max_bytes:
        raise NotCanonical(f"{len(data)} bytes, where at most {bounds.max_bytes} are accepted")
    reader = _Reader(bytes(data), bounds)
    (value,) = reader.values(1, 0)
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
    """Contents of the `count` byte strings that begin at `at` and end with `data`, without copying.

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
_KEYS = {int, str, bytes}


class _Reader:
    """One pass over the bytes. `at` is the offset of the next byte."""

    __slots__ = ("at", "data", "items", "max_depth")

    def __init__(self, data: bytes, bounds: DecodeBounds) -> None:
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

    def values(self, count: int, depth: int) -> list[Any]:
        """The next `count` values. The most common types are read inline, without a call for each."""
        self.items -= count
        if self.items < 0:
            self.fail("more items than are accepted")
        found: list[Any] = []
        data, at = self.data, self.at
        end = len(data)
        for _ in range(count):
            first = data[at] if at < end else 0xFF
            if first < 0x18:
                found.append(first)
                at += 1
                continue
            if 0x40 <= first <= 0x58:
                start = at + 1
                size = first & 31
                if size == 24:  # a digest, a key, a signature
                    size = data[start] if start < end else 0
                    start += 1
                    if size < 24:
                        self.fail("a number that is not in its shortest form, or missing")
                at = start + size
                if at > end:
                    self.fail("the data ends inside a value")
                found.append(data[start:at])
                continue
            if 0x60 <= first < 0x78:
                start, at = at + 1, at + first - 0x5F
                if at > end:
                    self.fail("the data ends inside a value")
                try:
                    found.append(data[start:at].decode())
                except UnicodeDecodeError:
                    self.fail("a text that is not UTF-8")
                continue
            self.at = at
            if first >= 0xC0:
                if first not in _SIMPLE:
                    self.fail("the data ends inside a value" if at >= end else "a tag, a float or another simple value")
                found.append(_SIMPLE[first])
                at += 1
                continue
            if 0x80 <= first < 0x98:
                self.at += 1
                found.append(self.container(first & 31, depth))
            else:
                found.append(self.other(depth))
            at = self.at
        self.at = at
        return found

    def other(self, depth: int) -> Any:
        """The next value, which must not be a tag, float or simple value."""
        major, argument = self.head()
        if major == 0:
            return argument
        if major == 1:
            return -1 - argument
        if major == 2:
            return self.take(argument)
        if major == 3:
            try:
                return self.take(argument).decode()
            except UnicodeDecodeError:
                self.fail("a text that is not UTF-8")
        return self.container(argument, depth) if major == 4 else self.map(self.container(2 * argument, depth))

    def container(self, count: int, depth: int) -> list[Any]:
        """The `count` values of a container that begins here."""
        if depth >= self.max_depth:
            self.fail("containers nested too deeply")
        # Each element takes at least one byte: a container cannot announce more elements than there are bytes.
        if count > len(self.data) - self.at:
            self.fail("a container larger than the data")
        return self.values(count, depth + 1)

    def map(self, flat: list[Any]) -> dict[Any, Any]:
        """Alternating keys and values, as a map."""
        keys, before = flat[::2], -1
        for key in keys:
            if type(key) is not int or key <= before:
                self.check_keys(keys)
                break
            before = key
        return dict(zip(keys, flat[1::2], strict=True))

    def check_keys(self, keys: list[Any]) -> None:
        """Check that the keys are of one kind and in the order of their encodings: numeric; for texts, length first."""
        kinds = set(map(type, keys))
        if len(kinds) > 1 or not kinds <= _KEYS:
            self.fail("map keys that are not all text, all bytes or all integers from 0")
        order: list[Any] = keys
        if kinds == {int} and min(keys) < 0:
            self.fail("map keys that are not all text, all bytes or all integers from 0")
        if kinds == {str}:
            order = [key.encode() for key in keys]
        if kinds != {int}:
            order = [(len(key), key) for key in order]
        if any(map(operator.ge, order, order[1:])):
            self.fail("map keys out of order or repeated")

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            self.fail("the data ends inside a value")
        self.at += size
        return self.data[self.at - size : self.at]
