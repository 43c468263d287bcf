"""What an instance needs of the place where its JavaScript runs: bytes go there, and bytes come back.

The commands are those of `machine.cjs`, by number. Not here: how the bytes travel (`process` for a thread of node,
`inside` for a Python that itself runs in JavaScript).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Protocol

from agents.errors import EngineError

# Commands.
LOAD, UNLOAD, INSTANTIATE, EXTEND, CLOSE, CALL, RETURN, RAISE, READ, WRITE = range(10)
GROW, CHANGED, GET_GLOBALS, SET_GLOBAL, ELEMENTS, GROW_TABLE, SET_ELEMENT, GET_REFERENCE, SET_REFERENCE = range(10, 19)
# What a reply begins with.
OK, TRAP, STACK, LIMIT, ERROR, RAISED, HOST_CALL, TICK = range(8)
# Why a tick: the poll flag has changed; the clocks are to be looked at.
FLAGGED, INTERRUPTED = 1, 2

PATIENCE_S = 120.0  # for an answer that does not depend on agent code, and for agent code to ask when it is told to

_U16, _U32, _U64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")

# Answers a message of the agent's code with commands, the last of which is `RETURN` or `RAISE`. Raises nothing.
Asked = Callable[[memoryview], Sequence[bytes]]


class TooLate(EngineError):
    """No answer came in time."""


class Link(Protocol):
    """The place of one instance."""

    def request(self, commands: Sequence[bytes], asked: Asked, patience: float | None = PATIENCE_S) -> memoryview:
        """Have commands carried out; the reply to the last one.

        asked: answers what the agent's code asks meanwhile
        patience: seconds until the reply is due; None if agent code runs, as long as it likes

        Raises `EngineError` if there is none, `TooLate` after that time. Then nothing can be asked here any more.
        """

    def poke(self, reasons: int) -> None:
        """Have the agent's code ask soon, for these reasons. From any thread; harmless when none runs."""

    def program(self, number: int, code: bytes) -> list[bytes]:
        """The commands that have to come before those that use a program: none if it is there."""

    def release(self) -> None:
        """Give the place to another instance."""


def command(number: int, *operands: bytes) -> bytes:
    """A command with its length."""
    size = 1 + sum(map(len, operands))
    return b"".join((_U32.pack(size), bytes((number,)), *operands))


def u32(value: int) -> bytes:
    """32 bits."""
    return _U32.pack(value)


def u64(value: int) -> bytes:
    """64 bits."""
    return _U64.pack(value)


def text(value: str) -> bytes:
    """A name with its length."""
    encoded = value.encode()
    return _U16.pack(len(encoded)) + encoded


def values(letters: str, bits: Sequence[int]) -> bytes:
    """Values as they cross: an i32 as 4 bytes, an i64 as 8, in this order; a float as its bits, a v128 as two i64."""
    out = []
    for letter, value in zip(letters, bits, strict=True):
        if letter in "if":
            out.append(_U32.pack(value & 0xFFFFFFFF))
        else:
            out.append((value & _MASKS[letter]).to_bytes(_SIZES[letter], "little"))
    return b"".join(out)


def bits(letters: str, data: memoryview) -> tuple[int, ...]:
    """The values that lie there."""
    found, at = [], 0
    for letter in letters:
        size = _SIZES[letter]
        found.append(int.from_bytes(data[at : at + size], "little"))
        at += size
    return tuple(found)


_SIZES = {"i": 4, "f": 4, "I": 8, "F": 8, "v": 16}
_MASKS = {letter: (1 << 8 * size) - 1 for letter, size in _SIZES.items()}
