"""Finds whose NaNs have open bits, and where they would be seen: one forward walk over a validated body.

A *source* is an instruction whose result may be a NaN with bits that depend on the place: one of arithmetic, or one
that passes such bits on changed (a sign flipped, a lane taken out). A value is described by a bit set, its *origins*:
bit 0, EXACT, when it may be a NaN whose bits are the same everywhere, and one bit for each source whose result it may
be. The empty set is a value that is never a NaN. Origins are joined at labels; the walk repeats until those at loop
heads are stable. A *use* is an operand whose bits are seen.

This is the textbook forward may-analysis (reaching definitions, through locals and operands). It decides nothing:
:mod:`agents.rewrite.nan_places` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from agents.rewrite.nan_kinds import ROLES, TYPES, NanRole, Shape, is_never_nan, keeps_lanes
from agents.rewrite.skeleton import OPENERS, TERMINATORS
from agents.wasm import opcodes as op
from agents.wasm.context import FIXED, Context, effect_of
from agents.wasm.syntax import F32, F64, FUNCREF, I32, V128, Func, FuncType, Instr, ValType

EXACT = 1
_FLOATS = frozenset((F32, F64, V128))
_SHUFFLED: tuple[Shape, ...] = ("f64x2", "f32x4")


@attrs.define(slots=True, eq=False, repr=False)
class Source:
    """Number `number` of a function, bit `1 << number` of origins. `operand`: origins of what it changed."""

    number: int
    position: int
    role: NanRole
    depth: int  # of loops around it
    operand: int = 0


@attrs.define(slots=True, eq=False, repr=False)
class Use:
    """An operand of the instruction at `position`. `types`: its type, and of those above it, the top one last.

    `reads`: the shapes whose NaNs are all the same to it; it sees those of sources of other shapes only.
    """

    position: int
    types: tuple[ValType, ...]
    reads: frozenset[Shape]
    depth: int
    #: It cannot be changed where it is used, since what follows needs more: the sources have to be.
    only_sources: bool = False
    origins: int = 0


@attrs.define(slots=True)
class _Label:
    code: int
    start: int
    height: int  # of the operand stack, below the block's parameters
    params: list[int]
    results: list[ValType]
    origins: list[int]  # of what branches bring
    state: list[int] | None = None  # of the locals, joined over what goes to the end
    after_if: list[int] | None = None
    alive: bool = True  # whether the opener could be reached


class TooMuch(Exception):
    """The function is so large that following its values would take long."""


MAX_WORK = 4_000_000  # of origins that are copied or joined at labels


class Values:
    """Walks one body; after `run`, `sources` and `uses` say what was found."""

    def __init__(self, context: Context, func: Func) -> None:
        self.context, self.body = context, func.body
        functype: FuncType = context.types[func.type]
        self.results = list(functype.results)
        self.types = context.locals_of(func)
        self.params = len(functype.params)
        tracked = [index for index, valtype in enumerate(self.types) if valtype in _FLOATS]
        self.slots = {local: slot for slot, local in enumerate(tracked)}
        self.sources: list[Source] = []
        self.of_shape: dict[Shape, int] = dict.fromkeys(TYPES, 0)  # the sources that give it
        self.uses: dict[tuple[int, int], Use] = {}
        self._by_position: dict[int, Source] = {}
        self._heads: dict[int, tuple[list[int], list[int]]] = {}
        self._ever = [EXACT if local < self.params else 0 for local in tracked]  # all that a local ever holds
        self._work = 0
        self._grew = False

    def run(self) -> None:
        """Raises `TooMuch`."""
        while True:
            self._grew = False
            self._sweep()
            if not self._grew:
                return

    def _sweep(self) -> None:
        self.stack: list[int] = []
        self.locals = [EXACT if local < self.params else 0 for local in self.slots]
        self.alive, self.depth = True, 0
        self.labels = [_Label(op.BLOCK, -1, 0, [], self.results, [0] * len(self.results))]
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

    # --- sources and uses ----------------------------------------------------------------------------------

    def _source(self, position: int, role: NanRole, operand: int) -> int:
        found = self._by_position.get(position)
        if found is None:
            found = self._by_position[position] = Source(len(self.sources) + 1, position, role, self.depth)
            self.sources.append(found)
            self.of_shape[role.gives] |= 1 << found.number
        if operand | found.operand != found.operand:
            found.operand |= operand
            self._grew = True
        return 1 << found.number

    def _of(self, origins: int, shapes: frozenset[Shape]) -> int:
        """The origins as they are after something that moves lanes of these shapes: the bits of others are exact."""
        kept = self.in_shapes(shapes)
        return origins & (kept | EXACT) | (EXACT if origins & ~kept else 0)

    def in_shapes(self, shapes: frozenset[Shape]) -> int:
        """The sources that give one of these shapes."""
        found = 0
        for shape in shapes:
            found |= self.of_shape[shape]
        return found

    def _use(
        self,
        position: int,
        types: Sequence[ValType],
        origins: int,
        reads: frozenset[Shape] = frozenset(),
        only_sources: bool = False,
    ) -> None:
        if origins > EXACT:
            key = position, len(types)
            use = self.uses.get(key)
            if use is None:
                use = self.uses[key] = Use(position, tuple(types), reads, self.depth, only_sources)
            use.origins |= origins

    # --- instructions --------------------------------------------------------------------------------------

    def _step(self, position: int, instr: Instr) -> None:
        code, stack = instr.code, self.stack
        if code == op.LOCAL_GET:
            slot = self.slots.get(instr.imm)
            stack.append(0 if slot is None else self.locals[slot])
        elif code == op.LOCAL_SET or code == op.LOCAL_TEE:
            slot = self.slots.get(instr.imm)
            if slot is not None:
                self._write(slot, stack[-1])
            if code == op.LOCAL_SET:
                stack.pop()
        elif code in ROLES:
            self._float(position, instr, ROLES[code])
        elif code == op.BR_IF:
            self._branch(position, instr.imm, [I32])
            stack.pop()
        elif code == op.BR_ON_NULL:
            self._branch(position, instr.imm, [FUNCREF], only_sources=True)
        elif code == op.BR_ON_NON_NULL:
            self._branch(position, instr.imm, [], only_sources=True)
            stack.pop()
        elif code in TERMINATORS:
            self._leave(position, instr)
        elif code == op.DROP:
            stack.pop()
        elif code == op.SELECT or code == op.SELECT_T:
            stack.pop()
            second = stack.pop()
            stack[-1] |= second
        elif code == op.REF_IS_NULL or code == op.REF_AS_NON_NULL:
            stack[-1] = 0
        elif code == op.I8X16_SHUFFLE:
            reads = frozenset(shape for shape in _SHUFFLED if keeps_lanes(instr.imm, shape))
            self._plain(position, instr, reads)
            if reads:
                stack[-1] = self._of(self._popped[0] | self._popped[1], reads)
        elif code == op.F32_COPYSIGN or code == op.F64_COPYSIGN:
            sign, value = stack.pop(), stack.pop()
            valtype = F32 if code == op.F32_COPYSIGN else F64
            self._use(position, [valtype], sign)
            self._use(position, [valtype, valtype], value, only_sources=True)
            stack.append(EXACT if value else 0)
        else:
            self._plain(position, instr, frozenset())

    def _plain(self, position: int, instr: Instr, reads: frozenset[Shape]) -> None:
        """An instruction that reads its operands exactly, but for sources of the shapes `reads`."""
        stack = self.stack
        _, pops, pushes = FIXED.get(instr.code) or self.context.effects[instr] or effect_of(self.context, instr)
        bottom = len(stack) - len(pops)
        self._popped = popped = stack[bottom:]
        del stack[bottom:]
        for place, origins in enumerate(popped):
            if origins > EXACT:
                self._use(position, pops[place:], origins, reads)
        for valtype in pushes:
            stack.append(EXACT if valtype in _FLOATS and not is_never_nan(instr) else 0)

    def _float(self, position: int, instr: Instr, role: NanRole) -> None:
        kind = role.role
        reads: frozenset[Shape] = frozenset() if kind == "integer" else frozenset((role.reads,))
        self._plain(position, instr, reads)
        stack = self.stack
        if kind == "arithmetic":
            stack[-1] = self._source(position, role, 0)
        elif kind == "choose":
            stack[-1] = self._of(self._popped[0] | self._popped[1], reads)
        elif kind in ("negate", "absolute", "same"):
            operand = self._of(self._popped[0], reads)
            stack[-1] = operand & EXACT
            if operand > EXACT:
                stack[-1] |= self._source(position, role, operand)
        elif kind == "integer":
            stack[-1] = 0

    def _write(self, slot: int, origins: int) -> None:
        self.locals[slot] = origins
        if origins | self._ever[slot] != self._ever[slot]:
            self._ever[slot] |= origins
            self._grew = True

    # --- control -------------------------------------------------------------------------------------------

    def _count(self) -> None:
        self._work += (len(self.slots) + 4) * (1 + len(self.sources) // 256)
        if self._work > MAX_WORK:
            raise TooMuch

    def _open(self, position: int, instr: Instr) -> None:
        code = instr.code
        if not self.alive:
            self.labels.append(_Label(code, position, 0, [], [], [], alive=False))
            return
        self._count()
        block = instr.imm[0] if code == op.TRY_TABLE else instr.imm
        params, results = self.context.block_type(block)
        if code == op.IF:
            self.stack.pop()
        height = len(self.stack) - len(params)
        label = _Label(code, position, height, self.stack[height:], results, [0] * len(results))
        if code == op.LOOP:
            self._to_head(position, label.params, self.locals)
            heads = self._heads[position]
            self.stack[height:], self.locals = list(heads[1]), list(heads[0])
            self.depth += 1
        elif code == op.IF:
            label.after_if = list(self.locals)
        elif code == op.TRY_TABLE:
            for clause in instr.imm[1]:  # an exception may come from anywhere inside, with what was thrown
                thrown = [EXACT] * self._arity(clause.label)
                self._arrive(clause.label, thrown, self._ever)
        self.labels.append(label)

    def _arity(self, depth: int) -> int:
        label = self.labels[-1 - depth]
        return len(label.params if label.code == op.LOOP else label.results)

    def _to_head(self, position: int, params: list[int], state: list[int]) -> None:
        before = self._heads.get(position)
        if before is None:
            self._heads[position] = list(state), list(params)
            self._grew = True
            return
        joined = _joined(before[0], state), _joined(before[1], params)
        if joined != before:
            self._heads[position] = joined
            self._grew = True

    def _branch(self, position: int, depth: int, above: list[ValType], only_sources: bool = False) -> None:
        """To a label; operands of the types `above` lie above those that go there."""
        many = self._arity(depth)
        end = len(self.stack) - len(above)
        brought = self.stack[end - many : end]
        label = self.labels[-1 - depth]
        if label.start < 0:  # it returns
            for place, origins in enumerate(brought):
                self._use(position, [*self.results[place:], *above], origins, only_sources=only_sources)
        else:
            self._arrive(depth, brought, self.locals)

    def _arrive(self, depth: int, brought: list[int], state: list[int]) -> None:
        self._count()
        label = self.labels[-1 - depth]
        if label.code == op.LOOP:
            self._to_head(label.start, brought, state)
        else:
            label.origins = _joined(label.origins, brought)
            label.state = list(state) if label.state is None else _joined(label.state, state)

    def _leave(self, position: int, instr: Instr) -> None:
        code = instr.code
        if code == op.BR:
            self._branch(position, instr.imm, [])
        elif code == op.BR_TABLE:
            for depth in {*instr.imm[0], instr.imm[1]}:
                self._branch(position, depth, [I32])
        elif code == op.RETURN:
            self._branch(position, len(self.labels) - 1, [])
        elif code != op.UNREACHABLE and code != op.THROW_REF:
            pops = self._taken(instr)
            for place in range(len(pops)):
                self._use(position, pops[place:], self.stack[place - len(pops)])
        self.alive = False

    def _taken(self, instr: Instr) -> Sequence[ValType]:
        """The operands of a tail call or a throw."""
        if instr.code == op.THROW:
            return self.context.tag(instr.imm).params
        plain = {op.RETURN_CALL: op.CALL, op.RETURN_CALL_INDIRECT: op.CALL_INDIRECT, op.RETURN_CALL_REF: op.CALL_REF}
        return effect_of(self.context, Instr(plain[instr.code], instr.imm))[1]

    def _else(self) -> None:
        label = self.labels[-1]
        if not label.alive:
            return
        if self.alive:
            self._arrive(0, self._results(label), self.locals)
        assert label.after_if is not None  # an `else` belongs to an `if`
        self.locals, label.after_if = label.after_if, None
        self.stack[label.height :] = label.params
        self.alive = True

    def _results(self, label: _Label) -> list[int]:
        return self.stack[len(self.stack) - len(label.results) :]

    def _end(self, position: int) -> None:
        label = self.labels[-1]
        if label.alive and label.after_if is not None:
            self._else()  # without an `else`, the parameters are the results
        if label.code == op.LOOP and label.alive:
            self.depth -= 1
        if not label.alive:
            self.labels.pop()
            return
        if label.start < 0:
            if self.alive:
                self._branch(position, 0, [])
            return
        if label.code == op.LOOP:  # its end is reached by falling through only
            self.labels.pop()
            return
        if self.alive:
            self._arrive(0, self._results(label), self.locals)
        self.labels.pop()
        self.alive = label.state is not None
        if label.state is not None:
            self.locals = label.state
            self.stack[label.height :] = label.origins


def _joined(one: list[int], other: list[int]) -> list[int]:
    return [a | b for a, b in zip(one, other, strict=True)]
