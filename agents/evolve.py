"""`attrs.evolve` for values that a hop makes many of: looks up each class's fields once, not on each call.

Nothing else differs: the class's `__init__` runs, with its checks.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, TypeVar

import attrs

T = TypeVar("T")


@functools.cache
def _fields(cls: type[Any]) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """The names of the arguments of `__init__`, and a getter of their values. `cls` has two fields or more."""
    found = [each for each in attrs.fields(cls) if each.init]
    return tuple(each.alias for each in found), operator.attrgetter(*(each.name for each in found))


def evolve(value: T, **changes: Any) -> T:
    """A copy of `value` with `changes`, by the names of the arguments of its class. Raises whatever its class does."""
    cls: Any = type(value)
    names, read = _fields(cls)
    made: T = cls(**{**dict(zip(names, read(value), strict=True)), **changes})
    return made
