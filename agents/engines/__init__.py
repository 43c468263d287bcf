"""What an engine must do to run agents: the protocols, and `load(name)`.

An *engine* compiles code to a *program*; a program gives fresh *instances*. Values cross as bits, never
negative: an i32 as 0 .. 2**32 - 1, an f64 as its 64-bit pattern, a v128 as 128 bits, little endian. So no
float is changed on its way, and both engines agree.

This is not the runtime: an engine knows nothing of agents, suspension or snapshots.

Invariants: only the module `agents.engines.NAME` imports the engine NAME; a limit is enforced by the
engine, never by trust in the code; compiled code comes from this user's own cache or from compiling here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import attrs

from agents.errors import EngineError

from .watch import Watch

NAMES = ("wasmtime", "wasmer")
DEFAULT_STACK = 1 << 20  # bytes of native stack that agent code may use; a Python thread has 8 MiB
Kind = Literal["func", "memory", "global", "table", "tag"]

# Calls import number `index` with bits; gives the result's bits, or a tuple of them when there are several.
HostCall = Callable[[int, Sequence[int]], "int | tuple[int, ...] | None"]


@attrs.frozen
class Limits:
    """What one instance may use. The engine refuses more, whatever the code says.

    memory: bytes of all linear memories of the agent together; against allocation bombs. The memory that
        holds a suspended stack comes on top of it, and is bounded by the same number
    table_elements: elements in each table; against table.grow in a loop
    tables, memories: how many; each reserves address space even when it is empty
    """

    memory: int = 256 << 20
    table_elements: int = 1 << 20
    tables: int = 32
    memories: int = 16


@attrs.frozen
class ImportedFunction:
    """An imported function. Types are letters: i i32, I i64, f f32, F f64, v v128, r and x references."""

    module: str
    name: str
    params: str
    results: str


@attrs.frozen
class Exported:
    """What is exported, and its index in the module.

    Of a function its types as letters; in `results` also the type of a global, of a table's elements, and of a
    memory's addresses. minimum, maximum: pages of a memory, elements of a table.
    """

    kind: Kind
    params: str = ""
    results: str = ""
    minimum: int = 0
    maximum: int | None = None
    mutable: bool = False
    index: int = 0


class Instance(Protocol):
    """One running module. Not for two threads at once, except that memory at an address can be written to.

    Any method raises `EngineError` for an export that is missing or of another kind.
    """

    def call(self, name: str, args: Sequence[int] = ()) -> tuple[int, ...]:
        """Call an export. Raises `RunStopped`, or whatever the host call raised."""

    def has(self, name: str) -> bool:
        """Whether there is an export of this name."""

    def get_global(self, name: str) -> tuple[str, int]:
        """Type letter and bits; of a reference, an identity that `functions` knows, 0 for null."""

    def set_global(self, name: str, bits: int) -> None:
        """Set a mutable global of a number type."""

    def memory_pages(self, name: str) -> int:
        """Size in pages of 65536 bytes."""

    def memory_grow(self, name: str, pages: int) -> None:
        """Grow to `pages` in all. Raises `LimitReached`."""

    def memory(self, name: str) -> memoryview:
        """Its bytes, writable. Not to be used after it grew or the instance closed."""

    def memory_address(self, name: str) -> int:
        """Address of its first byte. Stays the same for a 32-bit memory while the instance is open."""

    def changed(self, name: str) -> list[tuple[int, int]]:
        """Runs (first, number) of 4 KiB pages of a memory that are not as in a fresh instance."""

    def expect(self, name: str, offset: int, size: int) -> None:
        """These bytes of a memory are about to be written."""

    def functions(self, table: str) -> dict[int, int]:
        """Identity -> index, for each function in the table; of several indices the lowest."""

    def table_elements(self, table: str) -> list[int]:
        """Identities of all elements; 0 for null. Raises `EngineError` for what cannot be named."""

    def table_grow(self, table: str, elements: int) -> None:
        """Grow with nulls to `elements` in all. Raises `LimitReached`."""

    def table_set(self, table: str, index: int, functions: str, function: int | None) -> None:
        """Set an element to what the table `functions` holds at `function`, or to null."""

    def set_reference(self, name: str, functions: str, function: int | None) -> None:
        """Set a mutable global to what the table `functions` holds at `function`, or to null."""

    def close(self) -> None:
        """Free everything. Harmless to repeat."""


class Program(Protocol):
    """Compiled code; for any number of instances, in any threads."""

    @property
    def digest(self) -> bytes:
        """Digest of the code it was compiled from."""

    @property
    def imports(self) -> Sequence[ImportedFunction]:
        """The functions that `instantiate` must supply, by index."""

    @property
    def exports(self) -> Mapping[str, Exported]:
        """What an instance offers."""

    @property
    def starts(self) -> bool:
        """Whether it has a start function, which then runs in each new instance."""

    @property
    def interruptible(self) -> bool:
        """Whether agent code that never comes back can be stopped."""

    def interrupt(self) -> None:
        """Have `tick` called, soon, by every instance that runs agent code. From any thread."""

    def instantiate(self, host: HostCall, tick: Callable[[], None], limits: Limits) -> Instance:
        """A fresh instance. `tick` is called between two instructions, and may raise `RunStopped`.

        Raises `RunStopped` when the limits or the code forbid it, `EngineError` when the engine cannot.
        """


class Engine(Protocol):
    """A WebAssembly engine."""

    @property
    def name(self) -> str:
        """Its name, one of `NAMES`."""

    @property
    def version(self) -> str:
        """The version of its package."""

    @property
    def watch(self) -> Watch:
        """Calls actions at their times, in a thread of its own."""

    @property
    def profiles(self) -> frozenset[str]:
        """Profiles of rewritten modules that it can run."""

    def program(self, code: bytes, digest: bytes, *, interruptible: bool = True) -> Program:
        """Compile `code` (whose digest is `digest`), or take it from the cache. Raises `EngineError`."""


def load(name: str = "wasmtime", **options: Any) -> Engine:
    """The engine `name`. Options: `cache` (a directory, or None for no cache), `stack` (bytes).

    Raises `EngineError` when it is unknown, not installed, or does not work on this Python.
    """
    if name == "wasmtime":
        from .wasmtime import WasmtimeEngine

        engine: Engine = WasmtimeEngine(**options)
        return engine
    if name == "wasmer":
        from .wasmer import WasmerEngine

        other: Engine = WasmerEngine(**options)
        return other
    raise EngineError(f"there is no engine {name!r}; known are {', '.join(NAMES)}")


def available() -> tuple[str, ...]:
    """Names of the engines that can be loaded here."""
    return tuple(name for name in NAMES if importlib.util.find_spec(name) is not None and _works(name))


def _works(name: str) -> bool:
    try:
        load(name, cache=None)
    except EngineError:
        return False
    return True


def default_cache() -> Path:
    """Where compiled code is kept unless told otherwise: `$XDG_CACHE_HOME/portcall/code`."""
    from .codecache import default_directory

    return default_directory()
