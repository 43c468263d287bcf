"""One object for equal values: what thousands of agents have in common, such as the permit of one owner, is held once.

Only for immutable values that can be hashed. Invariant: what nobody holds any more is forgotten.
"""

from __future__ import annotations

import weakref
from typing import Any, TypeVar

T = TypeVar("T")

_HELD: weakref.WeakKeyDictionary[Any, weakref.ref[Any]] = weakref.WeakKeyDictionary()


def shared(value: T) -> T:
    """`value`, or an equal one of the same type that is held already.

    value: immutable, hashable, and able to have weak references
    """
    found = _HELD.get(value)
    held = None if found is None else found()
    if type(held) is type(value):
        return held
    _HELD[value] = weakref.ref(value)
    return value
