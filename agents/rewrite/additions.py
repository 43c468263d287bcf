"""What the rewriter adds to a module: types, globals, helper functions, all *after* the module's own.

No index of the original module changes, so the agent's instructions are copied unchanged. Equal types are shared.
Helpers come right after the original functions, in the order of their first use. What only a resumption needs is kept
apart, for the resume module (:mod:`agents.rewrite.resume_module`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from agents.wasm import opcodes as op
from agents.wasm.syntax import (
    EXNREF,
    F32,
    F64,
    I32,
    I64,
    V128,
    Func,
    FuncType,
    Global,
    GlobalType,
    Instr,
    MemArg,
    Module,
    RefType,
    ValType,
)

#: The letters that stand for the types of values that a frame can hold, in metadata and helper names. An exception
#: ("x") becomes its tag and payload, where every tag is the module's own.
FRAME_LETTERS: dict[ValType, str] = {
    I32: "i",
    I64: "I",
    F32: "f",
    F64: "F",
    V128: "v",
    EXNREF: "x",
    RefType(False, "exn"): "x",
}
NUMERIC: frozenset[ValType] = frozenset((I32, I64, F32, F64, V128))
LETTER_TYPES: dict[str, ValType] = {"i": I32, "I": I64, "f": F32, "F": F64, "v": V128, "x": EXNREF}
END_INSTR = Instr(op.END, None)
#: Until the resume module is made, its functions are known by these numbers and more: no module has as many functions.
RESUMED = 1 << 24  # helpers
COPIES = 1 << 25  # resume copies, in the order of their resume indices

_ZEROS: dict[ValType, Instr] = {
    I32: Instr(op.I32_CONST, 0),
    I64: Instr(op.I64_CONST, 0),
    F32: Instr(op.F32_CONST, 0),
    F64: Instr(op.F64_CONST, 0),
    V128: Instr(op.V128_CONST, bytes(16)),
}


class Additions:
    """Collects additions to ``module`` and assigns their indices."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.types: list[FuncType] = list(module.types)
        self._type_index: dict[FuncType, int] = {}
        for index, functype in enumerate(module.types):
            self._type_index.setdefault(functype, index)
        self.first_function = module.imported("func") + len(module.funcs)
        self.functions: list[Func] = []
        self.names: list[str] = []
        self.resumed: list[Func] = []  # for the resume module
        self.resumed_names: list[str] = []
        self._named: dict[str, int] = {}
        self.first_global = module.imported("global") + len(module.globals)
        self.globals: list[Global] = []
        self._instrs: dict[tuple[int, object], Instr] = {}

    def instr(self, code: int, imm: object = None) -> Instr:
        """An instruction, shared with equal ones."""
        key = (code, imm)
        found = self._instrs.get(key)
        if found is None:
            found = self._instrs[key] = Instr(code, imm)
        return found

    def functype(self, params: Sequence[ValType], results: Sequence[ValType]) -> int:
        """Index of a function type, added when the module lacks it."""
        functype = FuncType(tuple(params), tuple(results))
        index = self._type_index.get(functype)
        if index is None:
            index = self._type_index[functype] = len(self.types)
            self.types.append(functype)
        return index

    def types_for(self, funcs: Iterable[Func], others: Iterable[int] = ()) -> tuple[FuncType, ...]:
        """All types, by their indices; of those that were added, an empty one for those that are not used, neither by
        these functions nor among ``others``.

        Engines compile, for each type of a module, code by which functions of the type could call their host.
        """
        used = set(others)
        for func in funcs:
            used.add(func.type)
            for instr in func.body:
                if instr.code in _TYPED:
                    imm = instr.imm
                    used.add(imm[0] if isinstance(imm, tuple) else imm)
        kept = len(self.module.types)
        return tuple(each if index < kept or index in used else _EMPTY for index, each in enumerate(self.types))

    def blocktype(self, results: Sequence[ValType], params: Sequence[ValType] = ()) -> object:
        """The immediate of a ``block`` that takes ``params`` and leaves ``results``."""
        if not params and not results:
            return None
        if not params and len(results) == 1:
            return results[0]
        return self.functype(params, results)

    def block_signature(self, blocktype: object) -> FuncType:
        """Parameters and results of a block type."""
        if blocktype is None:
            return _EMPTY
        if isinstance(blocktype, int):
            return self.types[blocktype]
        return FuncType((), (blocktype,))  # type: ignore[arg-type]

    def add_global(self, valtype: ValType, mutable: bool = True, initial: int = 0) -> int:
        """Index of a new private global."""
        zero = _ZEROS.get(valtype)
        if isinstance(valtype, RefType):
            zero = Instr(op.REF_NULL, valtype.heap)
        elif initial:
            zero = Instr(op.I32_CONST, initial)
        assert zero is not None
        self.globals.append(Global(GlobalType(valtype, mutable), (zero, END_INSTR)))
        return self.first_global + len(self.globals) - 1

    def helper(
        self,
        name: str,
        params: Sequence[ValType],
        results: Sequence[ValType],
        build: Callable[[], tuple[Sequence[ValType], Sequence[Instr]]],
        *,
        resumed: bool = False,
    ) -> int:
        """Index of the helper ``name``; ``build`` returns the locals and body of a new one.

        ``resumed``: it goes into the resume module.
        """
        index = self._named.get(name)
        if index is None:
            functions, names = (self.resumed, self.resumed_names) if resumed else (self.functions, self.names)
            position = len(functions)
            index = self._named[name] = (RESUMED if resumed else self.first_function) + position
            placeholder = Func(self.functype(params, results), (), ())
            functions.append(placeholder)
            names.append(name)
            extra, body = build()
            functions[position] = Func(placeholder.type, tuple(extra), (*body, END_INSTR))
        return index

    def zeros(self, valtypes: Sequence[ValType]) -> list[Instr]:
        """Values that satisfy the result types of a function that returns while unwinding."""
        out = []
        for valtype in valtypes:
            if isinstance(valtype, RefType):
                out.append(self.instr(op.REF_NULL, valtype.heap))
                if not valtype.nullable:
                    out.append(self.instr(op.REF_AS_NON_NULL))
            else:
                out.append(_ZEROS[valtype])
        return out

    def memarg(self, offset: int, memory: int, align: int = 0) -> MemArg:
        return MemArg(align, offset, memory)


_EMPTY = FuncType((), ())
_TYPED = frozenset((op.BLOCK, op.LOOP, op.IF, op.TRY_TABLE, op.CALL_INDIRECT, op.RETURN_CALL_INDIRECT))


def frame_letters(valtypes: Sequence[ValType]) -> str:
    """``valtypes`` as letters; only what a frame can hold has one."""
    return "".join(FRAME_LETTERS[valtype] for valtype in valtypes)
