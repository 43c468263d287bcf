"""`Module` to bytes (WebAssembly 3.0, chapter 5, Binary Format): always the shortest encoding of each number.

It does not validate. Invariant: `decode_module(encode_module(m)) == m` for every module that `decode_module`
can give, except that a list that is empty loses its section. Equal modules give equal bytes, on every
machine. A value that the format cannot hold (an index below 0, a missing `end`) is a bug of the caller:
`ValueError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any, Final

from . import decode as ids
from . import opcodes as op
from .opcodes import Imm
from .reader import HEAP_CODES, SHORT_TYPES
from .syntax import (
    FUNC,
    FUNCREF,
    Catch,
    Elem,
    Export,
    Expr,
    Func,
    FuncType,
    Global,
    GlobalType,
    HeapType,
    Import,
    ImportFunc,
    Instr,
    MemArg,
    MemType,
    Module,
    RefType,
    Table,
    TableType,
    Tag,
    TypeLimits,
    ValType,
)
from .syntax import Data as DataSegment

_HEAPS: Final[Mapping[HeapType, bytes]] = {heap: bytes([code]) for code, heap in HEAP_CODES.items()}
_TYPES: Final[Mapping[ValType, bytes]] = {kind: bytes([code]) for code, kind in SHORT_TYPES.items()}
_CATCHES: Final = {"catch": b"\0", "catch_ref": b"\1", "catch_all": b"\2", "catch_all_ref": b"\3"}
_KINDS: Final = {kind: bytes([code]) for code, kind in enumerate(ids.IMPORT_KINDS)}


# --- values (5.2) ------------------------------------------------------------------------------------------


def unsigned(value: int) -> bytes:
    """Unsigned LEB128. Raises `ValueError` below 0."""
    if 0 <= value < 0x80:
        return value.to_bytes(1, "little")
    if value < 0:
        raise ValueError(f"{value} where an unsigned number has to be")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed(value: int) -> bytes:
    """Signed LEB128."""
    out = bytearray()
    while not -0x40 <= value < 0x40:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value & 0x7F)
    return bytes(out)


def _vector(items: Iterable[bytes]) -> bytes:
    found = list(items)
    return unsigned(len(found)) + b"".join(found)


def _sized(content: bytes) -> bytes:
    return unsigned(len(content)) + content


def name(text: str) -> bytes:
    """A name: its length in bytes, then UTF-8."""
    return _sized(text.encode())


# --- types (5.3) -------------------------------------------------------------------------------------------


def _heap_type(heap: HeapType) -> bytes:
    return signed(heap) if isinstance(heap, int) else _HEAPS[heap]


def val_type(kind: ValType) -> bytes:
    """A value type."""
    short = _TYPES.get(kind)
    if short is not None:
        return short
    assert isinstance(kind, RefType)  # the others are one byte
    return (b"\x63" if kind.nullable else b"\x64") + _heap_type(kind.heap)


def _block_type(block: ValType | int | None) -> bytes:
    if block is None:
        return b"\x40"
    return signed(block) if isinstance(block, int) else val_type(block)


def _func_type(kind: FuncType) -> bytes:
    return b"\x60" + _vector(map(val_type, kind.params)) + _vector(map(val_type, kind.results))


def _limits(limits: TypeLimits, addr64: bool) -> bytes:
    flags = bytes([(limits.max is not None) | addr64 << 2])
    return flags + unsigned(limits.min) + (b"" if limits.max is None else unsigned(limits.max))


def _table_type(kind: TableType) -> bytes:
    return val_type(kind.elem) + _limits(kind.limits, kind.addr64)


def _mem_type(kind: MemType) -> bytes:
    return _limits(kind.limits, kind.addr64)


def _global_type(kind: GlobalType) -> bytes:
    return val_type(kind.val) + (b"\1" if kind.mutable else b"\0")


def _tag(tag: Tag) -> bytes:
    return b"\0" + unsigned(tag.type)


# --- instructions (5.4) ------------------------------------------------------------------------------------


def _memarg(arg: MemArg) -> bytes:
    if not 0 <= arg.align < 0x40:
        raise ValueError(f"alignment {arg.align}")
    if arg.memory:
        return unsigned(arg.align | 0x40) + unsigned(arg.memory) + unsigned(arg.offset)
    return unsigned(arg.align) + unsigned(arg.offset)


def _catch(clause: Catch) -> bytes:
    tag = b"" if clause.tag is None else unsigned(clause.tag)
    return _CATCHES[clause.kind] + tag + unsigned(clause.label)


def _pair(imm: tuple[int, int]) -> bytes:
    return unsigned(imm[0]) + unsigned(imm[1])


def _exactly(size: int) -> Callable[[bytes], bytes]:
    def check(imm: bytes) -> bytes:
        if len(imm) != size:
            raise ValueError(f"{len(imm)} bytes where {size} have to be")
        return imm

    return check


_IMMEDIATES: Final[Mapping[Imm, Callable[[Any], bytes]]] = {
    Imm.NONE: lambda imm: b"",
    Imm.BLOCK: _block_type,
    Imm.LABELS: lambda imm: _vector(map(unsigned, imm[0])) + unsigned(imm[1]),
    Imm.TYPE_TABLE: _pair,
    Imm.TRY_TABLE: lambda imm: _block_type(imm[0]) + _vector(map(_catch, imm[1])),
    Imm.HEAP: _heap_type,
    Imm.TYPES: lambda imm: _vector(map(val_type, imm)),
    Imm.TABLE_INIT: _pair,
    Imm.TABLE_COPY: _pair,
    Imm.MEMORY_INIT: _pair,
    Imm.MEMORY_COPY: _pair,
    Imm.MEMARG: _memarg,
    Imm.MEMARG_LANE: lambda imm: _memarg(imm[0]) + bytes([imm[1]]),
    Imm.I32: signed,
    Imm.I64: signed,
    Imm.F32: lambda imm: imm.to_bytes(4, "little"),
    Imm.F64: lambda imm: imm.to_bytes(8, "little"),
    Imm.V128: _exactly(16),
    Imm.SHUFFLE: _exactly(16),
    Imm.LANE: lambda imm: bytes([imm]),
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
        unsigned,
    ),
}


def encode_instruction(instr: Instr) -> bytes:
    """One instruction. Raises `ValueError` for an opcode that is not in the table or an immediate out of
    range.
    """
    row = op.TABLE.get(instr.code)
    if row is None:
        raise ValueError(f"no opcode {instr.code:#x}")
    code = instr.code
    opcode = bytes([code]) if code < 0x100 else bytes([code >> 12]) + unsigned(code & 0xFFF)
    return opcode + _IMMEDIATES[row.imm](instr.imm)


class _Encodings(dict[Instr, bytes]):
    """Instructions already encoded: a function's body is then one lookup each."""

    def __missing__(self, instr: Instr) -> bytes:
        found = self[instr] = encode_instruction(instr)
        return found


def _expr(known: _Encodings, expr: Expr) -> bytes:
    if not expr or expr[-1].code != op.END:
        raise ValueError("an expression without its final end")
    return b"".join([known[instr] for instr in expr])


# --- modules (5.5) -----------------------------------------------------------------------------------------


def _import(entry: Import) -> bytes:
    desc = entry.desc
    if isinstance(desc, ImportFunc):
        kind = unsigned(desc.type)
    elif isinstance(desc, TableType):
        kind = _table_type(desc)
    elif isinstance(desc, MemType):
        kind = _mem_type(desc)
    elif isinstance(desc, GlobalType):
        kind = _global_type(desc)
    else:
        kind = _tag(desc)
    return name(entry.module) + name(entry.name) + _KINDS[entry.kind] + kind


def _table(known: _Encodings, table: Table) -> bytes:
    if table.init is None:
        return _table_type(table.type)
    return b"\x40\0" + _table_type(table.type) + _expr(known, table.init)


def _global(known: _Encodings, entry: Global) -> bytes:
    return _global_type(entry.type) + _expr(known, entry.init)


def _export(export: Export) -> bytes:
    return name(export.name) + _KINDS[export.kind] + unsigned(export.index)


def _elem(known: _Encodings, elem: Elem) -> bytes:
    short = elem.type == FUNC and all(len(item) == 2 and item[0].code == op.REF_FUNC for item in elem.items)
    flags = 0 if short else 4
    head = b""
    if elem.mode == "active":
        if elem.table is None or elem.offset is None:
            raise ValueError("an active element segment without table or offset")
        implied = FUNC if short else FUNCREF
        if elem.table or elem.type != implied:
            flags |= 2
            head = unsigned(elem.table)
        head += _expr(known, elem.offset)
    else:
        flags |= 1 if elem.mode == "passive" else 3
    if flags & 3:
        head += b"\0" if short else val_type(elem.type)
    items = _vector(map(_func_index, elem.items)) if short else _vector(_expr(known, item) for item in elem.items)
    return unsigned(flags) + head + items


def _func_index(item: Expr) -> bytes:
    index = item[0].imm
    assert isinstance(index, int)  # the immediate of ref.func
    return unsigned(index)


def _func(known: _Encodings, func: Func) -> bytes:
    runs = [unsigned(len(list(run))) + val_type(kind) for kind, run in groupby(func.locals)]
    return _sized(_vector(runs) + _expr(known, func.body))


def _data(known: _Encodings, data: DataSegment) -> bytes:
    content = _sized(data.bytes)
    if data.mode == "passive":
        return b"\1" + content
    if data.memory is None or data.offset is None:
        raise ValueError("an active data segment without memory or offset")
    memory = b"\2" + unsigned(data.memory) if data.memory else b"\0"
    return memory + _expr(known, data.offset) + content


def encode_module(module: Module) -> bytes:
    """The binary form of `module`. Raises `ValueError` for what the format cannot hold."""
    known = _Encodings()
    contents: dict[int, bytes] = {}

    def section(ident: int, items: list[bytes]) -> None:
        if items:
            contents[ident] = unsigned(len(items)) + b"".join(items)

    section(ids.TYPE, [_func_type(kind) for kind in module.types])
    section(ids.IMPORT, [_import(entry) for entry in module.imports])
    section(ids.FUNCTION, [unsigned(func.type) for func in module.funcs])
    section(ids.TABLE, [_table(known, table) for table in module.tables])
    section(ids.MEMORY, [_mem_type(kind) for kind in module.mems])
    section(ids.TAG, [_tag(tag) for tag in module.tags])
    section(ids.GLOBAL, [_global(known, entry) for entry in module.globals])
    section(ids.EXPORT, [_export(export) for export in module.exports])
    if module.start is not None:
        contents[ids.START] = unsigned(module.start)
    section(ids.ELEMENT, [_elem(known, elem) for elem in module.elems])
    if module.data_count is not None:
        contents[ids.DATA_COUNT] = unsigned(len(module.datas))
    section(ids.CODE, [_func(known, func) for func in module.funcs])
    section(ids.DATA, [_data(known, data) for data in module.datas])

    parts = [ids.WASM_MAGIC, ids.WASM_VERSION]
    for after in (0, *ids.ORDER):
        if after in contents:
            parts += [bytes([after]), _sized(contents[after])]
        for custom in module.customs:
            if custom.after == after:
                parts += [b"\0", _sized(name(custom.name) + custom.data)]
    return b"".join(parts)
