"""Which functions may be on the stack when the agent suspends.

A function *unwinds* when a call to it may return with the state "unwinding": it is a suspending import, it polls,
it calls a function that unwinds, or it tail-calls one. The set is the least fixpoint over the call graph. An indirect
call reaches the *escaped* functions of its type: those named by an element segment or a ``ref.func``, and, where a
table is exported or imported and a host may fill it, those that are exported. There are no hand-written lists of
functions, and no assumptions about the program beyond what the validator proves.

Source: the call graph analysis of Binaryen's Asyncify, here with types for indirect calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from agents.rewrite.options import Options
from agents.wasm import opcodes as op
from agents.wasm.syntax import FuncType, ImportFunc, Instr, Module, RefType, ValType

_DIRECT = frozenset((op.CALL, op.RETURN_CALL))
_INDIRECT = frozenset((op.CALL_INDIRECT, op.RETURN_CALL_INDIRECT))
_BY_REFERENCE = frozenset((op.CALL_REF, op.RETURN_CALL_REF))
_CALLS = _DIRECT | _INDIRECT | _BY_REFERENCE | {op.LOOP, op.REF_FUNC}


@attrs.frozen
class CallGraph:
    """The result of :func:`analyse`.

    unwinds: indices of functions (imports included) whose call may return unwinding.
    type_class: for each type index, a number that equal types share.
    unwinding_types: the classes of function types through which an indirect call may do so.
    entry_polls: indices of defined functions that poll at their entry.
    escaped: indices of functions that a table or a reference may hold, ascending.
    """

    unwinds: frozenset[int]
    type_class: tuple[int, ...]
    unwinding_types: frozenset[int]
    entry_polls: frozenset[int]
    escaped: tuple[int, ...]


@attrs.define
class Edges:
    """What a function may call, directly and through a type; whether it loops."""

    calls: frozenset[int]
    types: frozenset[int]
    loops: bool


def analyse(module: Module, options: Options) -> CallGraph:
    """Least fixpoint of "may return unwinding" over the call graph of ``module``."""
    imported = module.imported("func")
    total = imported + len(module.funcs)
    edges, by_type, classes = edges_of(module)
    entry_polls: frozenset[int] = frozenset()
    if options.polls == "calls":
        entry_polls = frozenset(range(imported, total))
    elif options.polls == "loops":
        entry_polls = frozenset(_cycle_closers(edges, by_type))

    seeds = set(_suspending_imports(module, options)) | entry_polls
    if options.polls != "none":
        seeds.update(index for index, edge in edges.items() if edge.loops)
    unwinds, types = reaching(edges, by_type, seeds)
    escaped = sorted(index for members in by_type.values() for index in members)
    return CallGraph(frozenset(unwinds), classes, frozenset(types), entry_polls, tuple(escaped))


def edges_of(module: Module) -> tuple[dict[int, Edges], dict[int, list[int]], tuple[int, ...]]:
    """Edges of each defined function; for each class of types the escaped functions, ascending; and the classes."""
    classes = type_classes(module.types)
    edges: dict[int, Edges] = {}
    escaped = set(_segment_functions(module))
    for index, func in enumerate(module.funcs, module.imported("func")):
        edges[index] = _scan(classes, func.body, escaped)
    if _host_may_fill_tables(module):
        escaped.update(export.index for export in module.exports if export.kind == "func")
    by_type: dict[int, list[int]] = {}
    for index in sorted(escaped):
        by_type.setdefault(classes[module.func_type_indices[index]], []).append(index)
    return edges, by_type, classes


def _suspending_imports(module: Module, options: Options) -> Iterator[int]:
    functions = (item for item in module.imports if isinstance(item.desc, ImportFunc))
    for index, item in enumerate(functions):
        if options.suspends(item.module, item.name):
            yield index


def type_classes(types: tuple[FuncType, ...]) -> tuple[int, ...]:
    """A number for each type, the same for types that the specification calls equal (3.0, section 3.2.3).

    Types refer to each other by index, so equal ones may look different; a type refers to itself or to earlier ones.
    """
    numbers: dict[object, int] = {}
    found: list[int] = []

    def letter(valtype: ValType, own: int) -> object:
        if isinstance(valtype, RefType) and isinstance(valtype.heap, int):
            heap = "self" if valtype.heap == own else found[valtype.heap] if valtype.heap < own else None
            return (valtype.nullable, heap)
        return valtype

    for index, functype in enumerate(types):
        key = (
            tuple(letter(valtype, index) for valtype in functype.params),
            tuple(letter(valtype, index) for valtype in functype.results),
        )
        found.append(numbers.setdefault(key, len(numbers)))
    return tuple(found)


def _scan(classes: tuple[int, ...], body: Iterable[Instr], escaped: set[int]) -> Edges:
    calls: set[int] = set()
    types: set[int] = set()
    loops = False
    for instr in [instr for instr in body if instr.code in _CALLS]:
        code = instr.code
        if code in _DIRECT:
            calls.add(instr.imm)
        elif code in _INDIRECT:
            types.add(classes[instr.imm[0]])
        elif code in _BY_REFERENCE:
            types.add(classes[instr.imm])
        elif code == op.REF_FUNC:
            escaped.add(instr.imm)
        else:
            loops = True
    return Edges(frozenset(calls), frozenset(types), loops)


def _segment_functions(module: Module) -> Iterator[int]:
    """Functions named by element segments and by the initial values of globals and tables."""
    expressions = [item for elem in module.elems for item in elem.items]
    expressions += [item.init for item in module.globals]
    expressions += [table.init for table in module.tables if table.init is not None]
    for expression in expressions:
        for instr in expression:
            if instr.code == op.REF_FUNC:
                yield instr.imm


def _host_may_fill_tables(module: Module) -> bool:
    return module.imported("table") > 0 or any(export.kind == "table" for export in module.exports)


def reaching(edges: dict[int, Edges], by_type: dict[int, list[int]], seeds: set[int]) -> tuple[set[int], set[int]]:
    """The functions from which a call may reach one of ``seeds``, these included, and the classes of types."""
    callers: dict[int, list[int]] = {}
    type_callers: dict[int, list[int]] = {}
    for index, edge in edges.items():
        for callee in edge.calls:
            callers.setdefault(callee, []).append(index)
        for functype in edge.types:
            type_callers.setdefault(functype, []).append(index)
    members = {index: functype for functype, indices in by_type.items() for index in indices}
    unwinds = set(seeds)
    types: set[int] = set()
    work = list(seeds)
    while work:
        index = work.pop()
        reached = callers.get(index, [])
        number = members.get(index)
        if number is not None and number not in types:
            types.add(number)
            reached = reached + type_callers.get(number, [])
        for caller in reached:
            if caller not in unwinds:
                unwinds.add(caller)
                work.append(caller)
    return unwinds, types


def _cycle_closers(edges: dict[int, Edges], by_type: dict[int, list[int]]) -> Iterator[int]:
    """One function on every cycle of the call graph: the targets of back edges of a depth-first walk.

    A type class is a node too (``-1 - class``), between those that call through it and those it may reach; where a
    back edge ends in a type, the function that it starts from stands for the cycle.
    """
    successors: dict[int, list[int]] = {}
    for index, edge in edges.items():
        out = [callee for callee in sorted(edge.calls) if callee in edges]
        out += [-1 - number for number in sorted(edge.types) if number in by_type]
        successors[index] = out
    for number, members in by_type.items():
        successors[-1 - number] = [index for index in members if index in edges]
    left: dict[int, bool] = {}  # False while on the walk's path
    for root in edges:
        if root in left:
            continue
        left[root] = False
        path = [(root, iter(successors[root]))]
        while path:
            node, rest = path[-1]
            for successor in rest:
                if successor not in left:
                    left[successor] = False
                    path.append((successor, iter(successors[successor])))
                    break
                if not left[successor]:
                    yield successor if successor >= 0 else node
            else:
                left[node] = True
                path.pop()
