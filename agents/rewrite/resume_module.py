"""The resume module: everything that runs only when an agent is resumed, in a WebAssembly module of its own.

An engine compiles the module of an agent when the agent is launched, and the resume module where it is first resumed.
So the copies that continue in the middle of functions cost nothing before (docs/adr/resume-copies-in-a-second-module).

Its bytes are the custom section ``portcall.resume`` of the first module, so the image, its digest and its signature
cover both. It defines functions and nothing else: its imports are exports of the first module's *instance*, which has
all the state. A resume copy calls a function of the first module through one table that the first exports,
``portcall.link``: that is one import, where a function each would cost a look-up each in every resumed agent. For each
function in a table, though, engines keep machine code by which their host could call it, 200 bytes and more. So most
functions are called by a *gate*, one function of the first module for each type: ``(params.. n) -> results`` calls the
n-th function of the type. Only functions that are called in loops, where the 3 ns of a gate would be felt, are in
the table themselves, at most 512. The few functions and gates that are called at most sites are imports after all,
since calling an import takes less code. What belongs to an instance (segments, identity of functions) is done by small
functions in the first module. The types are the same, index by index; one that only the other module uses is empty.

This module moves code: it takes functions that were written in the first module's index spaces (calls of each other by
``RESUMED`` + position) and gives them those of the resume module.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import attrs

from agents.brief import brief
from agents.rewrite import exports as expose
from agents.rewrite.additions import COPIES, END_INSTR, RESUMED, Additions
from agents.rewrite.skeleton import CALLS, TAIL_CALLS
from agents.wasm import opcodes as op
from agents.wasm.opcodes import Imm
from agents.wasm.syntax import (
    FUNCREF,
    I32,
    I64,
    Catch,
    Export,
    ExternKind,
    ExternType,
    Func,
    FuncType,
    GlobalType,
    Import,
    ImportFunc,
    Instr,
    MemType,
    Module,
    RefType,
    TableType,
    TypeLimits,
    ValType,
)

#: The module that imports of the resume module name: the first module's instance.
FIRST = "portcall"
LINK_EXPORT = expose.EXPORT_PREFIX + "link"

#: So many functions that are called in loops have no gate: first those of at most so many instructions that call
#: nothing, then those that are called at most sites. A type has a gate if so many of its functions are left.
DIRECT, SHORT, GATED = 512, 100, 3
#: So many functions are imports, at most, if they are called at so many sites.
IMPORTED, OFTEN = 12, 40
#: Functions of one gate: blocks nest so deep. Parameters that a function may have, by the limits of engines.
FAN, MAX_PARAMS = 2048, 1000
_LONG = CALLS.union((op.LOOP,), TAIL_CALLS)
_OF_THE_INSTANCE = frozenset((op.REF_FUNC, op.MEMORY_INIT, op.DATA_DROP, op.TABLE_INIT, op.ELEM_DROP))


@attrs.frozen
class First:
    """The first module as far as its types go, in its index spaces; ``types`` of functions are type indices."""

    memories: Sequence[MemType] = attrs.field(repr=brief)
    tables: Sequence[TableType] = attrs.field(repr=brief)
    globals: Sequence[GlobalType] = attrs.field(repr=brief)
    tags: Sequence[ExternType] = attrs.field(repr=brief)
    exports: Sequence[Export] = attrs.field(repr=brief)


@attrs.frozen
class Linked:
    """The resume module; and what the first has to have for it: the functions in its link table, further exports."""

    module: Module = attrs.field(repr=False)
    functions: tuple[int, ...] = attrs.field(repr=brief)
    exports: tuple[Export, ...] = attrs.field(repr=brief)


def link(
    module: Module, additions: Additions, first: First, copies: Sequence[Func], driver: int, export: str
) -> Linked:
    """Make the resume module of the resume copies and of what was added to be resumed.

    ``driver`` is exported as ``export``. Adds helpers to the first module for what only its instance can do.
    """
    return _Linker(module, additions, first, len(copies)).link(copies, driver, export)


class _Linker:
    def __init__(self, module: Module, additions: Additions, first: First, copies: int) -> None:
        self.module, self.add, self.first, self.copies = module, additions, first, copies
        self.places: dict[ExternKind, dict[int, int]] = {}  # index in the first module -> in the resume module
        self.names = {
            (export.kind, export.index): export.name
            for export in first.exports
            if export.name.startswith(expose.EXPORT_PREFIX)
        }
        self.made: list[Export] = []
        self.calls: dict[int, tuple[Instr, ...]] = {}  # how a function of the first module is called
        self.imported: list[int] = []  # those that are imports

    def link(self, copies: Sequence[Func], driver: int, export: str) -> Linked:
        funcs = self._with_own_helpers([*copies, *self.add.resumed])
        copies = funcs[: len(copies)]
        counts: Counter[Instr] = Counter()
        for func in funcs:
            counts.update(func.body)
        used: dict[ExternKind, set[int]] = {
            "func": set(),
            "memory": set(),
            "table": set(),
            "global": set(),
            "tag": set(),
        }
        sites: Counter[int] = Counter()
        for instr, count in counts.items():
            for kind, index in self._uses(instr):
                used[kind].add(index)
                if kind == "func":
                    sites[index] += count
        linked = self._link_functions(sites, _called_in_loops(copies))
        self.places = {kind: {index: n for n, index in enumerate(sorted(found))} for kind, found in used.items()}
        imports = [Import(FIRST, LINK_EXPORT, TableType(FUNCREF, TypeLimits(len(linked), len(linked))))]
        self.places["table"] = {index: place + 1 for index, place in self.places["table"].items()}
        declared: list[tuple[ExternKind, Sequence[ExternType]]] = [
            ("table", self.first.tables),
            ("memory", self.first.memories),
            ("tag", self.first.tags),
            ("global", self.first.globals),
        ]
        for function in self.imported:
            imports.append(Import(FIRST, self._name("func", function), ImportFunc(self._type_of(function))))
        for kind, descs in declared:
            imports += [Import(FIRST, self._name(kind, index), descs[index]) for index in sorted(used[kind])]
        changed: dict[Instr, tuple[Instr, ...]] = {}
        for instr in counts:
            new = self._moved(instr)
            if new != (instr,):
                changed[instr] = new
        moved_funcs = tuple(attrs.evolve(func, body=_with(func.body, changed)) for func in funcs)
        made = Module(
            types=self.add.types_for(moved_funcs, map(self._type_of, self.imported)),
            imports=tuple(imports),
            funcs=moved_funcs,
            exports=(Export(export, "func", self._own(driver)),),
        )
        return Linked(made, tuple(linked), tuple(self.made))

    def _with_own_helpers(self, funcs: Sequence[Func]) -> list[Func]:
        """These functions with helpers of their own, which follow them, for those of the first module that they call.

        A helper has no state, so a second one takes less than the code by which engines could call the first from
        elsewhere.
        """
        own: dict[int, Instr] = {}
        out = list(funcs)
        helpers = range(self.add.first_function, self.add.first_function + len(self.add.functions))
        for place, func in enumerate(out):  # it grows meanwhile
            for instr in func.body:
                if instr.code == op.CALL and instr.imm in helpers and instr.imm not in own:
                    helper = instr.imm - self.add.first_function
                    own[instr.imm] = self.add.instr(op.CALL, RESUMED + len(self.add.resumed))
                    self.add.resumed.append(self.add.functions[helper])
                    self.add.resumed_names.append(self.add.names[helper])
                    out.append(self.add.functions[helper])
            body = tuple(own.get(instr.imm, instr) if instr.code == op.CALL else instr for instr in func.body)
            out[place] = attrs.evolve(func, body=body)
        return out

    def _own(self, index: int) -> int:
        """The index of a function of the resume module: after the imports, the copies come first."""
        return len(self.imported) + (index - COPIES if index >= COPIES else self.copies + index - RESUMED)

    def _name(self, kind: ExternKind, index: int) -> str:
        """The name by which the first module exports it."""
        name = self.names.get((kind, index))
        if name is None:
            name = self.names[kind, index] = f"{LINK_EXPORT}.{kind}.{index}"
            self.made.append(Export(name, kind, index))
        return name

    # --- what an instruction refers to -----------------------------------------------------------------------

    def _uses(self, instr: Instr) -> Iterable[tuple[ExternKind, int]]:
        code, imm = instr.code, instr.imm
        if code in _OF_THE_INSTANCE:
            return [("func", self._stub(instr))]
        match op.TABLE[code].imm:
            case Imm.FUNC:
                return [("func", imm)] if imm < RESUMED else []
            case Imm.GLOBAL:
                return [("global", imm)]
            case Imm.MEMARG:
                return [("memory", imm.memory)]
            case Imm.MEMARG_LANE:
                return [("memory", imm[0].memory)]
            case Imm.MEMORY:
                return [("memory", imm)]
            case Imm.MEMORY_COPY:
                return [("memory", each) for each in imm]
            case Imm.TABLE:
                return [("table", imm)]
            case Imm.TABLE_COPY:
                return [("table", each) for each in imm]
            case Imm.TYPE_TABLE:
                return [("table", imm[1])]
            case Imm.TAG:
                return [("tag", imm)]
            case Imm.TRY_TABLE:
                return [("tag", catch.tag) for catch in imm[1] if catch.tag is not None]
        return []

    def _moved(self, instr: Instr) -> tuple[Instr, ...]:
        """What stands for the instruction in the resume module."""
        code, imm = instr.code, instr.imm
        if code in _OF_THE_INSTANCE:
            return self.calls[self._stub(instr)]
        memory, table = self.places["memory"], self.places["table"]
        match op.TABLE[code].imm:
            case Imm.FUNC if imm < RESUMED:
                assert code == op.CALL  # a tail call is one of a helper
                return self.calls[imm]
            case Imm.FUNC:
                imm = self._own(imm)
            case Imm.GLOBAL:
                imm = self.places["global"][imm]
            case Imm.MEMARG:
                imm = attrs.evolve(imm, memory=memory[imm.memory])
            case Imm.MEMARG_LANE:
                imm = (attrs.evolve(imm[0], memory=memory[imm[0].memory]), imm[1])
            case Imm.MEMORY:
                imm = memory[imm]
            case Imm.MEMORY_COPY:
                imm = (memory[imm[0]], memory[imm[1]])
            case Imm.TABLE:
                imm = table[imm]
            case Imm.TABLE_COPY:
                imm = (table[imm[0]], table[imm[1]])
            case Imm.TYPE_TABLE:
                imm = (imm[0], table[imm[1]])
            case Imm.TAG:
                imm = self.places["tag"][imm]
            case Imm.TRY_TABLE:
                imm = (imm[0], tuple(self._catch(catch) for catch in imm[1]))
            case _:
                return (instr,)
        return (self.add.instr(code, imm),)

    def _catch(self, catch: Catch) -> Catch:
        return catch if catch.tag is None else attrs.evolve(catch, tag=self.places["tag"][catch.tag])

    # --- how functions of the first module are called ----------------------------------------------------------

    def _link_functions(self, sites: Mapping[int, int], in_loops: Mapping[int, int]) -> list[int]:
        """Decide how each function is called, given at how many sites; returns what the link table has to hold."""
        direct = set(sorted(in_loops, key=lambda each: (not self._is_short(each), -in_loops[each], each))[:DIRECT])
        ways: dict[int, tuple[int, tuple[Instr, ...]]] = {}  # what is called for a function, what is pushed before
        alike: dict[FuncType, list[int]] = {}
        for function in sorted(sites):
            ways[function] = function, ()
            if function not in direct:
                alike.setdefault(self.add.types[self._type_of(function)], []).append(function)
        for functype, members in alike.items():
            if len(members) < GATED or len(functype.params) >= MAX_PARAMS:
                continue
            for first in range(0, len(members), FAN):
                gate = self._gate(functype, members[first : first + FAN])
                for n, function in enumerate(members[first : first + FAN]):
                    ways[function] = gate, (self.add.instr(op.I32_CONST, n),)
        called: Counter[int] = Counter()
        for function, (target, _) in ways.items():
            called[target] += sites[function]
        often = sorted((-count, target) for target, count in called.items() if count >= OFTEN)
        self.imported = sorted(target for _, target in often[:IMPORTED])
        linked = sorted(called.keys() - set(self.imported))
        places = {target: place for place, target in enumerate(linked)}
        numbers = {target: number for number, target in enumerate(self.imported)}
        for function, (target, before) in ways.items():
            if target in numbers:
                call: tuple[Instr, ...] = (self.add.instr(op.CALL, numbers[target]),)
            else:
                through = self.add.instr(op.CALL_INDIRECT, (self._type_of(target), 0))
                call = self.add.instr(op.I32_CONST, places[target]), through
            self.calls[function] = (*before, *call)
        return linked

    def _is_short(self, function: int) -> bool:
        """Whether it may take only some ten nanoseconds: it calls nothing and has no loop."""
        place = function - self.module.imported("func")
        if not 0 <= place < len(self.module.funcs):
            return False
        body = self.module.funcs[place].body
        return len(body) <= SHORT and not any(instr.code in _LONG for instr in body)

    def _gate(self, functype: FuncType, members: Sequence[int]) -> int:
        """``(params.. n) -> results``: call the n-th of these functions, which all have the type."""

        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            i = self.add.instr
            params = [i(op.LOCAL_GET, place) for place in range(len(functype.params))]
            body = [i(op.BLOCK, None)] * (len(members) + 1)
            body += [i(op.LOCAL_GET, len(params)), i(op.BR_TABLE, (tuple(range(len(members))), len(members)))]
            for function in members:
                body += [END_INSTR, *params, i(op.CALL, function), i(op.RETURN)]
            return (), [*body, END_INSTR, i(op.UNREACHABLE)]

        name = f"portcall.gate.{self.add.functype(functype.params, functype.results)}.{members[0]}"
        return self.add.helper(name, (*functype.params, I32), functype.results, build)

    def _type_of(self, function: int) -> int:
        if function < self.add.first_function:
            return self.module.func_type_indices[function]
        return self.add.functions[function - self.add.first_function].type

    # --- functions of the first module for what only its instance can do ---------------------------------------

    def _stub(self, instr: Instr) -> int:
        """The function of the first module that does ``instr``."""
        params, results = self._signature(instr)
        body = [*(self.add.instr(op.LOCAL_GET, place) for place in range(len(params))), instr]
        imm = instr.imm if isinstance(instr.imm, tuple) else (instr.imm,)
        name = ".".join(map(str, (LINK_EXPORT, op.TABLE[instr.code].mnemonic, *imm)))
        return self.add.helper(name, params, results, lambda: ((), body))

    def _signature(self, instr: Instr) -> tuple[Sequence[ValType], Sequence[ValType]]:
        match instr.code:
            case op.REF_FUNC:
                return (), (RefType(False, self._type_of(instr.imm)),)
            case op.MEMORY_INIT:
                return (_address(self.first.memories[instr.imm[1]]), I32, I32), ()
            case op.TABLE_INIT:
                return (_address(self.first.tables[instr.imm[1]]), I32, I32), ()
        return (), ()


def _called_in_loops(copies: Sequence[Func]) -> Counter[int]:
    """The functions of the first module that resume copies call in loops, and at how many sites."""
    found: Counter[int] = Counter()
    for func in copies:
        loops: list[bool] = []  # of each open construct, whether it is in a loop
        for instr in func.body:
            if instr.code in _OPENERS:
                loops.append(instr.code == op.LOOP or (bool(loops) and loops[-1]))
            elif instr.code == op.END and loops:
                loops.pop()
            elif instr.code == op.CALL and loops and loops[-1] and instr.imm < RESUMED:
                found[instr.imm] += 1
    return found


_OPENERS = frozenset((op.BLOCK, op.LOOP, op.IF, op.TRY_TABLE))


def _address(desc: MemType | TableType) -> ValType:
    return I64 if desc.addr64 else I32


def _with(body: Sequence[Instr], changed: Mapping[Instr, tuple[Instr, ...]]) -> tuple[Instr, ...]:
    out: list[Instr] = []
    for instr in body:
        found = changed.get(instr)
        if found is None:
            out.append(instr)
        else:
            out += found
    return tuple(out)
