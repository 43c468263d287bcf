"""A printer for the text format (WebAssembly 3.0, chapter 6): for goldens, diagnostics and people.

Instructions are written flat, one per line, with plain indices; names from the name section are comments.
There is no reader. Invariant: a WebAssembly assembler turns the text into a module equal to the printed one, except
for custom sections and the data count, which are comments here. Printing does not validate, and accepts any
decodable module.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from . import opcodes as op
from .matching import type_name
from .names import Names, module_names
from .opcodes import Imm
from .syntax import (
    FUNC,
    BlockType,
    Catch,
    Data,
    Elem,
    Expr,
    ExternType,
    Func,
    FuncType,
    GlobalType,
    ImportFunc,
    Instr,
    MemArg,
    MemType,
    Module,
    Table,
    TableType,
    TypeLimits,
    ValType,
)

_DEEPEST: Final = 60  # levels of indentation: deep nesting must not make a text of quadratic size
_OPEN: Final = frozenset({op.BLOCK, op.LOOP, op.IF, op.TRY_TABLE})


def quoted(data: bytes) -> str:
    """A string literal."""
    plain = [chr(b) if 0x20 <= b < 0x7F and b not in (0x22, 0x5C) else f"\\{b:02x}" for b in data]
    return '"' + "".join(plain) + '"'


# --- types -------------------------------------------------------------------------------------------------


def _group(word: str, kinds: tuple[ValType, ...]) -> str:
    return f" ({word} {' '.join(map(type_name, kinds))})" if kinds else ""


def _signature(kind: FuncType) -> str:
    return _group("param", kind.params) + _group("result", kind.results)


def _limits(limits: TypeLimits, addr64: bool) -> str:
    return f"{'i64 ' if addr64 else ''}{limits.min}" + ("" if limits.max is None else f" {limits.max}")


def _mem_type(kind: MemType) -> str:
    return _limits(kind.limits, kind.addr64)


def _table_type(kind: TableType) -> str:
    return f"{_limits(kind.limits, kind.addr64)} {type_name(kind.elem)}"


def _global_type(kind: GlobalType) -> str:
    return f"(mut {type_name(kind.val)})" if kind.mutable else type_name(kind.val)


# --- instructions ------------------------------------------------------------------------------------------


def _block(block: BlockType) -> str:
    if block is None:
        return ""
    return f" (type {block})" if isinstance(block, int) else f" (result {type_name(block)})"


def _catch(clause: Catch) -> str:
    tag = "" if clause.tag is None else f" {clause.tag}"
    return f" ({clause.kind}{tag} {clause.label})"


def _memarg(arg: MemArg) -> str:
    memory = f" {arg.memory}" if arg.memory else ""
    offset = f" offset={arg.offset}" if arg.offset else ""
    # An alignment of 2**32 and more has no text, but no valid module has it either.
    return f"{memory}{offset} align={1 << arg.align}"


def _float(bits: int, width: int) -> str:
    """Raw bits of a float of 4 or 8 bytes as a literal that keeps them all."""
    fraction = 23 if width == 4 else 52
    sign = "-" if bits >> (8 * width - 1) else ""
    payload = bits & ((1 << fraction) - 1)
    if (bits >> fraction) & ((1 << (8 * width - 1 - fraction)) - 1) == (1 << (8 * width - 1 - fraction)) - 1:
        return f"{sign}nan:{payload:#x}" if payload else f"{sign}inf"
    value: float = struct.unpack("<f" if width == 4 else "<d", bits.to_bytes(width, "little"))[0]
    return value.hex()


def _v128(data: bytes) -> str:
    words = struct.unpack("<4I", data)
    return " i32x4 " + " ".join(f"{word:#010x}" for word in words)


def _table_first(imm: tuple[int, int]) -> str:
    """`table.init` and `memory.init` name the segment last in text, first in bytes."""
    return f" {imm[1]} {imm[0]}"


_IMMEDIATES: Final[Mapping[Imm, Callable[[Any], str]]] = {
    Imm.NONE: lambda imm: "",
    Imm.BLOCK: _block,
    Imm.LABELS: lambda imm: "".join(f" {label}" for label in (*imm[0], imm[1])),
    Imm.TYPE_TABLE: lambda imm: f" {imm[1]} (type {imm[0]})",
    Imm.TRY_TABLE: lambda imm: _block(imm[0]) + "".join(map(_catch, imm[1])),
    Imm.TYPES: lambda imm: f" (result{''.join(' ' + type_name(kind) for kind in imm)})",
    Imm.TABLE_INIT: _table_first,
    Imm.MEMORY_INIT: _table_first,
    Imm.TABLE_COPY: lambda imm: f" {imm[0]} {imm[1]}",
    Imm.MEMORY_COPY: lambda imm: f" {imm[0]} {imm[1]}",
    Imm.MEMARG: _memarg,
    Imm.MEMARG_LANE: lambda imm: f"{_memarg(imm[0])} {imm[1]}",
    Imm.F32: lambda imm: " " + _float(imm, 4),
    Imm.F64: lambda imm: " " + _float(imm, 8),
    Imm.V128: _v128,
    Imm.SHUFFLE: lambda imm: "".join(f" {lane}" for lane in imm),
}


def instruction_text(instr: Instr) -> str:
    """One instruction, without its nesting: `i32.load offset=8 align=4`."""
    row = op.TABLE[instr.code]
    write = _IMMEDIATES.get(row.imm)
    return row.mnemonic + (f" {instr.imm}" if write is None else write(instr.imm))


def _expr(expr: Expr) -> str:
    """A constant expression on one line, without its final `end`."""
    return " ".join(map(instruction_text, expr[:-1]))


# --- functions ---------------------------------------------------------------------------------------------


def _comment(name: str | None) -> str:
    """A name as a comment; nothing in it can end the comment."""
    if name is None:
        return ""
    return " ;; " + "".join(c if c.isprintable() else "?" for c in name[:200])


def _function_lines(
    module: Module, index: int, func: Func, names: Names, table: Sequence[str | None] = ()
) -> Iterator[str]:
    known = 0 <= func.type < len(module.types)
    kind = _signature(module.types[func.type]) if known else ""
    yield f"  (func (;{index};) (type {func.type}){kind}{_comment(names.function(index))}"
    if func.locals:
        yield f"    (local {' '.join(map(type_name, func.locals))})"
    depth = 2
    before: Instr | None = None
    for instr in func.body[:-1]:
        if instr.code in (op.END, op.ELSE):
            depth -= 1
        called = _comment(_called(instr, names) or _called_through(instr, before, table))
        before = instr
        yield "  " * min(depth, _DEEPEST) + instruction_text(instr) + called
        if instr.code in _OPEN or instr.code == op.ELSE:
            depth += 1
    yield "  )"


def _called(instr: Instr, names: Names) -> str | None:
    if instr.code in (op.CALL, op.RETURN_CALL, op.REF_FUNC) and isinstance(instr.imm, int):
        return names.function(instr.imm)
    return None


def _called_through(instr: Instr, before: Instr | None, table: Sequence[str | None]) -> str | None:
    """The name of what is called through table 0 at a constant place."""
    if before is None or before.code != op.I32_CONST or instr.code not in (op.CALL_INDIRECT, op.RETURN_CALL_INDIRECT):
        return None
    return table[before.imm] if instr.imm[1] == 0 and 0 <= before.imm < len(table) else None


def print_function(module: Module, index: int, names: Names | None = None, table: Sequence[str | None] = ()) -> str:
    """The defined function `index` (counted in the whole index space). Raises `IndexError` when there is
    none. `table`: names of the functions in table 0.
    """
    place = index - module.imported("func")
    if place < 0:
        raise IndexError(f"function {index} is imported")
    found = module_names(module) if names is None else names
    return "\n".join(_function_lines(module, index, module.funcs[place], found, table)) + "\n"


# --- modules -----------------------------------------------------------------------------------------------


def _extern(desc: ExternType, index: int) -> str:
    if isinstance(desc, ImportFunc):
        return f"(func (;{index};) (type {desc.type}))"
    if isinstance(desc, TableType):
        return f"(table (;{index};) {_table_type(desc)})"
    if isinstance(desc, MemType):
        return f"(memory (;{index};) {_mem_type(desc)})"
    if isinstance(desc, GlobalType):
        return f"(global (;{index};) {_global_type(desc)})"
    return f"(tag (;{index};) (type {desc.type}))"


def _imports(module: Module, names: Names) -> Iterator[str]:
    counts: dict[str, int] = {}
    for entry in module.imports:
        index = counts.get(entry.kind, 0)
        counts[entry.kind] = index + 1
        named = _comment(names.function(index)) if entry.kind == "func" else ""
        where = f"{quoted(entry.module.encode())} {quoted(entry.name.encode())}"
        yield f"  (import {where} {_extern(entry.desc, index)}){named}"


def _table(table: Table) -> str:
    return _table_type(table.type) + ("" if table.init is None else f" {_expr(table.init)}")


def _elem(elem: Elem, index: int) -> str:
    mode = " declare" if elem.mode == "declarative" else ""
    if elem.mode == "active" and elem.offset is not None:
        mode = f" (table {elem.table}) (offset {_expr(elem.offset)})"
    if elem.type == FUNC and all(len(item) == 2 and item[0].code == op.REF_FUNC for item in elem.items):
        items = "func" + "".join(f" {item[0].imm}" for item in elem.items)
    else:
        items = type_name(elem.type) + "".join(f" (item {_expr(item)})" for item in elem.items)
    return f"  (elem (;{index};){mode} {items})"


def _data(data: Data, index: int) -> str:
    mode = ""
    if data.mode == "active" and data.offset is not None:
        mode = f" (memory {data.memory}) (offset {_expr(data.offset)})"
    return f"  (data (;{index};){mode} {quoted(data.bytes)})"


def _defined(word: str, first: int, entries: Iterable[str]) -> Iterator[str]:
    for index, entry in enumerate(entries, first):
        yield f"  ({word} (;{index};) {entry})"


def module_lines(module: Module) -> Iterator[str]:
    """The lines of `print_module`, one at a time, so that a large module need not be in memory as text."""
    names = module_names(module)
    yield f"(module{_comment(names.module)}"
    yield from _defined("type", 0, (f"(func{_signature(kind)})" for kind in module.types))
    yield from _imports(module, names)
    yield from _defined("table", module.imported("table"), map(_table, module.tables))
    yield from _defined("memory", module.imported("memory"), map(_mem_type, module.mems))
    yield from _defined("tag", module.imported("tag"), (f"(type {tag.type})" for tag in module.tags))
    inits = (f"{_global_type(entry.type)} {_expr(entry.init)}" for entry in module.globals)
    yield from _defined("global", module.imported("global"), inits)
    for export in module.exports:
        yield f"  (export {quoted(export.name.encode())} ({export.kind} {export.index}))"
    if module.start is not None:
        yield f"  (start {module.start})"
    for index, elem in enumerate(module.elems):
        yield _elem(elem, index)
    for index, func in enumerate(module.funcs, module.imported("func")):
        yield from _function_lines(module, index, func, names)
    for index, data in enumerate(module.datas):
        yield _data(data, index)
    for custom in module.customs:
        yield f"  ;; custom section {quoted(custom.name.encode())}: {len(custom.data)} bytes"
    yield ")"


def print_module(module: Module) -> str:
    """The whole module as text."""
    return "\n".join(module_lines(module)) + "\n"
