"""The stack of a frozen agent, for people: which functions it is in, where in their source, with which values.

`stack_of` reads it from an image and a snapshot. Nothing is run, and nothing is believed: a snapshot is input
from elsewhere, so every read is bounded, and what cannot be read is left out.
"""

from .frames import MAX_FRAMES, Stack, StackFrame, Variable
from .reading import sources_of, stack_of

__all__ = ["MAX_FRAMES", "Stack", "StackFrame", "Variable", "sources_of", "stack_of"]
