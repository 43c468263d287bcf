"""The steps of the rewriting, in order."""

from __future__ import annotations

from collections.abc import Callable, Collection

import attrs

from agents.errors import UnsupportedFeature
from agents.rewrite import exports as expose
from agents.rewrite.additions import LETTERS, Additions, letters
from agents.rewrite.callgraph import CallGraph, analyse
from agents.rewrite.continuation import Continuation
from agents.rewrite.fast_copy import FastCopy
from agents.rewrite.frames import FramePlan, Group, plan_frames
from agents.rewrite.machinery import SLOT, TRANSFER, Machinery
from agents.rewrite.metadata import SECTION, Layout, Metadata, ResumeInfo, SiteInfo, encode_metadata
from agents.rewrite.options import Options
from agents.rewrite.portable import PortableMachinery
from agents.rewrite.resume_copy import ResumeCopy
from agents.wasm import names as name_section
from agents.wasm import opcodes as op
from agents.wasm.context import Context
from agents.wasm.syntax import (
    FUNCREF,
    I32,
    Custom,
    Elem,
    Export,
    Func,
    ImportFunc,
    Instr,
    Limits,
    MemType,
    Module,
    Table,
    TableType,
    ValType,
)
from agents.wasm.validate import operand_types, validate_context, validate_module

Progress = Callable[[int, int], None]
DEFAULT = Options()

#: Custom sections that speak of places in the code, which moves: branch hints and DWARF would lie afterwards.
_POSITIONAL = ("metadata.code.", ".debug_", "reloc.", "linking")


def rewrite(module: Module, options: Options = DEFAULT, progress: Progress | None = None) -> Module:
    """Give ``module`` strong mobility.

    ``progress(done, total)`` is called now and then, in functions.
    Raises InvalidModule when it does not validate, UnsupportedFeature for what cannot be carried, naming it.
    """
    validate_module(module)
    expose.refuse_shared_state(module)
    _check_profile(module, options)
    module, drops = expose.mark_drops(module)
    additions = Additions(module)
    graph = analyse(module, options)
    machinery = _machinery(module, options, graph, additions)
    continuation = Continuation(module, graph, additions, machinery)

    fast = list(module.funcs)
    copies: list[Func] = []
    infos: list[ResumeInfo] = []
    context = validate_context(module)
    imported = module.imported("func")
    for position in range(len(module.funcs)):
        function = imported + position
        plan = plan_frames(function, module, graph, options, additions, _typer(context, function))
        if plan is not None:
            fast[position] = FastCopy(continuation, plan, len(copies)).build()
            copies.append(ResumeCopy(continuation, plan, len(copies)).build())
            infos.append(_describe(plan, module))
        if progress is not None and position % 64 == 0:
            progress(position, len(module.funcs))
    return _assemble(module, options, graph, additions, machinery, drops, fast, copies, infos)


def _typer(context: Context, function: int) -> Callable[[Collection[int]], dict[int, tuple[ValType, ...]]]:
    return lambda at: operand_types(context, function, at)


STANDARD = "the standard profile, which wasmtime runs, takes that"


def _check_profile(module: Module, options: Options) -> None:
    if options.profile == "standard":
        return
    if options.polls != "none":
        raise UnsupportedFeature("polls in the portable profile", instead="pack with --polls none")
    if len(module.mem_types) > 1:
        raise UnsupportedFeature("more than one memory in the portable profile", instead=STANDARD)
    if any(memory.addr64 for memory in module.mem_types):
        raise UnsupportedFeature("memory64 in the portable profile", instead=STANDARD)
    if module.all_tags:
        raise UnsupportedFeature("exceptions in the portable profile", instead=STANDARD)


def _machinery(module: Module, options: Options, graph: CallGraph, additions: Additions) -> Machinery:
    if options.profile == "portable":
        return PortableMachinery(additions, 0)
    slots = [len(module.types[func.type].results) for func in module.funcs]
    slots += [len(module.types[item.desc.type].results) for item in module.imports if isinstance(item.desc, ImportFunc)]
    base = TRANSFER + SLOT * max([*slots, 1])
    exceptions = any(
        instr.code in (op.TRY_TABLE, op.THROW, op.THROW_REF) for func in module.funcs for instr in func.body
    )
    return Machinery(additions, len(module.mem_types), exceptions, base)


def _describe(plan: FramePlan, module: Module) -> ResumeInfo:
    layouts: dict[int, Layout] = {group.number: _layout(plan, group) for group in plan.groups}
    sites = []
    for site in plan.sites:
        callee = None
        if not site.poll and plan.func.body[site.position].code == op.CALL:
            callee = plan.func.body[site.position].imm
        sites.append(
            SiteInfo(
                "poll" if site.poll else "call",
                site.position,
                callee,
                layouts[site.group.number],
                letters(site.results),
            )
        )
    results = "".join(LETTERS.get(valtype, "") for valtype in plan.functype.results)
    return ResumeInfo(plan.function, results, tuple(sites))


def _layout(plan: FramePlan, group: Group) -> Layout:
    types = letters([plan.locals[local] for local in group.live])
    return Layout(letters(group.below), group.live, types, group.covered)


def _assemble(
    module: Module,
    options: Options,
    graph: CallGraph,
    additions: Additions,
    machinery: Machinery,
    drops: list[tuple[int, Instr]],
    fast: list[Func],
    copies: list[Func],
    infos: list[ResumeInfo],
) -> Module:
    """Put the parts together: originals, helpers, resume copies, tables, exports and the metadata."""
    prefix = expose.PREFIX
    exports = list(module.exports)
    state = expose.mutable_globals(module)
    tables = expose.changed_tables(module)
    exports += expose.state_exports(module, state, tables)
    if module.start is not None:
        exports.append(Export(prefix + "start", "func", module.start))
    if drops:
        exports.append(Export(prefix + "drop", "func", expose.redrop(additions, drops)))
    new_tables: list[tuple[tuple[int, ...], str | None]] = []
    table_count = len(module.table_types)
    portable = isinstance(machinery, PortableMachinery)
    if copies:
        driver = machinery.driver(table_count)
        exports.append(Export(prefix + ("step" if portable else "resume"), "func", driver))
        first_copy = additions.first_function + len(additions.functions)
        new_tables.append((tuple(range(first_copy, first_copy + len(copies))), None))
    if tables or any(_holds_functions(module, index) for index in expose.mutable_globals(module)):
        new_tables.append((graph.escaped, prefix + "functions"))
    elems: list[Elem] = list(module.elems)
    made: list[Table] = []
    for functions, name in new_tables:
        index = table_count + len(made)
        made.append(Table(TableType(FUNCREF, Limits(len(functions), len(functions)))))
        elems.append(expose.function_elements(functions, index, additions))
        if name is not None:
            exports.append(Export(name, "table", index))
    mems = module.mems
    base = 0
    if not portable:
        mems += (MemType(Limits(1)),)
        base = machinery.base
        exports.append(Export(prefix + "frames", "memory", machinery.memory))
        exports.append(Export(prefix + "base", "global", additions.add_global(I32, mutable=False, initial=base)))
        exports.append(Export(prefix + "bottom", "global", machinery.bottom))
    elif not mems:
        mems = (MemType(Limits(1)),)
        exports.append(Export(prefix + "memory.0", "memory", 0))
    exports.append(Export(prefix + "state", "global", machinery.state))
    exports.append(Export(prefix + "top", "global", machinery.top))
    if isinstance(machinery, PortableMachinery):
        exports.append(Export(prefix + "site", "global", machinery.site_global))
        exports += [Export(f"{prefix}slot.{k}", "global", index) for k, index in enumerate(machinery.slots)]
        exports += [Export(f"{prefix}result.{k}", "global", index) for k, index in enumerate(machinery.results)]
    metadata = Metadata(
        profile=options.profile,
        polls=options.polls,
        base=base,
        resumes=tuple(infos),
        memories=max(len(module.mem_types), int(portable)),
        globals=state,
        tables=tables,
        functions=graph.escaped,
        suspending=tuple(index for index in range(module.imported("func")) if index in graph.unwinds),
        start=module.start is not None,
        drops=bool(drops),
    )
    customs = tuple(custom for custom in module.customs if not custom.name.startswith(_POSITIONAL))
    customs += (Custom(SECTION, encode_metadata(metadata), 11),)
    made_module = attrs.evolve(
        module,
        types=tuple(additions.types),
        funcs=(*fast, *additions.functions, *copies),
        tables=module.tables + tuple(made),
        mems=mems,
        globals=module.globals + tuple(additions.globals),
        exports=tuple(exports),
        start=None,
        elems=tuple(elems),
        customs=customs,
        source=None,
        offsets={},
    )
    return _with_names(made_module, additions, infos)


def _with_names(module: Module, additions: Additions, infos: list[ResumeInfo]) -> Module:
    """Name what was added, where the module names its functions at all."""
    names = name_section.module_names(module)
    if not names.functions:
        return module
    functions = dict(names.functions)
    for position, name in enumerate(additions.names):
        functions[additions.first_function + position] = name
    first_copy = additions.first_function + len(additions.names)
    for position, info in enumerate(infos):
        functions[first_copy + position] = f"{functions.get(info.function, info.function)} (resumed)"
    return name_section.with_names(module, attrs.evolve(names, functions=functions))


def _holds_functions(module: Module, index: int) -> bool:
    valtype = module.global_types[index].val
    return getattr(valtype, "heap", None) not in (None, "extern", "noextern")
