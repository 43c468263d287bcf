"""Adds the limits that a station needs (time, memory, tables) for an engine that has no means of its own.

A copy of the module is changed just before it is compiled. Every loop turn and every function entry takes
one from a counter, and when that reaches zero a host function is called, which may stop the agent;
`memory.grow` and `table.grow` first check a ceiling. Floats in exported globals also get accessors that
keep their bits. Engines with epochs and limiters do not need this. Why: docs/adr/metering-for-wasmer.

The image keeps its own code and digest; what is compiled here concerns nobody else. Invariant: an
agent that stays within its limits computes the same as without the change.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from agents.wasm import opcodes as op
from agents.wasm.syntax import (
    F32,
    F64,
    I32,
    I64,
    Custom,
    Elem,
    Export,
    Expr,
    Func,
    FuncType,
    Global,
    GlobalType,
    Import,
    ImportFunc,
    Instr,
    Module,
    NumType,
    ValType,
)

METER_VERSION = 1  # of the added code; part of the key of the compiled code
TURNS_PER_TICK = 50_000  # loop turns and calls between two checks of the clock: some ten microseconds at least
TICK_IMPORT = ("portcall.meter", "tick")  # the imported function
CEILING_EXPORT = "portcall.meter.ceiling"  # exported global: the most pages of a memory
ELEMENTS_EXPORT = "portcall.meter.elements"  # exported global: the most elements of a table
_END = Instr(op.END)
_NAMES_FUNCTION = frozenset((op.CALL, op.RETURN_CALL, op.REF_FUNC))


def bits_get(name: str) -> str:
    """The export that returns the bits of the float global exported as `name`."""
    return f"portcall.meter.get.{name}"


def bits_set(name: str) -> str:
    """The export that sets them."""
    return f"portcall.meter.set.{name}"


def meter(module: Module, *, turns: bool, accessors: bool = True) -> Module:
    """The changed copy. Without `turns`, time is not limited, at no cost while it runs.

    accessors: of exported float globals; False for a module that has them already
    """
    return _Metering(module).module(turns, accessors)


class _Metering:
    """One module being changed. The new import comes last, so the indices of later functions move up by one."""

    def __init__(self, module: Module) -> None:
        self.old = module
        self.tick = module.imported("func")
        self.types = list(module.types)
        self.globals = list(module.globals)
        self.added: list[Func] = []
        self.exports = [attrs.evolve(e, index=self._moved(e.index)) if e.kind == "func" else e for e in module.exports]
        self.instrs: dict[Instr, Instr] = {}

    def module(self, turns: bool, accessors: bool) -> Module:
        old = self.old
        nothing = self._type((), ())
        tick = Import(*TICK_IMPORT, ImportFunc(nothing))
        ceiling = self._global(I32, 0, CEILING_EXPORT)
        elements = self._global(I32, 0, ELEMENTS_EXPORT)
        fuel = self._global(I64, TURNS_PER_TICK, None)
        self.first_added = self.tick + 1 + len(old.funcs)
        spend = self._spend(fuel, nothing)
        for index, memory in enumerate(old.mem_types):
            address = I64 if memory.addr64 else I32
            self._grow(op.MEMORY_GROW, op.MEMORY_SIZE, index, (address,), address, ceiling)
        for index, table in enumerate(old.table_types):
            address = I64 if table.addr64 else I32
            self._grow(op.TABLE_GROW, op.TABLE_SIZE, index, (table.elem, address), address, elements)
        if accessors:
            self._float_accessors()
        funcs = [self._func(func, spend if turns else ()) for func in old.funcs]
        return attrs.evolve(
            old,
            types=tuple(self.types),
            imports=(*old.imports, tick),
            funcs=(*funcs, *self.added),
            tables=tuple(
                attrs.evolve(table, init=None if table.init is None else self._expr(table.init)) for table in old.tables
            ),
            globals=tuple(attrs.evolve(each, init=self._expr(each.init)) for each in self.globals),
            exports=tuple(self.exports),
            start=None if old.start is None else self._moved(old.start),
            elems=tuple(map(self._elem, old.elems)),
            customs=tuple(custom for custom in old.customs if _harmless(custom)),
            source=None,
            offsets={},
        )

    def _moved(self, index: int) -> int:
        return index + 1 if index >= self.tick else index

    def _type(self, params: Iterable[ValType], results: Iterable[ValType]) -> int:
        wanted = FuncType(tuple(params), tuple(results))
        if wanted not in self.types:
            self.types.append(wanted)
        return self.types.index(wanted)

    def _global(self, kind: NumType, value: int, export: str | None) -> int:
        index = self.old.imported("global") + len(self.globals)
        constant = Instr(op.I32_CONST if kind is I32 else op.I64_CONST, value)
        self.globals.append(Global(GlobalType(kind, True), (constant, _END)))
        if export is not None:
            self.exports.append(Export(export, "global", index))
        return index

    def _add(self, params: Iterable[ValType], results: Iterable[ValType], body: Iterable[Instr]) -> int:
        self.added.append(Func(self._type(params, results), (), (*body, _END)))
        return self.first_added + len(self.added) - 1

    def _spend(self, fuel: int, nothing: int) -> tuple[Instr, ...]:
        """The code at each loop head and function entry."""
        refill = self._add(
            (), (), [Instr(op.CALL, self.tick), Instr(op.I64_CONST, TURNS_PER_TICK), Instr(op.GLOBAL_SET, fuel)]
        )
        return (
            *(Instr(op.GLOBAL_GET, fuel), Instr(op.I64_EQZ), Instr(op.IF, None), Instr(op.CALL, refill), _END),
            *(Instr(op.GLOBAL_GET, fuel), Instr(op.I64_CONST, 1), Instr(op.I64_SUB), Instr(op.GLOBAL_SET, fuel)),
        )

    def _grow(
        self, code: int, size: int, index: int, params: tuple[ValType, ...], address: NumType, ceiling: int
    ) -> None:
        """A function that does what `code` does, if the ceiling allows it."""
        last = len(params) - 1
        wide = [] if address is I64 else [Instr(op.I64_EXTEND_I32_U)]
        # current size + more > ceiling, in 64 bits; more is below 2**63, or the engine itself refuses it
        body = [Instr(size, index), *wide, Instr(op.LOCAL_GET, last), *wide, Instr(op.I64_ADD)]
        body += [Instr(op.GLOBAL_GET, ceiling), Instr(op.I64_EXTEND_I32_U), Instr(op.I64_GT_U)]
        minus = Instr(op.I64_CONST if address is I64 else op.I32_CONST, -1)
        body += [Instr(op.IF, None), minus, Instr(op.RETURN), _END]
        body += [Instr(op.LOCAL_GET, each) for each in range(len(params))]
        body += [Instr(code, index)]
        # `self._func` replaces the instruction itself in the agent's code by a call of this function.
        self.instrs[Instr(code, index)] = Instr(op.CALL, self._add(params, (address,), body))

    def _float_accessors(self) -> None:
        kinds = self.old.global_types
        for export in self.old.exports:
            if export.kind != "global" or not kinds[export.index].mutable:
                continue
            kind = kinds[export.index].val
            if kind not in (F32, F64):
                continue
            bits = I32 if kind is F32 else I64
            there = Instr(op.I32_REINTERPRET_F32 if kind is F32 else op.I64_REINTERPRET_F64)
            back = Instr(op.F32_REINTERPRET_I32 if kind is F32 else op.F64_REINTERPRET_I64)
            get = self._add((), (bits,), [Instr(op.GLOBAL_GET, export.index), there])
            put = self._add((bits,), (), [Instr(op.LOCAL_GET, 0), back, Instr(op.GLOBAL_SET, export.index)])
            self.exports += [
                Export(bits_get(export.name), "func", get),
                Export(bits_set(export.name), "func", put),
            ]

    def _func(self, func: Func, spend: tuple[Instr, ...]) -> Func:
        body: list[Instr] = [*spend]
        for instr in func.body:
            body.append(self._instr(instr))
            if instr.code == op.LOOP:
                body += spend
        return attrs.evolve(func, body=tuple(body), offset=None)

    def _instr(self, instr: Instr) -> Instr:
        found = self.instrs.get(instr)
        if found is None:
            found = instr
            if instr.code in _NAMES_FUNCTION:
                assert isinstance(instr.imm, int)
                found = Instr(instr.code, self._moved(instr.imm))
            self.instrs[instr] = found
        return found

    def _expr(self, expr: Expr) -> Expr:
        return tuple(map(self._instr, expr))

    def _elem(self, elem: Elem) -> Elem:
        return attrs.evolve(elem, items=tuple(map(self._expr, elem.items)))


def _harmless(custom: Custom) -> bool:
    """Whether the section names no functions by index."""
    return custom.name not in ("name", "portcall", "portcall.resume") and not custom.name.startswith("metadata.code.")
