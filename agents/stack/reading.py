"""`stack_of`: the stack of a frozen agent, in the words of the language that it is written in."""

from __future__ import annotations

from agents.image import AgentImage
from agents.snapshot import Snapshot

from .frames import StackFrame
from .webassembly import wasm_frames


def stack_of(image: AgentImage, snapshot: Snapshot) -> tuple[StackFrame, ...]:
    """The stack of an agent, innermost first; empty if it has none.

    Raises `FormatError` or `ModuleError` if the image cannot be read, `BadSnapshot` if the snapshot is not of it.
    """
    snapshot.check(image)
    return tuple(wasm_frames(image, snapshot.frames))
