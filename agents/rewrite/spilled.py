"""The custom section that the pointer spilling pass leaves in a module, for display and to recognize its own output.

Can be read without the pass (:mod:`agents.rewrite.spill`). Nothing depends on it at run time.
"""

from __future__ import annotations

import attrs

from agents import canonical
from agents.errors import NotCanonical

SPILLED_SECTION = "portcall.spill"


@attrs.frozen
class Spilled:
    """What the pass did. ``stack_pointer``: index of the global; ``room``: bytes of all frames together."""

    stack_pointer: int
    functions: int
    stores: int
    room: int

    def encode(self) -> bytes:
        """The section's content."""
        return canonical.encode(attrs.asdict(self))


def spilled(section: bytes | None) -> Spilled | None:
    """The content of the section; None if it is missing, or not written by the pass."""
    try:
        value = (
            None if section is None else canonical.decode(section, canonical.DecodeBounds(max_bytes=256, max_items=16))
        )
    except NotCanonical:
        return None
    if not isinstance(value, dict) or set(value) != {field.name for field in attrs.fields(Spilled)}:
        return None
    if any(type(number) is not int or not 0 <= number < 1 << 32 for number in value.values()):
        return None
    return Spilled(**value)
