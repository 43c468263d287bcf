"""What an engine must do to run agents: the protocols that both engines implement, and the limits that they enforce.

Not here: which engines there are (`agents.engines.load` finds one). Invariant: nothing here imports an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import attrs

from agents.brief import brief

from .pages import Initial, Runs
from .raw import RawMemory
from .watch import Watch
from .writes import WriteWatch

if TYPE_CHECKING:  # it needs cffi, which is not everywhere that agents are packed
    from .missing import MissingPages

DEFAULT_STACK_BYTES = 1 << 20  # bytes of native stack that agent code may use; every thread of Python has more
Kind = Literal["func", "memory", "global", "table", "tag"]

# Calls import number `index` with bits; returns the result's bits, or a tuple if there are several results.
HostCall = Callable[[int, Sequence[int]], "int | tuple[int, ...] | None"]


@attrs.frozen
class Limits:
    """What one instance may use. The engine refuses more, whatever the code says.

    memory: bytes of all linear memories of the agent together; against allocation bombs. The memory that
        holds a suspended stack is extra, and bounded by the same number
    table_elements: elements in each table; against table.grow in a loop
    tables, memories: how many; each reserves address space even when it is empty
    """

    memory: int = 256 << 20
    table_elements: int = 1 << 20
    tables: int = 32
    memories: int = 16


@attrs.frozen
class CompileLimits:
    """What compiling one module may take: nanoseconds of processor time, and bytes of address space."""

    cpu_ns: int = 60_000_000_000
    memory: int = 2 << 30


@attrs.frozen
class ImportedFunction:
    """An imported function. Types are letters: i i32, I i64, f f32, F f64, v v128, r and x references."""

    module: str
    name: str
    params: str
    results: str


@attrs.frozen
class Exported:
    """An export, and its index in the module.

    For a function, its types as letters; `results` also holds the type of a global, of a table's elements, and of a
    memory's addresses. minimum, maximum: pages of a memory, elements of a table.
    """

    kind: Kind
    params: str = ""
    results: str = ""
    minimum: int = 0
    maximum: int | None = None
    mutable: bool = False
    index: int = 0


# Imports of agents that an instance can bind anew, with their types: those that are cheap for an engine, called often,
# and dear when they go through Python.
REBINDABLE: Mapping[tuple[str, str], tuple[str, str]] = {
    ("wasi_snapshot_preview1", "clock_time_get"): ("iIi", "i"),
    ("wasi_snapshot_preview1", "fd_seek"): ("iIii", "i"),
    ("wasi_snapshot_preview1", "fd_write"): ("iiii", "i"),
    ("wasi_snapshot_preview1", "random_get"): ("ii", "i"),
}


@attrs.frozen
class Rebound:
    """What `Instance.rebind` returns.

    memory: the bytes of the module's own memory, writable, valid until the instance is closed
    origin: what `time.monotonic_ns` showed when the clock that the module reads showed 0, or some microseconds earlier
    """

    memory: memoryview = attrs.field(repr=brief)
    origin: int


class ComesLater(Protocol):
    """What a memory needs whose bytes are not all here."""

    def make_present(self, offset: int, size: int) -> None:
        """Return when nothing of this range is missing."""


class Instance(Protocol):
    """One running module. Not for two threads at once, except for what `raw` and `watch_writes` give, and that
    memory at an address may be written.

    Any method raises `EngineError` for an export that is missing or of another kind.
    """

    def call(self, name: str, args: Sequence[int] = ()) -> tuple[int, ...]:
        """Call an export. Raises `RunStopped`, or whatever the host call raised."""

    def has(self, name: str) -> bool:
        """Whether there is an export with this name."""

    def get_global(self, name: str) -> tuple[str, int]:
        """Type letter and bits; for a reference, an identity that `functions` knows, 0 for null."""

    def set_global(self, name: str, bits: int) -> None:
        """Set a mutable global of a number type."""

    def memory_pages(self, name: str) -> int:
        """Size in pages of 65536 bytes."""

    def memory_grow(self, name: str, pages: int) -> None:
        """Grow to `pages` in total. Raises `LimitReached`."""

    def memory(self, name: str) -> memoryview:
        """Its bytes, writable. Invalid once it has grown or the instance is closed."""

    def on_demand(self, name: str) -> tuple[memoryview, ComesLater | None]:
        """Its bytes, writable, and what has to make a range of them present before that is touched; None if all are.

        Valid until agent code runs, or the memory grows. What is written in ranges that are present is there when
        agent code runs again.
        """

    def flag(self, name: str) -> Callable[[bool], None]:
        """What sets the first 32 bits of a memory to 1 or 0, also while agent code runs: from any thread, and soon.

        To be called while the instance is open.
        """

    def raw(self, name: str) -> RawMemory:
        """The memory by its address, for other threads while agent code runs. It holds the instance.

        Raises `EngineError` if it may move when it grows, or pages of it are missing.
        """

    def watch_writes(self, name: str) -> WriteWatch:
        """Watch what is written in the memory from now on, by agent code or anybody else. Raises as `raw` does.

        To begin while agent code runs, have `raw` before, and give it to `agents.engines.writes.watch_writes`.
        """

    def may_owe(self) -> bool:
        """Whether pages of its memories can be provided while agent code runs."""

    def owe(self, name: str, owed: Runs) -> MissingPages:
        """Take away 4 KiB pages of a memory that holds agent data, to be provided while agent code runs.

        Once for each memory; none of the code may run before. `changed` and `raw` are refused until all are there.

        Raises `EngineError` where that is not possible.
        """

    def missing(self, name: str) -> MissingPages | None:
        """The pages of a memory that are missing; None once all are there."""

    def changed(self, name: str) -> Runs:
        """Runs (first, number) of 4 KiB pages of a memory that differ from a fresh instance. They are present then.

        Raises `EngineError` while pages of it are missing.
        """

    def expect(self, name: str, offset: int, size: int, whole: bool = False) -> None:
        """Announce that these bytes of a memory are about to be written.

        whole: each of them, and in whole 4 KiB pages: they count as present, whatever they were
        """

    def functions(self, table: str) -> dict[int, int]:
        """Identity -> index, for each function in the table; the lowest index if there are several."""

    def table_elements(self, table: str) -> list[int]:
        """Identities of all elements; 0 for null. Raises `EngineError` for elements that cannot be named."""

    def table_grow(self, table: str, elements: int) -> None:
        """Grow with nulls to `elements` in total. Raises `LimitReached`."""

    def table_set(self, table: str, index: int, functions: str, function: int | None) -> None:
        """Set an element to what the table `functions` holds at `function`, or to null."""

    def set_reference(self, name: str, functions: str, function: int | None) -> None:
        """Set a mutable global to what the table `functions` holds at `function`, or to null."""

    def extend(self, extension: Extension) -> None:
        """Add the functions of an extension of its program, to be called as its own. None of its code runs.

        Raises `RunStopped` if the limits forbid it, `EngineError` if the engine cannot.
        """

    def rebind(self, module: str) -> Rebound | None:
        """Have a module in text form answer the calls of `REBINDABLE` from now on; None if that is not possible here.

        Its imports, in this order: the functions that answered them so far, as in `REBINDABLE`; a table, into which it
        puts its own in the same order; the agent's memory, and the memory of its frames; WASI's `clock_time_get` with
        the machine's clocks. It exports a memory of its own as `memory`. None of its code runs now.
        """

    def close(self) -> None:
        """Free everything. Harmless to repeat."""


class Extension(Protocol):
    """Compiled code that instances of one program can be extended by: its imports are their exports."""

    @property
    def digest(self) -> bytes:
        """Digest of the code it was compiled from."""

    @property
    def exports(self) -> Mapping[str, Exported]:
        """The functions that it adds."""


class Program(Protocol):
    """Compiled code, for any number of instances in any threads."""

    @property
    def digest(self) -> bytes:
        """Digest of the code it was compiled from."""

    @property
    def imports(self) -> Sequence[ImportedFunction]:
        """The functions that `instantiate` must supply, by index."""

    @property
    def exports(self) -> Mapping[str, Exported]:
        """The exports of an instance."""

    @property
    def starts(self) -> bool:
        """Whether it has a start function, which then runs in each new instance."""

    @property
    def interruptible(self) -> bool:
        """Whether agent code that never returns can be stopped."""

    def initial(self, name: str) -> Initial:
        """The contents of the memory `name` in a fresh instance."""

    def interrupt(self) -> None:
        """Have `tick` called soon by every instance that runs agent code. Thread-safe."""

    def instantiate(self, host: HostCall, tick: Callable[[], None], limits: Limits) -> Instance:
        """A fresh instance. `tick` is called between two instructions, and may raise `RunStopped`.

        Raises `RunStopped` if the limits or the code forbid it, `EngineError` if the engine cannot.
        """


class Engine(Protocol):
    """A WebAssembly engine."""

    @property
    def name(self) -> str:
        """Its name, one of `ENGINE_NAMES`."""

    @property
    def version(self) -> str:
        """The version of its package."""

    @property
    def watch(self) -> Watch:
        """Calls actions at given times, in a thread of its own."""

    @property
    def profiles(self) -> frozenset[str]:
        """Profiles of rewritten modules that it can run."""

    def quick(self, code: bytes) -> bool:
        """Whether compiling this takes little, whatever it is. Raises `ModuleError`."""

    def program(
        self, code: bytes, digest: bytes, *, interruptible: bool = True, limits: CompileLimits | None = None
    ) -> Program:
        """Compile `code` (whose digest is `digest`), or take it from the cache.

        Without `limits` it takes what it takes.

        Raises `EngineError`; of these `CompilingTooCostly` if it takes more.
        """

    def extension(
        self, program: Program, code: bytes, digest: bytes, *, limits: CompileLimits | None = None
    ) -> Extension:
        """Compile `code`, which extends instances of `program`, or take it from the cache.

        Raises as `program` does; `EngineError` too if the code defines anything but functions, or imports anything but
        what the program exports, as the type that it has there.
        """
