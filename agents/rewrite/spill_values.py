"""Finds which values of a function may be pointers, and where each is: one forward walk over a validated body.

Every operand is a :class:`Value`, identified by the instruction that pushed it; locals by their number. Each has
a *kind*. PLAIN: no pointer, and nothing that arithmetic on plain values gives is one (comparisons, small constants,
loaded bytes, addresses in the shadow stack itself). ADDRESS: no pointer to what a collector may free, but arithmetic
may make one of it (large constants, shifted and scaled values). POINTER: anything else; when in doubt, it is that.

The walk is the textbook forward may-analysis: kinds only grow, they are joined at labels, and it repeats until the
kinds at loop heads are stable. It does not decide what is spilled (:mod:`agents.rewrite.spill_places`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from agents.rewrite.skeleton import CALLS, OPENERS, TERMINATORS
from agents.wasm import opcodes as op
from agents.wasm.context import FIXED, Context, effect_of
from agents.wasm.syntax import I32, I64, V128, Func, Instr, ValType

PLAIN, ADDRESS, POINTER = 0, 1, 2
#: Smaller constants are not addresses: compilers keep the first page free of objects, so that null is distinct.
SMALL_ADDRESS = 1024
#: A mask that leaves fewer bits leaves no address.
NARROW = 1 << 16

_SPREADING = frozenset(  # the result may be a pointer when an operand is one
    {op.I32_ADD, op.I32_SUB, op.I32_AND, op.I32_OR, op.I32_XOR, op.I32_SHL, op.I32_ROTL, op.I32_ROTR}
    | {op.I64_ADD, op.I64_SUB, op.I64_AND, op.I64_OR, op.I64_XOR, op.I64_SHL, op.I64_ROTL, op.I64_ROTR}
)
_SUMS = frozenset((op.I32_ADD, op.I32_SUB, op.I32_SHL, op.I64_ADD, op.I64_SUB, op.I64_SHL))
_MASKS = frozenset((op.I32_AND, op.I64_AND))
_SCALING = frozenset(  # no pointer itself
    (op.I32_SHR_S, op.I32_SHR_U, op.I32_MUL, op.I64_SHR_S, op.I64_SHR_U, op.I64_MUL)
)
_COPYING = frozenset((op.I32_WRAP_I64, op.I64_EXTEND_I32_S, op.I64_EXTEND_I32_U))
_CONSTANTS = frozenset((op.I32_CONST, op.I64_CONST))
#: Instructions whose integer results are never pointers, whatever their operands.
_NUMBERS = (
    frozenset(range(op.I32_EQZ, op.F64_GE + 1))
    | frozenset((op.I32_CLZ, op.I32_CTZ, op.I32_POPCNT, op.I64_CLZ, op.I64_CTZ, op.I64_POPCNT))
    | frozenset((op.I32_DIV_S, op.I32_DIV_U, op.I32_REM_S, op.I32_REM_U))
    | frozenset((op.I64_DIV_S, op.I64_DIV_U, op.I64_REM_S, op.I64_REM_U))
    | frozenset((op.I32_LOAD8_S, op.I32_LOAD8_U, op.I32_LOAD16_S, op.I32_LOAD16_U))
    | frozenset((op.I64_LOAD8_S, op.I64_LOAD8_U, op.I64_LOAD16_S, op.I64_LOAD16_U))
    | frozenset((op.I32_EXTEND8_S, op.I32_EXTEND16_S, op.I64_EXTEND8_S, op.I64_EXTEND16_S))
    | frozenset(range(op.I32_TRUNC_F32_S, op.I32_TRUNC_F64_U + 1))
    | frozenset(range(op.I64_TRUNC_F32_S, op.I64_TRUNC_F64_U + 1))
    | frozenset(range(op.I32_TRUNC_SAT_F32_S, op.I64_TRUNC_SAT_F64_U + 1))
    | frozenset((op.REF_IS_NULL, op.TABLE_SIZE, op.V128_ANY_TRUE))
)


@attrs.define(slots=True, eq=False, repr=False)
class Value:
    """An operand: pushed by the instruction at ``position``, with ``above`` more of its results on top.

    ``local``: the local that it is a copy of, or -1. ``moved``: that local was written meanwhile.
    """

    position: int
    above: int
    type: ValType
    kind: int
    local: int = -1
    moved: bool = False
    constant: int | None = None


@attrs.define(slots=True)
class _Label:
    code: int
    start: int
    height: int  # of the whole operand stack, below the block's parameters
    params: list[Value]
    results: list[ValType]
    kinds: list[int]  # of what branches bring
    state: tuple[int, int] | None = None  # of the locals, joined over what goes to the end
    after_if: tuple[int, int] | None = None
    alive: bool = True  # whether the opener could be reached


@attrs.frozen
class AtCall:
    """The state just before a call: locals that may be pointers (a bit set), and the operands below it."""

    pointers: int
    below: tuple[Value, ...]


class Survey:
    """Walks one body; :meth:`run` returns the state at each call that ``asked`` accepts."""

    def __init__(
        self,
        context: Context,
        func: Func,
        stack_pointer: int,
        asked: Callable[[Instr], bool],
        kind_of_result: Callable[[Instr], int],
        kinds_of_params: Sequence[int],
    ) -> None:
        self.context, self.body, self.stack_pointer = context, func.body, stack_pointer
        self.asked, self.kind_of_result = asked, kind_of_result
        functype = context.types[func.type]
        self.locals = context.locals_of(func)
        self.results = list(functype.results)
        holds = [index for index, valtype in enumerate(self.locals) if valtype in (I32, I64, V128)]
        self.everything = sum(1 << index for index in holds)
        at_entry = [1 << index for index in range(len(functype.params)) if kinds_of_params[index] == POINTER]
        self.entry = sum(at_entry) & self.everything
        self.values: dict[tuple[int, int], Value] = {}
        self.heads: dict[int, tuple[int, int]] = {}
        self.found: dict[int, AtCall] = {}
        self.returned = PLAIN
        self.grew = False

    def run(self) -> Mapping[int, AtCall]:
        """By position. Afterwards ``returned`` is the highest kind of a result."""
        while True:
            self.grew = False
            self.found = {}
            self._sweep()
            if not self.grew:
                return self.found

    # --- the operand stack ---------------------------------------------------------------------------------

    def _new(self, position: int, above: int, valtype: ValType, kind: int, local: int = -1) -> Value:
        if valtype not in (I32, I64, V128):
            kind = PLAIN
        value = self.values.get((position, above))
        if value is None:
            value = self.values[position, above] = Value(position, above, valtype, kind, local)
        elif kind > value.kind:
            value.kind = kind
        return value

    def _push(self, position: int, valtypes: Sequence[ValType], kinds: Sequence[int]) -> None:
        for place, valtype in enumerate(valtypes):
            self.stack.append(self._new(position, len(valtypes) - 1 - place, valtype, kinds[place]))

    def _local_kind(self, local: int) -> int:
        bit = 1 << local
        return POINTER if self.pointers & bit else ADDRESS if self.addresses & bit else PLAIN

    def _write(self, local: int, kind: int) -> None:
        bit = 1 << local
        self.pointers &= ~bit
        self.addresses &= ~bit
        if kind == POINTER and self.everything & bit:
            self.pointers |= bit
        elif kind == ADDRESS:
            self.addresses |= bit
        for value in self.stack:
            if value.local == local:
                value.moved = True

    # --- the walk ------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        self.stack: list[Value] = []
        self.pointers, self.addresses = self.entry, self.everything & ~self.entry
        self.alive = True
        self.labels = [_Label(op.BLOCK, -1, 0, [], self.results, [PLAIN] * len(self.results))]
        for position, instr in enumerate(self.body):
            code = instr.code
            if code in OPENERS:
                self._open(position, instr)
            elif code == op.END:
                self._end(position)
            elif code == op.ELSE:
                self._else()
            elif self.alive:
                self._step(position, instr)

    def _step(self, position: int, instr: Instr) -> None:
        code = instr.code
        stack = self.stack
        if code == op.LOCAL_GET:
            local = instr.imm
            stack.append(self._new(position, 0, self.locals[local], self._local_kind(local), local))
        elif code == op.LOCAL_SET:
            self._write(instr.imm, stack.pop().kind)
        elif code == op.LOCAL_TEE:
            kind = stack.pop().kind
            self._write(instr.imm, kind)
            stack.append(self._new(position, 0, self.locals[instr.imm], kind, instr.imm))
        elif code in CALLS:
            _, pops, pushes = effect_of(self.context, instr)
            del stack[len(stack) - len(pops) :]
            if self.asked(instr):
                self.found[position] = AtCall(self.pointers, tuple(stack))
            self._push(position, pushes, [self.kind_of_result(instr)] * len(pushes))
        elif code in TERMINATORS:
            self._leave(instr)
        elif code == op.BR_IF:
            stack.pop()
            self._branch(instr.imm)
        elif code == op.BR_ON_NULL:
            reference = stack.pop()
            self._branch(instr.imm)
            stack.append(reference)
        elif code == op.BR_ON_NON_NULL:
            self._branch(instr.imm)
            stack.pop()
        elif code == op.DROP:
            stack.pop()
        elif code == op.SELECT or code == op.SELECT_T:
            stack.pop()
            second, first = stack.pop(), stack.pop()
            stack.append(self._new(position, 0, first.type, max(first.kind, second.kind)))
        elif code == op.REF_IS_NULL:
            stack.pop()
            stack.append(self._new(position, 0, I32, PLAIN))
        elif code != op.REF_AS_NON_NULL:
            _, pops, pushes = FIXED.get(code) or self.context.effects[instr] or effect_of(self.context, instr)
            operands = stack[len(stack) - len(pops) :]
            del stack[len(stack) - len(pops) :]
            if pushes:
                kind = self._kind(instr, operands)
                self._push(position, pushes, [kind] * len(pushes))
                if code in _CONSTANTS:
                    stack[-1].constant = instr.imm

    def _kind(self, instr: Instr, operands: Sequence[Value]) -> int:
        code = instr.code
        if code in _NUMBERS:
            return PLAIN
        if code in _CONSTANTS:
            return PLAIN if -SMALL_ADDRESS < instr.imm < SMALL_ADDRESS else ADDRESS
        if code in _SPREADING:
            one, other = operands
            if code in _MASKS:
                for value in operands:
                    if value.constant is not None and 0 <= value.constant < NARROW:
                        return PLAIN
            kind = max(one.kind, other.kind)
            return POINTER if kind == ADDRESS and code in _SUMS else kind
        if code in _SCALING:
            return min(ADDRESS, max(value.kind for value in operands))
        if code in _COPYING:
            return operands[0].kind
        if code == op.GLOBAL_GET:
            if instr.imm == self.stack_pointer:
                return PLAIN
            return POINTER if self.context.globals[instr.imm].mutable else ADDRESS
        if code == op.MEMORY_SIZE or code == op.MEMORY_GROW:
            return ADDRESS
        return POINTER

    # --- control -------------------------------------------------------------------------------------------

    def _open(self, position: int, instr: Instr) -> None:
        code = instr.code
        if not self.alive:
            self.labels.append(_Label(code, position, 0, [], [], [], alive=False))
            return
        block = instr.imm[0] if code == op.TRY_TABLE else instr.imm
        params, results = self.context.block_type(block)
        if code == op.IF:
            self.stack.pop()
        height = len(self.stack) - len(params)
        label = _Label(code, position, height, self.stack[height:], results, [PLAIN] * len(results))
        if code == op.LOOP:
            del self.stack[height:]
            self._push(position, params, [POINTER] * len(params))
            self._to_head(position)
            self.pointers, self.addresses = self.heads[position]
        elif code == op.IF:
            label.after_if = self.pointers, self.addresses
        elif code == op.TRY_TABLE:
            for clause in instr.imm[1]:  # an exception may come from anywhere inside
                self._arrive(clause.label, [POINTER] * len(self.labels[-1 - clause.label].results), True)
        self.labels.append(label)

    def _to_head(self, position: int) -> None:
        before = self.heads.get(position, (0, 0))
        after = before[0] | self.pointers, before[1] | self.addresses
        if before != after or position not in self.heads:
            self.heads[position] = after
            self.grew = True

    def _branch(self, depth: int) -> None:
        label = self.labels[-1 - depth]
        if label.code == op.LOOP:
            self._to_head(label.start)
            return
        many = len(label.results)
        self._arrive(depth, [value.kind for value in self.stack[len(self.stack) - many :]] if many else [], False)

    def _arrive(self, depth: int, kinds: list[int], thrown: bool) -> None:
        label = self.labels[-1 - depth]
        state = (self.everything, self.everything) if thrown else (self.pointers, self.addresses)
        if label.code == op.LOOP:
            keep = self.pointers, self.addresses
            self.pointers, self.addresses = state
            self._to_head(label.start)
            self.pointers, self.addresses = keep
            return
        self._join(label, kinds, state)

    def _join(self, label: _Label, kinds: list[int], state: tuple[int, int]) -> None:
        label.kinds = [max(pair) for pair in zip(label.kinds, kinds, strict=True)]
        before = label.state or (0, 0)
        label.state = before[0] | state[0], before[1] | state[1]
        if label.start < 0:
            self.returned = max([self.returned, *kinds])

    def _leave(self, instr: Instr) -> None:
        code = instr.code
        if code == op.BR:
            self._branch(instr.imm)
        elif code == op.BR_TABLE:
            self.stack.pop()
            for depth in {*instr.imm[0], instr.imm[1]}:
                self._branch(depth)
        elif code == op.RETURN:
            self._branch(len(self.labels) - 1)
        elif code in (op.RETURN_CALL, op.RETURN_CALL_INDIRECT, op.RETURN_CALL_REF):
            self.returned = POINTER
        self.alive = False

    def _else(self) -> None:
        label = self.labels[-1]
        if not label.alive:
            return
        if self.alive:
            self._fall(label)
        assert label.after_if is not None  # an `else` belongs to an `if`
        self.pointers, self.addresses = label.after_if
        label.after_if = None
        del self.stack[label.height :]
        self.stack += label.params
        self.alive = True

    def _fall(self, label: _Label) -> None:
        many = len(label.results)
        kinds = [value.kind for value in self.stack[len(self.stack) - many :]] if many else []
        self._join(label, kinds, (self.pointers, self.addresses))

    def _end(self, position: int) -> None:
        label = self.labels[-1]
        if label.alive and label.after_if is not None:
            self._else()  # without an `else`, the parameters are the results
        self.labels.pop()
        if not label.alive:
            return
        if self.alive and label.state is None and label.start >= 0:
            return  # nothing but what falls through
        if self.alive:
            self._fall(label)
        self.alive = label.state is not None
        if label.state is None:
            return
        self.pointers, self.addresses = label.state
        del self.stack[label.height :]
        self._push(position, label.results, label.kinds)
