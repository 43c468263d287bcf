"""What validating a function needs to know of its module (WebAssembly 3.0, section 3.1.6, Contexts),
and the stack types of all instructions that depend on the module but not on their position.

Invariant: `effect_of` has checked every index and immediate of an instruction for which it returns an effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from . import opcodes as op
from .bounds import ModuleBounds
from .matching import Canonical, UnknownType, matches, type_name
from .opcodes import Imm
from .syntax import (
    F32,
    F64,
    I32,
    I64,
    V128,
    BlockType,
    Func,
    FuncType,
    GlobalType,
    Instr,
    MemArg,
    MemType,
    Module,
    RefType,
    TableType,
    ValType,
)

TYPE_LETTERS: Final[Mapping[str, ValType]] = {"i": I32, "I": I64, "f": F32, "F": F64, "v": V128}

Effect = tuple[int, list[ValType], list[ValType]]
"""How many operands an instruction pops, their types bottom first, and the types it pushes."""


class Wrong(Exception):
    """What is invalid, without the position; a caller that knows the position raises `InvalidModule`."""


def effect(params: Sequence[ValType], results: Sequence[ValType]) -> Effect:
    """An effect from parameters to results."""
    return len(params), list(params), list(results)


FIXED: Final[dict[int, Effect]] = {
    row.code: effect([TYPE_LETTERS[c] for c in row.params], [TYPE_LETTERS[c] for c in row.results or ""])
    for row in op.TABLE.values()
    if row.params is not None
    and row.imm in (Imm.NONE, Imm.I32, Imm.I64, Imm.F32, Imm.F64, Imm.V128)
    and "a" not in row.params
}
"""Effects of the instructions that are valid whatever the module and the immediate."""

_FEW_RESULTS: Final = 4
_FEW_PARAMS: Final = 16


class Context:
    """One module's index spaces with canonical types. `effects` grows while functions are validated."""

    def __init__(self, module: Module, types: Canonical, bounds: ModuleBounds) -> None:
        self.module = module
        self.canonical = types
        self.bounds = bounds
        self.moves = 0
        self.types = types.types
        self.funcs = tuple([self._defined(index) for index in module.func_type_indices])
        self.tables = tuple([self.table_type(kind) for kind in module.table_types])
        self.mems: tuple[MemType, ...] = module.mem_types
        self.globals = tuple([GlobalType(self.val_type(g.val), g.mutable) for g in module.global_types])
        self.tags = tuple([self._defined(tag.type) for tag in module.all_tags])
        self.elem_types = tuple([self.ref_type(elem.type) for elem in module.elems])
        self.declared = _declared(module)
        self.effects = _Effects(self)
        self._blocks: dict[BlockType, tuple[list[ValType], list[ValType]]] = {}

    # --- types, renumbered ---------------------------------------------------------------------------------

    def val_type(self, kind: ValType) -> ValType:
        """`kind` in canonical numbers. Raises `Wrong`."""
        try:
            return self.canonical.val_type(kind)
        except UnknownType as error:
            raise Wrong(f"unknown type {error.args[0]}") from None

    def ref_type(self, kind: RefType) -> RefType:
        """`kind` in canonical numbers. Raises `Wrong`."""
        found = self.val_type(kind)
        assert isinstance(found, RefType)  # val_type keeps the kind of type
        return found

    def table_type(self, kind: TableType) -> TableType:
        """`kind` in canonical numbers. Raises `Wrong`."""
        return TableType(self.ref_type(kind.elem), kind.limits, kind.addr64)

    def number(self, index: int) -> int:
        """The canonical number of the type definition `index`. Raises `Wrong`."""
        self._defined(index)
        return self.canonical.number[index]

    def locals_of(self, func: Func) -> list[ValType]:
        """Parameters and locals of a function, renumbered. Raises `Wrong`."""
        found = list(self._defined(func.type).params)
        kinds = func.locals
        if len(set(map(type, kinds)) - {type(I32), type(V128)}):
            found += [self.val_type(kind) for kind in kinds]
        else:
            found += kinds
        return found

    def block_type(self, block: BlockType) -> tuple[list[ValType], list[ValType]]:
        """Parameters and results of a block. Raises `Wrong`."""
        found = self._blocks.get(block)
        if found is None:
            if isinstance(block, int):
                kind = self._defined(block)
                found = list(kind.params), list(kind.results)
            else:
                found = [], [] if block is None else [self.val_type(block)]
            self._blocks[block] = found
        return found

    def moved(self, operands: int) -> None:
        """Count operands moved by an instruction that may move many. Raises `ModuleTooLarge`."""
        self.moves += operands
        if self.moves > self.bounds.moves:
            self.bounds.check("moves", self.moves, None)

    # --- index spaces --------------------------------------------------------------------------------------

    def _defined(self, index: int) -> FuncType:
        if not 0 <= index < len(self.types):
            raise Wrong(f"unknown type {index}")
        return self.types[index]

    def func(self, index: int) -> FuncType:
        """The type of a function. Raises `Wrong`."""
        if not 0 <= index < len(self.funcs):
            raise Wrong(f"unknown function {index}")
        return self.funcs[index]

    def table(self, index: int) -> TableType:
        """The type of a table. Raises `Wrong`."""
        if not 0 <= index < len(self.tables):
            raise Wrong(f"unknown table {index}")
        return self.tables[index]

    def mem(self, index: int) -> MemType:
        """The type of a memory. Raises `Wrong`."""
        if not 0 <= index < len(self.mems):
            raise Wrong(f"unknown memory {index}")
        return self.mems[index]

    def global_(self, index: int) -> GlobalType:
        """The type of a global. Raises `Wrong`."""
        if not 0 <= index < len(self.globals):
            raise Wrong(f"unknown global {index}")
        return self.globals[index]

    def tag(self, index: int) -> FuncType:
        """The type of a tag. Raises `Wrong`."""
        if not 0 <= index < len(self.tags):
            raise Wrong(f"unknown tag {index}")
        return self.tags[index]

    def elem(self, index: int) -> RefType:
        """The type of an element segment. Raises `Wrong`."""
        if not 0 <= index < len(self.elem_types):
            raise Wrong(f"unknown elem segment {index}")
        return self.elem_types[index]

    def data(self, index: int) -> None:
        """Check that a data segment exists. Raises `Wrong`."""
        if not 0 <= index < len(self.module.datas):
            raise Wrong(f"unknown data segment {index}")

    def ref_func(self, index: int) -> RefType:
        """The type of `ref.func index`. Raises `Wrong`."""
        self.func(index)
        return RefType(False, self.canonical.number[self.module.func_type_indices[index]])


def _declared(module: Module) -> frozenset[int]:
    """The functions named outside of function bodies: a body may make references only to those (3.4.14)."""
    expressions = [entry.init for entry in module.globals]
    expressions += [table.init for table in module.tables if table.init is not None]
    for elem in module.elems:
        expressions += elem.items
        if elem.offset is not None:
            expressions.append(elem.offset)
    expressions += [data.offset for data in module.datas if data.offset is not None]
    found = {export.index for export in module.exports if export.kind == "func"}
    for expression in expressions:
        for instr in expression:
            if instr.code == op.REF_FUNC and isinstance(instr.imm, int):
                found.add(instr.imm)
    return frozenset(found)


class _Effects(dict[Instr, "Effect | None"]):
    """Effects by instruction, computed when first seen. None: the effect is large, use `large_call`."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.context = context

    def __missing__(self, instr: Instr) -> Effect | None:
        found: Effect | None = effect_of(self.context, instr)
        if found is not None and (found[0] > _FEW_PARAMS or len(found[2]) > _FEW_RESULTS):
            found = None
        self[instr] = found
        return found


def effect_of(context: Context, instr: Instr) -> Effect:
    """The effect of an instruction whose type does not depend on its position. Raises `Wrong`."""
    row = op.TABLE.get(instr.code)
    if row is None:
        raise Wrong(f"unknown opcode {instr.code:#x}")
    imm: Any = instr.imm  # its type follows from row.imm
    if row.imm in (Imm.MEMARG, Imm.MEMARG_LANE):
        return _memory_access(context, row, imm)
    if row.params is not None and row.results is not None:
        return _checked(context, row, imm)
    match instr.code:
        case op.CALL:
            kind = context.func(imm)
            return effect(kind.params, kind.results)
        case op.CALL_INDIRECT:
            return indirect(context, imm)
        case op.CALL_REF:
            number = context.number(imm)
            kind = context.types[number]
            return effect([*kind.params, RefType(True, number)], kind.results)
        case op.REF_NULL:
            heap = context.number(imm) if isinstance(imm, int) else imm
            return effect([], [RefType(True, heap)])
        case op.REF_FUNC:
            found = context.ref_func(imm)
            if imm not in context.declared:
                raise Wrong(f"undeclared function reference {imm}")
            return effect([], [found])
        case op.GLOBAL_GET:
            return effect([], [context.global_(imm).val])
        case op.GLOBAL_SET:
            if not context.global_(imm).mutable:
                raise Wrong(f"global {imm} is immutable")
            return effect([context.global_(imm).val], [])
    return _bulk(context, instr.code, imm)


def indirect(context: Context, imm: tuple[int, int]) -> Effect:
    """The effect of `call_indirect`. Raises `Wrong`."""
    index, table = imm
    where = context.table(table)
    if not matches(where.elem, RefType(True, "func")):
        raise Wrong(f"type mismatch: table {table} does not hold functions")
    kind = context.types[context.number(index)]
    return effect([*kind.params, address(where.addr64)], kind.results)


def address(addr64: bool) -> ValType:
    """The address type of a memory or table."""
    return I64 if addr64 else I32


def _memory_access(context: Context, row: op.Op, imm: Any) -> Effect:
    """Loads and stores (3.4.10)."""
    arg: MemArg = imm if row.imm is Imm.MEMARG else imm[0]
    memory = context.mem(arg.memory)
    assert row.size is not None  # the table gives it for every load and store
    if arg.align > row.size:
        raise Wrong("alignment must not be larger than natural")
    if arg.offset >> 32 and not memory.addr64:
        raise Wrong("offset out of range")
    if row.imm is Imm.MEMARG_LANE:
        _lane(row, imm[1])
    return _from_letters(row, memory)


def _from_letters(row: op.Op, memory: MemType | None) -> Effect:
    letters = TYPE_LETTERS if memory is None else {**TYPE_LETTERS, "a": address(memory.addr64)}
    return effect([letters[c] for c in row.params or ""], [letters[c] for c in row.results or ""])


def _lane(row: op.Op, lane: int) -> None:
    if row.lanes is not None and not 0 <= lane < row.lanes:
        raise Wrong(f"invalid lane index {lane}")


def _checked(context: Context, row: op.Op, imm: Any) -> Effect:
    """Instructions with a stack type in the table and an immediate to check."""
    memory = None
    if row.imm is Imm.MEMORY:
        memory = context.mem(imm)
    elif row.imm is Imm.LANE:
        _lane(row, imm)
    elif row.imm is Imm.SHUFFLE:
        if len(imm) != 16 or max(imm) >= 32:
            raise Wrong("invalid lane index in a shuffle")
    elif row.imm is Imm.DATA:
        context.data(imm)
    elif row.imm is Imm.ELEM:
        context.elem(imm)
    return _from_letters(row, memory)


def _bulk(context: Context, code: int, imm: Any) -> Effect:
    """Tables and bulk memory (3.4.7, 3.4.10)."""
    match code:
        case op.TABLE_GET:
            table = context.table(imm)
            return effect([address(table.addr64)], [table.elem])
        case op.TABLE_SET:
            table = context.table(imm)
            return effect([address(table.addr64), table.elem], [])
        case op.TABLE_SIZE:
            return effect([], [address(context.table(imm).addr64)])
        case op.TABLE_GROW:
            table = context.table(imm)
            return effect([table.elem, address(table.addr64)], [address(table.addr64)])
        case op.TABLE_FILL:
            table = context.table(imm)
            return effect([address(table.addr64), table.elem, address(table.addr64)], [])
        case op.TABLE_INIT:
            table, segment = context.table(imm[1]), context.elem(imm[0])
            if not matches(segment, table.elem):
                raise Wrong(f"type mismatch: {type_name(segment)} into a table of {type_name(table.elem)}")
            return effect([address(table.addr64), I32, I32], [])
        case op.TABLE_COPY:
            to, source = context.table(imm[0]), context.table(imm[1])
            if not matches(source.elem, to.elem):
                raise Wrong(f"type mismatch: {type_name(source.elem)} into a table of {type_name(to.elem)}")
            return _copy(to.addr64, source.addr64)
        case op.MEMORY_INIT:
            memory = context.mem(imm[1])
            context.data(imm[0])
            return effect([address(memory.addr64), I32, I32], [])
        case op.MEMORY_COPY:
            return _copy(context.mem(imm[0]).addr64, context.mem(imm[1]).addr64)
    raise Wrong(f"{op.TABLE[code].mnemonic} is not allowed here")


def _copy(to64: bool, from64: bool) -> Effect:
    return effect([address(to64), address(from64), address(to64 and from64)], [])
