"""The steps of the rewriting, in order."""

from __future__ import annotations

from collections.abc import Callable, Collection

import attrs

from agents.errors import UnsupportedFeature
from agents.rewrite import exports as expose
from agents.rewrite.additions import FRAME_LETTERS, Additions, frame_letters
from agents.rewrite.callgraph import CallGraph, analyse
from agents.rewrite.continuation import Continuation
from agents.rewrite.fast_copy import FastCopy
from agents.rewrite.frames import FramePlan, Group, plan_frames
from agents.rewrite.machinery import SLOT_BYTES, TRANSFER_BYTES, Machinery
from agents.rewrite.metadata import (
    METADATA_SECTION,
    RESUME_SECTION,
    Layout,
    Metadata,
    ResumeInfo,
    SiteInfo,
    encode_metadata,
)
from agents.rewrite.options import Options, Progress
from agents.rewrite.portable import PortableMachinery
from agents.rewrite.resume_copy import ResumeCopy
from agents.rewrite.resume_module import LINK_EXPORT, First, link
from agents.wasm import names as name_section
from agents.wasm import opcodes as op
from agents.wasm.context import Context
from agents.wasm.encode import encode_module
from agents.wasm.syntax import (
    FUNCREF,
    I32,
    Custom,
    Elem,
    Export,
    Func,
    Import,
    ImportFunc,
    Instr,
    MemType,
    Module,
    Table,
    TableType,
    TypeLimits,
    ValType,
)
from agents.wasm.validate import operand_types, validate_context, validate_module

DEFAULT_OPTIONS = Options()

#: Custom sections with code offsets, which change: branch hints and DWARF would be wrong afterwards.
_POSITIONAL = ("metadata.code.", ".debug_", "reloc.", "linking")


def rewrite(module: Module, options: Options = DEFAULT_OPTIONS, progress: Progress | None = None) -> Module:
    """Give ``module`` strong mobility.

    ``progress(done, total)`` is called now and then with numbers of functions.
    Raises InvalidModule if it does not validate, UnsupportedFeature with the name of what is not supported.
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
    base = TRANSFER_BYTES + SLOT_BYTES * max([*slots, 1])
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
                frame_letters(site.results),
            )
        )
    results = "".join(FRAME_LETTERS.get(valtype, "") for valtype in plan.functype.results)
    return ResumeInfo(plan.function, results, tuple(sites))


def _layout(plan: FramePlan, group: Group) -> Layout:
    types = frame_letters([plan.locals[local] for local in group.live])
    return Layout(frame_letters(group.below), group.live, types, group.covered)


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
    """Put the parts together: originals, helpers, tables, exports, the metadata and the resume module."""
    prefix = expose.EXPORT_PREFIX
    exports = list(module.exports)
    state = expose.mutable_globals(module)
    tables = expose.changed_tables(module)
    exports += expose.state_exports(module, state, tables)
    if module.start is not None:
        exports.append(Export(prefix + "start", "func", module.start))
    if drops:
        exports.append(Export(prefix + "drop", "func", expose.redrop(additions, drops)))
    portable = isinstance(machinery, PortableMachinery)
    driver = machinery.driver(len(copies)) if copies else 0
    mems = module.mems
    base = 0
    if not portable:
        mems += (MemType(TypeLimits(1)),)
        base = machinery.base
        exports.append(Export(prefix + "frames", "memory", machinery.memory))
        exports.append(Export(prefix + "base", "global", additions.add_global(I32, mutable=False, initial=base)))
        exports.append(Export(prefix + "bottom", "global", machinery.bottom))
    elif not mems:
        mems = (MemType(TypeLimits(1)),)
        exports.append(Export(prefix + "memory.0", "memory", 0))
    exports.append(Export(prefix + "state", "global", machinery.state))
    exports.append(Export(prefix + "top", "global", machinery.top))
    if isinstance(machinery, PortableMachinery):
        exports.append(Export(prefix + "site", "global", machinery.site_global))
        exports += [Export(f"{prefix}slot.{k}", "global", index) for k, index in enumerate(machinery.slots)]
        exports += [Export(f"{prefix}result.{k}", "global", index) for k, index in enumerate(machinery.results)]
    new_tables: list[tuple[str, tuple[int, ...]]] = []
    if tables or any(_holds_functions(module, index) for index in state):
        new_tables.append((prefix + "functions", graph.escaped))
    resume = None
    if copies:
        first = First(
            (*module.mem_types[: module.imported("memory")], *mems),
            module.table_types,
            (*module.global_types, *(added.type for added in additions.globals)),
            module.all_tags,
            exports,
        )
        linked = link(module, additions, first, copies, driver, prefix + ("step" if portable else "resume"))
        new_tables.append((LINK_EXPORT, linked.functions))
        exports += linked.exports
        resume = linked.module
    elems: list[Elem] = list(module.elems)
    made: list[Table] = []
    for name, functions in new_tables:
        index = len(module.table_types) + len(made)
        made.append(Table(TableType(FUNCREF, TypeLimits(len(functions), len(functions)))))
        elems.append(expose.function_elements(functions, index, additions))
        exports.append(Export(name, "table", index))
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
    customs += (Custom(METADATA_SECTION, encode_metadata(metadata), 11),)
    names = name_section.module_names(module)
    if resume is not None:
        customs += (Custom(RESUME_SECTION, encode_module(_with_resumed_names(resume, names, additions, infos)), 11),)
    funcs = (*fast, *additions.functions)
    made_module = attrs.evolve(
        module,
        types=additions.types_for(funcs),
        funcs=funcs,
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
    return _with_names(made_module, names, additions)


def _with_names(module: Module, names: name_section.Names, additions: Additions) -> Module:
    """Name the added functions, if the module names its functions at all."""
    if not names.functions:
        return module
    added = {additions.first_function + position: name for position, name in enumerate(additions.names)}
    return name_section.with_names(module, attrs.evolve(names, functions={**names.functions, **added}))


def _with_resumed_names(
    module: Module, names: name_section.Names, additions: Additions, infos: list[ResumeInfo]
) -> Module:
    """Name the functions of the resume module: ``f (resumed)``, then the helpers."""
    if not names.functions:
        return module
    functions = [f"{names.functions.get(info.function, info.function)} (resumed)" for info in infos]
    functions += additions.resumed_names
    imported = [_linked_name(entry, names, additions) for entry in module.imports if entry.kind == "func"]
    return name_section.with_names(module, name_section.Names(functions=dict(enumerate(imported + functions))))


def _linked_name(entry: Import, names: name_section.Names, additions: Additions) -> str:
    """The name of a function of the first module that the resume module imports."""
    index = int(entry.name.rpartition(".")[2])
    added = index - additions.first_function
    return additions.names[added] if added >= 0 else names.functions.get(index, entry.name)


def _holds_functions(module: Module, index: int) -> bool:
    valtype = module.global_types[index].val
    return getattr(valtype, "heap", None) not in (None, "extern", "noextern")
