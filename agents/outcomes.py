"""How a run of an agent ends: always as a value. A trap, a used-up budget and a departure are outcomes
alike.

Invariant: an outcome with a snapshot can be continued from it, here or elsewhere; one without is the end.
"""

from __future__ import annotations

import struct

import attrs

from .errors import LimitReached
from .snapshot import Snapshot
from .waits import Wait


@attrs.frozen
class Usage:
    """What the run took: time of its processor and on the wall (ns), memories at its end (bytes)."""

    cpu_ns: int = 0
    wall_ns: int = 0
    memory: int = 0


@attrs.frozen
class Finished:
    """The entry returned, or the agent ended itself.

    results: bits; types: their letters (i i32, I i64, f f32, F f64, v v128); exit_code: 0 unless it gave one
    """

    results: tuple[int, ...] = ()
    types: str = ""
    exit_code: int = 0
    usage: Usage = Usage()

    @property
    def values(self) -> tuple[int | float, ...]:
        """The results as numbers: integers signed."""
        return tuple(map(number, self.types, self.results))


@attrs.frozen
class Departing:
    """The agent wants to be at `host`. `entry` is the export to call there, None when its stack travels."""

    host: str
    entry: str | None
    snapshot: Snapshot
    usage: Usage = Usage()


@attrs.frozen
class Waiting:
    """The agent waits; it is continued with the event that answers `wait`."""

    wait: Wait
    snapshot: Snapshot
    usage: Usage = Usage()


@attrs.frozen
class Suspended:
    """The station asked for it; the agent is continued without an event."""

    snapshot: Snapshot
    usage: Usage = Usage()


@attrs.frozen
class Trapped:
    """The agent's code did what WebAssembly forbids: `code` is one word for programs, `reason` for people."""

    code: str
    reason: str
    usage: Usage = Usage()


@attrs.frozen
class Exhausted:
    """The agent wanted more than it is allowed: `what` is memory, table, stack, cpu or wall.

    With a snapshot it can go on under a new budget; without one it was stopped in the middle.
    """

    what: str
    reason: str
    snapshot: Snapshot | None = None
    usage: Usage = Usage()


Outcome = Finished | Departing | Waiting | Suspended | Trapped | Exhausted


# How `Life.advance` ends: without a snapshot yet, since not every end needs one.


@attrs.frozen
class Asked:
    """The agent unwound because the station asked for it."""


@attrs.frozen
class Spent:
    """The agent unwound because its budget is used up."""

    error: LimitReached


Stop = Finished | Trapped | Exhausted | Wait | Asked | Spent


def number(letter: str, bits: int) -> int | float:
    """Bits of one type as a number: integers signed, vectors as 128 unsigned bits."""
    if letter == "f":
        return float(struct.unpack("<f", struct.pack("<I", bits))[0])
    if letter == "F":
        return float(struct.unpack("<d", struct.pack("<Q", bits))[0])
    width = {"i": 32, "I": 64}.get(letter, 129)
    return bits - (1 << width) if bits >> (width - 1) else bits


def bits(letter: str, value: int | float) -> int:
    """A number as bits of one type; integers modulo their width. Raises `ValueError` for others."""
    if letter in "fF":
        try:
            return int.from_bytes(struct.pack("<f" if letter == "f" else "<d", value), "little")
        except (OverflowError, struct.error) as error:
            raise ValueError(f"{value!r} is no value of this float type: {error}") from None
    if letter not in ("i", "I") or not isinstance(value, int):
        raise ValueError(f"{value!r} cannot be given to a parameter of type {letter!r}")
    return value & (0xFFFFFFFF if letter == "i" else 0xFFFFFFFFFFFFFFFF)
