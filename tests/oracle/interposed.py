"""Any module with a suspending call between its instructions: a site wherever code can be suspended at all.

A program suspends where it calls; a compiler puts few operands below a call. To try every shape of
operand stack, `interpose` imports one more function, ``oracle.here () -> ()``, and calls it before every
`step`-th instruction of each function. The meaning of the module does not change, as long as the function
does nothing.

Invariant: only function indices move, by one, for functions that the module defines.
"""

from __future__ import annotations

import attrs

from agents.wasm import opcodes as op
from agents.wasm.syntax import Elem, Func, FuncType, Import, ImportFunc, Instr, Module, Table

HERE = ("oracle", "here")
_NAMED = frozenset((op.CALL, op.RETURN_CALL, op.REF_FUNC))


def interpose(module: Module, step: int = 1, offset: int = 0) -> Module:
    """`module` with a call of ``oracle.here`` before instructions `offset`, `offset + step`, .. of each body."""
    added = module.imported("func")

    def moved(index: int) -> int:
        return index + (index >= added)

    def instr(old: Instr) -> Instr:
        return Instr(old.code, moved(old.imm)) if old.code in _NAMED else old

    def constant(expression: tuple[Instr, ...]) -> tuple[Instr, ...]:
        return tuple(map(instr, expression))

    def body(func: Func) -> Func:
        made: list[Instr] = []
        for position, old in enumerate(func.body):
            if position % step == offset % step:
                made.append(Instr(op.CALL, added))
            made.append(instr(old))
        return attrs.evolve(func, body=tuple(made))

    def elem(old: Elem) -> Elem:
        offset_ = None if old.offset is None else constant(old.offset)
        return attrs.evolve(old, items=tuple(map(constant, old.items)), offset=offset_)

    def table(old: Table) -> Table:
        return old if old.init is None else attrs.evolve(old, init=constant(old.init))

    return attrs.evolve(
        module,
        types=(*module.types, FuncType()),
        imports=(*module.imports, Import(*HERE, ImportFunc(len(module.types)))),
        funcs=tuple(map(body, module.funcs)),
        tables=tuple(map(table, module.tables)),
        globals=tuple(attrs.evolve(g, init=constant(g.init)) for g in module.globals),
        exports=tuple(attrs.evolve(e, index=moved(e.index)) if e.kind == "func" else e for e in module.exports),
        start=None if module.start is None else moved(module.start),
        elems=tuple(map(elem, module.elems)),
        customs=tuple(custom for custom in module.customs if custom.name != "name"),
        source=None,
        offsets={},
    )
