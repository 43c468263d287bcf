"""What a stack is to a reader: frames with a function, a place in a source file, and variables.

Data only. Invariant: every text is bounded by whoever makes it, since it comes from the memory of an agent.
"""

from __future__ import annotations

from typing import Literal

import attrs

from agents.brief import brief

MAX_FRAMES = 10_000  # of one stack that are read


@attrs.frozen
class Variable:
    """A variable and its value, as text."""

    name: str
    value: str


@attrs.frozen
class StackFrame:
    """One function that has been called and has not returned.

    function: its name
    file: the source file; empty if that is unknown
    line: of the file, from 1; None if that is unknown
    variables: those of the function that are known
    """

    function: str
    file: str = ""
    line: int | None = None
    variables: tuple[Variable, ...] = attrs.field(default=(), repr=brief)


@attrs.frozen
class Stack:
    """The stack of a frozen agent.

    frames: innermost first
    language: "python" for the functions of a script, "webassembly" for those of the module
    note: why it is not in the language of the agent, a sentence; empty if it is
    """

    frames: tuple[StackFrame, ...] = attrs.field(default=(), repr=brief)
    language: Literal["python", "webassembly"] = "webassembly"
    note: str = ""
