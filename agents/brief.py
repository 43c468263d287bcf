"""Short `repr`s for long values: their beginning, and their size.

Errors, logs and event loops format objects whether anybody reads the text or not: a state of 60
MiB, or a trail of a thousand visits, must not be formatted whole. Invariant: a value takes some hundred characters.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Set, Sized
from typing import Any

# Characters of one value, and items of a collection, that are shown.
BRIEF_CHARS, BRIEF_ITEMS = 300, 3
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
_short.maxlevel = 3
_short.maxtuple = _short.maxlist = _short.maxset = _short.maxfrozenset = _short.maxdict = _short.maxdeque = BRIEF_ITEMS


def brief(value: Any) -> str:
    """A short `repr`, for `attrs.field(repr=brief)`."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        if len(value) <= 32:
            return repr(bytes(value))
        return f"<{len(value)} bytes>"
    if isinstance(value, Sized) and not isinstance(value, str) and len(value) > BRIEF_ITEMS:
        kind = "entries" if isinstance(value, Mapping) else "members" if isinstance(value, Set) else "items"
        return f"<{len(value)} {kind}>"
    return _short.repr(value)[:BRIEF_CHARS]
