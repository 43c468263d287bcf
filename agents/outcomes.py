"""How a run of an agent ends: always with a value. A trap, a used-up budget and a departure are all outcomes.

Invariant: an outcome with a snapshot can be continued from it, here or elsewhere; one without is the end.
"""

from __future__ import annotations

import struct

import attrs

from agents.brief import brief

from .errors import LimitReached
from .snapshot import Snapshot
from .waits import Wait


@attrs.frozen
class Usage:
    """What a run used.

    cpu_ns: CPU time, nanoseconds
    wall_ns: wall-clock time, nanoseconds
    memory: the agent's memories at the end of the run, bytes
    """

    cpu_ns: int = 0
    wall_ns: int = 0
    memory: int = 0


@attrs.frozen
class Finished:
    """The entry returned, or the agent ended itself.

    results: what the entry returned, as bits; `values` has them as numbers
    types: their types, a letter each: i i32, I i64, f f32, F f64, v v128
    exit_code: 0 unless the agent set one
    usage: what the run used
    """

    results: tuple[int, ...] = attrs.field(default=(), repr=brief)
    types: str = ""
    exit_code: int = 0
    usage: Usage = Usage()

    @property
    def values(self) -> tuple[int | float, ...]:
        """The results as numbers; integers are signed."""
        return tuple(map(number, self.types, self.results))


@attrs.frozen
class Departing:
    """The agent wants to move.

    host: where to, in the agent's words
    entry: the export to call there; None if its stack travels
    snapshot: the agent, suspended in its `go`
    usage: what the run used
    """

    host: str
    entry: str | None
    snapshot: Snapshot
    usage: Usage = Usage()


@attrs.frozen
class Waiting:
    """The agent waits. Continue it with the event that answers its wait.

    wait: what it waits for
    snapshot: the agent, suspended in the wait
    usage: what the run used
    """

    wait: Wait
    snapshot: Snapshot
    usage: Usage = Usage()


@attrs.frozen
class Suspended:
    """The agent was asked to suspend, and did. Continue it without an event.

    snapshot: the agent
    usage: what the run used
    """

    snapshot: Snapshot
    usage: Usage = Usage()


@attrs.frozen
class Trapped:
    """The agent's code trapped. It cannot go on.

    code: one word for programs, such as "unreachable"
    reason: a sentence for people
    usage: what the run used
    """

    code: str
    reason: str
    usage: Usage = Usage()


@attrs.frozen
class Exhausted:
    """The agent wanted more than it is allowed.

    what: "memory", "table", "stack", "cpu" or "wall"
    reason: a sentence, for people
    snapshot: with one, it can go on under a new budget; None: it was stopped in the middle
    usage: what the run used
    """

    what: str
    reason: str
    snapshot: Snapshot | None = None
    usage: Usage = Usage()


Outcome = Finished | Departing | Waiting | Suspended | Trapped | Exhausted


# How `Execution.advance` ends: without a snapshot yet, since not every ending needs one.


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
    """A number as bits of one type; integers modulo their width. Raises `ValueError` for other values."""
    if letter in "fF":
        try:
            return int.from_bytes(struct.pack("<f" if letter == "f" else "<d", value), "little")
        except (OverflowError, struct.error) as error:
            raise ValueError(f"{value!r} is no value of this float type: {error}") from None
    if letter not in ("i", "I") or not isinstance(value, int):
        raise ValueError(f"{value!r} cannot be given to a parameter of type {letter!r}")
    return value & (0xFFFFFFFF if letter == "i" else 0xFFFFFFFFFFFFFFFF)
