"""Bytes to `Module` (WebAssembly 3.0, chapter 5, Binary Format).

It checks the grammar, but neither types nor index spaces: that is `validate`. `encode` writes back
whatever it accepts as an equal module.

Invariants: only `MalformedModule`, `UnsupportedFeature` and `ModuleTooLarge` are raised, each with an offset;
a count is compared with the remaining bytes and with `ModuleBounds` before anything is allocated for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, TypeVar

from agents.errors import MalformedModule, UnsupportedFeature

from . import opcodes as op
from .bounds import ModuleBounds
from .expressions import Expressions, instruction_starts
from .reader import Reader
from .syntax import (
    FUNC,
    FUNCREF,
    Custom,
    Data,
    Elem,
    Export,
    Expr,
    ExternKind,
    ExternType,
    Func,
    FuncType,
    Global,
    Import,
    ImportFunc,
    MemType,
    Module,
    RefType,
    Table,
    Tag,
    ValType,
)

T = TypeVar("T")

WASM_MAGIC: Final = b"\0asm"
WASM_VERSION: Final = b"\1\0\0\0"

CUSTOM, TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, CODE, DATA, DATA_COUNT, TAG = range(14)
ORDER: Final = (
    TYPE,
    IMPORT,
    FUNCTION,
    TABLE,
    MEMORY,
    TAG,
    GLOBAL,
    EXPORT,
    START,
    ELEMENT,
    DATA_COUNT,
    CODE,
    DATA,
)
"""Section ids in the order in which the sections come (5.5.17)."""
IMPORT_KINDS: Final[tuple[ExternKind, ...]] = ("func", "table", "memory", "global", "tag")

_PLACE: Final = {section: place for place, section in enumerate(ORDER)}


def sections(data: bytes) -> Iterator[tuple[int, int, memoryview]]:
    """Each section's id, the offset of its content, and the content, which is not parsed.

    Raises `MalformedModule` or `UnsupportedFeature` for a wrong preamble, order or size.
    """
    _preamble(data)
    r = Reader(data, 8)
    view = memoryview(data)
    last = -1
    while r.position < r.end:
        start = r.position
        section = r.byte()
        if section not in _PLACE and section != CUSTOM:
            raise r.malformed("malformed section id", start)
        if section != CUSTOM:
            if _PLACE[section] <= last:
                raise r.malformed("unexpected content: a section twice or out of order", start)
            last = _PLACE[section]
        size = r.u32()
        if size > r.end - r.position:
            raise r.malformed("length out of bounds: a section is longer than the module", start)
        yield section, r.position, view[r.position : r.position + size]
        r.position += size


def _preamble(data: bytes) -> None:
    if data[:4] != WASM_MAGIC:
        raise MalformedModule("magic header not detected", 0)
    if len(data) >= 8 and data[6:8] == b"\1\0":
        raise UnsupportedFeature("component model", None, 4)
    if data[4:8] != WASM_VERSION:
        raise MalformedModule("unknown binary version", 4)


def custom_section(data: bytes, name: str) -> bytes | None:
    """The content of the first custom section called `name`; None if there is none.

    Raises `MalformedModule` for errors on the way to it.
    """
    for section, offset, payload in sections(data):
        if section == CUSTOM:
            r = Reader(data, offset, offset + len(payload))
            if r.name() == name:
                return r.take(r.end - r.position)
    return None


def decode_module(data: bytes, bounds: ModuleBounds = ModuleBounds()) -> Module:  # noqa: B008 - Bounds is frozen
    """The module that `data` encodes.

    Raises `MalformedModule`, `UnsupportedFeature` or `ModuleTooLarge`, each with the offset.
    """
    bounds.check("module", len(data), 0)
    return _Decoder(bytes(data), bounds).module()


def decode_sections(data: bytes, *wanted: int) -> Module:
    """The module as if it had only the sections with the ids `wanted`; the others are not read.

    Raises as `decode_module`.
    """
    return _Decoder(bytes(data), ModuleBounds()).module(wanted)


def instruction_offsets(module: Module, function: int) -> list[int] | None:
    """The offset in `module.source` of each instruction of the defined function `function` (an index in the
    whole index space); None for a function that was not decoded.
    """
    func = module.funcs[function - module.imported("func")]
    if module.source is None or func.offset is None:
        return None
    return instruction_starts(module.source, func.offset, func.offset + func.size, len(func.body))


class _Decoder:
    """Collects the sections of one module. Used once."""

    def __init__(self, data: bytes, bounds: ModuleBounds) -> None:
        self.data = data
        self.bounds = bounds
        self.expressions = Expressions(data, bounds)
        self.offsets: dict[str, tuple[int, ...]] = {}
        self.types: tuple[FuncType, ...] = ()
        self.imports: tuple[Import, ...] = ()
        self.declared: tuple[int, ...] = ()
        self.tables: tuple[Table, ...] = ()
        self.mems: tuple[MemType, ...] = ()
        self.tags: tuple[Tag, ...] = ()
        self.globals: tuple[Global, ...] = ()
        self.exports: tuple[Export, ...] = ()
        self.start: int | None = None
        self.elems: tuple[Elem, ...] = ()
        self.data_count: int | None = None
        self.funcs: tuple[Func, ...] = ()
        self.datas: tuple[Data, ...] = ()
        self.customs: list[Custom] = []
        self.locals_seen: dict[bytes, tuple[ValType, ...]] = {}
        self.locals_total = 0
        self.items_total = 0
        self.type_entries = 0

    def module(self, wanted: Collection[int] = ORDER) -> Module:
        """Read everything, or the sections with the ids `wanted`, without a custom section."""
        after = 0
        for section, offset, payload in sections(self.data):
            r = Reader(self.data, offset, offset + len(payload))
            if section == CUSTOM:
                if wanted is ORDER:
                    self.custom(r, after)
                continue
            if section not in wanted:
                continue
            after = section
            _SECTIONS[section](self, r)
            if r.position != r.end:
                raise r.malformed("section size mismatch: bytes after the end of the section")
        end = len(self.data)
        if len(self.declared) != len(self.funcs):
            raise MalformedModule("function and code section have inconsistent lengths", end)
        if self.data_count is not None and self.data_count != len(self.datas):
            raise MalformedModule("data count and data section have inconsistent lengths", end)
        made = Module(
            self.types,
            self.imports,
            self.funcs,
            self.tables,
            self.mems,
            self.tags,
            self.globals,
            self.exports,
            self.start,
            self.elems,
            self.datas,
            tuple(self.customs),
            self.data_count,
            self.data,
            self.offsets,
        )
        if self.data_count is None:
            self.require_data_count(made)
        return made

    def require_data_count(self, module: Module) -> None:
        """Refuse data segments named in code when no count came before the code (5.5.14)."""
        if not self.expressions.uses(op.MEMORY_INIT, op.DATA_DROP):
            return
        for index, func in enumerate(module.funcs, module.imported("func")):
            for place, instr in enumerate(func.body):
                if instr.code in (op.MEMORY_INIT, op.DATA_DROP):
                    starts = instruction_offsets(module, index)
                    offset = None if starts is None else starts[place]
                    raise MalformedModule("data count section required", offset, index)

    def entries(self, r: Reader, name: str, read: Callable[[Reader], T], least: int = 1) -> tuple[T, ...]:
        """A list of what `read` reads; remembers where each began."""
        found: list[T] = []
        starts: list[int] = []
        for _ in range(r.count(self.bounds, least=least)):
            starts.append(r.position)
            found.append(read(r))
        self.offsets[name] = tuple(starts)
        return tuple(found)

    # --- sections (5.5), one method each -------------------------------------------------------------------

    def custom(self, r: Reader, after: int) -> None:
        """5.5.3."""
        start = r.position
        name = r.name()
        self.customs.append(Custom(name, r.take(r.end - r.position), after))
        self.bounds.check("customs", len(self.customs), start)

    def type_section(self, r: Reader) -> None:
        """5.5.4."""
        self.types = self.entries(r, "types", self.func_type, least=2)

    def func_type(self, r: Reader) -> FuncType:
        """5.3.9."""
        start = r.position
        found = r.func_type(self.bounds)
        self.type_entries += len(found.params) + len(found.results)
        self.bounds.check("type_entries", self.type_entries, start)
        return found

    def import_section(self, r: Reader) -> None:
        """5.5.5."""
        self.imports = self.entries(r, "imports", self.import_entry, least=4)

    def import_entry(self, r: Reader) -> Import:
        """5.5.5."""
        module, name = r.name(), r.name()
        return Import(module, name, self.extern_type(r))

    def extern_type(self, r: Reader) -> ExternType:
        """5.3.17."""
        start = r.position
        kind = r.byte()
        if kind == 0:
            return ImportFunc(r.u32())
        if kind == 1:
            return r.table_type()
        if kind == 2:
            return r.mem_type()
        if kind == 3:
            return r.global_type()
        if kind == 4:
            return self.tag(r)
        raise r.malformed("malformed import kind", start)

    def function_section(self, r: Reader) -> None:
        """5.5.6."""
        self.declared = self.entries(r, "declared", lambda r: r.u32())

    def table_section(self, r: Reader) -> None:
        """5.5.7."""
        self.tables = self.entries(r, "tables", self.table, least=3)

    def table(self, r: Reader) -> Table:
        """5.5.7: a type, or 0x40 0x00, a type and an initialiser."""
        start = r.position
        if r.byte() != 0x40:
            r.position = start
            return Table(r.table_type())
        if r.byte() != 0x00:
            raise r.malformed("malformed table", start)
        return Table(r.table_type(), self.expressions.constant(r))

    def memory_section(self, r: Reader) -> None:
        """5.5.8."""
        self.mems = self.entries(r, "mems", lambda r: r.mem_type(), least=2)

    def tag_section(self, r: Reader) -> None:
        """5.5.16."""
        self.tags = self.entries(r, "tags", self.tag, least=2)

    def tag(self, r: Reader) -> Tag:
        """5.3.16."""
        start = r.position
        if r.byte() != 0x00:
            raise r.malformed("malformed tag attribute", start)
        return Tag(r.u32())

    def global_section(self, r: Reader) -> None:
        """5.5.9."""
        self.globals = self.entries(
            r, "globals", lambda r: Global(r.global_type(), self.expressions.constant(r)), least=3
        )

    def export_section(self, r: Reader) -> None:
        """5.5.10."""
        self.exports = self.entries(r, "exports", self.export, least=3)

    def export(self, r: Reader) -> Export:
        """5.5.10."""
        name = r.name()
        start = r.position
        kind = r.byte()
        if kind >= len(IMPORT_KINDS):
            raise r.malformed("malformed export kind", start)
        return Export(name, IMPORT_KINDS[kind], r.u32())

    def start_section(self, r: Reader) -> None:
        """5.5.11."""
        self.offsets["start"] = (r.position,)
        self.start = r.u32()

    def element_section(self, r: Reader) -> None:
        """5.5.12."""
        self.elems = self.entries(r, "elems", self.elem, least=3)

    def elem(self, r: Reader) -> Elem:
        """5.5.12: bit 0 not active, bit 1 explicit (table, or declarative), bit 2 expressions."""
        start = r.position
        flags = r.u32()
        if flags > 7:
            raise r.malformed("malformed elements segment kind", start)
        active, explicit, expressions = not flags & 1, flags & 2, flags & 4
        table: int | None = None
        offset: Expr | None = None
        if active:
            table = r.u32() if explicit else 0
            offset = self.expressions.constant(r)
        kind: RefType = FUNCREF if expressions else FUNC
        if flags & 3:
            if expressions:
                kind = r.ref_type()
            elif r.byte() != 0x00:
                raise r.malformed("malformed element kind", r.position - 1)
        size = r.count(self.bounds)
        self.items_total += size
        self.bounds.check("items", self.items_total, start)
        items = self.expressions
        if expressions:
            found = tuple([items.constant(r) for _ in range(size)])
        else:
            found = tuple([items.func_item(r.u32()) for _ in range(size)])
        return Elem("active" if active else "declarative" if explicit else "passive", table, offset, kind, found)

    def data_count_section(self, r: Reader) -> None:
        """5.5.15."""
        start = r.position
        self.data_count = r.u32()
        self.bounds.check("entries", self.data_count, start)

    def code_section(self, r: Reader) -> None:
        """5.5.13."""
        start = r.position
        size = r.count(self.bounds, least=3)
        if size != len(self.declared):
            raise r.malformed("function and code section have inconsistent lengths", start)
        imported = sum(isinstance(entry.desc, ImportFunc) for entry in self.imports)
        self.funcs = tuple([self.func(r, imported + i, self.declared[i]) for i in range(size)])

    def func(self, r: Reader, index: int, declared: int) -> Func:
        """5.5.13: the locals, then the body."""
        r.function = index
        start = r.position
        size = r.u32()
        if size > r.end - r.position:
            raise r.malformed("unexpected end: a function is longer than its section", start)
        self.bounds.check("body", size, start, index)
        end = r.position + size
        code = Reader(self.data, r.position, end, index)
        local_types = self.local_types(code)
        body = self.expressions.body(code.position, end, index)
        r.position = end
        r.function = None
        return Func(declared, local_types, body, code.position, end - code.position)

    def local_types(self, r: Reader) -> tuple[ValType, ...]:
        """Runs of locals, each (how many, type), as one type each. Equal declarations share one tuple."""
        start = r.position
        runs = []
        total = 0
        for _ in range(r.count(self.bounds, least=2)):
            many = r.u32()
            runs.append((many, r.val_type()))
            total += many
            if total > 0xFFFFFFFF:
                raise r.malformed("too many locals", start)
        encoded = self.data[start : r.position]
        self.bounds.check("locals", total, start, r.function)
        self.locals_total += total
        self.bounds.check("all_locals", self.locals_total, start, r.function)
        found = self.locals_seen.get(encoded)
        if found is None:
            expanded: list[ValType] = []
            for many, kind in runs:
                expanded += [kind] * many
            found = self.locals_seen[encoded] = tuple(expanded)
        return found

    def data_section(self, r: Reader) -> None:
        """5.5.14."""
        self.datas = self.entries(r, "datas", self.data_entry, least=2)

    def data_entry(self, r: Reader) -> Data:
        """5.5.14."""
        start = r.position
        flags = r.u32()
        if flags > 2:
            raise r.malformed("malformed data segment kind", start)
        if flags == 1:
            return Data("passive", None, None, r.take(r.u32()))
        memory = r.u32() if flags == 2 else 0
        offset = self.expressions.constant(r)
        return Data("active", memory, offset, r.take(r.u32()))


_SECTIONS: Final[Mapping[int, Callable[[_Decoder, Reader], None]]] = {
    TYPE: _Decoder.type_section,
    IMPORT: _Decoder.import_section,
    FUNCTION: _Decoder.function_section,
    TABLE: _Decoder.table_section,
    MEMORY: _Decoder.memory_section,
    TAG: _Decoder.tag_section,
    GLOBAL: _Decoder.global_section,
    EXPORT: _Decoder.export_section,
    START: _Decoder.start_section,
    ELEMENT: _Decoder.element_section,
    DATA_COUNT: _Decoder.data_count_section,
    CODE: _Decoder.code_section,
    DATA: _Decoder.data_section,
}
