"""Values of other types than expected: for whatever reads what arrives, which must refuse them with a declared error.

Every value in a valid message, statement or letter is replaced by each of a few others: numbers by booleans that equal
them (Python takes `True == 1`), bytes by numbers (`bytes(10**12)` is a terabyte of zeros), containers by other ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agents import canonical
from tests.credentials.journeys import fresh

D = fresh("digest")
OTHERS: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    10**12,
    2**64 - 1,
    b"",
    b"x",
    D,
    "",
    "x",
    "\x07",
    [],
    [0],
    {},
    {1: 1},
]


def bent(value: Any) -> Iterator[Any]:
    """`value` with one thing in it replaced."""
    for other in OTHERS:
        if type(other) is not type(value) or other != value:
            yield other
    if isinstance(value, list):
        for index, each in enumerate(value):
            for other in bent(each):
                yield [*value[:index], other, *value[index + 1 :]]
        yield from (value[:-1], [*value, 0], value + value)
    elif isinstance(value, dict):
        for name, each in value.items():
            for other in bent(each):
                yield {**value, name: other}
            yield {k: v for k, v in value.items() if k != name}


def booleans(value: Any) -> Iterator[Any]:
    """`value` with one 0 or 1 in it replaced by what equals it."""
    if type(value) is int and value in (0, 1):
        yield bool(value)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            for other in booleans(each):
                yield [*value[:index], other, *value[index + 1 :]]
    elif isinstance(value, dict):
        for name, each in value.items():
            for other in booleans(each):
                yield {**value, name: other}


def as_wire(value: Any) -> Any:
    """What `value` is when it has been encoded and decoded."""
    return canonical.decode(canonical.encode(value))
