"""What a stack is to a reader: frames with a function, a place in a source file, and variables.

Data only. Invariant: every text is bounded by whoever makes it, since it comes from the memory of an agent.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs

from agents.brief import brief

from .values import MAX_VARIABLES

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
    note: what else there is to say, such as why it is not in the language of the agent; empty if there is nothing
    """

    frames: tuple[StackFrame, ...] = attrs.field(default=(), repr=brief)
    language: Literal["python", "webassembly"] = "webassembly"
    note: str = ""

    def cut(self, most: int, note: str = "") -> Stack:
        """The stack with its `most` innermost frames, `MAX_VARIABLES` of each, and another note before its own."""
        left = len(self.frames) - most
        notes = [note, self.note, f"{left} outer frames are left out" if left > 0 else ""]
        frames = tuple(attrs.evolve(each, variables=each.variables[:MAX_VARIABLES]) for each in self.frames[:most])
        return Stack(frames, self.language, "; ".join(filter(None, notes)))

    def value(self) -> dict[str, Any]:
        """As plain values, for JSON and CBOR."""
        frames = [
            {
                "function": frame.function,
                "file": frame.file,
                "line": frame.line,
                "variables": [{"name": each.name, "value": each.value} for each in frame.variables],
            }
            for frame in self.frames
        ]
        return {"language": self.language, "note": self.note, "frames": frames}

    @classmethod
    def of(cls, value: dict[str, Any]) -> Stack:
        """The inverse of `value`, for values that a station of the user has made."""
        frames = tuple(
            StackFrame(**{**frame, "variables": tuple(Variable(**each) for each in frame["variables"])})
            for frame in value["frames"]
        )
        return cls(frames, value["language"], value["note"])
