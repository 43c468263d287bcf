"""Reads DWARF, versions 2 to 5: where in a source file an address of code comes from, and what was inlined there.

Only that: the line programs, and of the tree of entries the functions and what was inlined into them. No types, no
variables, no split files. `places.source_places` is the one way in.

The bytes are hostile. Invariants: every read is inside its section; each step of the work is counted and their number
is bounded, so that time and memory are too; whatever is wrong is `BadDwarf`.
"""

from .source_place import MAX_INLINED, SourcePlace

__all__ = ["MAX_INLINED", "SourcePlace"]
