"""Other modules made of one: with other indices, with more in them, with functions that changed.

What a variant computes is known: `shuffled` changes nothing that a program can notice; `marked` has functions add a
number to the checksum whenever they are entered, always, never, or when the host says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from random import Random
from typing import Any

import attrs

from agents.wasm import opcodes as op
from agents.wasm.names import Names, with_names
from agents.wasm.opcodes import Imm
from agents.wasm.syntax import (
    I32,
    I64,
    Custom,
    Export,
    Func,
    FuncType,
    Global,
    GlobalType,
    Import,
    ImportFunc,
    Instr,
    Module,
)
from tests.rewrite.generator import CHECKSUM, END

VERSION = Import("t", "version", ImportFunc(0))


def shuffled(module: Module, seed: int) -> Module:
    """The same program: functions in another order, more of them, more types and globals."""
    random = Random(seed)
    imported, count = module.imported("func"), len(module.funcs)
    more_types = [FuncType((I64,) * random.randrange(4), (I32,)) for _ in range(random.randrange(4))]
    shift = len(more_types)
    extra = [_extra(shift + len(module.types), random) for _ in range(random.randrange(4))]
    order: list[int | None] = [*range(count), *[None] * len(extra)]
    random.shuffle(order)
    places = {imported + was: imported + now for now, was in enumerate(order) if was is not None}
    functions = lambda index: places.get(index, index)  # noqa: E731
    made = remapped(module, functions, lambda index: index + shift)
    fresh = iter(extra)
    funcs = tuple(next(fresh) if was is None else made.funcs[was] for was in order)
    types = (*more_types, *module.types, FuncType((), (I32,)))
    globals_ = (*made.globals, *(Global(GlobalType(I64, True), (Instr(op.I64_CONST, 7), END)) for _ in range(2)))
    return attrs.evolve(made, types=types, funcs=funcs, globals=globals_)


def _extra(kind: int, random: Random) -> Func:
    """A function that nobody calls; half of them poll."""
    loop = (Instr(op.LOOP, None), Instr(op.I32_CONST, 0), Instr(op.BR_IF, 0), END) if random.random() < 0.5 else ()
    return Func(kind, (I32,) * random.randrange(3), (*loop, Instr(op.I32_CONST, random.randrange(99)), END))


def marked(module: Module, changed: Collection[int], when: str) -> Module:
    """With functions that add their number to the checksum when they are entered: "never", "always" or "asked".

    changed: positions among the defined functions; "asked": whether they do is what the import `t.version` says
    """
    if when == "asked":
        kind = len(module.types)
        made = remapped(module, lambda index: index + 1, lambda index: index)
        imports = (attrs.evolve(VERSION, desc=ImportFunc(kind)), *made.imports)
        module = attrs.evolve(made, types=(*module.types, FuncType((), (I32,))), imports=imports)
    ask = {"never": Instr(op.I32_CONST, 0), "always": Instr(op.I32_CONST, 1), "asked": Instr(op.CALL, 0)}[when]
    funcs = list(module.funcs)
    for position in changed:
        prologue = (
            *(ask, Instr(op.IF, None), Instr(op.GLOBAL_GET, CHECKSUM), Instr(op.I64_CONST, 1000 + position)),
            *(Instr(op.I64_ADD), Instr(op.GLOBAL_SET, CHECKSUM), END),
        )
        funcs[position] = attrs.evolve(funcs[position], body=(*prologue, *funcs[position].body), offset=None)
    return attrs.evolve(module, funcs=tuple(funcs))


def named(module: Module, call: Callable[[int], str]) -> Module:
    """With a name for each defined function, by its position."""
    imported = module.imported("func")
    return with_names(module, Names(functions={imported + n: call(n) for n in range(len(module.funcs))}))


def remapped(module: Module, functions: Callable[[int], int], types: Callable[[int], int]) -> Module:
    """With other indices of functions and types; the lists themselves are as they were."""

    def block(kind: Any) -> Any:
        return types(kind) if isinstance(kind, int) else kind

    def instr(one: Instr) -> Instr:
        kind, imm = op.TABLE[one.code].imm, one.imm
        if kind is Imm.FUNC:
            imm = functions(imm)
        elif kind is Imm.TYPE:
            imm = types(imm)
        elif kind is Imm.TYPE_TABLE:
            imm = (types(imm[0]), imm[1])
        elif kind is Imm.BLOCK:
            imm = block(imm)
        elif kind is Imm.TRY_TABLE:
            imm = (block(imm[0]), imm[1])
        return Instr(one.code, imm)

    def body(one: Any) -> Any:
        return tuple(map(instr, one))

    return attrs.evolve(
        module,
        imports=tuple(
            attrs.evolve(each, desc=ImportFunc(types(each.desc.type))) if isinstance(each.desc, ImportFunc) else each
            for each in module.imports
        ),
        funcs=tuple(Func(types(each.type), each.locals, body(each.body)) for each in module.funcs),
        tags=tuple(attrs.evolve(each, type=types(each.type)) for each in module.tags),
        exports=tuple(
            Export(each.name, each.kind, functions(each.index)) if each.kind == "func" else each
            for each in module.exports
        ),
        elems=tuple(attrs.evolve(each, items=tuple(map(body, each.items))) for each in module.elems),
        start=None if module.start is None else functions(module.start),
        customs=tuple(each for each in module.customs if not isinstance(each, Custom)),
        source=None,
        offsets={},
    )
