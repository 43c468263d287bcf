"""The engine wasmer: proof that the portable profile is portable. The only module that imports it.

Its Python package ended with CPython 3.10. It has one memory, no exceptions, no epochs and no limiter, so modules pass
through `metering` before they are compiled. Its objects belong to the thread that made them, so each thread loads the
module again from the compiled bytes. Elements of tables cannot be read from Python, so an image that changes its tables
is refused.

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
from agents.wasm.bounds import WASM_PAGE_BYTES
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module

from .codecache import open_cache, target
from .interface import EXTENDED, ExtensionInterface, Interface, check_limits, extension_interface, interface
from .metering import CEILING_EXPORT, ELEMENTS_EXPORT, METER_VERSION, TICK_IMPORT, bits_get, bits_set, meter
from .missing import MissingPages
from .pages import Initial, Runs, expect
from .protocols import (
    DEFAULT_STACK_BYTES,
    ComesLater,
    CompileLimits,
    Exported,
    Extension,
    HostCall,
    ImportedFunction,
    Limits,
    Program,
    Rebound,
)
from .raw import Gate, RawMemory
from .watch import Watch
from .writes import WriteWatch, watch_writes

try:
    import wasmer  # type: ignore[import-not-found, import-untyped, unused-ignore]
    import wasmer_compiler_cranelift  # type: ignore[import-not-found, import-untyped, unused-ignore]
except ImportError as error:  # on newer Pythons, an empty package is installed
    _there = "" if sys.version_info < (3, 11) else "in an environment of CPython 3.10, the last that it works with: "
    raise EngineError(
        f"the engine wasmer is not installed here ({error}); {_there}pip install 'portcall[wasmer]'"
    ) from None

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
    """A value from wasmer, as bits."""
    if letter == "f":
        return int.from_bytes(struct.pack("<f", value), "little")
    if letter == "F":
        return int.from_bytes(struct.pack("<d", value), "little")
    return int(value) & _MASKS[letter]


def _from_bits(letter: str, bits: int) -> Any:
    """Bits as a value for wasmer: integers signed, floats as floats."""
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

    def __init__(self, *, cache: Path | str | None = "", stack: int = DEFAULT_STACK_BYTES) -> None:
        """`cache`: as for wasmtime. `stack` has no effect here: it is the thread's."""
        self.version = str(wasmer.__version__)
        self._cache = open_cache(cache)
        self._lock = threading.Lock()
        self._programs: dict[tuple[bytes, bool], WasmerProgram] = {}
        self._extensions: dict[tuple[bytes, bytes, bool], WasmerExtension] = {}
        self.watch = Watch()

    def quick(self, code: bytes) -> bool:
        """Never: it is not known how long that takes."""
        return False

    def program(
        self, code: bytes, digest: bytes, *, interruptible: bool = True, limits: CompileLimits | None = None
    ) -> WasmerProgram:
        """Compile, or take from the cache. It compiles in this process, and keeps to no `limits`."""
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

    def extension(
        self, program: Program, code: bytes, digest: bytes, *, limits: CompileLimits | None = None
    ) -> WasmerExtension:
        """Compile, or take from the cache; without `limits`, as `program`."""
        assert isinstance(program, WasmerProgram)
        key = program.digest, digest, program.interruptible
        with self._lock:
            found = self._extensions.pop(key, None)
            if found is not None:
                self._extensions[key] = found
                return found
        try:
            shape = extension_interface(code, program.interface)
            compiled = self._compile(code, digest, program.interruptible)
        except ModuleError as error:
            raise EngineError(f"the module cannot be read: {error}") from None
        made = WasmerExtension(program, compiled, digest, shape)
        with self._lock:
            self._extensions[key] = made
            while len(self._extensions) > _KEEP:
                del self._extensions[next(iter(self._extensions))]
        return made

    def _compile(self, code: bytes, digest: bytes, interruptible: bool) -> bytes:
        flavour = f"{'metered' if interruptible else 'plain'}{METER_VERSION}"
        key = f"wasmer-{self.version}-{target()}-{flavour}-{digest.hex()}"
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


class _Compiled:
    """Compiled bytes, and the module loaded from them in each thread."""

    def __init__(self, compiled: bytes) -> None:
        self._compiled = compiled
        self._mine = threading.local()

    def load(self, make: Callable[[], Any]) -> tuple[Any, Any]:
        """This thread's store, from `make` at first, and the module in it."""
        if not hasattr(self._mine, "module"):
            store = make()
            try:
                self._mine.module = (store, wasmer.Module.deserialize(store, self._compiled))
            except RuntimeError as error:
                raise EngineError(f"wasmer cannot load the compiled module: {_cut(str(error))}") from None
        found: tuple[Any, Any] = self._mine.module
        return found


class WasmerExtension(_Compiled):
    """What instances of one program are extended by."""

    def __init__(self, program: WasmerProgram, compiled: bytes, digest: bytes, shape: ExtensionInterface) -> None:
        super().__init__(compiled)
        self._program, self.digest, self.imports = program, digest, shape.imports
        self.exports: Mapping[str, Exported] = shape.exports

    def module(self) -> tuple[Any, Any]:
        """This thread's store and module: the store is the program's, since an instance uses the other."""
        return self.load(lambda: self._program.module()[0])


class WasmerProgram(_Compiled):
    """What instances are made of."""

    def __init__(
        self, engine: WasmerEngine, compiled: bytes, digest: bytes, shape: Interface, interruptible: bool
    ) -> None:
        super().__init__(compiled)
        self.engine, self.digest, self.interface, self.interruptible = engine, digest, shape, interruptible
        self.imports: Sequence[ImportedFunction] = shape.imports
        self.exports: Mapping[str, Exported] = shape.exports
        self.starts = shape.start
        self.interruptions = 0  # number of interruptions requested so far
        self._initial: dict[str, Initial] = {}
        self._lock = threading.Lock()

    def module(self) -> tuple[Any, Any]:
        """This thread's store and module."""
        return self.load(_store)

    def interrupt(self) -> None:
        """Have `tick` called soon."""
        self.interruptions += 1

    def initial(self, name: str) -> Initial:
        """The contents of the memory `name` in a fresh instance."""
        with self._lock:
            found = self._initial.get(name)
            if found is None:
                limits = Limits(memory=_UNLIMITED * WASM_PAGE_BYTES, table_elements=_UNLIMITED)
                instance = self.instantiate(_no_host, _no_tick, limits)
                found = Initial(instance.memory(name), instance.memory_address(name))
                self._initial[name] = found
            return found

    def instantiate(self, host: HostCall, tick: Callable[[], None], limits: Limits) -> WasmerInstance:
        """A fresh instance."""
        check_limits(self.interface, limits)
        return WasmerInstance(self, host, tick, limits)


class WasmerInstance:
    """One instance, owned by the thread that made it."""

    def __init__(self, program: WasmerProgram, host: HostCall, tick: Callable[[], None], limits: Limits) -> None:
        self.program, self._host, self._agent_tick = program, host, tick
        self._raised: BaseException | None = None
        self._seen = program.interruptions
        self._ceiling = limits.memory // max(1, len(program.interface.memories)) // WASM_PAGE_BYTES
        for memory in program.interface.memories:
            if memory.limits.min > self._ceiling:
                raise LimitReached("memory", f"{memory.limits.min} pages of memory; {self._ceiling} are allowed")
        for table in program.interface.tables:
            if table.limits.min > limits.table_elements:
                raise LimitReached("table", f"{table.limits.min} elements in a table")
        store, module = program.module()
        self._added: dict[str, Exported] = {}  # the exports of the extension
        self._second: Any = None
        self._gate: Gate | None = None  # once a memory is used by its address
        self._limits = min(self._ceiling, 65536), min(limits.table_elements, 0xFFFFFFFF)
        imports = wasmer.ImportObject()
        spaces: dict[str, dict[str, Any]] = {TICK_IMPORT[0]: {TICK_IMPORT[1]: _function(store, self._tick, "", "")}}
        for index, entry in enumerate(program.imports):
            answer = _answer(self, index, entry)
            spaces.setdefault(entry.module, {})[entry.name] = _function(store, answer, entry.params, entry.results)
        for space, functions in spaces.items():
            imports.register(space, functions)
        self._instance: Any = self._guard(lambda: wasmer.Instance(module, imports), "cannot start the module")
        self._exports = self._instance.exports
        self._limit(self._exports)

    def _limit(self, exports: Any) -> None:
        """Tell the code that was added to a module what it may grow to."""
        for name, most in zip((CEILING_EXPORT, ELEMENTS_EXPORT), self._limits, strict=True):
            getattr(exports, name).value = _from_bits("i", most)

    def extend(self, extension: Extension) -> None:
        """Add the functions of an extension."""
        assert isinstance(extension, WasmerExtension)
        if self._instance is None or self._second is not None:
            raise EngineError("the instance is closed, or extended already")
        store, module = extension.module()
        imports = wasmer.ImportObject()
        imports.register(TICK_IMPORT[0], {TICK_IMPORT[1]: _function(store, self._tick, "", "")})
        imports.register(EXTENDED, {name: getattr(self._exports, name) for name in extension.imports})
        self._second = self._guard(lambda: wasmer.Instance(module, imports), "cannot link the extension")
        self._limit(self._second.exports)
        self._added = dict(extension.exports)

    def host(self, index: int, arguments: tuple[Any, ...]) -> Any:
        """Handle a call of an import."""
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
        """Run a call of wasmer's; translates its errors."""
        try:
            return code()
        except BaseException as error:
            raised, self._raised = self._raised, None
            if raised is not None:
                try:
                    raise raised from None
                finally:
                    del raised  # else it and this frame keep each other, and the instance with them
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
        function = getattr(self._second.exports if name in self._added else self._exports, name)
        result = self._guard(lambda: function(*values), f"cannot call {name!r}")
        if not exported.results:
            return ()
        results = (result,) if len(exported.results) == 1 else result
        return tuple(map(_to_bits, exported.results, results))

    def has(self, name: str) -> bool:
        """Whether there is an export with this name."""
        return name in self.program.exports or name in self._added

    def _of_kind(self, name: str, kind: str) -> Exported:
        exported = self.program.exports.get(name) or self._added.get(name)
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
        """Grow to `pages` in total."""
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

    def on_demand(self, name: str) -> tuple[memoryview, ComesLater | None]:
        """Its bytes."""
        return self.memory(name), None

    def flag(self, name: str) -> Callable[[bool], None]:
        """What sets the first word of a memory. No profile that runs here has polls."""
        word = ctypes.c_uint32.from_address(self.memory_address(name))

        def write(raised: bool) -> None:
            word.value = raised

        return write

    def memory_address(self, name: str) -> int:
        """Address of its first byte."""
        view = self.memory(name)
        return ctypes.addressof(ctypes.c_char.from_buffer(view)) if view else 0

    def raw(self, name: str) -> RawMemory:
        """The memory by its address."""
        size = self.memory_pages(name) * WASM_PAGE_BYTES
        if self._gate is None:
            self._gate = Gate()
        return RawMemory(
            self._gate, self, self.memory_address(name), size, max(size, self._limits[0] * WASM_PAGE_BYTES)
        )

    def watch_writes(self, name: str) -> WriteWatch:
        """Watch what is written in the memory."""
        return watch_writes(self.raw(name))

    def may_owe(self) -> bool:
        """Never."""
        return False

    def owe(self, name: str, owed: Runs) -> MissingPages:
        """Not possible: its package holds the interpreter lock while agent code runs."""
        raise EngineError("wasmer cannot run an agent before all of its memory is there: use wasmtime")

    def missing(self, name: str) -> MissingPages | None:
        """None ever is."""
        return None

    def changed(self, name: str) -> Runs:
        """Pages that differ from a fresh instance."""
        initial = self.program.initial(name)
        return initial.changed(self.memory_address(name), self.memory_pages(name) * WASM_PAGE_BYTES)

    def expect(self, name: str, offset: int, size: int, whole: bool = False) -> None:
        """Announce that these bytes of a memory are about to be written."""
        if offset + size <= self.memory_pages(name) * WASM_PAGE_BYTES:
            expect(self.memory_address(name) + offset, size)

    def functions(self, table: str) -> dict[int, int]:
        """Not possible: see the module's docstring."""
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

    def rebind(self, module: str) -> Rebound | None:
        """Not possible."""
        return None

    def close(self) -> None:
        """Free everything."""
        if self._gate is not None:
            self._gate.close()
        self._instance = self._exports = self._second = None


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
    """Whether wasmer raised it: an error, or a panic of its compiler, which is not an `Exception`."""
    return isinstance(error, RuntimeError) or type(error).__name__ == "PanicException"


def _cut(text: str) -> str:
    return text if len(text) <= _REASON_MAX else text[: _REASON_MAX - 1] + "…"
