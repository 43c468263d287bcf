"""Any module with a suspending call between its instructions: a site wherever code can be suspended at all.

A program suspends where it calls; a compiler puts few operands below a call. To try every shape of
operand stack, `interpose` imports one more function, ``oracle.here () -> ()``, and calls it before every
`step`-th instruction of each function. The meaning of the module does not change, as long as the function
does nothing.

``oracle.here`` is made by `Switch`, whose function asks the host only while it is on: a loop of a million
turns would take a minute if each of its instructions came to Python.

Invariant: only function indices move, by one, for functions that the module defines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import wasmtime

from agents.wasm import opcodes as op
from agents.wasm.syntax import Elem, Func, FuncType, Import, ImportFunc, Instr, Module, Table

HERE = ("oracle", "here")
_SWITCH = """(module
    (import "host" "ask" (func $ask))
    (global $on (export "on") (mut i32) (i32.const 1))
    (func (export "here") (if (global.get $on) (then (call $ask)))))"""
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


def switch_module(on: wasmtime.Engine) -> wasmtime.Module:
    """What `Switch` instantiates, compiled."""
    return wasmtime.Module(on, _SWITCH)


class Switch:
    """The function ``oracle.here`` in one store. `suspend` is called where the agent is to be suspended."""

    def __init__(
        self,
        module: wasmtime.Module,
        store: wasmtime.Store,
        wants: Callable[[], bool],
        suspend: Callable[[], None],
    ) -> None:
        """`module` is `switch_module`'s. `wants` says whether hops are left; else the switch is off."""

        def ask() -> None:
            if wants():
                suspend()
            else:
                self.turn(False)

        self._store = store
        host = wasmtime.Func(store, wasmtime.FuncType([], []), ask)
        self._exports: Any = wasmtime.Instance(store, module, [host]).exports(store)
        self.here: wasmtime.Func = self._exports["here"]

    def turn(self, on: bool) -> None:
        """On or off."""
        self._exports["on"].set_value(self._store, wasmtime.Val.i32(int(on)))
