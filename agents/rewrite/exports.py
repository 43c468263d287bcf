"""Exposes a module's state under reserved names, so that the host can capture and restore it.

Also: the start function becomes an export, since it runs once per agent and not once per instance; a private global
records each passive segment that the program drops, so that it is dropped again after a restore.

Refused, by name: state that a host would share with the agent and that could not travel (imported memories, tables and
mutable globals), and mutable globals and changed tables that hold exceptions.
"""

from __future__ import annotations

import attrs

from agents.errors import UnsupportedFeature
from agents.rewrite.additions import END_INSTR, Additions
from agents.wasm import opcodes as op
from agents.wasm.syntax import (
    I32,
    Elem,
    Export,
    Func,
    Global,
    GlobalType,
    Import,
    Instr,
    MemType,
    Module,
    RefType,
    TableType,
    ValType,
)

EXPORT_PREFIX = "portcall."

_DROPS = frozenset((op.DATA_DROP, op.ELEM_DROP))
_TABLE_WRITES = frozenset((op.TABLE_SET, op.TABLE_GROW, op.TABLE_FILL))


def refuse_shared_state(module: Module) -> None:
    """Raises UnsupportedFeature for state that the agent could not take with it."""
    for item in module.imports:
        if isinstance(item.desc, MemType | TableType) or (isinstance(item.desc, GlobalType) and item.desc.mutable):
            raise UnsupportedFeature(f"{_kind(item)} ({item.module}.{item.name})")
    for export in module.exports:
        if export.name.startswith(EXPORT_PREFIX):
            raise UnsupportedFeature(f"an export with a reserved name ({export.name})")
    for index in mutable_globals(module):
        valtype = module.global_types[index].val
        if isinstance(valtype, RefType) and valtype.heap in ("exn", "noexn"):
            raise UnsupportedFeature(f"a mutable global that holds exceptions (global {index})")
    for index in changed_tables(module):
        if module.table_types[index].elem.heap in ("exn", "noexn"):
            raise UnsupportedFeature(f"a table of exceptions that the module changes (table {index})")


def _kind(item: Import) -> str:
    if isinstance(item.desc, MemType):
        return "an imported memory"
    return "an imported table" if isinstance(item.desc, TableType) else "an imported mutable global"


def mutable_globals(module: Module) -> tuple[int, ...]:
    """Indices of the globals that are state."""
    return tuple(index for index, globaltype in enumerate(module.global_types) if globaltype.mutable)


def changed_tables(module: Module) -> tuple[int, ...]:
    """Indices of the tables that the module writes to."""
    changed: set[int] = set()
    for func in module.funcs:
        for instr in func.body:
            if instr.code in _TABLE_WRITES:
                changed.add(instr.imm)
            elif instr.code == op.TABLE_COPY:
                changed.add(instr.imm[0])
            elif instr.code == op.TABLE_INIT:
                changed.add(instr.imm[1])
    return tuple(sorted(changed))


def mark_drops(module: Module) -> tuple[Module, list[tuple[int, Instr]]]:
    """Let each ``data.drop`` and ``elem.drop`` set a global: the new module, and (global, instruction) pairs."""
    marks: dict[Instr, int] = {}
    funcs: list[Func] = []
    for func in module.funcs:
        if not any(instr.code in _DROPS for instr in func.body):
            funcs.append(func)
            continue
        body: list[Instr] = []
        for instr in func.body:
            body.append(instr)
            if instr.code in _DROPS:
                mark = marks.setdefault(instr, len(module.global_types) + len(marks))
                body += [Instr(op.I32_CONST, 1), Instr(op.GLOBAL_SET, mark)]
        funcs.append(attrs.evolve(func, body=tuple(body), offset=None))
    if not marks:
        return module, []
    unset = Global(GlobalType(I32, True), (Instr(op.I32_CONST, 0), END_INSTR))
    marked = attrs.evolve(module, funcs=tuple(funcs), globals=module.globals + (unset,) * len(marks))
    return marked, [(index, instr) for instr, index in marks.items()]


def redrop(additions: Additions, marks: list[tuple[int, Instr]]) -> int:
    """``portcall.drop``: drop again what the program had dropped."""

    def build() -> tuple[list[ValType], list[Instr]]:
        instr = additions.instr
        body: list[Instr] = []
        for index, drop in marks:
            body += [instr(op.GLOBAL_GET, index), instr(op.IF, None), drop, END_INSTR]
        return [], body

    return additions.helper("portcall.drop", (), (), build)


def function_elements(functions: tuple[int, ...], table: int, additions: Additions) -> Elem:
    """An active segment that fills ``table`` with ``functions`` from 0."""
    items = tuple((additions.instr(op.REF_FUNC, index), END_INSTR) for index in functions)
    offset = (additions.instr(op.I32_CONST, 0), END_INSTR)
    return Elem("active", table, offset, RefType(False, "func"), items)


def state_exports(module: Module, global_indices: tuple[int, ...], tables: tuple[int, ...]) -> list[Export]:
    """Exports of all mutable globals, all memories and the changed tables."""
    exports = [Export(f"{EXPORT_PREFIX}global.{index}", "global", index) for index in global_indices]
    exports += [Export(f"{EXPORT_PREFIX}memory.{index}", "memory", index) for index in range(len(module.mem_types))]
    exports += [Export(f"{EXPORT_PREFIX}table.{index}", "table", index) for index in tables]
    return exports
