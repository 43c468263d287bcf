"""Makes floats and vectors cross as integers: JavaScript has no vectors, and does not keep the bits of a NaN.

A copy of the module is changed just before it is compiled, before `metering` is. An exported function that takes or
gives them gets a second export whose parameters and results are their bits: an i32 for an f32, an i64 for an f64, two
i64 for a v128, the low one first. An import that takes or gives them is called through a function that does the same.
An exported global of such a type gets accessors of that kind. Imports are numbered, so that the module can have two of
one name with different types.

Invariant: agent code computes the same as without the change; between modules, values cross as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from agents.engines.metering import bits_get, bits_set
from agents.wasm import opcodes as op
from agents.wasm.syntax import (
    F32,
    F64,
    I32,
    I64,
    V128,
    Elem,
    Export,
    Expr,
    Func,
    FuncType,
    Import,
    ImportFunc,
    Instr,
    Module,
    NumType,
    ValType,
)

BITS_VERSION = 1  # of the added code; part of the key of what is kept
HOST = "host"  # the module from which functions are imported by number
_END = Instr(op.END)
_NAMES_FUNCTION = frozenset((op.CALL, op.RETURN_CALL, op.REF_FUNC))
_TURNED: Mapping[ValType, tuple[NumType, ...]] = {F32: (I32,), F64: (I64,), V128: (I64, I64)}
_INTO = {F32: op.I32_REINTERPRET_F32, F64: op.I64_REINTERPRET_F64}
_BACK = {F32: op.F32_REINTERPRET_I32, F64: op.F64_REINTERPRET_I64}
_LETTERS = {"f": "i", "F": "I", "v": "II"}


def call_of(name: str) -> str:
    """The export that calls the function exported as `name`, with bits."""
    return f"portcall.bits.{name}"


def turned(letters: str) -> str:
    """Types as letters, as they cross."""
    return "".join(_LETTERS.get(letter, letter) for letter in letters)


def as_bits(module: Module, *, extension: bool) -> Module:
    """The changed copy. The imports of an `extension` are exports of another module, and stay as they are."""
    return _Bits(module).module(extension)


class _Bits:
    """One module being changed. Functions are only added at the end, so no index of a function moves."""

    def __init__(self, module: Module) -> None:
        self.old = module
        self.types = list(module.types)
        self.added: list[Func] = []
        self.exports = list(module.exports)
        self.instead: dict[int, int] = {}  # function that is imported -> the one to call

    def module(self, extension: bool) -> Module:
        old = self.old
        imports = old.imports if extension else tuple(map(self._imported, range(len(old.imports)), old.imports))
        for export in old.exports:
            if export.kind == "func":
                self._call(export)
            elif export.kind == "global":
                self._accessors(export)
        changed = attrs.evolve(
            old,
            types=tuple(self.types),
            imports=imports,
            exports=tuple(self.exports),
            source=None,
            offsets={},
        )
        if self.instead:
            changed = attrs.evolve(
                changed,
                funcs=tuple(attrs.evolve(func, body=self._expr(func.body), offset=None) for func in old.funcs),
                tables=tuple(
                    table if table.init is None else attrs.evolve(table, init=self._expr(table.init))
                    for table in old.tables
                ),
                globals=tuple(attrs.evolve(each, init=self._expr(each.init)) for each in old.globals),
                exports=tuple(
                    attrs.evolve(each, index=self.instead.get(each.index, each.index)) if each.kind == "func" else each
                    for each in self.exports
                ),
                start=None if old.start is None else self.instead.get(old.start, old.start),
                elems=tuple(map(self._elem, old.elems)),
            )
        return attrs.evolve(changed, funcs=(*changed.funcs, *self.added))

    def _type(self, params: Iterable[ValType], results: Iterable[ValType]) -> int:
        wanted = FuncType(tuple(params), tuple(results))
        if wanted not in self.types:
            self.types.append(wanted)
        return self.types.index(wanted)

    def _imported(self, index: int, entry: Import) -> Import:
        assert isinstance(entry.desc, ImportFunc)  # an agent imports nothing else
        kind, signature = entry.desc.type, self.old.types[entry.desc.type]
        if _crosses(signature):
            kind = self._type(_bits_of(signature.params), _bits_of(signature.results))
            results = _bits_of(signature.results)
            body = [*_into(signature.params, 0), Instr(op.CALL, index)]
            body += [*_stored(len(signature.params), len(results)), *_back(signature.results, len(signature.params))]
            self.instead[index] = self._add(entry.desc.type, results, body)
        return Import(HOST, str(index), ImportFunc(kind))

    def _call(self, export: Export) -> None:
        signature = self.old.func_type(export.index)
        if _crosses(signature):
            params, results = _bits_of(signature.params), _bits_of(signature.results)
            body = [*_back(signature.params, 0), Instr(op.CALL, self.instead.get(export.index, export.index))]
            body += [*_stored(len(params), len(signature.results)), *_into(signature.results, len(params))]
            index = self._add(self._type(params, results), signature.results, body)
            self.exports.append(Export(call_of(export.name), "func", index))

    def _accessors(self, export: Export) -> None:
        kind = self.old.global_types[export.index]
        if kind.val not in _TURNED:
            return
        bits = _bits_of((kind.val,))
        body = [Instr(op.GLOBAL_GET, export.index), Instr(op.LOCAL_SET, 0), *_into((kind.val,), 0)]
        get = self._add(self._type((), bits), (kind.val,), body)
        self.exports.append(Export(bits_get(export.name), "func", get))
        if kind.mutable:
            put = self._add(self._type(bits, ()), (), [*_back((kind.val,), 0), Instr(op.GLOBAL_SET, export.index)])
            self.exports.append(Export(bits_set(export.name), "func", put))

    def _add(self, kind: int, locals_: Iterable[ValType], body: Iterable[Instr]) -> int:
        self.added.append(Func(kind, tuple(locals_), (*body, _END)))
        return self.old.imported("func") + len(self.old.funcs) + len(self.added) - 1

    def _expr(self, expr: Expr) -> Expr:
        return tuple(
            Instr(each.code, self.instead[each.imm])
            if each.code in _NAMES_FUNCTION and each.imm in self.instead
            else each
            for each in expr
        )

    def _elem(self, elem: Elem) -> Elem:
        return attrs.evolve(elem, items=tuple(map(self._expr, elem.items)))


def _crosses(signature: FuncType) -> bool:
    """Whether it takes or gives what has to be turned into integers."""
    return any(kind in _TURNED for kind in (*signature.params, *signature.results))


def _bits_of(types: Iterable[ValType]) -> tuple[ValType, ...]:
    found: list[ValType] = []
    for kind in types:
        found += _TURNED.get(kind, (kind,))
    return tuple(found)


def _stored(first: int, count: int) -> list[Instr]:
    """Results that lie on the stack, put into locals."""
    return [Instr(op.LOCAL_SET, first + index) for index in reversed(range(count))]


def _into(types: Iterable[ValType], first: int) -> list[Instr]:
    """The bits of values that lie in locals."""
    out: list[Instr] = []
    for index, kind in enumerate(types, first):
        if kind is V128:
            for lane in (0, 1):
                out += [Instr(op.LOCAL_GET, index), Instr(op.I64X2_EXTRACT_LANE, lane)]
        else:
            out.append(Instr(op.LOCAL_GET, index))
            if kind in _INTO:
                out.append(Instr(_INTO[kind]))
    return out


def _back(types: Iterable[ValType], first: int) -> list[Instr]:
    """The values whose bits lie in locals."""
    out: list[Instr] = []
    for kind in types:
        out.append(Instr(op.LOCAL_GET, first))
        first += 1
        if kind is V128:
            out += [Instr(op.I64X2_SPLAT), Instr(op.LOCAL_GET, first), Instr(op.I64X2_REPLACE_LANE, 1)]
            first += 1
        elif kind in _BACK:
            out.append(Instr(_BACK[kind]))
    return out
