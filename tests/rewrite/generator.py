"""Random programs that validate, terminate and use what is hard for the rewriting.

Each exports ``run: (i32) -> (i64)``, ``memory`` and its globals, and imports ``t.tick: (i32) -> i32``. Nested blocks
with parameters and results, loops, branches of all kinds, multi-value calls, direct, indirect and tail calls,
exceptions (also held in locals), vectors, and operands that lie below all of them. Every value ends in a checksum, so a
value that is lost or doubled changes the result. A counter bounds loop turns and calls.
"""

from __future__ import annotations

from random import Random

import attrs

from agents.wasm import opcodes as op
from agents.wasm.syntax import (
    EXNREF,
    F32,
    F64,
    I32,
    I64,
    V128,
    Catch,
    Elem,
    Export,
    Func,
    FuncType,
    Global,
    GlobalType,
    Import,
    ImportFunc,
    Instr,
    MemArg,
    MemType,
    Module,
    RefType,
    Table,
    TableType,
    Tag,
    TypeLimits,
    ValType,
)

END = Instr(op.END)
FUEL, CHECKSUM, FIRST_FREE = 0, 1, 2  # globals
FREE: tuple[ValType, ...] = (I32, F64, I64)  # the types of the globals from FIRST_FREE on
VALUES: tuple[ValType, ...] = (I32, I32, I32, I64, F64, F32, V128)
_CONST = {I32: op.I32_CONST, I64: op.I64_CONST, F32: op.F32_CONST, F64: op.F64_CONST}
_BINARY = {
    I32: (op.I32_ADD, op.I32_SUB, op.I32_MUL, op.I32_XOR, op.I32_ROTL),
    I64: (op.I64_ADD, op.I64_SUB, op.I64_MUL, op.I64_XOR),
    F32: (op.F32_ADD, op.F32_SUB, op.F32_MIN),
    F64: (op.F64_ADD, op.F64_SUB, op.F64_MAX),
    V128: (op.I32X4_ADD, op.V128_XOR, op.I64X2_SUB),
}
_TO_I64 = {
    I32: (Instr(op.I64_EXTEND_I32_U),),
    I64: (),
    F32: (Instr(op.I64_TRUNC_SAT_F32_S),),
    F64: (Instr(op.I64_TRUNC_SAT_F64_S),),
    V128: (Instr(op.I64X2_EXTRACT_LANE, 0),),
}


@attrs.define
class _Scope:
    """The function being made."""

    functype: FuncType
    locals: list[ValType]
    out: list[Instr] = attrs.field(factory=list)
    labels: list[tuple[ValType, ...]] = attrs.field(factory=list)  # what a branch carries, outermost first


class Generator:
    """One module per seed; ``size`` bounds the instructions of a function, roughly."""

    def __init__(self, seed: int, size: int = 60, exceptions: bool = True, vectors: bool = True) -> None:
        self.rng = Random(seed)
        self.size = size
        self.exceptions = exceptions
        self.values = VALUES if vectors else VALUES[:-1]
        self.types: list[FuncType] = []
        self.functions: list[FuncType] = []
        self.tags: list[tuple[ValType, ...]] = []

    def module(self) -> Module:
        rng = self.rng
        tick = self._type(FuncType((I32,), (I32,)))
        if self.exceptions:
            self.tags = [self._some(3) for _ in range(rng.randrange(1, 4))]
        self.functions = [FuncType((I32,), (I64,))]
        self.functions += [FuncType(self._some(4), self._some(3)) for _ in range(rng.randrange(1, 6))]
        funcs = tuple(self._function(functype) for functype in self.functions)
        count = len(self.functions)
        items = tuple((Instr(op.REF_FUNC, 1 + rng.randrange(count)), END) for _ in range(8))
        tag_types = [Tag(self._type(FuncType(tag, ()))) for tag in self.tags]
        return Module(
            types=tuple(self.types),
            imports=(Import("t", "tick", ImportFunc(tick)),),
            funcs=funcs,
            tables=(Table(TableType(RefType(True, "func"), TypeLimits(8, 8))),),
            mems=(MemType(TypeLimits(1, 3)),),
            tags=tuple(tag_types),
            globals=tuple(
                Global(GlobalType(kind, True), (self._constant(kind, 400 if index == FUEL else None), END))
                for index, kind in enumerate((I32, I64, *FREE))
            ),
            exports=(
                Export("run", "func", 1),
                Export("memory", "memory", 0),
                *(Export(f"g{index}", "global", index) for index in range(2)),
            ),
            elems=(Elem("active", 0, (Instr(op.I32_CONST, 0), END), RefType(False, "func"), items),),
        )

    # --- pieces ----------------------------------------------------------------------------------------------

    def _some(self, most: int) -> tuple[ValType, ...]:
        return tuple(self.rng.choices(self.values, k=self.rng.randrange(most)))

    def _type(self, functype: FuncType) -> int:
        if functype not in self.types:
            self.types.append(functype)
        return self.types.index(functype)

    def _blocktype(self, params: tuple[ValType, ...], results: tuple[ValType, ...]) -> object:
        if not params and not results:
            return None
        if not params and len(results) == 1:
            return results[0]
        return self._type(FuncType(params, results))

    def _constant(self, kind: ValType, value: int | None = None) -> Instr:
        if kind is V128:
            return Instr(op.V128_CONST, self.rng.randbytes(16))
        if kind in (F32, F64):
            return Instr(_CONST[kind], 0x3FC00000 if kind is F32 else 0x4009000000000000)
        return Instr(_CONST[kind], self.rng.randrange(-50, 1000) if value is None else value)

    def _function(self, functype: FuncType) -> Func:
        declared = [*self.rng.choices(self.values, k=self.rng.randrange(2, 9))]
        if self.exceptions:
            declared.append(EXNREF)
        scope = _Scope(functype, [*functype.params, *declared])
        scope.labels.append(functype.results)
        self._spend(scope)
        self._sequence(scope, [], functype.results, 0)
        scope.out.append(END)
        return Func(self._type(functype), tuple(declared), tuple(scope.out))

    def _spend(self, scope: _Scope) -> None:
        """Leave the function when the fuel is gone: what makes every program end."""
        out = scope.out
        out += [Instr(op.GLOBAL_GET, FUEL), Instr(op.I32_EQZ), Instr(op.IF, None)]
        out += [self._constant(kind) for kind in scope.functype.results]
        out += [Instr(op.RETURN), END]
        out += [
            Instr(op.GLOBAL_GET, FUEL),
            Instr(op.I32_CONST, 1),
            Instr(op.I32_SUB),
            Instr(op.GLOBAL_SET, FUEL),
        ]

    def _push(self, scope: _Scope, kind: ValType) -> None:
        places = [index for index, held in enumerate(scope.locals) if held == kind]
        if places and self.rng.random() < 0.6:
            scope.out.append(Instr(op.LOCAL_GET, self.rng.choice(places)))
        else:
            scope.out.append(self._constant(kind))

    def _push_all(self, scope: _Scope, kinds: tuple[ValType, ...]) -> None:
        for kind in kinds:
            self._push(scope, kind)

    def _consume(self, scope: _Scope, kind: ValType) -> None:
        """Mix the top operand into the checksum."""
        out = scope.out
        if kind == EXNREF:
            out.append(Instr(op.DROP))
            return
        out += _TO_I64[kind]
        out += [Instr(op.GLOBAL_GET, CHECKSUM), Instr(op.I64_CONST, 31), Instr(op.I64_MUL), Instr(op.I64_ADD)]
        out.append(Instr(op.GLOBAL_SET, CHECKSUM))

    def _sequence(self, scope: _Scope, stack: list[ValType], results: tuple[ValType, ...], depth: int) -> None:
        """Instructions from the operands ``stack`` to exactly ``results``."""
        for _ in range(self.rng.randrange(2, max(3, self.size // (3 * depth + 4)))):
            if self._step(scope, stack, depth):
                return  # the rest of the block cannot be reached
        while tuple(stack) != results:
            if len(stack) <= len(results) and tuple(stack) == results[: len(stack)]:
                for kind in results[len(stack) :]:
                    self._push(scope, kind)
                return
            self._consume(scope, stack.pop())

    def _step(self, scope: _Scope, stack: list[ValType], depth: int) -> bool:
        """One random instruction or construct; True when nothing after it can be reached."""
        rng = self.rng
        choice = rng.random()
        if choice < 0.18 or not stack:
            kind = rng.choice(self.values)
            self._push(scope, kind)
            stack.append(kind)
        elif choice < 0.30:
            self._operate(scope, stack)
        elif choice < 0.42:
            self._put_away(scope, stack)
        elif choice < 0.58:
            self._call(scope, stack)
        elif choice < 0.80 and depth < 4:
            self._construct(scope, stack, depth)
        elif choice < 0.86:
            label = self._label(scope)
            carried = scope.labels[-1 - label]
            self._push_all(scope, carried)
            self._push(scope, I32)
            scope.out.append(Instr(op.BR_IF, label))
            stack += carried
        elif choice < 0.90:
            self._memory(scope)
        elif choice < 0.92 and depth > 1:
            return self._leave(scope)
        elif choice < 0.95 and self.exceptions and depth:
            tag = rng.randrange(len(self.tags))
            scope.out += [
                Instr(op.GLOBAL_GET, FUEL),
                Instr(op.I32_CONST, 7),
                Instr(op.I32_AND),
                Instr(op.I32_EQZ),
            ]
            scope.out.append(Instr(op.IF, None))
            self._push_all(scope, self.tags[tag])
            scope.out += [Instr(op.THROW, tag), END]
        else:
            index = rng.randrange(FIRST_FREE, FIRST_FREE + 3)
            scope.out.append(Instr(op.GLOBAL_GET, index))
            stack.append(FREE[index - FIRST_FREE])
        return False

    def _operate(self, scope: _Scope, stack: list[ValType]) -> None:
        kind = stack[-1]
        if kind == EXNREF:
            return
        self._push(scope, kind)
        scope.out.append(Instr(self.rng.choice(_BINARY[kind])))

    def _put_away(self, scope: _Scope, stack: list[ValType]) -> None:
        kind = stack.pop()
        places = [index for index, held in enumerate(scope.locals) if held == kind]
        frees = [FIRST_FREE + index for index, held in enumerate(FREE) if held is kind]
        if places and self.rng.random() < 0.7:
            tee = self.rng.random() < 0.3
            scope.out.append(Instr(op.LOCAL_TEE if tee else op.LOCAL_SET, self.rng.choice(places)))
            if tee:
                stack.append(kind)
        elif frees:
            scope.out.append(Instr(op.GLOBAL_SET, self.rng.choice(frees)))
        else:
            self._consume(scope, kind)

    def _call(self, scope: _Scope, stack: list[ValType]) -> None:
        rng = self.rng
        which = rng.random()
        if which < 0.4:
            self._push(scope, I32)
            scope.out.append(Instr(op.CALL, 0))
            stack.append(I32)
            return
        functype = rng.choice(self.functions)
        self._push_all(scope, functype.params)
        if which < 0.8:
            scope.out.append(Instr(op.CALL, 1 + self.functions.index(functype)))
        else:
            self._push(scope, I32)
            scope.out += [Instr(op.I32_CONST, 7), Instr(op.I32_AND)]
            scope.out.append(Instr(op.CALL_INDIRECT, (self._type(functype), 0)))
        stack += functype.results

    def _construct(self, scope: _Scope, stack: list[ValType], depth: int) -> None:
        rng = self.rng
        taken = rng.randrange(min(len(stack), 2) + 1)
        params = tuple(stack[len(stack) - taken :])
        if EXNREF in params:
            params = ()
        del stack[len(stack) - len(params) :]
        results = self._some(3)
        kind = rng.choice((op.BLOCK, op.LOOP, op.IF, op.TRY_TABLE if self.exceptions else op.LOOP))
        blocktype = self._blocktype(params, results)
        if kind == op.TRY_TABLE:
            self._try(scope, params, results, depth)
        elif kind == op.IF:
            self._push(scope, I32)
            scope.out += [Instr(op.I32_CONST, 3), Instr(op.I32_AND)]
            scope.out.append(Instr(op.IF, blocktype))
            scope.labels.append(results)
            self._sequence(scope, list(params), results, depth + 1)
            if params != results or rng.random() < 0.7:
                scope.out.append(Instr(op.ELSE))
                self._sequence(scope, list(params), results, depth + 1)
            scope.labels.pop()
            scope.out.append(END)
        else:
            scope.out.append(Instr(kind, blocktype))
            scope.labels.append(params if kind == op.LOOP else results)
            if kind == op.LOOP:
                self._spend(scope)
            self._sequence(scope, list(params), results, depth + 1)
            scope.labels.pop()
            scope.out.append(END)
        stack += results

    def _try(self, scope: _Scope, params: tuple[ValType, ...], results: tuple[ValType, ...], depth: int) -> None:
        """``block $all (result exnref) block $tag (result payload) try_table .. end br 2 end mix end``, and after."""
        rng = self.rng
        tag = rng.randrange(len(self.tags))
        payload = self.tags[tag]
        out = scope.out
        hold = scope.locals.index(EXNREF)
        places = {kind: [i for i, held in enumerate(scope.locals) if held == kind] for kind in params}
        if any(not found for found in places.values()):
            for kind in reversed(params):
                self._consume(scope, kind)
            params = ()
        for kind in reversed(params):
            out.append(Instr(op.LOCAL_SET, places[kind][0]))
        out.append(Instr(op.BLOCK, self._blocktype((), results)))
        out.append(Instr(op.BLOCK, EXNREF))
        out.append(Instr(op.BLOCK, self._blocktype((), payload)))
        for kind in params:
            out.append(Instr(op.LOCAL_GET, places[kind][0]))
        catches = (Catch("catch", tag, 0), Catch("catch_all_ref", None, 1))
        out.append(Instr(op.TRY_TABLE, (self._blocktype(params, results), catches)))
        scope.labels += [results, (EXNREF,), payload, results]
        self._sequence(scope, list(params), results, depth + 1)
        out.append(END)
        del scope.labels[-1]
        out += [Instr(op.BR, 2), END]
        for kind in reversed(payload):
            self._consume(scope, kind)
        del scope.labels[-2:]
        self._push_all(scope, results)
        out += [Instr(op.BR, 1), END, Instr(op.LOCAL_SET, hold)]
        self._push(scope, I32)
        out += [
            Instr(op.CALL, 0),
            Instr(op.I32_CONST, 3),
            Instr(op.I32_AND),
            Instr(op.I32_EQZ),
            Instr(op.IF, None),
        ]
        out += [Instr(op.LOCAL_GET, hold), Instr(op.THROW_REF), END]
        del scope.labels[-1]
        self._push_all(scope, results)
        out.append(END)

    def _memory(self, scope: _Scope) -> None:
        out = scope.out
        memarg = MemArg(0, self.rng.randrange(64), 0)
        self._push(scope, I32)
        out += [Instr(op.I32_CONST, 0xFF8), Instr(op.I32_AND)]
        self._push(scope, I64)
        out.append(Instr(op.I64_STORE, memarg))
        self._push(scope, I32)
        out += [Instr(op.I32_CONST, 0xFF8), Instr(op.I32_AND), Instr(op.I64_LOAD, memarg)]
        self._consume(scope, I64)
        if self.rng.random() < 0.2:
            out += [Instr(op.I32_CONST, 1), Instr(op.MEMORY_GROW, 0)]
            self._consume(scope, I32)

    def _leave(self, scope: _Scope) -> bool:
        rng = self.rng
        which = rng.random()
        label = self._label(scope)
        if which < 0.3:
            self._push_all(scope, scope.labels[-1 - label])
            scope.out.append(Instr(op.BR, label))
        elif which < 0.5:
            carried = scope.labels[-1 - label]
            same = [i for i in range(len(scope.labels)) if scope.labels[-1 - i] == carried]
            self._push_all(scope, carried)
            self._push(scope, I32)
            targets = tuple(rng.choices(same, k=rng.randrange(4)))
            scope.out.append(Instr(op.BR_TABLE, (targets, label)))
        elif which < 0.7:
            self._push_all(scope, scope.functype.results)
            scope.out.append(Instr(op.RETURN))
        else:
            fitting = [i for i, kind in enumerate(self.functions) if kind.results == scope.functype.results]
            target = rng.choice(fitting)
            self._push_all(scope, self.functions[target].params)
            scope.out.append(Instr(op.RETURN_CALL, 1 + target))
        if rng.random() < 0.4:  # dead code, with its polymorphic stack
            scope.out += [Instr(op.CALL, 0), Instr(op.DROP)]
        return True

    def _label(self, scope: _Scope) -> int:
        usable = [i for i in range(len(scope.labels)) if EXNREF not in scope.labels[-1 - i]]
        return self.rng.choice(usable)
