"""What is told about an address of code. Data only."""

from __future__ import annotations

import attrs

MAX_INLINED = 64  # calls inlined into each other at one address that are told: the innermost ones


@attrs.frozen
class SourcePlace:
    """A place in a source file.

    function: the inlined function that it is in; empty for the one that the module has
    file: relative to the folder in which it was compiled, or only its name; empty if unknown
    line: from 1; 0 if it is of no line in particular
    """

    function: str
    file: str
    line: int
