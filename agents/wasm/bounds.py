"""How large a module may be. Each bound names the attack that it stops, and is checked before memory is
allocated or time is spent on what it counts.

Invariant: exceeding one of these raises `ModuleTooLarge`, which names the bound. The defaults follow the limits
that engines agreed on (WebAssembly JavaScript Interface, appendix "Implementation-defined limits") where
those exist.
"""

from __future__ import annotations

import attrs

from agents.errors import ModuleTooLarge

WASM_PAGE_BYTES = 65536


@attrs.frozen
class ModuleBounds:
    """Upper limits, all inclusive."""

    module: int = 64 << 20
    """Bytes of the whole module: everything else is paid per byte."""
    entries: int = 1_000_000
    """Entries of one section or segment: a count takes five bytes, whatever the length of the list it announces."""
    customs: int = 10_000
    """Custom sections: three bytes of an empty one become some 150 bytes of object."""
    items: int = 4_000_000
    """Items of all element segments: one byte of index becomes eight of tuple, and a microsecond."""
    type_entries: int = 5_000_000
    """Parameters and results of all types, likewise."""
    instructions: int = 40_000_000
    """Instructions in all functions: one byte of `nop` becomes eight bytes of tuple."""
    distinct: int = 1_000_000
    """Different instructions: four bytes of constant become some 400 bytes of objects."""
    body: int = 7_654_321
    """Bytes of one function body: the transient lists of its decoding."""
    nesting: int = 10_000
    """Depth of blocks in one expression: a block is two bytes, an open one is a frame in every later pass."""
    locals: int = 50_000
    """Locals of one function: five bytes can declare four billion."""
    all_locals: int = 10_000_000
    """Locals of all functions together: seven bytes declare 50,000, again in every function."""
    params: int = 1000
    """Parameters of a function type: a call is two bytes, and moves them all."""
    results: int = 1000
    """Results of a function type, likewise."""
    operands: int = 1_000_000
    """Height of the operand stack in one function: two bytes of call push a thousand results."""
    moves: int = 50_000_000
    """Operands moved or reported at calls, branches and blocks while one module validates: each moves many
    for two bytes.
    """

    def check(self, name: str, value: int, offset: int | None, function: int | None = None) -> None:
        """Raise `ModuleTooLarge` if `value` exceeds the bound called `name`."""
        limit = getattr(self, name)
        if value > limit:
            raise ModuleTooLarge(f"{value} is beyond the bound of {limit} for {name}", offset, function)
