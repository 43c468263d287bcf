"""Canonical NaNs where they are seen, so that a program computes the same bytes on every processor and engine.

**What differs.** WebAssembly leaves open one thing about numbers: the sign and payload of a NaN that arithmetic
makes. 0/0 is fff8000000000000 on x86-64 and 7ff8000000000000 on aarch64, and of two NaNs one or the other survives,
as the compiler ordered the operands. A program sees the difference when it stores such a value, prints its sign or
hashes it.

**What is promised.** The result of this pass behaves, to the bit, as the specification's *deterministic profile*
says of the original program: each NaN that arithmetic makes is the positive canonical one. That is one of the
behaviours that the original may have anyway, so nothing breaks by it. Values with exact bits keep them: what is
loaded, what a call or a global gives, constants, reinterpreted integers. So NaN boxing (numbers that hide pointers
in payloads) works.

**Why not after each instruction**, as engines do it on request: that makes float code several times slower. Here a
value with open bits may flow freely, through arithmetic, comparisons, locals, blocks and `select`, as long as nobody
sees them. It is made canonical where its bits are seen: stores, reinterpretations, arguments, results, globals,
thrown payloads, and vector instructions that read it as anything but lanes of its shape.

**Why it is right.** Take two runs, one in the deterministic profile, one of the changed program on any engine.
*Invariant*: a value and its counterpart are equal; or both are NaNs, the first the canonical one of each source
among its origins (`nan_values`) and of their class (`nan_places`), and the second value has no exact origin. Each
kind of instruction keeps it (`nan_kinds`):

- arithmetic gives a NaN for NaNs, whatever their bits, so for operands that agree up to NaN it gives results that
  do; the first run's is the positive canonical one, which is the class of the source;
- comparisons, truncation to integers and minima by comparison (`pmin`) do the same for all NaNs;
- `neg` flips the sign of a NaN: its result is a source of its own, whose class has the other sign. Where the sign of
  the operand's is not the same for all its origins, the operand's sources are made canonical instead. `abs`, taking
  out a lane and filling all lanes are alike; `copysign` takes the sign that its second operand shows, and the first
  one's sources are made canonical;
- everything else sees bits: a *use*. Before it each NaN is replaced by the one of its class, after which both runs
  have the same bits. A value that may also be a NaN with exact bits must not be replaced there: then its sources
  are.

Origins are a may-analysis, so a value has at most these; what a local or operand is at a label is the union of what
may arrive. In a function that is too large to follow, every arithmetic instruction is made canonical (`TooMuch`).

What is not covered: a value with open bits that waits in a frame while the agent is suspended is saved with the bits
that it has. It is made canonical when it is seen, later; but two snapshots of the same moment, taken on different
processors, may differ in these bits.

The pass turns a module into a module and runs before the one for continuations, which sees only ordinary code.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from agents.rewrite.floats import FLOATS_SECTION, Floats, floats
from agents.rewrite.nan_kinds import ARITHMETIC, ROLES, TYPES, made_canonical
from agents.rewrite.nan_places import Class, Places, place
from agents.rewrite.nan_values import TooMuch, Use, Values
from agents.rewrite.options import Progress
from agents.rewrite.relaxed import exact, with_floats
from agents.rewrite.shadow_stack import Edit
from agents.wasm import opcodes as op
from agents.wasm.context import Context
from agents.wasm.syntax import Expr, Func, Instr, Module, ValType
from agents.wasm.validate import validate_context, validate_module

#: Custom sections with code offsets, which change.
_POSITIONAL = ("metadata.code.", ".debug_", "reloc.", "linking")


def canonical_nans(module: Module, progress: Progress | None = None) -> Module:
    """The module with canonical NaNs, and without relaxed instructions; unchanged if that was done before.

    Raises InvalidModule if it does not validate.
    """
    validate_module(module)
    before = floats(module.custom(FLOATS_SECTION))
    if before.nans is not None:
        return module
    module = exact(module)
    context = validate_context(module)
    funcs, places = [], 0
    for position, func in enumerate(module.funcs):
        changed, count = _function(context, func)
        funcs.append(changed)
        places += count
        if progress is not None and position % 64 == 0:
            progress(position, len(module.funcs))
    customs = tuple(custom for custom in module.customs if not custom.name.startswith(_POSITIONAL))
    made = attrs.evolve(module, funcs=tuple(funcs), customs=customs, source=None, offsets={})
    return with_floats(made, Floats(places, floats(module.custom(FLOATS_SECTION)).relaxed))


def _function(context: Context, func: Func) -> tuple[Func, int]:
    """The function, and in how many places NaNs are made canonical."""
    if not any(instr.code in ARITHMETIC for instr in func.body):
        return func, 0
    values = Values(context, func)
    try:
        values.run()
        places = place(values)
    except TooMuch:
        return _everywhere(context, func)
    count = len(places.sources) + len(places.uses)
    return (_edited(context, func, places), count) if count else (func, 0)


class _Scratch:
    """Scratch locals, by type and position."""

    def __init__(self, context: Context, func: Func) -> None:
        self.first = len(context.types[func.type].params) + len(func.locals)
        self.types: list[ValType] = []
        self._found: dict[tuple[ValType, int], int] = {}

    def local(self, valtype: ValType, position: int) -> int:
        found = self._found.get((valtype, position))
        if found is None:
            found = self._found[valtype, position] = self.first + len(self.types)
            self.types.append(valtype)
        return found


def _everywhere(context: Context, func: Func) -> tuple[Func, int]:
    scratch, out, count = _Scratch(context, func), list[Instr](), 0
    for instr in func.body:
        out.append(instr)
        if instr.code in ARITHMETIC:
            shape = ROLES[instr.code].gives
            out += made_canonical(shape, False, scratch.local(TYPES[shape], 0), held=False)
            count += 1
    return Func(func.type, (*func.locals, *scratch.types), tuple(out)), count


def _edited(context: Context, func: Func, places: Places) -> Func:
    scratch, edit = _Scratch(context, func), Edit()
    for source, (shape, negative) in places.sources:
        local = scratch.local(TYPES[shape], 0)
        edit.put_after(source.position, made_canonical(shape, negative, local, held=False))
    by_position: dict[int, dict[int, tuple[Use, Class]]] = {}
    for use, found in places.uses:
        by_position.setdefault(use.position, {})[len(use.types)] = use, found
    for position, uses in by_position.items():
        edit.put_before(position, _before(func.body, position, uses, scratch.local))
    return Func(func.type, (*func.locals, *scratch.types), tuple(edit.apply(func.body)))


def _before(
    body: Expr, position: int, uses: dict[int, tuple[Use, Class]], local: Callable[[ValType, int], int]
) -> list[Instr]:
    """Make some of the operands canonical; `uses` by how many operands there are from each to the top, itself too."""
    deepest = max(uses)
    types = uses[deepest][0].types
    previous = body[position - 1]
    if deepest == 1 and previous.code in (op.LOCAL_GET, op.LOCAL_TEE):
        shape, negative = uses[1][1]
        return made_canonical(shape, negative, previous.imm, held=True)
    out = [Instr(op.LOCAL_SET, local(types[number], number)) for number in range(len(types) - 1, 0, -1)]
    for number, valtype in enumerate(types):
        if number:
            out.append(Instr(op.LOCAL_GET, local(valtype, number)))
        found = uses.get(deepest - number)
        if found is not None:
            shape, negative = found[1]
            out += made_canonical(shape, negative, local(valtype, number), held=number > 0)
    return out
