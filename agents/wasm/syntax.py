"""The abstract syntax of a module, in the specification's words (WebAssembly 3.0, chapter 2).

Not the bytes (`decode`, `encode`), and no judgement: a value of these types need not be valid (`validate`).

Invariants:
- Everything is frozen, hashable and compares by value; offsets and the source bytes are remembered for
  error messages only and take no part in comparison.
- Instructions are a flat sequence, as in the binary format: `block`, `loop`, `if`, `try_table`, `else` and
  `end` are instructions like the others. Every expression, a function's body or a constant one, includes its
  final `end`.
- Integers in constants are signed; floats are raw bits, so that NaN payloads survive.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final, Literal

import attrs

# --- types (2.3) -------------------------------------------------------------------------------------------


class NumType(enum.Enum):
    """A number type. Its value is its name in the text format."""

    I32 = "i32"
    I64 = "i64"
    F32 = "f32"
    F64 = "f64"


class VecType(enum.Enum):
    """The vector type."""

    V128 = "v128"


AbsHeapType = Literal["func", "extern", "exn", "nofunc", "noextern", "noexn"]
HeapType = int | AbsHeapType  # an int is a type index


@attrs.frozen(cache_hash=True)
class RefType:
    """A reference to `heap`, perhaps null."""

    nullable: bool
    heap: HeapType


ValType = NumType | VecType | RefType

I32: Final = NumType.I32
I64: Final = NumType.I64
F32: Final = NumType.F32
F64: Final = NumType.F64
V128: Final = VecType.V128
FUNCREF: Final = RefType(True, "func")
EXTERNREF: Final = RefType(True, "extern")
EXNREF: Final = RefType(True, "exn")
FUNC: Final = RefType(False, "func")

BlockType = ValType | int | None  # no value, one result, or a type index


@attrs.frozen(cache_hash=True)
class FuncType:
    """A function type: what it takes and what it leaves."""

    params: tuple[ValType, ...] = ()
    results: tuple[ValType, ...] = ()


@attrs.frozen
class TypeLimits:
    """`min` and `max` in pages (memories) or entries (tables); `max` None means no limit of its own."""

    min: int
    max: int | None = None


@attrs.frozen
class MemType:
    """A memory; `addr64` when its addresses are i64 (memory64). Shared memories are refused by `decode`."""

    limits: TypeLimits
    addr64: bool = False


@attrs.frozen
class TableType:
    """A table of `elem`; `addr64` when its indices are i64."""

    elem: RefType
    limits: TypeLimits
    addr64: bool = False


@attrs.frozen
class GlobalType:
    """A global variable or constant."""

    val: ValType
    mutable: bool = False


@attrs.frozen
class Tag:
    """An exception tag whose payload is the parameters of function type `type` (an index)."""

    type: int


# --- instructions (2.4) ------------------------------------------------------------------------------------


@attrs.frozen(cache_hash=True)
class Instr:
    """One instruction: its opcode (`opcodes`) and its immediate.

    `code` is the opcode byte, or `prefix << 12 | sub` for prefixed ones. `imm` is, by `opcodes.Imm`: None; an
    int (index, lane, signed integer constant, raw float bits); `BlockType`; `MemArg`; `(MemArg, lane)`; 16
    bytes; `(labels, default)`; a tuple of value types; `(BlockType, catches)`; a heap type; or a pair of
    indices.
    """

    code: int
    imm: Any = None


Expr = tuple[Instr, ...]


@attrs.frozen(cache_hash=True)
class MemArg:
    """Where a load or store goes: `align` is log2 of the hint, `offset` is in bytes, `memory` an index."""

    align: int
    offset: int
    memory: int = 0


CatchKind = Literal["catch", "catch_ref", "catch_all", "catch_all_ref"]


@attrs.frozen(cache_hash=True)
class Catch:
    """A clause of `try_table`; `tag` is None for the two that catch all."""

    kind: CatchKind
    tag: int | None
    label: int


# --- modules (2.5) -----------------------------------------------------------------------------------------


@attrs.frozen
class ImportFunc:
    """An imported function of type `type` (an index)."""

    type: int


ExternType = ImportFunc | TableType | MemType | GlobalType | Tag
ExternKind = Literal["func", "table", "memory", "global", "tag"]

KIND_OF: Final[Mapping[type, ExternKind]] = {
    ImportFunc: "func",
    TableType: "table",
    MemType: "memory",
    GlobalType: "global",
    Tag: "tag",
}


@attrs.frozen
class Import:
    """`desc` imported as `module`.`name`."""

    module: str
    name: str
    desc: ExternType

    @property
    def kind(self) -> ExternKind:
        """Which index space it joins."""
        return KIND_OF[type(self.desc)]


@attrs.frozen
class Func:
    """A defined function: `type` is an index, `locals` are one type each, without the parameters.

    `offset` is where its body's first instruction lies in `Module.source`, None when it is not from bytes;
    `size` is how many bytes the body takes there.
    """

    type: int
    locals: tuple[ValType, ...]
    body: Expr
    offset: int | None = attrs.field(default=None, eq=False, repr=False)
    size: int = attrs.field(default=0, eq=False, repr=False)


@attrs.frozen
class Table:
    """A table and the constant expression that fills it; None means null."""

    type: TableType
    init: Expr | None = None


@attrs.frozen
class Global:
    """A global and its initial value, a constant expression."""

    type: GlobalType
    init: Expr


@attrs.frozen
class Export:
    """`name` for the `index`th of the index space `kind`."""

    name: str
    kind: ExternKind
    index: int


Mode = Literal["active", "passive", "declarative"]


@attrs.frozen
class Elem:
    """An element segment: `items` are constant expressions of type `type`.

    `table` and `offset` are None unless it is active. Its binary form with plain function indices has the
    type `FUNC` (not null), so with that type and only `ref.func` as items the encoder chooses that form.
    """

    mode: Mode
    table: int | None
    offset: Expr | None
    type: RefType
    items: tuple[Expr, ...]


@attrs.frozen
class Data:
    """A data segment; `memory` and `offset` are None unless it is active."""

    mode: Literal["active", "passive"]
    memory: int | None
    offset: Expr | None
    bytes: bytes = attrs.field(repr=False)


@attrs.frozen
class Custom:
    """A custom section; `after` is the id of the section that it followed, 0 at the start of the module."""

    name: str
    data: bytes = attrs.field(repr=False)
    after: int


@attrs.frozen
class Module:
    """A module. Index spaces count imports first, then definitions.

    `data_count` is the content of the data count section, None when there is none. `source` is what the
    module was decoded from and `offsets` where each field's entries begin in it; a made module has neither.
    """

    types: tuple[FuncType, ...] = ()
    imports: tuple[Import, ...] = ()
    funcs: tuple[Func, ...] = ()
    tables: tuple[Table, ...] = ()
    mems: tuple[MemType, ...] = ()
    tags: tuple[Tag, ...] = ()
    globals: tuple[Global, ...] = ()
    exports: tuple[Export, ...] = ()
    start: int | None = None
    elems: tuple[Elem, ...] = ()
    datas: tuple[Data, ...] = ()
    customs: tuple[Custom, ...] = ()
    data_count: int | None = None
    source: bytes | None = attrs.field(default=None, eq=False, repr=False)
    offsets: Mapping[str, tuple[int, ...]] = attrs.field(factory=dict, eq=False, repr=False)

    def imported(self, kind: ExternKind) -> int:
        """How many of the index space `kind` are imported."""
        return len(self._imported[kind])

    @cached_property
    def _imported(self) -> dict[ExternKind, tuple[ExternType, ...]]:
        found: dict[ExternKind, list[ExternType]] = {kind: [] for kind in KIND_OF.values()}
        for entry in self.imports:
            found[entry.kind].append(entry.desc)
        return {kind: tuple(descs) for kind, descs in found.items()}

    @cached_property
    def func_type_indices(self) -> tuple[int, ...]:
        """The type index of each function, imports first."""
        imports = tuple(desc.type for desc in self._imported["func"] if isinstance(desc, ImportFunc))
        return imports + tuple(func.type for func in self.funcs)

    def func_type(self, index: int) -> FuncType:
        """The type of function `index`. Raises `IndexError` when there is none."""
        return self.types[self.func_type_indices[index]]

    @cached_property
    def table_types(self) -> tuple[TableType, ...]:
        """The type of each table, imports first."""
        imports = tuple(desc for desc in self._imported["table"] if isinstance(desc, TableType))
        return imports + tuple(table.type for table in self.tables)

    @cached_property
    def mem_types(self) -> tuple[MemType, ...]:
        """The type of each memory, imports first."""
        return tuple(desc for desc in self._imported["memory"] if isinstance(desc, MemType)) + self.mems

    @cached_property
    def global_types(self) -> tuple[GlobalType, ...]:
        """The type of each global, imports first."""
        imports = tuple(desc for desc in self._imported["global"] if isinstance(desc, GlobalType))
        return imports + tuple(entry.type for entry in self.globals)

    @cached_property
    def all_tags(self) -> tuple[Tag, ...]:
        """Each tag, imports first."""
        return tuple(desc for desc in self._imported["tag"] if isinstance(desc, Tag)) + self.tags

    @cached_property
    def exports_by_name(self) -> Mapping[str, Export]:
        """The exports by their names."""
        return {export.name: export for export in self.exports}

    def custom(self, name: str) -> bytes | None:
        """The content of the first custom section called `name`, None when there is none."""
        return next((custom.data for custom in self.customs if custom.name == name), None)
