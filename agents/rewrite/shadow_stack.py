"""The shadow stack: its pointer, and how a function gets space on it for its spills.

C compilers keep variables whose address is taken on a stack of their own in linear memory; a mutable global points to
its lower end, and each function that needs space lowers it. LLVM's form, which the other compilers share::

    global.get $sp / i32.const N / i32.sub / local.tee $fp / global.set $sp      ;; first
    local.get $fp / i32.const N / i32.add / global.set $sp                       ;; before each return
    local.get $fp / global.set $sp                                               ;; where an exception is caught

A function of this form *owns a frame*: a larger N gives it space above its own variables, at no cost. Any other
function lowers the pointer at its entry and restores it at each exit. If such a function catches exceptions, it also
restores the pointer there, since the functions that were unwound have not.

The form must match exactly: a function whose code differs in any way counts as one without a frame of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import attrs

from agents.errors import UnsupportedFeature
from agents.rewrite.additions import END_INSTR, Additions
from agents.rewrite.skeleton import TAIL_CALLS, Skeleton
from agents.wasm import opcodes as op
from agents.wasm.names import module_names
from agents.wasm.syntax import I32, I64, V128, Expr, Func, Instr, MemArg, Module, ValType

SHADOW_STACK_NAME = "__stack_pointer"
ALIGNMENT = 16  # of the pointer, as the C ABI requires


@attrs.frozen
class StackPointer:
    """The global that points to the lower end of the shadow stack, and the instructions of its type."""

    index: int
    type: ValType  # that of addresses
    const: int
    add: int
    sub: int

    @property
    def get(self) -> Instr:
        return Instr(op.GLOBAL_GET, self.index)

    @property
    def set(self) -> Instr:
        return Instr(op.GLOBAL_SET, self.index)

    def number(self, value: int) -> Instr:
        return Instr(self.const, value)


def find_stack_pointer(module: Module) -> StackPointer:
    """By export, by name section, else by what functions do with it. Raises UnsupportedFeature, naming it."""
    if not module.mem_types:
        raise UnsupportedFeature("spilling pointers in a module without a memory")
    wide = module.mem_types[0].addr64
    address = I64 if wide else I32
    able = [
        index
        for index, kind in enumerate(module.global_types)
        if kind.mutable and kind.val == address and index >= module.imported("global")
    ]
    codes = (op.I64_CONST, op.I64_ADD, op.I64_SUB) if wide else (op.I32_CONST, op.I32_ADD, op.I32_SUB)
    named = [e.index for e in module.exports if e.kind == "global" and e.name == SHADOW_STACK_NAME]
    named += [index for index, name in module_names(module).globals.items() if name == SHADOW_STACK_NAME]
    for index in named:
        if index in able:
            return StackPointer(index, address, *codes)
    lowered = Counter(index for func in module.funcs for index in _lowered(func.body, codes))
    if not lowered:
        raise UnsupportedFeature(
            f"spilling pointers: no global is exported or named {SHADOW_STACK_NAME}, and no function lowers one as"
            " compilers do; without a shadow stack there is nothing for a collector to scan",
        )
    (index, most), *others = lowered.most_common(2)
    if index not in able or (others and 2 * others[0][1] > most):
        found = ", ".join(f"global {index} in {count} functions" for index, count in lowered.most_common(3))
        raise UnsupportedFeature(
            f"spilling pointers: no global is exported or named {SHADOW_STACK_NAME},"
            f" and it is not clear which it is ({found})"
        )
    return StackPointer(index, address, *codes)


def _lowered(body: Expr, codes: tuple[int, int, int]) -> Iterator[int]:
    const, _, sub = codes
    for position, instr in enumerate(body[:-4]):
        if instr.code == op.GLOBAL_GET and [each.code for each in body[position + 1 : position + 3]] == [const, sub]:
            store = body[position + 3 : position + 5]
            if store[0].code in (op.LOCAL_TEE, op.GLOBAL_SET) and instr.imm in [
                each.imm for each in store if each.code == op.GLOBAL_SET
            ]:
                yield instr.imm


@attrs.frozen
class OwnFrame:
    """Where a function with a frame of its own sets its size. ``entry``: position of its ``global.set``."""

    pointer: int  # local
    size: int
    entry: int
    constants: tuple[int, ...]  # positions of N


def own_frame(body: Expr, shape: Skeleton, sp: StackPointer) -> OwnFrame | None:
    """The frame of a function that has LLVM's form exactly; None for any other."""
    gets = [p for p, instr in enumerate(body) if instr == sp.get]
    if len(gets) != 1:
        return None
    first = gets[0]
    lower = body[first + 1 : first + 5]
    if [each.code for each in lower] != [sp.const, sp.sub, op.LOCAL_TEE, op.GLOBAL_SET] or lower[3] != sp.set:
        return None
    size, pointer, entry = lower[0].imm, lower[2].imm, first + 4
    if size < 0 or any(start < entry for start in shape.opened_at if start >= 0):
        return None
    get, raised = Instr(op.LOCAL_GET, pointer), [Instr(op.LOCAL_GET, pointer), lower[0], Instr(sp.add)]
    constants = [first + 1]
    for position, instr in enumerate(body):
        if instr == sp.set and position != entry:
            if list(body[position - 3 : position]) == raised:
                constants.append(position - 2)
            elif body[position - 1] != get:
                return None
        elif instr.code in (op.LOCAL_SET, op.LOCAL_TEE) and instr.imm == pointer and position != first + 3:
            return None
    return OwnFrame(pointer, size, entry, tuple(constants))


def moves_alone(body: Expr, sp: StackPointer) -> bool:
    """Whether a function sets the pointer without reading it, so that it does not save the old value."""
    return any(instr == sp.set for instr in body) and not any(instr == sp.get for instr in body)


class Edit:
    """Changes of a body: instructions before and after positions, and replacements of some."""

    def __init__(self) -> None:
        self.before: dict[int, list[Instr]] = {}
        self.after: dict[int, list[Instr]] = {}
        self.instead: dict[int, Instr] = {}

    def put_before(self, position: int, instrs: list[Instr]) -> None:
        self.before.setdefault(position, []).extend(instrs)

    def put_after(self, position: int, instrs: list[Instr]) -> None:
        self.after.setdefault(position, []).extend(instrs)

    def apply(self, body: Expr) -> list[Instr]:
        out: list[Instr] = []
        for position, instr in enumerate(body):
            out += self.before.get(position, ())
            out.append(self.instead.get(position, instr))
            out += self.after.get(position, ())
        return out


def caught_at(body: Expr, shape: Skeleton) -> set[int]:
    """The constructs (0: the function body) at whose labels exceptions arrive."""
    found: set[int] = set()
    for construct in shape.constructs:
        if construct.code == op.TRY_TABLE:
            for clause in body[construct.start].imm[1]:
                around = shape.constructs[construct.parent]
                for _ in range(clause.label):
                    around = shape.constructs[around.parent]
                found.add(around.index)
    return found


@attrs.frozen
class Room:
    """A function's spill area: at ``offset`` from the address in local ``base``."""

    base: int
    offset: int


def give_room(
    func: Func,
    shape: Skeleton,
    sp: StackPointer,
    size: int,
    first: int,
    edit: Edit,
    new_local: Callable[[ValType], int],
    additions: Additions,
) -> tuple[Room, Callable[[list[Instr]], list[Instr]]]:
    """Plan ``size`` bytes of space, used from position ``first`` on; the last result completes the edited body."""
    size = -(-size // ALIGNMENT) * ALIGNMENT
    own = own_frame(func.body, shape, sp)
    if own is not None and own.entry < first:
        for position in own.constants:
            edit.instead[position] = sp.number(own.size + size)
        return Room(own.pointer, own.size), list
    base = new_local(sp.type)
    get = Instr(op.LOCAL_GET, base)
    entry = [sp.get, Instr(op.LOCAL_SET, base)]
    leave: list[Instr] = [get, sp.set]
    if size:
        entry = [sp.get, sp.number(size), Instr(sp.sub), Instr(op.LOCAL_TEE, base), sp.set]
        leave = [get, sp.number(size), Instr(sp.add), sp.set]
    caught = set() if any(instr == sp.set for instr in func.body) else caught_at(func.body, shape)
    for index in sorted(caught - {0}):
        construct = shape.constructs[index]
        position = construct.start if construct.code == op.LOOP else construct.end
        edit.put_after(position, [get, sp.set])
    for position in shape.events:
        if func.body[position].code in TAIL_CALLS or func.body[position].code == op.RETURN:
            edit.put_before(position, leave)

    def around(body: list[Instr]) -> list[Instr]:
        if not shape.label_used and 0 not in caught:
            return [*entry, *body[:-1], *leave, END_INSTR]
        results = additions.types[func.type].results
        block = Instr(op.BLOCK, additions.blocktype(results))
        return [*entry, block, *body, *leave, END_INSTR]

    return Room(base, 0), around


_STORES: dict[ValType, tuple[int, int]] = {
    I32: (op.I32_STORE, 2),
    I64: (op.I64_STORE, 3),
    V128: (op.V128_STORE, 4),
}


def store_to(room: Room, offset: int, local: int, valtype: ValType) -> list[Instr]:
    """Store a local into its slot. The operand stack is unchanged."""
    code, align = _STORES[valtype]
    where = MemArg(align, room.offset + offset)
    return [Instr(op.LOCAL_GET, room.base), Instr(op.LOCAL_GET, local), Instr(code, where)]
