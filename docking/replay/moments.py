"""The state of an agent at one point of its journey, as people look at it: stack, globals, memories, files, results.

Invariants: what is read comes from a snapshot that may be hostile, and is bounded; what cannot be read is empty, with a
note that says why.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from agents.brief import brief
from agents.errors import FormatError, ModuleError
from agents.image import AgentImage
from agents.outcomes import number
from agents.snapshot import Snapshot
from agents.stack import Stack, stack_of
from agents.waits import FOREVER_NS, encode_wait
from agents.wasi.nodes import Node
from agents.wasi.state import WasiState
from agents.wasi.vfs import Bytes

MAX_FRAMES = 200  # of a stack
MAX_FILES = 2000  # that are listed
MAX_GLOBALS = 1000
SHOWN_BYTES = 200  # of an argument or a result


@frozen
class Moment:
    """The state at one step.

    step: the index of the step
    station: where the agent is
    stack: what it is doing, innermost first
    globals: of the module, by index
    memory: bytes of each of its memories
    files: that travel with it: path -> size in bytes
    results: keys of what it had reported, in order
    waits: what it waits for; empty if it does not
    note: how this state was come by, and what of it cannot be shown; empty if there is nothing to say
    """

    step: int
    station: str
    stack: Stack
    globals: dict[int, int | float | None] = field(repr=brief)
    memory: tuple[int, ...] = field(repr=brief)
    files: dict[str, int] = field(repr=brief)
    results: tuple[str, ...] = field(repr=brief)
    waits: str = ""
    note: str = ""

    def value(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "step": self.step,
            "station": self.station,
            "stack": self.stack.value(),
            "globals": {str(index): value for index, value in self.globals.items()},
            "memory": list(self.memory),
            "files": self.files,
            "results": list(self.results),
            "waits": self.waits,
            "note": self.note,
        }


def moment_of(
    step: int, station: str, image: AgentImage, snapshot: Snapshot, results: tuple[str, ...], note: str = ""
) -> Moment:
    """The moment that a snapshot shows."""
    try:
        stack = stack_of(image, snapshot).cut(MAX_FRAMES)
    except (FormatError, ModuleError) as error:
        stack = Stack(note=f"its stack cannot be read: {error}")
    wait = None if snapshot.pending is None else snapshot.pending.wait
    return Moment(
        step,
        station,
        stack,
        globals_of(snapshot),
        tuple(pages << 16 for pages in snapshot.memory_pages),
        {path: size for path, (size, _) in files_of(snapshot).items()},
        results,
        "" if wait is None else said(*encode_wait(wait)),
        note,
    )


def globals_of(snapshot: Snapshot) -> dict[int, int | float | None]:
    """The globals as numbers."""
    found: dict[int, int | float | None] = {}
    for index, (letter, bits) in list(snapshot.globals.items())[:MAX_GLOBALS]:
        found[index] = bits if bits is None or letter in "rv" else number(letter, bits)
    return found


def files_of(snapshot: Snapshot) -> dict[str, tuple[int, Bytes]]:
    """The files that travel with an agent: path -> size and contents. None if they cannot be read."""
    try:
        root = WasiState.read(snapshot.wasi).luggage.root if snapshot.wasi else None
    except FormatError:
        return {}
    found: dict[str, tuple[int, Bytes]] = {}
    todo: list[tuple[str, Node | None]] = [("", root)]
    while todo and len(found) < MAX_FILES:
        path, node = todo.pop()
        if node is not None and node.folder is not None:
            todo += [(f"{path}/{name}", each) for name, (_, each) in reversed(list(node.folder.entries.items()))]
        elif node is not None:
            found[path] = (len(node.data), node.data)
    return found


def said(name: str, *args: object) -> str:
    """A call as people write it."""
    parts = ["forever" if each == FOREVER_NS else shown(each) for each in args if each is not None]
    return f"{name}({', '.join(parts)})"


def shown(value: object) -> str:
    """An argument or a result, in a length that one can take in."""
    if isinstance(value, list) and [type(each) for each in value] == [bytes, int, bytes]:
        head, size, _ = value
        if not head and size:
            return f"<{size} bytes>"
        return shown(head) if len(head) == size else f"{shown(head)}... ({size} bytes)"
    if isinstance(value, bytes):
        try:
            text = repr(value[:SHOWN_BYTES].decode())
        except UnicodeDecodeError:
            text = repr(value[:SHOWN_BYTES])
        return text if len(value) <= SHOWN_BYTES else f"{text}... ({len(value)} bytes)"
    if isinstance(value, list):
        return f"[{', '.join(shown(each) for each in value[:10])}{', ...' if len(value) > 10 else ''}]"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= SHOWN_BYTES else f"{text[:SHOWN_BYTES]}..."
