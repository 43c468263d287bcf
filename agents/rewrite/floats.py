"""The custom section that says what was done about floats in a module, for display and to recognize such a module.

Can be read without the passes (:mod:`agents.rewrite.nans`, :mod:`agents.rewrite.relaxed`). Nothing depends on it at run
time.
"""

from __future__ import annotations

import attrs

from agents import canonical
from agents.errors import NotCanonical

FLOATS_SECTION = "portcall.floats"


@attrs.frozen
class Floats:
    """`nans`: in how many places NaNs are made canonical, None where they are not; `relaxed`: relaxed vector
    instructions that were replaced by exact ones."""

    nans: int | None = None
    relaxed: int = 0

    def encode(self) -> bytes:
        """The section's content."""
        return canonical.encode(attrs.asdict(self))


def floats(section: bytes | None) -> Floats:
    """The content of the section; the defaults if it is missing, or not written by the passes."""
    try:
        value = (
            None if section is None else canonical.decode(section, canonical.DecodeBounds(max_bytes=128, max_items=8))
        )
    except NotCanonical:
        return Floats()
    if not isinstance(value, dict) or set(value) != {field.name for field in attrs.fields(Floats)}:
        return Floats()
    for number in value.values():
        if number is not None and (type(number) is not int or not 0 <= number < 1 << 32):
            return Floats()
    return Floats(value["nans"], value["relaxed"] or 0)
