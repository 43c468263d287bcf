"""Validation of function bodies (WebAssembly 3.0, section 3.4 and appendix A.3, the algorithm).

One pass over the flat body with an operand stack *per block*, so that an operand below the innermost block
cannot be reached by mistake, and so that the stack is what `operands` reports. Instructions whose type does
not depend on their place are looked up (`context`); the others are the methods of `_Body`, one each.

Not here: constant expressions and module fields (`validate`). Invariants: an operand stack holds canonical
types; `BOTTOM` is on it only after an instruction that never continues.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import attrs

from agents.errors import InvalidModule, ModuleTooLarge

from . import opcodes as op
from .context import FIXED, Context, Effect, Wrong, effect_of, indirect
from .decode import instruction_offsets
from .matching import (
    BOTTOM,
    BOTTOM_REF,
    Bottom,
    Operand,
    all_match,
    defaultable,
    is_number_or_vector,
    matches,
    type_name,
)
from .syntax import I32, BlockType, Catch, Func, FuncType, Instr, RefType, ValType


@attrs.define
class _Frame:
    """An open block; `stack`, `dead`, `buried` and `below` are those of the code around it."""

    code: int
    start: list[ValType]
    end: list[ValType]
    stack: list[Operand]
    dead: bool
    buried: bool
    below: int
    initialised: int

    @property
    def label(self) -> list[ValType]:
        """What a branch to it takes along."""
        return self.start if self.code == op.LOOP else self.end


class _Body:
    """One function being checked. Used once."""

    def __init__(self, context: Context, func: Func) -> None:
        self.context = context
        self.type: FuncType = context.types[func.type] if 0 <= func.type < len(context.types) else FuncType()
        self.locals = context.locals_of(func)
        self.stack: list[Operand] = []  # operands of the innermost block
        self.dead = False  # whether the innermost block cannot reach this point: its stack is polymorphic
        self.buried = False  # whether a block around it cannot
        self.below = 0  # operands of the blocks around it
        self.frames = [_Frame(op.BLOCK, [], list(self.type.results), [], False, False, 0, 0)]
        # Locals without a default value that no instruction has set yet (3.2.18), and those set, in order.
        params = len(self.type.params)
        self.unset = {i for i, kind in enumerate(self.locals) if i >= params and not defaultable(kind)}
        self.initialised: list[int] = []
        self.place = self.last = 0

    def run(self, body: Sequence[Instr], at: Collection[int]) -> dict[int, tuple[Operand, ...]]:
        """Check everything; the operands before each reachable instruction in `at`. Raises `Wrong`."""
        found: dict[int, tuple[Operand, ...]] = {}
        wanted = iter(sorted(at))
        stop = next(wanted, -1)
        effects = self.context.effects
        local_types = None if self.unset else self.locals
        stack = self.stack
        self.last = len(body) - 1
        for place, instr in enumerate(body):
            if place == stop:
                if not self.dead and not self.buried:
                    self.place = place
                    self.context.moved(len(stack))
                    found[place] = tuple(stack)
                stop = next(wanted, -1)
            code = instr.code
            if code == op.LOCAL_GET and local_types is not None:
                try:
                    stack.append(local_types[instr.imm])
                except IndexError:
                    self.place = place
                    raise Wrong(f"unknown local {instr.imm}") from None
                continue
            effect = FIXED.get(code)
            if effect is None:
                method = _METHODS.get(code)
                self.place = place
                if method is not None:
                    method(self, instr.imm)
                    stack = self.stack
                    continue
                effect = effects[instr]
                if effect is None:
                    self.large(effect_of(self.context, instr))
                    continue
            many, pops, pushes = effect
            if not many:
                stack += pushes
            elif stack[-many:] == pops:
                stack[-many:] = pushes
            else:
                self.place = place
                self.pop_all(pops)
                stack += pushes
        if self.frames:
            self.place = max(self.last, 0)
            raise Wrong("the body does not end with its end")
        return found

    # --- operands ------------------------------------------------------------------------------------------

    def pop(self, want: Operand) -> Operand:
        """Pop an operand that matches `want`. Raises `Wrong`."""
        found = self.pop_any()
        if found is not want and not matches(found, want):
            raise Wrong(f"type mismatch: expected {type_name(want)}, found {type_name(found)}")
        return found

    def pop_any(self) -> Operand:
        """Pop an operand of whatever type. Raises `Wrong`."""
        if self.stack:
            return self.stack.pop()
        if self.dead:
            return BOTTOM
        raise Wrong("type mismatch: nothing on the stack")

    def pop_all(self, kinds: Sequence[ValType]) -> None:
        """Pop operands that match `kinds`, whose last is on top. Raises `Wrong`."""
        many = len(kinds)
        stack = self.stack
        if not many:
            return
        if stack[-many:] == kinds:
            del stack[-many:]
            return
        if many > len(stack) and not self.dead:
            raise Wrong(f"type mismatch: expected {many} operands, found {len(stack)}")
        for kind in reversed(kinds):
            self.pop(kind)

    def pop_ref(self) -> RefType:
        """Pop a reference. Raises `Wrong`."""
        found = self.pop_any()
        if isinstance(found, Bottom):
            return BOTTOM_REF
        if isinstance(found, RefType):
            return found
        raise Wrong(f"type mismatch: expected a reference, found {type_name(found)}")

    def never(self) -> None:
        """The code that follows in this block is unreachable."""
        self.stack.clear()
        self.dead = True

    def large(self, effect: Effect) -> None:
        """An effect on many operands: what bounds the work is how many, not how many instructions."""
        _, pops, pushes = effect
        self.context.moved(len(pops) + len(pushes))
        self.pop_all(pops)
        self.stack += pushes
        self.check_height()

    def check_height(self) -> None:
        """Raises `ModuleTooLarge`."""
        height = self.below + len(self.stack)
        if height > self.context.bounds.operands:
            self.context.bounds.check("operands", height, None)

    # --- blocks (3.4.4) ------------------------------------------------------------------------------------

    def enter(self, code: int, start: list[ValType], end: list[ValType]) -> None:
        """Open a block whose parameters are on the stack. Raises `Wrong`."""
        self.pop_all(start)
        self.push_frame(code, start, end)

    def push_frame(self, code: int, start: list[ValType], end: list[ValType]) -> None:
        """Open a block whose parameters have been popped."""
        self.context.moved(len(start) + len(end))
        if len(self.frames) > self.context.bounds.nesting:
            self.context.bounds.check("nesting", len(self.frames), None)
        frame = _Frame(code, start, end, self.stack, self.dead, self.buried, self.below, len(self.initialised))
        self.frames.append(frame)
        self.buried = self.buried or self.dead
        self.dead = False
        self.below += len(self.stack)
        self.stack = list(start)
        self.check_height()

    def block(self, block: BlockType) -> None:
        """Also the first half of every other block."""
        self.enter(op.BLOCK, *self.context.block_type(block))

    def loop(self, block: BlockType) -> None:
        """Its label takes its parameters."""
        self.enter(op.LOOP, *self.context.block_type(block))

    def if_(self, block: BlockType) -> None:
        """Takes a condition from above its parameters."""
        self.pop(I32)
        self.enter(op.IF, *self.context.block_type(block))

    def try_table(self, imm: tuple[BlockType, tuple[Catch, ...]]) -> None:
        """Its clauses branch to labels around it."""
        start, end = self.context.block_type(imm[0])
        for clause in imm[1]:
            given: list[ValType] = [] if clause.tag is None else list(self.context.tag(clause.tag).params)
            if clause.kind in ("catch_ref", "catch_all_ref"):
                given.append(RefType(False, "exn"))
            self.context.moved(len(given))
            if not all_match(given, self.label(clause.label)):
                raise Wrong("type mismatch: a catch clause and its label")
        self.enter(op.TRY_TABLE, start, end)

    def leave(self) -> _Frame:
        """Close a block. Raises `Wrong`."""
        if not self.frames:
            raise Wrong("an end without a block")
        frame = self.frames.pop()
        if self.stack != frame.end:
            self.pop_all(frame.end)
            if self.stack:
                raise Wrong(f"type mismatch: {len(self.stack)} values remain at the end of a block")
        while len(self.initialised) > frame.initialised:
            self.unset.add(self.initialised.pop())
        self.stack, self.dead = frame.stack, frame.dead
        self.buried, self.below = frame.buried, frame.below
        return frame

    def else_(self, imm: None) -> None:
        """The second arm starts as the first did."""
        frame = self.leave()
        if frame.code != op.IF:
            raise Wrong("an else without an if")
        self.push_frame(op.ELSE, frame.start, frame.end)

    def end(self, imm: None) -> None:
        """An `if` without `else` gives back its parameters."""
        frame = self.leave()
        if frame.code == op.IF and not all_match(frame.start, frame.end):
            raise Wrong("type mismatch: an if without else that changes the stack")
        if self.frames:
            self.stack += frame.end
        elif self.place != self.last:
            raise Wrong("instructions after the end of the body")

    # --- branches (3.4.4) ----------------------------------------------------------------------------------

    def label(self, depth: int) -> list[ValType]:
        """What a branch to the label `depth` takes along. Raises `Wrong`."""
        if not 0 <= depth < len(self.frames):
            raise Wrong(f"unknown label {depth}")
        return self.frames[-1 - depth].label

    def br(self, depth: int) -> None:
        """Never continues."""
        kinds = self.label(depth)
        self.context.moved(len(kinds))
        self.pop_all(kinds)
        self.never()

    def br_if(self, depth: int) -> None:
        """Gives back what the branch would have taken."""
        self.pop(I32)
        self.through(self.label(depth))

    def through(self, kinds: list[ValType]) -> None:
        """Pop `kinds` and push them."""
        if kinds:
            self.context.moved(len(kinds))
            self.pop_all(kinds)
            self.stack += kinds
            self.check_height()

    def br_table(self, imm: tuple[tuple[int, ...], int]) -> None:
        """Every label takes the same operands, by its own types. Labels of one type are looked at once."""
        self.pop(I32)
        last = self.label(imm[1])
        arity = len(last)
        seen: set[int] = {id(last)}
        for depth in imm[0]:
            kinds = self.label(depth)
            if id(kinds) in seen:
                continue
            seen.add(id(kinds))
            if len(kinds) != arity:
                raise Wrong("type mismatch: labels of a br_table take different numbers of operands")
            self.context.moved(arity)
            if arity:
                held = self.stack[-arity:]
                self.pop_all(kinds)
                self.stack += held
        self.context.moved(arity)
        self.pop_all(last)
        self.never()

    def br_on_null(self, depth: int) -> None:
        """Continues with the reference, which is then not null."""
        found = self.pop_ref()
        self.through(self.label(depth))
        self.stack.append(RefType(False, found.heap))

    def br_on_non_null(self, depth: int) -> None:
        """Branches with the reference, which is then not null."""
        kinds = self.label(depth)
        if not kinds or not isinstance(kinds[-1], RefType):
            raise Wrong("type mismatch: the label takes no reference")
        self.pop(RefType(True, kinds[-1].heap))
        self.through(kinds[:-1])

    def return_(self, imm: None) -> None:
        """Never continues."""
        kinds = list(self.type.results)
        self.context.moved(len(kinds))
        self.pop_all(kinds)
        self.never()

    def unreachable(self, imm: None) -> None:
        """Never continues."""
        self.never()

    # --- calls that do not come back (3.4.4) ---------------------------------------------------------------

    def tail(self, effect: Effect) -> None:
        """A call whose results are this function's."""
        _, pops, pushes = effect
        if not all_match(pushes, self.type.results):
            raise Wrong("type mismatch: the results of a tail call")
        self.context.moved(len(pops) + len(pushes))
        self.pop_all(pops)
        self.never()

    def return_call(self, index: int) -> None:
        """As `call`."""
        self.tail(effect_of(self.context, Instr(op.CALL, index)))

    def return_call_indirect(self, imm: tuple[int, int]) -> None:
        """As `call_indirect`."""
        self.tail(indirect(self.context, imm))

    def return_call_ref(self, index: int) -> None:
        """As `call_ref`."""
        self.tail(effect_of(self.context, Instr(op.CALL_REF, index)))

    def throw(self, tag: int) -> None:
        """Takes the payload."""
        kinds = list(self.context.tag(tag).params)
        self.context.moved(len(kinds))
        self.pop_all(kinds)
        self.never()

    def throw_ref(self, imm: None) -> None:
        """Takes an exception."""
        self.pop(RefType(True, "exn"))
        self.never()

    # --- operands of any type, and locals (3.4.1 to 3.4.5) -------------------------------------------------

    def drop(self, imm: None) -> None:
        """Any operand."""
        self.pop_any()

    def select(self, imm: None) -> None:
        """Two equal numbers or vectors."""
        self.pop(I32)
        first, second = self.pop_any(), self.pop_any()
        if not is_number_or_vector(first) or not is_number_or_vector(second):
            raise Wrong("type mismatch: select without a type takes no references")
        if first is not second and not isinstance(first, Bottom) and not isinstance(second, Bottom):
            raise Wrong("type mismatch: select of two types")
        self.stack.append(second if isinstance(first, Bottom) else first)

    def select_t(self, imm: tuple[ValType, ...]) -> None:
        """Two operands of the given type."""
        if len(imm) != 1:
            raise Wrong("invalid result arity of a select")
        kind = self.context.val_type(imm[0])
        self.pop(I32)
        self.pop(kind)
        self.pop(kind)
        self.stack.append(kind)

    def ref_is_null(self, imm: None) -> None:
        """Any reference."""
        self.pop_ref()
        self.stack.append(I32)

    def ref_as_non_null(self, imm: None) -> None:
        """Any reference, which is then not null."""
        found = self.pop_ref()
        self.stack.append(RefType(False, found.heap))

    def local_type(self, index: int) -> ValType:
        """Raises `Wrong`."""
        if not 0 <= index < len(self.locals):
            raise Wrong(f"unknown local {index}")
        return self.locals[index]

    def local_get(self, index: int) -> None:
        """Only where some local has no default value: `run` does the others."""
        kind = self.local_type(index)
        if index in self.unset:
            raise Wrong(f"uninitialized local {index}")
        self.stack.append(kind)

    def local_set(self, index: int) -> None:
        """From here to the end of the block it is set."""
        kind = self.local_type(index)
        self.pop(kind)
        if index in self.unset:
            self.unset.remove(index)
            self.initialised.append(index)

    def local_tee(self, index: int) -> None:
        """As `local.set`, and gives the value back."""
        self.local_set(index)
        self.stack.append(self.locals[index])


_METHODS: Final[Mapping[int, Callable[[_Body, Any], None]]] = {
    op.BLOCK: _Body.block,
    op.LOOP: _Body.loop,
    op.IF: _Body.if_,
    op.ELSE: _Body.else_,
    op.TRY_TABLE: _Body.try_table,
    op.END: _Body.end,
    op.BR: _Body.br,
    op.BR_IF: _Body.br_if,
    op.BR_TABLE: _Body.br_table,
    op.BR_ON_NULL: _Body.br_on_null,
    op.BR_ON_NON_NULL: _Body.br_on_non_null,
    op.RETURN: _Body.return_,
    op.UNREACHABLE: _Body.unreachable,
    op.RETURN_CALL: _Body.return_call,
    op.RETURN_CALL_INDIRECT: _Body.return_call_indirect,
    op.RETURN_CALL_REF: _Body.return_call_ref,
    op.THROW: _Body.throw,
    op.THROW_REF: _Body.throw_ref,
    op.DROP: _Body.drop,
    op.SELECT: _Body.select,
    op.SELECT_T: _Body.select_t,
    op.REF_IS_NULL: _Body.ref_is_null,
    op.REF_AS_NON_NULL: _Body.ref_as_non_null,
    op.LOCAL_GET: _Body.local_get,
    op.LOCAL_SET: _Body.local_set,
    op.LOCAL_TEE: _Body.local_tee,
}


def check_function(context: Context, index: int, at: Collection[int] = ()) -> dict[int, tuple[ValType, ...]]:
    """Check the defined function `index` (counted in the whole index space).

    Returns the operands of the innermost block, bottom first, before each instruction whose position `at`
    names and that is reachable. Raises `InvalidModule` or `ModuleTooLarge`, with the offset.
    """
    func = context.module.funcs[index - context.module.imported("func")]
    body: _Body | None = None
    try:
        body = _Body(context, func)
        found = body.run(func.body, at)
    except Wrong as error:
        raise InvalidModule(str(error), _offset(context, index, func, body), index) from None
    except ModuleTooLarge as error:
        raise ModuleTooLarge(error.message, _offset(context, index, func, body), index) from None
    return {place: tuple(k for k in kinds if not isinstance(k, Bottom)) for place, kinds in found.items()}


def _offset(context: Context, index: int, func: Func, body: _Body | None) -> int | None:
    """Where the instruction at which `body` stopped lies."""
    if body is None:
        return func.offset
    starts = instruction_offsets(context.module, index)
    return None if starts is None else starts[body.place]
