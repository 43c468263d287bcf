"""Values as text, of a length that a reader can take in.

Invariant: a text has at most `MAX_CHARS` characters, all printable.
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_CHARS = 200  # of one value
MAX_ITEMS = 10  # of one collection that are shown
MAX_DEPTH = 3  # of collections in collections
MAX_VARIABLES = 100  # of one frame
SHOWN_BYTES = 60  # of a text or of bytes
SHOWN_CHARS = 120  # of their representation
ELIDED = "..."


def cut(text: str) -> str:
    """`text`, at most `MAX_CHARS` of it, with what cannot be printed escaped."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:MAX_CHARS])
    return shown if len(shown) <= MAX_CHARS and len(text) <= MAX_CHARS else shown[: MAX_CHARS - len(ELIDED)] + ELIDED


def quoted(start: str | bytes | bytearray, size: int, unit: str) -> str:
    """A text or bytes that begin with `start` and have `size` of `unit`."""
    shown = repr(start)
    if len(shown) <= SHOWN_CHARS and len(start) >= size:
        return shown
    return f"{shown[:SHOWN_CHARS]}{ELIDED} ({size} {unit})"


def listed(items: Sequence[str], size: int, before: str, after: str) -> str:
    """A collection of `size` items that begins with `items`."""
    more = [f"{ELIDED} {size - len(items)} more"] if size > len(items) else []
    return before + ", ".join([*items, *more]) + after
