"""Expressions from bytes: function bodies and constant expressions (WebAssembly 3.0, section 5.4).

There are two ways to the same instructions. The slow path follows the grammar, one instruction at a time, and
knows what is wrong and where. The fast path splits a body with a regular expression and looks each piece up in
the table of those seen before. A new piece alone goes through the slow path, and anything the fast path
cannot account for sends the whole body there. So the fast path never decides that a body is wrong.

Nothing here checks types. Invariants: equal encodings give the identical `Instr` object within one module,
so that an instruction costs eight bytes in its function; blocks are properly nested and the final `end`
closes the body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from agents.errors import ModuleError

from . import opcodes as op
from .bounds import ModuleBounds
from .opcodes import Imm
from .reader import Reader
from .syntax import Catch, CatchKind, Expr, Instr, MemArg

_CATCH_KINDS: Final[tuple[CatchKind, ...]] = ("catch", "catch_ref", "catch_all", "catch_all_ref")


# --- immediates, one small function per kind ---------------------------------------------------------------


def _labels(r: Reader, bounds: ModuleBounds) -> object:
    return tuple(r.u32() for _ in range(r.count(bounds))), r.u32()


def _pair(r: Reader, bounds: ModuleBounds) -> object:
    return r.u32(), r.u32()


def _try_table(r: Reader, bounds: ModuleBounds) -> object:
    block = r.block_type()
    return block, tuple(_catch(r) for _ in range(r.count(bounds, least=2)))


def _catch(r: Reader) -> Catch:
    start = r.position
    kind = r.byte()
    if kind > 3:
        raise r.malformed("malformed catch clause", start)
    tag = r.u32() if kind < 2 else None
    return Catch(_CATCH_KINDS[kind], tag, r.u32())


def _types(r: Reader, bounds: ModuleBounds) -> object:
    return tuple(r.val_type() for _ in range(r.count(bounds, "results")))


def _memarg(r: Reader) -> MemArg:
    start = r.position
    align = r.u32()
    if align >= 0x80:
        raise r.malformed("malformed memop flags", start)
    memory = r.u32() if align & 0x40 else 0
    return MemArg(align & 0x3F, r.unsigned(64), memory)


_IMMEDIATES: Final[Mapping[Imm, Callable[[Reader, ModuleBounds], object]]] = {
    Imm.NONE: lambda r, bounds: None,
    Imm.BLOCK: lambda r, bounds: r.block_type(),
    Imm.LABELS: _labels,
    Imm.TYPE_TABLE: _pair,
    Imm.TRY_TABLE: _try_table,
    Imm.HEAP: lambda r, bounds: r.heap_type(),
    Imm.TYPES: _types,
    Imm.TABLE_INIT: _pair,
    Imm.TABLE_COPY: _pair,
    Imm.MEMORY_INIT: _pair,
    Imm.MEMORY_COPY: _pair,
    Imm.MEMARG: lambda r, bounds: _memarg(r),
    Imm.MEMARG_LANE: lambda r, bounds: (_memarg(r), r.byte()),
    Imm.I32: lambda r, bounds: r.signed(32),
    Imm.I64: lambda r, bounds: r.signed(64),
    Imm.F32: lambda r, bounds: int.from_bytes(r.take(4), "little"),
    Imm.F64: lambda r, bounds: int.from_bytes(r.take(8), "little"),
    Imm.V128: lambda r, bounds: r.take(16),
    Imm.SHUFFLE: lambda r, bounds: r.take(16),
    Imm.LANE: lambda r, bounds: r.byte(),
    **dict.fromkeys(
        (
            Imm.LABEL,
            Imm.FUNC,
            Imm.TYPE,
            Imm.TAG,
            Imm.LOCAL,
            Imm.GLOBAL,
            Imm.TABLE,
            Imm.ELEM,
            Imm.MEMORY,
            Imm.DATA,
        ),
        lambda r, bounds: r.u32(),
    ),
}


def read_instruction(r: Reader, bounds: ModuleBounds) -> Instr:
    """One instruction. Raises `MalformedModule`, `UnsupportedFeature` or `ModuleTooLarge`."""
    start = r.position
    code = r.byte()
    if code in op.PREFIXES:
        sub = r.u32()
        prefix = code
        code = prefix << 12 | sub
        if sub > 0xFFF:
            code = -1
        if code not in op.TABLE and code not in op.REFUSED and prefix in op.REFUSED_PREFIXES:
            raise r.unsupported(f"{op.REFUSED_PREFIXES[prefix]} (opcode {prefix:#x} {sub})", start)
    row = op.TABLE.get(code)
    if row is None:
        if code in op.REFUSED:
            mnemonic, feature = op.REFUSED[code]
            raise r.unsupported(f"{feature} ({mnemonic})", start)
        raise r.malformed("illegal opcode", start)
    return Instr(code, _IMMEDIATES[row.imm](r, bounds))


# --- the fast path -----------------------------------------------------------------------------------------


def _pattern() -> re.Pattern[bytes]:
    """Splits a body into instructions: one alternative per shape of immediate, the most frequent first.

    An alternative may match what the grammar refuses (an overlong number, an unknown opcode):
    the piece then fails on the slow path. What none of them matches falls to the last one, any single byte, and
    fails too.
    """
    u = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
    memarg = rb"(?:[\x00-\x3f]|[\x40-\x7f]" + u + rb")" + u
    block = rb"(?:[\x63\x64]" + u + rb"|" + u + rb")"
    catch = rb"(?:[\x00\x01]" + u + u + rb"|[\x02\x03]" + u + rb")"
    labels = b"|".join(b"\\x%02x(?:%s){%d}" % (n, u, n + 1) for n in range(128))
    catches = b"|".join(b"\\x%02x%s{%d}" % (n, catch, n) for n in range(16))
    one = {Imm.LOCAL, Imm.GLOBAL, Imm.LABEL, Imm.FUNC, Imm.TYPE, Imm.TAG, Imm.TABLE, Imm.MEMORY, Imm.HEAP}
    one |= {Imm.I32, Imm.I64, Imm.ELEM, Imm.DATA}
    two = {Imm.TYPE_TABLE, Imm.TABLE_INIT, Imm.TABLE_COPY, Imm.MEMORY_INIT, Imm.MEMORY_COPY}

    def codes(kinds: set[Imm], prefix: int = 0) -> bytes:
        found = [row.code & 0xFFF for row in op.TABLE.values() if row.code >> 12 == prefix and row.imm in kinds]
        return b"[" + b"".join(b"\\x%02x" % code for code in found if code < 0x100) + b"]"

    def vector(kind: Imm) -> bytes:
        return rb"\xfd" + codes({kind}, 0xFD)

    return re.compile(
        b"|".join(
            [
                codes(one) + u,
                codes({Imm.NONE}),
                codes({Imm.MEMARG}) + memarg,
                codes({Imm.BLOCK}) + block,
                codes(two) + u + u,
                rb"\xfd[\x80-\xff]{1,4}[\x00-\x7f]",  # every vector instruction from 128 on has no immediate
                rb"\xfd(?![\x80-\xff])" + codes({Imm.NONE}, 0xFD),
                vector(Imm.MEMARG) + memarg,
                vector(Imm.LANE) + rb"[\x00-\xff]",
                vector(Imm.MEMARG_LANE) + memarg + rb"[\x00-\xff]",
                rb"\xfd[\x0c\x0d][\x00-\xff]{16}",
                rb"\x43[\x00-\xff]{4}",
                rb"\x44[\x00-\xff]{8}",
                rb"\xfc" + codes({Imm.NONE}, 0xFC),
                rb"\xfc" + codes(one, 0xFC) + u,
                rb"\xfc" + codes(two, 0xFC) + u + u,
                rb"\x0e(?:" + labels + rb")",
                rb"\x1f" + block + rb"(?:" + catches + rb")",
                rb"\x1c\x01(?:[\x63\x64]" + u + rb"|[\x65-\x7f])",
                rb"[\x00-\xff]",
            ]
        )
    )


_PIECES: Final = _pattern()


class _Unaccounted(Exception):
    """A piece that is not an instruction: take the slow path. Never leaves this module."""


class _Known(dict[bytes, Instr]):
    """The instructions seen so far, by their encodings."""

    def __init__(self, bounds: ModuleBounds) -> None:
        super().__init__()
        self.bounds = bounds

    def __missing__(self, piece: bytes) -> Instr:
        r = Reader(piece)
        try:
            instr = read_instruction(r, self.bounds)
        except ModuleError:
            raise _Unaccounted from None
        if r.position != len(piece) or len(self) >= self.bounds.distinct:
            raise _Unaccounted
        self[piece] = instr
        return instr


class Expressions:
    """Decodes the expressions of one module; equal instructions share one object."""

    def __init__(self, data: bytes, bounds: ModuleBounds) -> None:
        self._data = data
        self._bounds = bounds
        self._known = _Known(bounds)
        self._constants: dict[Expr, Expr] = {}
        self._func_items: dict[int, Expr] = {}
        self._instructions = 0

    def body(self, start: int, end: int, function: int) -> Expr:
        """The body of `function` in [start, end). Raises as `read_instruction` does."""
        try:
            pieces = _PIECES.findall(self._data, start, end)
            body: Expr = tuple(map(self._known.__getitem__, pieces))
            nested = self._nested(body)
        except _Unaccounted:
            nested = False
        if not nested:
            r = Reader(self._data, start, end, function)
            body = self._careful(r)
            if r.position != end:
                raise r.malformed("section size mismatch: bytes after the end of the function")
        self._instructions += len(body)
        self._bounds.check("instructions", self._instructions, start, function)
        return body

    def constant(self, r: Reader) -> Expr:
        """A constant expression. Raises as `read_instruction` does."""
        found = self._careful(r)
        self._instructions += len(found)
        return self._constants.setdefault(found, found)

    def func_item(self, index: int) -> Expr:
        """The constant expression `ref.func index`, which the short forms of element segments abbreviate."""
        found = self._func_items.get(index)
        if found is None:
            found = self._func_items[index] = (Instr(op.REF_FUNC, index), Instr(op.END))
        return found

    def uses(self, *codes: int) -> bool:
        """Whether any instruction decoded so far has one of these opcodes."""
        return any(instr.code in codes for instr in self._known.values())

    def _nested(self, body: Expr) -> bool:
        """Whether every block ends, and the last instruction closes the body."""
        open_ifs = [False]  # for each open block, whether an `else` may come
        most = self._bounds.nesting
        for code in [code for instr in body if (code := instr.code) in _CONTROL]:
            if not open_ifs:
                return False
            if code == op.END:
                open_ifs.pop()
            elif code != op.ELSE:
                open_ifs.append(code == op.IF)
                if len(open_ifs) > most:
                    return False
            elif open_ifs[-1]:
                open_ifs[-1] = False
            else:
                return False
        return not open_ifs and body[-1].code == op.END

    def _careful(self, r: Reader) -> Expr:
        """One expression, instruction by instruction, up to the `end` that closes it."""
        known, bounds, data = self._known, self._bounds, self._data
        open_ifs = [False]
        found: list[Instr] = []
        while open_ifs:
            start = r.position
            instr = read_instruction(r, bounds)
            piece = data[start : r.position]
            if piece in known:
                instr = known[piece]
            else:
                bounds.check("distinct", len(known) + 1, start, r.function)
                known[piece] = instr
            found.append(instr)
            if len(found) + self._instructions > bounds.instructions:
                bounds.check("instructions", len(found) + self._instructions, start, r.function)
            code = instr.code
            if code in _CONTROL:
                if code == op.END:
                    open_ifs.pop()
                elif code != op.ELSE:
                    open_ifs.append(code == op.IF)
                    bounds.check("nesting", len(open_ifs), start, r.function)
                elif open_ifs[-1]:
                    open_ifs[-1] = False
                else:
                    raise r.malformed("else without if", start)
        return tuple(found)


_NOT_ALONE: Final = frozenset(
    bytes([byte]) for byte in range(256) if byte not in op.TABLE or op.TABLE[byte].imm is not Imm.NONE
)
_CONTROL: Final = frozenset({op.BLOCK, op.LOOP, op.IF, op.TRY_TABLE, op.ELSE, op.END})


def instruction_starts(data: bytes, start: int, end: int, count: int) -> list[int]:
    """The offset of each of the `count` instructions of a body in [start, end), already decoded once."""
    starts = []
    pieces = _PIECES.findall(data, start, end)
    if len(pieces) == count and _NOT_ALONE.isdisjoint(pieces):
        for piece in pieces:
            starts.append(start)
            start += len(piece)
        return starts
    r, bounds = Reader(data, start, end), ModuleBounds()
    for _ in range(count):
        starts.append(r.position)
        read_instruction(r, bounds)
    return starts
