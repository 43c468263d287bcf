"""Plans what is stored where and when: the slots of a function's spill area, and the stores that fill them.

A call that may collect *needs* a set of values in memory: locals that may be pointers and are read after it, and such
operands below it. An operand that is an unchanged copy of a local stands for the local; another gets a local of its
own, a *keeper*, where it is made. Two values share a slot when no call needs both.

A store is not repeated while the slot still holds the value on every path to the call (a forward
must-analysis, to its greatest fixpoint), and what a loop does not write is stored before the loop. Sets of values are
``int`` used as bit sets, by the number of the local.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import attrs

from agents.rewrite.liveness import live_at
from agents.rewrite.skeleton import CALLS, TERMINATORS, Skeleton
from agents.rewrite.spill_values import POINTER, AtCall, Value
from agents.wasm import opcodes as op
from agents.wasm.syntax import I32, V128, Expr, Instr, ValType


@attrs.frozen
class Places:
    """The plan for one function.

    keepers: operands that get a local, and its number. slots: offset of each spilled local in the spill area, in bytes.
    stores: position -> locals that are stored before that instruction, ascending. size: of the area, in bytes.
    """

    keepers: Mapping[Value, int]
    slots: Mapping[int, int]
    stores: Mapping[int, tuple[int, ...]]
    size: int


def place(
    body: Expr,
    shape: Skeleton,
    types: list[ValType],
    found: Mapping[int, AtCall],
    spilled: frozenset[ValType],
) -> Places:
    """Plan the spills of one function. ``types``: of its locals, to which those of the keepers are added."""
    live = live_at(body, shape, found.keys())
    able = sum(1 << index for index, valtype in enumerate(types) if valtype in spilled)
    keepers: dict[Value, int] = {}
    needs: dict[int, int] = {}
    for position, known in found.items():
        need = live.get(position, 0) & known.pointers & able
        for value in known.below:
            if value.kind != POINTER or value.type not in spilled:
                continue
            if value.local < 0 or value.moved:
                if value not in keepers:
                    keepers[value] = len(types)
                    types.append(value.type)
                need |= 1 << keepers[value]
            else:
                need |= 1 << value.local
        if need:
            needs[position] = need
    if not needs:
        return Places({}, {}, {}, 0)
    writes: dict[int, int] = {}
    for value, local in keepers.items():
        writes[value.position] = writes.get(value.position, 0) | 1 << local
    loops = {start: stays for start, stays in _unwritten(body, shape, needs, writes) if stays}
    slots, size = _slots(types, [*needs.values(), *_together(shape, needs, loops)])
    mates = {local: sum(1 << other for other in slots if slots[other] == slots[local]) for local in slots}
    stores = _Placement(body, shape, needs, writes, loops, mates).run()
    return Places(keepers, slots, stores, size)


def members(mask: int) -> Iterator[int]:
    """The numbers in a bit set, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _loops(shape: Skeleton, body: Expr) -> Iterator[tuple[int, int]]:
    for construct in shape.constructs:
        if construct.code == op.LOOP:
            yield construct.start, construct.end


def _unwritten(
    body: Expr, shape: Skeleton, needs: Mapping[int, int], writes: Mapping[int, int]
) -> Iterator[tuple[int, int]]:
    """For each loop, the values that its calls need and that it does not write."""
    changes = [(p, 1 << body[p].imm) for p in shape.events if body[p].code in (op.LOCAL_SET, op.LOCAL_TEE)]
    changes += writes.items()
    for start, end in _loops(shape, body):
        needed = written = 0
        for position, need in needs.items():
            if start < position < end:
                needed |= need
        if needed:
            for position, local in changes:
                if start <= position < end:
                    written |= local
            yield start, needed & ~written


def _together(shape: Skeleton, needs: Mapping[int, int], loops: Mapping[int, int]) -> Iterator[int]:
    """Let values that are stored before a loop share no slot with values that are stored inside it."""
    for start, stays in loops.items():
        end = shape.of(start).end
        for position, need in needs.items():
            if start < position < end:
                yield need | stays


def _slots(types: list[ValType], groups: list[int]) -> tuple[dict[int, int], int]:
    """Greedy colouring: larger values first, then by number; a slot has the size of its type."""
    apart: dict[int, int] = {}
    for group in groups:
        for local in members(group):
            apart[local] = apart.get(local, 0) | group
    slots: dict[int, int] = {}
    size = 0
    free: dict[int, list[int]] = {}  # width -> offsets
    taken: dict[int, int] = {}  # offset -> the locals in it
    for local in sorted(apart, key=lambda index: (-slot_width(types[index]), index)):
        wide = slot_width(types[local])
        for offset in free.setdefault(wide, []):
            if not taken[offset] & apart[local]:
                break
        else:
            offset = size
            size += wide
            free[wide].append(offset)
            taken[offset] = 0
        slots[local] = offset
        taken[offset] |= 1 << local
    return slots, size


def slot_width(valtype: ValType) -> int:
    """Bytes of a slot."""
    return 4 if valtype == I32 else 16 if valtype == V128 else 8


@attrs.define(slots=True)
class _Open:
    code: int
    start: int
    arriving: int | None = None  # what is stored on every path to the end
    at_if: int | None = None
    alive: bool = True


class _Placement:
    """The forward walk: ``stored`` is what the slots hold here on every path."""

    def __init__(
        self,
        body: Expr,
        shape: Skeleton,
        needs: Mapping[int, int],
        writes: Mapping[int, int],
        loops: Mapping[int, int],
        mates: Mapping[int, int],
    ) -> None:
        self.body, self.shape, self.needs, self.writes = body, shape, needs, writes
        self.loops, self.mates = loops, mates
        self.events = sorted({*shape.events, *writes})
        self.heads: dict[int, int] = {}
        self.stored = 0
        self.stores: dict[int, int] = {}

    def run(self) -> dict[int, tuple[int, ...]]:
        while True:
            self.changed = False
            self.stores = {}
            self._sweep()
            if not self.changed:
                return {position: tuple(members(mask)) for position, mask in self.stores.items() if mask}

    def _store(self, position: int, wanted: int) -> None:
        missing = wanted & ~self.stored
        self.stores[position] = missing
        for local in members(missing):
            self.stored = self.stored & ~self.mates[local] | 1 << local

    def _sweep(self) -> None:
        self.stored = 0
        self.alive = True
        self.open = [_Open(op.BLOCK, -1)]
        for position in self.events:
            instr = self.body[position]
            code = instr.code
            handler = _HANDLERS.get(code)
            if handler is not None:
                handler(self, position, instr)
            elif self.alive:
                if code == op.LOCAL_SET or code == op.LOCAL_TEE:
                    self.stored &= ~(1 << instr.imm)
                elif code in CALLS:
                    self._store(position, self.needs.get(position, 0))
                elif code in TERMINATORS:
                    self._leave(instr)
                elif code == op.BR_IF or code == op.BR_ON_NULL or code == op.BR_ON_NON_NULL:
                    self._branch(instr.imm)
            self.stored &= ~self.writes.get(position, 0)

    def _branch(self, depth: int, stored: int | None = None) -> None:
        label = self.open[-1 - depth]
        stored = self.stored if stored is None else stored
        if label.code != op.LOOP:
            label.arriving = stored if label.arriving is None else label.arriving & stored
        elif self.heads[label.start] & ~stored:
            self.heads[label.start] &= stored
            self.changed = True

    def _leave(self, instr: Instr) -> None:
        if instr.code == op.BR:
            self._branch(instr.imm)
        elif instr.code == op.BR_TABLE:
            for depth in {*instr.imm[0], instr.imm[1]}:
                self._branch(depth)
        self.alive = False

    def _enter(self, position: int, instr: Instr) -> None:
        opened = _Open(instr.code, position, alive=self.alive)
        if self.alive:
            if instr.code == op.LOOP:
                self._store(position, self.loops.get(position, 0))
                self.heads[position] = self.heads.get(position, self.stored) & self.stored
                self.stored = self.heads[position]
            elif instr.code == op.IF:
                opened.at_if = self.stored
            elif instr.code == op.TRY_TABLE:
                for clause in instr.imm[1]:
                    self._branch(clause.label, 0)  # an exception may come before anything is stored
        self.open.append(opened)

    def _else(self, position: int, instr: Instr) -> None:
        opened = self.open[-1]
        if not opened.alive:
            return
        if self.alive:
            self._arrive(opened)
        assert opened.at_if is not None  # an `else` belongs to an `if`
        self.stored, opened.at_if = opened.at_if, None
        self.alive = True

    def _end(self, position: int, instr: Instr) -> None:
        opened = self.open[-1]
        if opened.alive:
            if opened.at_if is not None:
                self._else(position, instr)
            if self.alive:
                self._arrive(opened)
            self.alive = opened.arriving is not None
            self.stored = opened.arriving or 0
        self.open.pop()

    def _arrive(self, opened: _Open) -> None:
        opened.arriving = self.stored if opened.arriving is None else opened.arriving & self.stored


_HANDLERS: Mapping[int, Callable[[_Placement, int, Instr], None]] = {
    op.BLOCK: _Placement._enter,
    op.LOOP: _Placement._enter,
    op.IF: _Placement._enter,
    op.TRY_TABLE: _Placement._enter,
    op.ELSE: _Placement._else,
    op.END: _Placement._end,
}
