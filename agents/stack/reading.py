"""`stack_of`: the stack of a frozen agent, in the words of the language that it is written in."""

from __future__ import annotations

from itertools import chain, islice

from agents.errors import FormatError, Unreadable
from agents.image import AgentImage
from agents.snapshot import Snapshot
from agents.wasi.state import WasiState

from . import cpython, micropython
from .frames import MAX_FRAMES, Stack, StackFrame
from .memory import FrozenMemory, data_segments, fingerprint
from .webassembly import wasm_frames

MAX_SOURCES, MAX_SOURCE_BYTES = 8, 256 << 10  # of one stack


def stack_of(image: AgentImage, snapshot: Snapshot) -> Stack:
    """The stack of an agent; without frames if it has not begun.

    An agent in Python has its Python functions. If its memory cannot be read as such, it has the functions of the
    interpreter, and a note. Raises `FormatError` or `ModuleError` if the image cannot be read, `BadSnapshot` if the
    snapshot is not of it.
    """
    snapshot.check(image)
    note = ""
    if image.manifest.language == "python" and snapshot.frames:
        try:
            return Stack(_python_frames(image, snapshot), "python")
        except Unreadable as error:
            note = f"its Python functions cannot be shown: {error}"
    frames = islice(chain.from_iterable(wasm_frames(image, snapshot.frames)), MAX_FRAMES)
    return Stack(tuple(frames), note=note)


def sources_of(stack: Stack, snapshot: Snapshot) -> dict[str, str]:
    """The texts of the files that frames of a stack name, by these names: those that travel with the agent.

    Of the innermost frames, at most `MAX_SOURCES` files of `MAX_SOURCE_BYTES` together; what is no UTF-8 is U+FFFD.
    """
    files, room = Files(snapshot), MAX_SOURCE_BYTES
    found: dict[str, str] = {}
    for name in dict.fromkeys(frame.file for frame in stack.frames if frame.file and frame.line):
        data = files.read(name)
        if data is not None and len(data) <= room:
            room -= len(data)
            found[name] = data.decode("utf-8", "replace")
        if len(found) == MAX_SOURCES:
            break
    return found


def _python_frames(image: AgentImage, snapshot: Snapshot) -> tuple[StackFrame, ...]:
    """Raises `Unreadable`, `ModuleError`."""
    segments = data_segments(image)
    known = fingerprint(segments)
    if known in micropython.BUILDS:
        build, memory = micropython.BUILDS[known], FrozenMemory.of(segments, snapshot)
        return micropython.python_frames(build, image, snapshot, memory, Files(snapshot).read)
    if known in cpython.BUILDS:
        return cpython.python_frames(cpython.BUILDS[known], FrozenMemory.of(segments, snapshot))
    raise Unreadable("this build of the interpreter is not known here")


class Files:
    """The files that travel with an agent."""

    def __init__(self, snapshot: Snapshot) -> None:
        try:
            self._root = WasiState.read(snapshot.wasi).luggage.root if snapshot.wasi else None
        except FormatError:
            self._root = None

    def read(self, path: str) -> bytes | None:
        """The contents of a file; None if there is none."""
        node = self._root
        for name in path.strip("/").split("/"):
            if node is None or node.folder is None or name not in node.folder.entries:
                return None
            _, node = node.folder.entries[name]
        return None if node is None or node.folder is not None else bytes(node.data)
