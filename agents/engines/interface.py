"""What a module imports and exports, read from its bytes by our own decoder.

An engine could tell us too, but one aborts the whole process over a v128 in a signature, and two would tell it
differently. Bodies and segments are skipped, so it is fast for large modules; the engine's own
validation of the whole module follows.

Invariant: only `EngineError` and the decoder's `ModuleError`s are raised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from agents.brief import brief
from agents.errors import EngineError
from agents.wasm import decode as wasm
from agents.wasm import opcodes as op
from agents.wasm.encode import unsigned
from agents.wasm.syntax import (
    EXNREF,
    EXTERNREF,
    F32,
    F64,
    FUNCREF,
    I32,
    I64,
    V128,
    ExternType,
    FuncType,
    GlobalType,
    ImportFunc,
    MemType,
    Module,
    TableType,
    ValType,
)

from .protocols import Exported, ImportedFunction, Limits

_LETTERS: Mapping[ValType, str] = {
    I32: "i",
    I64: "I",
    F32: "f",
    F64: "F",
    V128: "v",
    FUNCREF: "r",
    EXTERNREF: "x",
    EXNREF: "e",
}
EXTENDED = "portcall"  # the module that imports of an extension name
_OTHER = "?"  # a reference of another type: it cannot cross
_KEPT = {wasm.TYPE, wasm.IMPORT, wasm.FUNCTION, wasm.TABLE, wasm.MEMORY, wasm.TAG, wasm.GLOBAL, wasm.EXPORT}
_EMPTY_BODY = b"\x02\x00\x0b"  # two bytes: no locals, `end`


@attrs.frozen
class Interface:
    """Imports by index, exports by name, and what else decides whether an agent can run and travel.

    hidden_globals: indices of mutable globals without an export, so state that a module that was not rewritten
    cannot give.
    types, provided: the types of the module, and what each export is by them: for an extension.
    start: the module has a start function, which runs at each instantiation.
    """

    imports: tuple[ImportedFunction, ...] = attrs.field(repr=brief)
    exports: Mapping[str, Exported] = attrs.field(repr=brief)
    memories: tuple[MemType, ...] = attrs.field(repr=brief)
    tables: tuple[TableType, ...] = attrs.field(repr=brief)
    types: tuple[FuncType, ...] = attrs.field(repr=brief)
    provided: Mapping[str, ExternType] = attrs.field(repr=brief)
    hidden_globals: tuple[int, ...] = attrs.field(repr=brief)
    start: bool


@attrs.frozen
class ExtensionInterface:
    """What extends instances of another module: the names of its imports, which that one exports, and its functions."""

    imports: tuple[str, ...] = attrs.field(repr=brief)
    exports: Mapping[str, Exported] = attrs.field(repr=brief)


def interface(code: bytes) -> Interface:
    """Read it from a module's bytes. Raises `EngineError` for imports that an agent may not have."""
    module, start = _declared(code)
    return _of(module, start)


# What an extension may consist of: so all state is its program's, and nothing in it runs before it is called.
_EXTENDING = _KEPT - {wasm.TABLE, wasm.MEMORY, wasm.TAG, wasm.GLOBAL} | {wasm.CUSTOM, wasm.CODE}


_UNUSED = FuncType((), ())


def extension_interface(code: bytes, base: Interface) -> ExtensionInterface:
    """Read it from the bytes of an extension of the module with the interface `base`. Raises `EngineError`."""
    for section, _, _ in wasm.sections(code):
        if section not in _EXTENDING:
            raise EngineError(f"an extension has a section {section}: it may define functions, and no more")
    module, _ = _declared(code)
    # Each has an empty type for those that only the other one uses.
    unlike = {index for index, pair in enumerate(zip(module.types, base.types, strict=False)) if pair[0] != pair[1]}
    emptied = all(_UNUSED in (module.types[each], base.types[each]) for each in unlike)
    if len(module.types) != len(base.types) or not emptied:
        raise EngineError("an extension has other types than the module that it extends")
    imports = []
    for entry in module.imports:
        desc = entry.desc
        if isinstance(desc, ImportFunc) and desc.type in unlike:
            raise EngineError(f"an extension imports {entry.name} with another type than it has")
        if entry.module != EXTENDED or desc != base.provided.get(entry.name):
            raise EngineError(f"an extension imports {entry.module}.{entry.name}, which the module does not export so")
        imports.append(entry.name)
    exports = {}
    for export in module.exports:
        if export.kind != "func" or export.name in base.exports:
            raise EngineError(f"an extension exports {export.name}, which is no function or the module's own")
        exports[export.name] = _exported(module, "func", export.index)
    return ExtensionInterface(tuple(imports), exports)


def _provided(module: Module) -> Mapping[str, ExternType]:
    """The types of the exports. Those that name what does not exist are left to the engine."""
    declared: Mapping[str, Sequence[ExternType]] = {
        "func": [ImportFunc(index) for index in module.func_type_indices],
        "memory": module.mem_types,
        "table": module.table_types,
        "global": module.global_types,
        "tag": module.all_tags,
    }
    return {
        export.name: declared[export.kind][export.index]
        for export in module.exports
        if export.index < len(declared[export.kind])
    }


def _declared(code: bytes) -> tuple[Module, bool]:
    """The module with empty functions and without segments, and whether it has a start function."""
    kept = bytearray(code[:8])
    functions, start = b"\x00", False
    for section, _, payload in wasm.sections(code):
        start = start or section == wasm.START
        if section in _KEPT:
            kept += bytes([section]) + unsigned(len(payload)) + payload
        if section == wasm.FUNCTION:
            functions = bytes(payload[:5])
    # As many empty bodies as functions are declared. The decoder first checks that number against the bytes.
    count = _leading_number(functions)
    if count <= len(code):
        body = unsigned(count) + _EMPTY_BODY * count
        kept += bytes([wasm.CODE]) + unsigned(len(body)) + body
    return wasm.decode_module(bytes(kept)), start


# After these instructions a fresh instance no longer has the same state: they write tables or drop segments.
_MARKS = frozenset(
    (op.TABLE_SET, op.TABLE_GROW, op.TABLE_FILL, op.TABLE_COPY, op.TABLE_INIT, op.DATA_DROP, op.ELEM_DROP)
)


def unfit(code: bytes) -> str:
    """Why the exports of a module that was not rewritten do not hold all its state; "" if they do.

    Reads every instruction. Raises `ModuleError` or `EngineError`.
    """
    found = interface(code)
    if found.hidden_globals:
        return f"its global {found.hidden_globals[0]} can change and is not exported"
    exported = {export.index for export in found.exports.values() if export.kind == "memory"}
    hidden = [index for index in range(len(found.memories)) if index not in exported]
    if hidden:
        return f"its memory {hidden[0]} is not exported"
    if found.start:
        return "it has a start function, which would run again"
    module = wasm.decode_module(code)
    if any(instr.code in _MARKS for func in module.funcs for instr in func.body):
        return "it changes tables or drops segments"
    return ""


def check_limits(found: Interface, limits: Limits) -> None:
    """Refuse more memories or tables than `limits` allows, beside the one of each that packing adds.

    Raises `EngineError`.
    """
    packed = "portcall.state" in found.exports
    memories, tables = len(found.memories) - packed, len(found.tables) - packed
    if memories > limits.memories:
        raise EngineError(f"{memories} memories, where at most {limits.memories} are allowed")
    if tables > limits.tables:
        raise EngineError(f"{tables} tables, where at most {limits.tables} are allowed")


def type_letters(types: tuple[ValType, ...]) -> str:
    """Types as letters."""
    return "".join(_LETTERS.get(kind, _OTHER) for kind in types)


def _of(module: Module, start: bool) -> Interface:
    imports = []
    for entry in module.imports:
        where = f"{entry.module}.{entry.name}"
        if not isinstance(entry.desc, ImportFunc):
            raise EngineError(f"the module imports a {entry.kind}, {where}; an agent may import functions")
        signature = _functype(module, entry.desc.type)
        params, results = type_letters(signature.params), type_letters(signature.results)
        if not set(params + results) <= set("iIfF"):
            raise EngineError(f"the import {where} takes or gives vectors or references, which cannot cross")
        imports.append(ImportedFunction(entry.module, entry.name, params, results))
    exports = {}
    for export in module.exports:
        exports[export.name] = _exported(module, export.kind, export.index)
    shown = {export.index for export in module.exports if export.kind == "global"}
    hidden = [i for i, kind in enumerate(module.global_types) if kind.mutable and i not in shown]
    return Interface(
        tuple(imports),
        exports,
        module.mem_types,
        module.table_types,
        module.types,
        _provided(module),
        tuple(hidden),
        start,
    )


def _exported(module: Module, kind: str, index: int) -> Exported:
    try:
        if kind == "func":
            signature = _functype(module, module.func_type_indices[index])
            return Exported("func", type_letters(signature.params), type_letters(signature.results), index=index)
        if kind == "memory":
            memory = module.mem_types[index]
            address, limits = "I" if memory.addr64 else "i", memory.limits
            return Exported("memory", results=address, minimum=limits.min, maximum=limits.max, index=index)
        if kind == "table":
            table = module.table_types[index]
            element = type_letters((table.elem,))
            return Exported("table", results=element, minimum=table.limits.min, maximum=table.limits.max)
        if kind == "global":
            declared: GlobalType = module.global_types[index]
            kind_of = type_letters((declared.val,))
            return Exported("global", results=kind_of, mutable=declared.mutable, index=index)
        return Exported("tag")
    except IndexError:
        raise EngineError(f"an export names {kind} {index}, which does not exist") from None


def _functype(module: Module, index: int) -> FuncType:
    if index >= len(module.types):
        raise EngineError(f"a function has type {index}, which does not exist")
    return module.types[index]


def _leading_number(payload: bytes) -> int:
    """The unsigned LEB128 number at the start of `payload`. Errors in it are left to the decoder."""
    number = shift = 0
    for byte in payload:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return number


def first_places(elements: Sequence[int]) -> dict[int, int]:
    """Of the identities in a table, 0 for null: each with the lowest index at which it stands."""
    found: dict[int, int] = {}
    for index, identity in enumerate(elements):
        if identity:
            found.setdefault(identity, index)
    return found
