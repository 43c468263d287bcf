"""Validation of modules (WebAssembly 3.0, chapter 3): types, constant expressions, segments, imports,
exports.

Function bodies are in `check`, type matching in `matching`, index spaces in `context`.

Invariant: a module that passes is one that an engine with the same features accepts, and only
`InvalidModule` and `ModuleTooLarge` are raised, with the offset if the module was decoded from bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, TypeVar

from agents.errors import InvalidModule

from . import opcodes as op
from .bounds import ModuleBounds
from .check import check_function
from .context import FIXED, Context, Wrong, address
from .matching import UnknownType, canonical_types, defaultable, matches, type_name
from .syntax import (
    Data,
    Elem,
    Export,
    Expr,
    FuncType,
    Global,
    ImportFunc,
    MemType,
    Module,
    RefType,
    Table,
    TableType,
    Tag,
    TypeLimits,
    ValType,
)

T = TypeVar("T")

_CONSTANT: Final = frozenset(
    {
        op.I32_CONST, op.I64_CONST, op.F32_CONST, op.F64_CONST, op.V128_CONST, op.END,
        op.I32_ADD, op.I32_SUB, op.I32_MUL, op.I64_ADD, op.I64_SUB, op.I64_MUL,
        op.REF_NULL, op.REF_FUNC, op.GLOBAL_GET,
    }
)  # fmt: skip
"""The instructions of constant expressions (3.4.16), without those of garbage collection."""


def validate_module(module: Module, bounds: ModuleBounds = ModuleBounds()) -> None:  # noqa: B008 - Bounds is frozen
    """Raise `InvalidModule` (or `ModuleTooLarge`) unless `module` is valid."""
    context = validate_context(module, bounds)
    first = module.imported("func")
    for index in range(first, first + len(module.funcs)):
        check_function(context, index)


def validate_context(module: Module, bounds: ModuleBounds = ModuleBounds()) -> Context:  # noqa: B008 - Bounds is frozen
    """Validate everything but function bodies. Raises as `validate_module` does."""
    try:
        types = canonical_types(module.types)
    except UnknownType as error:
        index, at = error.args
        raise InvalidModule(f"unknown type {index}", _where(module, "types", at)) from None
    _declarations(module, _Types(len(types.types)))
    context = Context(module, types, bounds)
    _each(module, "globals", module.globals, lambda i, entry: _global(context, i, entry))
    _each(module, "tables", module.tables, lambda i, table: _table(context, table))
    _each(module, "elems", module.elems, lambda i, elem: _elem(context, i, elem))
    _each(module, "datas", module.datas, lambda i, data: _data(context, data))
    _exports(context, module.exports)
    if module.start is not None:
        _each(module, "start", [module.start], lambda i, start: _start(context, start))
    return context


def operand_types(context: Context, func_index: int, at: Collection[int]) -> dict[int, tuple[ValType, ...]]:
    """Validate the defined function `func_index` (counted in the whole index space).

    Returns, for each position in `at` whose instruction is reachable, the types of the operands of the
    innermost block just before it, bottom first (for `if`: condition included). Type indices in them are
    canonical: the first definition that is equal. Raises as `validate_module` does.
    """
    return check_function(context, func_index, at)


def _where(module: Module, field: str, index: int) -> int | None:
    """The offset of the `index`th entry of `field` in the bytes."""
    starts = module.offsets.get(field, ())
    return starts[index] if index < len(starts) else None


def _each(module: Module, field: str, entries: Iterable[T], check: Callable[[int, T], None]) -> None:
    """Check each entry; an error gets the offset of its entry."""
    for index, entry in enumerate(entries):
        try:
            check(index, entry)
        except Wrong as error:
            raise InvalidModule(f"{error} ({field} {index})", _where(module, field, index)) from None


# --- types (3.2) -------------------------------------------------------------------------------------------


class _Types:
    """Checks that types mention only defined types, before a context is made of them."""

    def __init__(self, defined: int) -> None:
        self.defined = defined

    def index(self, index: int) -> None:
        """Raises `Wrong`."""
        if not 0 <= index < self.defined:
            raise Wrong(f"unknown type {index}")

    def val_type(self, kind: ValType) -> None:
        """Raises `Wrong`."""
        if isinstance(kind, RefType) and isinstance(kind.heap, int):
            self.index(kind.heap)


def _declarations(module: Module, types: _Types) -> None:
    """Everything that declares a type: 3.2 and the types of 3.5."""
    _each(
        module,
        "imports",
        [entry.desc for entry in module.imports],
        lambda i, desc: _extern(module, types, desc),
    )
    _each(module, "declared", module.funcs, lambda i, func: types.index(func.type))
    _each(module, "tables", module.tables, lambda i, table: _table_type(types, table.type))
    _each(module, "mems", module.mems, lambda i, kind: _mem_type(kind))
    _each(module, "tags", module.tags, lambda i, tag: _tag(module, types, tag))
    _each(module, "globals", module.globals, lambda i, entry: types.val_type(entry.type.val))
    _each(module, "elems", module.elems, lambda i, elem: types.val_type(elem.type))


def _extern(module: Module, types: _Types, desc: object) -> None:
    if isinstance(desc, ImportFunc):
        types.index(desc.type)
    elif isinstance(desc, TableType):
        _table_type(types, desc)
    elif isinstance(desc, MemType):
        _mem_type(desc)
    elif isinstance(desc, Tag):
        _tag(module, types, desc)
    else:
        types.val_type(desc.val)  # type: ignore[attr-defined]  # the fifth kind, GlobalType


def _tag(module: Module, types: _Types, tag: Tag) -> None:
    types.index(tag.type)
    if module.types[tag.type].results:
        raise Wrong("non-empty tag result type")


def _limits(limits: TypeLimits, most: int, what: str) -> None:
    if limits.min > most or (limits.max is not None and limits.max > most):
        raise Wrong(f"{what} size must be at most {most}")
    if limits.max is not None and limits.max < limits.min:
        raise Wrong("size minimum must not be greater than maximum")


def _mem_type(kind: MemType) -> None:
    _limits(kind.limits, 1 << (48 if kind.addr64 else 16), "memory")


def _table_type(types: _Types, kind: TableType) -> None:
    types.val_type(kind.elem)
    _limits(kind.limits, (1 << (64 if kind.addr64 else 32)) - 1, "table")


# --- constant expressions (3.4.16) -------------------------------------------------------------------------


def _constant(context: Context, expr: Expr, want: ValType, globals_so_far: int) -> None:
    """Check that `expr` is constant, of type `want`, and names only the first globals. Raises `Wrong`."""
    stack: list[ValType] = []
    for place, instr in enumerate(expr):
        code = instr.code
        if code not in _CONSTANT:
            row = op.TABLE.get(code)
            raise Wrong(f"constant expression required, found {row.mnemonic if row else hex(code)}")
        if code == op.END:
            if place != len(expr) - 1:
                raise Wrong("instructions after the end of a constant expression")
            break
        if code == op.GLOBAL_GET:
            index = instr.imm
            assert isinstance(index, int)  # the immediate of global.get
            if index >= globals_so_far:
                raise Wrong(f"unknown global {index}")
            kind = context.global_(index)
            if kind.mutable:
                raise Wrong(f"constant expression required, but global {index} is mutable")
            stack.append(kind.val)
            continue
        effect = FIXED.get(code) or context.effects[instr]
        assert effect is not None  # none of these has a large one
        many, pops, pushes = effect
        if many and stack[-many:] != pops:
            raise Wrong("type mismatch in a constant expression")
        stack[len(stack) - many :] = pushes
    if len(stack) != 1 or not matches(stack[0], want):
        raise Wrong(f"type mismatch: a constant expression of type {type_name(want)} is needed")


# --- module fields (3.5) -----------------------------------------------------------------------------------


def _global(context: Context, index: int, entry: Global) -> None:
    before = context.module.imported("global") + index
    _constant(context, entry.init, context.val_type(entry.type.val), before)


def _table(context: Context, table: Table) -> None:
    elem = context.ref_type(table.type.elem)
    if table.init is not None:
        _constant(context, table.init, elem, context.module.imported("global"))
    elif not defaultable(elem):
        raise Wrong("type mismatch: a table of references that are never null needs an initialiser")


def _elem(context: Context, index: int, elem: Elem) -> None:
    kind = context.elem_types[index]
    every = len(context.globals)
    for item in elem.items:
        _constant(context, item, kind, every)
    if elem.mode == "active":
        assert elem.table is not None and elem.offset is not None  # noqa: PT018 - active segments have both
        table = context.table(elem.table)
        if not matches(kind, table.elem):
            raise Wrong(f"type mismatch: {type_name(kind)} into a table of {type_name(table.elem)}")
        _constant(context, elem.offset, address(table.addr64), every)


def _data(context: Context, data: Data) -> None:
    if data.mode == "active":
        assert data.memory is not None and data.offset is not None  # noqa: PT018 - active segments have both
        _constant(context, data.offset, address(context.mem(data.memory).addr64), len(context.globals))


def _start(context: Context, start: int) -> None:
    if context.func(start) != FuncType():
        raise Wrong("start function must take and give nothing")


def _exports(context: Context, exports: Sequence[Export]) -> None:
    spaces = {
        "func": len(context.funcs),
        "table": len(context.tables),
        "memory": len(context.mems),
        "global": len(context.globals),
        "tag": len(context.tags),
    }
    seen: set[str] = set()

    def check(_: int, export: Export) -> None:
        if not 0 <= export.index < spaces[export.kind]:
            raise Wrong(f"unknown {export.kind} {export.index}")
        if export.name in seen:
            raise Wrong(f"duplicate export name {export.name!r}")
        seen.add(export.name)

    _each(context.module, "exports", exports, check)
