"""FrameLayout: what each site of a function saves, and which sites share one layout.

A *site* is a place where a function may be left and continued: a call that may return unwinding, the head of a loop
that polls, or the function's entry. Sites are numbered from 1 in code order. What a frame holds: the operands below
the call's arguments in the innermost construct, then the live locals in the order of (type, index). Operands below an
*enclosing* construct cannot be reached from inside it, so they are spilled to fresh locals before it; from then on
they are live locals like others.

Sites with the same operand types and the same live locals form a *group* and share one save arm and one restore arm.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import attrs

from agents.errors import UnsupportedFeature
from agents.rewrite.additions import FRAME_LETTERS, NUMERIC, Additions
from agents.rewrite.callgraph import CallGraph
from agents.rewrite.exceptions import can_be_saved
from agents.rewrite.liveness import ENTRY_SITE, live_at
from agents.rewrite.options import Options
from agents.rewrite.skeleton import CALLS, Construct, Skeleton, skeleton
from agents.wasm import opcodes as op
from agents.wasm.syntax import EXNREF, Func, FuncType, Module, RefType, ValType

#: Sites of one function. A resume copy nests a block for each of them, and a decoder reads blocks that nest 10,000 deep
#: (`ModuleBounds.nesting`), the function's own among them. Cranelift compiles no `br_table` with more than 65,520.
MAX_SITES = 9_000
_RANK = {valtype: "iIfFvx".index(letter) for valtype, letter in FRAME_LETTERS.items()}

OperandTypes = Callable[[Collection[int]], "dict[int, tuple[ValType, ...]]"]


@attrs.define(slots=True, eq=False, repr=False)
class Group:
    """Sites that save the same values."""

    number: int  # 0-based, innermost save arm first
    below: tuple[ValType, ...]  # operands below the call's arguments
    carried: tuple[ValType, ...]  # results of the call, which lie above `below` when it unwinds
    live: tuple[int, ...]  # local indices
    covered: bool  # inside a try_table: an exception may arrive here
    sites: list[Site] = attrs.field(factory=list)


@attrs.define(slots=True, eq=False, repr=False)
class Site:
    """One place where the function may be left and continued."""

    number: int
    position: int  # of the call, of the loop, or ENTRY
    poll: bool
    construct: Construct  # innermost construct that it stands in; for a loop poll, the loop
    below: tuple[ValType, ...]
    results: tuple[ValType, ...]
    covered: bool
    group: Group


@attrs.define(slots=True)
class FramePlan:
    """Everything that both copies of one function agree on."""

    function: int
    func: Func
    functype: FuncType
    shape: Skeleton
    marked: frozenset[int]  # constructs that enclose a site, the function body (0) included
    spills: dict[int, tuple[int, ...]]  # construct -> locals that hold the operands below it
    locals: list[ValType]  # parameters, declared locals, spill locals
    sites: list[Site]
    groups: list[Group]


def plan_frames(
    function: int,
    module: Module,
    graph: CallGraph,
    options: Options,
    additions: Additions,
    operand_types: OperandTypes,
) -> FramePlan | None:
    """Plan one function; None when it has no site. Raises UnsupportedFeature where a live value has no bytes."""
    func = module.funcs[function - module.imported("func")]
    functype = module.types[func.type]
    shape = skeleton(func.body)
    found = _candidates(function, func, functype, module, graph, options, shape, additions)
    if not found:
        return None
    marked = _enclosing(shape, found)
    starts = {shape.constructs[index].start for index in marked if index}
    operands = operand_types(starts.union(found) - {ENTRY_SITE})
    found = [position for position in found if _reachable(position, shape, operands)]
    if not found:
        return None
    if not NUMERIC.issuperset(functype.results):
        raise UnsupportedFeature("a reference as the result of a function that may be suspended", function)
    marked = _enclosing(shape, found)
    frame_locals = list(functype.params) + list(func.locals)
    spills: dict[int, tuple[int, ...]] = {}
    for index in sorted(marked - {0}):
        construct = shape.constructs[index]
        below = operands[construct.start]
        taken = len(additions.block_signature(_blocktype(func, construct)).params) + (construct.code == op.IF)
        below = below[: len(below) - taken]
        if below:
            spills[index] = tuple(range(len(frame_locals), len(frame_locals) + len(below)))
            frame_locals.extend(below)
    plan = FramePlan(function, func, functype, shape, frozenset(marked), spills, frame_locals, [], [])
    if len(found) > MAX_SITES:
        raise UnsupportedFeature(
            f"{len(found)} places where the agent may be suspended, more than {MAX_SITES},",
            function,
            instead="split the function; if it is loops that count, pack with --polls none",
        )
    _place_sites(plan, found, live_at(func.body, shape, found), operands, module, additions)
    return plan


def _candidates(
    function: int,
    func: Func,
    functype: FuncType,
    module: Module,
    graph: CallGraph,
    options: Options,
    shape: Skeleton,
    additions: Additions,
) -> list[int]:
    found = [ENTRY_SITE] if function in graph.entry_polls else []
    polls = options.polls != "none"
    body = func.body
    for position in shape.events:
        code = body[position].code
        if code == op.LOOP:
            if polls:
                found.append(position)
        elif code in CALLS and call_unwinds(code, body[position].imm, graph):
            results = _callee_type(code, body[position].imm, module).results
            if results != functype.results or not _returns_next(position, func, len(results), shape, additions):
                found.append(position)
    return found


def _returns_next(position: int, func: Func, arity: int, shape: Skeleton, additions: Additions) -> bool:
    """Whether the function only returns what the call at ``position`` returned.

    Then it needs no frame: while unwinding it returns anyway, and later it would return what the call returns
    (docs/adr/no-frame-for-a-last-call).
    """
    body = func.body
    construct = shape.constructs[shape.enclosing[position]]
    around = construct
    while around.index:
        if around.code == op.TRY_TABLE:
            return False  # an exception would have to be caught here
        around = shape.constructs[around.parent]
    while True:
        position += 1
        code = body[position].code
        if code == op.RETURN:
            return True
        if code == op.ELSE:
            position = construct.end
        elif code == op.BR:
            label = body[position].imm
            assert isinstance(label, int)
            for _ in range(label):
                construct = shape.constructs[construct.parent]
            if construct.code == op.LOOP:
                return False
            position = construct.end
        elif code not in (op.END, op.NOP):
            return False
        if code != op.NOP:  # at the end of `construct`
            if construct.index == 0:
                return True
            if len(additions.block_signature(_blocktype(func, construct)).results) != arity:
                return False
            construct = shape.constructs[construct.parent]


def call_unwinds(code: int, imm: object, graph: CallGraph) -> bool:
    """Whether a call instruction may return unwinding."""
    if code in (op.CALL, op.RETURN_CALL):
        return imm in graph.unwinds
    index = imm[0] if isinstance(imm, tuple) else imm
    assert isinstance(index, int)
    return graph.type_class[index] in graph.unwinding_types


def _blocktype(func: Func, construct: Construct) -> object:
    imm = func.body[construct.start].imm
    return imm[0] if construct.code == op.TRY_TABLE else imm


def _construct_of(position: int, shape: Skeleton) -> int:
    inside = shape.enclosing.get(position)
    return shape.opened_at[position] if inside is None else inside


def _enclosing(shape: Skeleton, positions: Collection[int]) -> set[int]:
    marked = {0}
    for position in positions:
        index = _construct_of(position, shape)
        while index not in marked:
            marked.add(index)
            index = shape.constructs[index].parent
    return marked


def _reachable(position: int, shape: Skeleton, operands: dict[int, tuple[ValType, ...]]) -> bool:
    """Neither the site nor any construct around it stands in dead code."""
    if position != ENTRY_SITE and position not in operands:
        return False
    index = _construct_of(position, shape)
    while index:
        if shape.constructs[index].start not in operands:
            return False
        index = shape.constructs[index].parent
    return True


def _place_sites(
    plan: FramePlan,
    positions: list[int],
    live: dict[int, int],
    operands: dict[int, tuple[ValType, ...]],
    module: Module,
    additions: Additions,
) -> None:
    body = plan.func.body
    groups: dict[object, Group] = {}
    for number, position in enumerate(positions, 1):
        construct = plan.shape.constructs[_construct_of(position, plan.shape)]
        below: tuple[ValType, ...] = ()
        results: tuple[ValType, ...] = ()
        poll = position not in plan.shape.enclosing
        if not poll:
            instr = body[position]
            callee = _callee_type(instr.code, instr.imm, module)
            taken = len(callee.params) + (instr.code != op.CALL)
            below = operands[position][: len(operands[position]) - taken]
            results = callee.results
        elif position != ENTRY_SITE:
            below = additions.block_signature(_blocktype(plan.func, construct)).params
        covered, spilled = _around(plan, construct)
        needed = live[position]
        for local in spilled:
            needed |= 1 << local
        _require_savable(plan, position, below, results, [plan.locals[local] for local in _members(needed)], additions)
        covered = covered and not poll
        carried = results if below else ()
        group = groups.get((below, carried, covered, needed))
        if group is None:
            order = sorted(_members(needed), key=lambda local: (_RANK[plan.locals[local]], local))
            group = Group(len(groups), below, carried, tuple(order), covered)
            groups[below, carried, covered, needed] = group
            plan.groups.append(group)
        site = Site(number, position, poll, construct, below, results, covered, group)
        group.sites.append(site)
        plan.sites.append(site)


def _require_savable(
    plan: FramePlan,
    position: int,
    below: Collection[ValType],
    results: Collection[ValType],
    live: Collection[ValType],
    additions: Additions,
) -> None:
    """Raises UnsupportedFeature, naming function and instruction, for a value that has no bytes."""
    savable = NUMERIC
    if can_be_saved(additions.module):
        savable |= {EXNREF}
        below = [EXNREF if valtype in FRAME_LETTERS and valtype not in NUMERIC else valtype for valtype in below]
    for valtypes, known, what in (
        (below, savable, "operand"),
        (live, savable, "local"),
        (results, NUMERIC, "result"),
    ):
        for valtype in valtypes:
            if valtype not in known:
                raise UnsupportedFeature(
                    f"a reference ({_reftype_name(valtype)}, a live {what}) at {_site_name(plan, position)}, "
                    "where the agent may be suspended,",
                    plan.function,
                )


def _members(mask: int) -> list[int]:
    return [local for local in range(mask.bit_length()) if mask >> local & 1]


def _around(plan: FramePlan, construct: Construct) -> tuple[bool, list[int]]:
    """Whether a try_table encloses the construct, and the spill locals of all around it."""
    covered = False
    spilled: list[int] = []
    index = construct.index
    while index:
        around = plan.shape.constructs[index]
        covered = covered or around.code == op.TRY_TABLE
        spilled.extend(plan.spills.get(index, ()))
        index = around.parent
    return covered, spilled


def _callee_type(code: int, imm: object, module: Module) -> FuncType:
    if code == op.CALL:
        assert isinstance(imm, int)
        return module.func_type(imm)
    index = imm[0] if isinstance(imm, tuple) else imm
    assert isinstance(index, int)
    return module.types[index]


def _reftype_name(valtype: ValType) -> str:
    return str(valtype.heap) + "ref" if isinstance(valtype, RefType) else str(valtype)


def _site_name(plan: FramePlan, position: int) -> str:
    if position == ENTRY_SITE:
        return "the function's entry"
    return f"instruction {position} ({op.TABLE[plan.func.body[position].code].mnemonic})"
