"""Imports that can be bound anew while an instance runs: a small module between the agent's and the host.

An engine binds an import when it makes the instance, and what answers a call well needs the instance's memory, which is
there only afterwards. So the agent's imports are exports of this module: of most the host's function itself; of those
in `REBINDABLE` a function that calls an element of a table, at first the host's function. Another module, made beside
the instance with its memory, writes its own functions into the table (docs/adr/calls-answered-beside-the-agent).
"""

from __future__ import annotations

from collections.abc import Sequence

from agents.engines.interface import Interface
from agents.engines.protocols import REBINDABLE, ImportedFunction
from agents.wasm import opcodes as op
from agents.wasm.encode import encode_module
from agents.wasm.syntax import (
    F32,
    F64,
    FUNC,
    FUNCREF,
    I32,
    I64,
    Elem,
    Export,
    Func,
    FuncType,
    Import,
    ImportFunc,
    Instr,
    Module,
    Table,
    TableType,
    TypeLimits,
)

_TABLE, _HOST = "late", "host."  # exports: the table, and before a name of `REBINDABLE`, the host's function
LATE_EXPORTS = (*(f"{_HOST}{name}".encode() for _, name in REBINDABLE), _TABLE.encode())
AGENT_EXPORTS = (b"memory", b"portcall.frames")  # of an agent that was packed
_MAX_IMPORTS, _MAX_PARAMS = 128, 16  # beyond, a module is not ordinary, and the time to compile this one would be felt
_TYPES = {"i": I32, "I": I64, "f": F32, "F": F64}
_END = Instr(op.END, None)


def late_bound(shape: Interface) -> bytes | None:
    """The module for an agent's imports, the k-th as the export `k`; None if there is nothing to gain."""
    imports = shape.imports
    found = {entry.name: index for index, entry in reversed(list(enumerate(imports))) if _rebindable(entry)}
    if not found or len(imports) > _MAX_IMPORTS or any(len(entry.params) > _MAX_PARAMS for entry in imports):
        return None
    for name, minimum in zip(AGENT_EXPORTS, (0, 1), strict=True):
        exported = shape.exports.get(name.decode())
        if exported is None or (exported.kind, exported.results) != ("memory", "i") or exported.minimum < minimum:
            return None
    return encode_module(_module(imports, found))


def _rebindable(entry: ImportedFunction) -> bool:
    return REBINDABLE.get((entry.module, entry.name)) == (entry.params, entry.results)


def _module(imports: Sequence[ImportedFunction], found: dict[str, int]) -> Module:
    """`found`: the first import of each name of `REBINDABLE` that there is."""
    types: dict[FuncType, int] = {}

    def typed(params: str, results: str) -> int:
        kind = FuncType(tuple(_TYPES[letter] for letter in params), tuple(_TYPES[letter] for letter in results))
        return types.setdefault(kind, len(types))

    declared = tuple(Import(each.module, each.name, ImportFunc(typed(each.params, each.results))) for each in imports)
    funcs: list[Func] = []

    def defined(type_: int, *body: Instr) -> int:
        funcs.append(Func(type_, (), (*body, _END)))
        return len(imports) + len(funcs) - 1

    exports, elements = [], []
    for position, ((_, name), kind) in enumerate(REBINDABLE.items()):
        type_ = typed(*kind)
        host = found[name] if name in found else defined(type_, Instr(op.UNREACHABLE))  # is never called
        elements.append((Instr(op.REF_FUNC, host), _END))
        exports.append(Export(_HOST + name, "func", host))
        gets = [Instr(op.LOCAL_GET, index) for index in range(len(kind[0]))]
        late = defined(type_, *gets, Instr(op.I32_CONST, position), Instr(op.CALL_INDIRECT, (type_, 0)))
        same = [index for index, entry in enumerate(imports) if _rebindable(entry) and entry.name == name]
        exports += [Export(str(index), "func", late) for index in same]
    plain = [index for index, entry in enumerate(imports) if not _rebindable(entry)]
    exports += [Export(str(index), "func", index) for index in plain]
    return Module(
        types=tuple(types),
        imports=declared,
        funcs=tuple(funcs),
        tables=(Table(TableType(FUNCREF, TypeLimits(len(elements), len(elements)))),),
        exports=(*exports, Export(_TABLE, "table", 0)),
        elems=(Elem("active", 0, (Instr(op.I32_CONST, 0), _END), FUNC, tuple(elements)),),
    )
