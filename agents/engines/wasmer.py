"""The engine wasmer, whose Python package ended with CPython 3.10: the portable profile's proof. Its sole
importer.

It has one memory, no exceptions, no epochs and no limiter, so modules pass through `metering` before they
are compiled. Its objects belong to the thread that made them; so each thread gets the module anew from
the compiled bytes. Elements of tables cannot be read from Python: an image that changes its tables is
refused.

Invariants: as for every engine; a float's bits survive in globals, but a signalling NaN that an export
takes or returns directly becomes quiet on its way through a Python float.
"""

from __future__ import annotations

import ctypes
import struct
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.errors import EngineError, LimitReached, ModuleError, WasmTrap
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module

from . import DEFAULT_STACK, Exported, HostCall, ImportedFunction, Limits
from .codecache import open_cache
from .interface import Interface, check_limits, interface
from .metering import CEILING, ELEMENTS, TICK, VERSION, bits_get, bits_set, meter
from .pages import Initial, Runs, expect
from .watch import Watch

try:
    import wasmer  # type: ignore[import-not-found, import-untyped, unused-ignore]
    import wasmer_compiler_cranelift  # type: ignore[import-not-found, import-untyped, unused-ignore]
except ImportError as error:  # on newer Pythons a package without contents is installed
    _there = "" if sys.version_info < (3, 11) else "in an environment of CPython 3.10, the last that it works with: "
    raise EngineError(
        f"the engine wasmer is not installed here ({error}); {_there}pip install 'portcall[wasmer]'"
    ) from None

WASM_PAGE = 65536
_KEEP = 8
_REASON_MAX = 2000
_UNLIMITED = 1 << 32
_TRAPS = (
    ("unreachable", "unreachable", "the agent's code reached `unreachable`"),
    ("out of bounds memory access", "memory-bounds", "a memory access out of bounds"),
    ("undefined element", "table-bounds", "a table access out of bounds"),
    ("out of bounds table access", "table-bounds", "a table access out of bounds"),
    ("uninitialized element", "null", "an indirect call of a null element"),
    ("indirect call type mismatch", "signature", "an indirect call with another type than the function's"),
    ("integer overflow", "integer-overflow", "an integer overflow"),
    ("integer divide by zero", "division", "an integer division by zero"),
    ("invalid conversion to integer", "conversion", "a float that has no integer"),
)


def _to_bits(letter: str, value: Any) -> int:
    """A value as wasmer gives it, as bits."""
    if letter == "f":
        return int.from_bytes(struct.pack("<f", value), "little")
    if letter == "F":
        return int.from_bytes(struct.pack("<d", value), "little")
    return int(value) & _MASKS[letter]


def _from_bits(letter: str, bits: int) -> Any:
    """Bits as wasmer takes them: integers signed, floats as floats."""
    if letter == "f":
        return struct.unpack("<f", (bits & 0xFFFFFFFF).to_bytes(4, "little"))[0]
    if letter == "F":
        return struct.unpack("<d", (bits & _MASKS["F"]).to_bytes(8, "little"))[0]
    if letter == "v":
        return bits & _MASKS["v"]
    bits &= _MASKS[letter]
    half = (_MASKS[letter] + 1) >> 1
    return bits - 2 * half if bits >= half else bits


_MASKS = {"i": 0xFFFFFFFF, "f": 0xFFFFFFFF, "I": (1 << 64) - 1, "F": (1 << 64) - 1, "v": (1 << 128) - 1}
_TYPES = {"i": "I32", "I": "I64", "f": "F32", "F": "F64"}


class WasmerEngine:
    """wasmer with Cranelift."""

    name = "wasmer"
    profiles = frozenset({"portable"})

    def __init__(self, *, cache: Path | str | None = "", stack: int = DEFAULT_STACK) -> None:
        """`cache` as for wasmtime; `stack` cannot be chosen here: it is the thread's."""
        self.version = str(wasmer.__version__)
        self._cache = open_cache(cache)
        self._lock = threading.Lock()
        self._programs: dict[tuple[bytes, bool], WasmerProgram] = {}
        self.watch = Watch()

    def program(self, code: bytes, digest: bytes, *, interruptible: bool = True) -> WasmerProgram:
        """Compile, or take from the cache."""
        with self._lock:
            found = self._programs.pop((digest, interruptible), None)
            if found is not None:
                self._programs[digest, interruptible] = found
                return found
        try:
            shape = interface(code)
            compiled = self._compile(code, digest, interruptible)
        except ModuleError as error:
            raise EngineError(f"the module cannot be read: {error}") from None
        program = WasmerProgram(self, compiled, digest, shape, interruptible)
        with self._lock:
            self._programs[digest, interruptible] = program
            while len(self._programs) > _KEEP:
                del self._programs[next(iter(self._programs))]
        return program

    def _compile(self, code: bytes, digest: bytes, interruptible: bool) -> bytes:
        flavour = f"{'metered' if interruptible else 'plain'}{VERSION}"
        key = f"wasmer-{self.version}-{flavour}-{digest.hex()}"
        stored = None if self._cache is None else self._cache.load(key)
        if stored is not None:
            return bytes(stored)
        metered = encode_module(meter(decode_module(code), turns=interruptible))
        try:
            compiled = bytes(wasmer.Module(_store(), metered).serialize())
        except BaseException as error:
            if not _its_own(error):
                raise
            raise EngineError(f"wasmer cannot compile the module: {_cut(str(error))}") from None
        if self._cache is not None:
            self._cache.store(key, compiled)
        return compiled


def _store() -> Any:
    return wasmer.Store(wasmer.engine.JIT(wasmer_compiler_cranelift.Compiler))


class WasmerProgram:
    """Compiled bytes, and in each thread the module that they are."""

    def __init__(
        self, engine: WasmerEngine, compiled: bytes, digest: bytes, shape: Interface, interruptible: bool
    ) -> None:
        self.engine, self.digest, self.interface, self.interruptible = engine, digest, shape, interruptible
        self.imports: Sequence[ImportedFunction] = shape.imports
        self.exports: Mapping[str, Exported] = shape.exports
        self.starts = shape.start
        self.interruptions = 0  # asked for until now
        self._compiled = compiled
        self._mine = threading.local()
        self._initial: dict[str, Initial] = {}
        self._lock = threading.Lock()

    def module(self) -> tuple[Any, Any]:
        """This thread's store and module."""
        if not hasattr(self._mine, "module"):
            store = _store()
            try:
                self._mine.module = (store, wasmer.Module.deserialize(store, self._compiled))
            except RuntimeError as error:
                raise EngineError(f"wasmer cannot load the compiled module: {_cut(str(error))}") from None
        found: tuple[Any, Any] = self._mine.module
        return found

    def interrupt(self) -> None:
        """Have `tick` called."""
        self.interruptions += 1

    def initial(self, name: str) -> Initial:
        """What the memory `name` holds in a fresh instance."""
        with self._lock:
            found = self._initial.get(name)
            if found is None:
                limits = Limits(memory=_UNLIMITED * WASM_PAGE, table_elements=_UNLIMITED)
                instance = self.instantiate(_no_host, _no_tick, limits)
                found = Initial(instance.memory(name), instance.memory_address(name))
                self._initial[name] = found
            return found

    def instantiate(self, host: HostCall, tick: Callable[[], None], limits: Limits) -> WasmerInstance:
        """A fresh instance."""
        check_limits(self.interface, limits)
        return WasmerInstance(self, host, tick, limits)


class WasmerInstance:
    """One instance, of the thread that made it."""

    def __init__(self, program: WasmerProgram, host: HostCall, tick: Callable[[], None], limits: Limits) -> None:
        self.program, self._host, self._agent_tick = program, host, tick
        self._raised: BaseException | None = None
        self._seen = program.interruptions
        self._ceiling = limits.memory // max(1, len(program.interface.memories)) // WASM_PAGE
        for memory in program.interface.memories:
            if memory.limits.min > self._ceiling:
                raise LimitReached("memory", f"{memory.limits.min} pages of memory; {self._ceiling} are allowed")
        for table in program.interface.tables:
            if table.limits.min > limits.table_elements:
                raise LimitReached("table", f"{table.limits.min} elements in a table")
        store, module = program.module()
        imports = wasmer.ImportObject()
        spaces: dict[str, dict[str, Any]] = {TICK[0]: {TICK[1]: _function(store, self._tick, "", "")}}
        for index, entry in enumerate(program.imports):
            answer = _answer(self, index, entry)
            spaces.setdefault(entry.module, {})[entry.name] = _function(store, answer, entry.params, entry.results)
        for space, functions in spaces.items():
            imports.register(space, functions)
        self._instance: Any = self._guard(lambda: wasmer.Instance(module, imports), "cannot start the module")
        self._exports = self._instance.exports
        getattr(self._exports, CEILING).value = _from_bits("i", min(self._ceiling, 65536))
        getattr(self._exports, ELEMENTS).value = _from_bits("i", min(limits.table_elements, 0xFFFFFFFF))

    def host(self, index: int, arguments: tuple[Any, ...]) -> Any:
        """Answer an import."""
        entry = self.program.imports[index]
        try:
            bits = tuple(map(_to_bits, entry.params, arguments))
            answer = self._host(index, bits)
            if not entry.results:
                return None
            if len(entry.results) == 1:
                assert isinstance(answer, int)
                return _from_bits(entry.results, answer)
            assert isinstance(answer, tuple)
            return tuple(map(_from_bits, entry.results, answer))
        except BaseException as error:
            self._raised = error
            raise

    def _tick(self) -> None:
        if self._seen != self.program.interruptions:
            self._seen = self.program.interruptions
            try:
                self._agent_tick()
            except BaseException as error:
                self._raised = error
                raise

    def _guard(self, code: Callable[[], Any], what: str) -> Any:
        """Run something of wasmer's; raise what its errors mean."""
        try:
            return code()
        except BaseException as error:
            raised, self._raised = self._raised, None
            if raised is not None:
                raise raised from None
            if not _its_own(error):
                raise
            text = str(error).removeprefix("RuntimeError: ")
            if text.startswith("call stack exhausted"):
                raise LimitReached("stack", "the agent's calls are nested too deeply for its stack") from None
            for start, word, reason in _TRAPS:
                if text.startswith(start):
                    raise WasmTrap(word, reason) from None
            raise EngineError(f"wasmer {what}: {_cut(text)}") from None

    def call(self, name: str, args: Sequence[int] = ()) -> tuple[int, ...]:
        """Call an export with bits."""
        exported = self._of_kind(name, "func")
        if len(args) != len(exported.params):
            raise EngineError(f"{name!r} takes {len(exported.params)} arguments, not {len(args)}")
        if not set(exported.params + exported.results) <= set("iIfFv"):
            raise EngineError(f"{name!r} takes or returns a reference, which cannot cross")
        values = list(map(_from_bits, exported.params, args))
        function = getattr(self._exports, name)
        result = self._guard(lambda: function(*values), f"cannot call {name!r}")
        if not exported.results:
            return ()
        results = (result,) if len(exported.results) == 1 else result
        return tuple(map(_to_bits, exported.results, results))

    def has(self, name: str) -> bool:
        """Whether there is an export of this name."""
        return name in self.program.exports

    def _of_kind(self, name: str, kind: str) -> Exported:
        exported = self.program.exports.get(name)
        if exported is None or exported.kind != kind:
            raise EngineError(f"the module exports no {kind} {name!r}")
        if self._instance is None:
            raise EngineError("the instance is closed")
        return exported

    def get_global(self, name: str) -> tuple[str, int]:
        """Type letter and bits."""
        exported = self._of_kind(name, "global")
        letter = exported.results
        if letter in "fF" and exported.mutable:
            return letter, int(getattr(self._exports, bits_get(name))()) & _MASKS[letter]
        if letter not in _MASKS:
            raise EngineError(f"wasmer cannot read the reference in {name!r}")
        return letter, _to_bits(letter, getattr(self._exports, name).value)

    def set_global(self, name: str, bits: int) -> None:
        """Set a mutable global of a number type."""
        exported = self._of_kind(name, "global")
        letter = exported.results
        if letter not in _MASKS or not exported.mutable:
            raise EngineError(f"the global {name!r} cannot be set to a number")
        if letter in "fF":
            getattr(self._exports, bits_set(name))(_from_bits("i" if letter == "f" else "I", bits))
        else:
            getattr(self._exports, name).value = _from_bits(letter, bits)

    def memory_pages(self, name: str) -> int:
        """Size in pages."""
        self._of_kind(name, "memory")
        return int(getattr(self._exports, name).size)

    def memory_grow(self, name: str, pages: int) -> None:
        """Grow to `pages` in all."""
        more = pages - self.memory_pages(name)
        if more <= 0:
            return
        if pages > self._ceiling:
            raise LimitReached("memory", f"{pages} pages of memory; {self._ceiling} are allowed")
        try:
            getattr(self._exports, name).grow(more)
        except RuntimeError as error:
            raise LimitReached("memory", _cut(str(error))) from None

    def memory(self, name: str) -> memoryview:
        """Its bytes, writable."""
        self._of_kind(name, "memory")
        return memoryview(getattr(self._exports, name).buffer)

    def memory_address(self, name: str) -> int:
        """Address of its first byte."""
        view = self.memory(name)
        return ctypes.addressof(ctypes.c_char.from_buffer(view)) if view else 0

    def changed(self, name: str) -> Runs:
        """Pages that are not as they were when an instance is fresh."""
        initial = self.program.initial(name)
        return initial.changed(self.memory_address(name), self.memory_pages(name) * WASM_PAGE)

    def expect(self, name: str, offset: int, size: int) -> None:
        """These bytes of a memory are about to be written."""
        if offset + size <= self.memory_pages(name) * WASM_PAGE:
            expect(self.memory_address(name) + offset, size)

    def functions(self, table: str) -> dict[int, int]:
        """Not possible: see the module's description."""
        self._of_kind(table, "table")
        raise EngineError("wasmer cannot read the elements of a table: use wasmtime for this image")

    def table_elements(self, table: str) -> list[int]:
        """Not possible."""
        self.functions(table)
        return []

    def table_grow(self, table: str, elements: int) -> None:
        """Not possible."""
        self.functions(table)

    def table_set(self, table: str, index: int, functions: str, function: int | None) -> None:
        """Not possible."""
        self.functions(table)

    def set_reference(self, name: str, functions: str, function: int | None) -> None:
        """Not possible."""
        self._of_kind(name, "global")
        raise EngineError("wasmer cannot set a global to a reference: use wasmtime for this image")

    def close(self) -> None:
        """Free everything."""
        self._instance = self._exports = None


def _function(store: Any, answer: Callable[..., Any], params: str, results: str) -> Any:
    def kinds(letters: str) -> list[Any]:
        return [getattr(wasmer.Type, _TYPES[letter]) for letter in letters]

    return wasmer.Function(store, answer, wasmer.FunctionType(kinds(params), kinds(results)))


def _answer(instance: WasmerInstance, index: int, entry: ImportedFunction) -> Callable[..., Any]:
    return lambda *arguments: instance.host(index, arguments)


def _no_host(index: int, args: Sequence[int]) -> None:
    raise EngineError("a host call while the initial memory was read")


def _no_tick() -> None:
    return None


def _its_own(error: BaseException) -> bool:
    """What wasmer raises: an error, or the panic of its compiler, which is no `Exception`."""
    return isinstance(error, RuntimeError) or type(error).__name__ == "PanicException"


def _cut(text: str) -> str:
    return text if len(text) <= _REASON_MAX else text[: _REASON_MAX - 1] + "…"
