"""The engine wasmtime: the default. The only module that imports it.

Calls go to its C interface through ctypes, past the Python classes of the package, for three reasons:
exceptions of host functions are kept per instance and not in one place for all threads; a callback costs
one microsecond; and short calls keep the interpreter lock, so that a busy neighbour thread does not add
five milliseconds to each.

What is compiled is cached in memory by this engine and on disk by `CodeCache`, under the digest of the
code. Interruption is by epochs: a watch thread, started when first needed, moves the epoch at the moment
that some instance asked for, and every instance's `tick` then decides for itself.

Invariants: an instance is used by one thread at a time; after `close` nothing of it is reachable; no
pointer that the guest gave is ever followed.
"""

from __future__ import annotations

import contextlib
import ctypes
import struct
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from ctypes import c_bool, c_char_p, c_int32, c_size_t, c_uint8, c_uint64, c_void_p
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import cffi  # type: ignore[import-untyped, unused-ignore]
import wasmtime
from wasmtime import _ffi as ffi

from agents.errors import EngineError, LimitReached, ModuleError, WasmTrap

from . import DEFAULT_STACK, Exported, HostCall, ImportedFunction, Limits, default_cache
from .codecache import CodeCache
from .interface import Interface, check_limits, interface
from .pages import Initial, Runs, expect
from .watch import Watch

WASM_PAGE = 65536
_KEEP = 8  # programs kept in memory per engine; each holds its machine code
_UNLIMITED = 1 << 40  # bytes: for the instance that only shows what memories hold at first
_REASON_MAX = 2000  # characters of a trap's message: the guest chooses its function names


def _short(name: str, result: Any, *args: Any) -> Any:
    """A C function that returns at once: the interpreter lock is kept."""
    return ctypes.PYFUNCTYPE(result, *args)((name, ffi.dll))


def _long(name: str, result: Any, *args: Any) -> Any:
    """A C function that may run agent code: the interpreter lock is free meanwhile."""
    return ctypes.CFUNCTYPE(result, *args)((name, ffi.dll))


_P = c_void_p
_store_new = _short("wasmtime_store_new", _P, _P, _P, _P)
_store_delete = _short("wasmtime_store_delete", None, _P)
_store_context = _short("wasmtime_store_context", _P, _P)
_store_limiter = _short("wasmtime_store_limiter", None, _P, *[ctypes.c_int64] * 5)
_store_epoch_callback = _short("wasmtime_store_epoch_deadline_callback", None, _P, _P, _P, _P)
_set_epoch_deadline = _short("wasmtime_context_set_epoch_deadline", None, _P, c_uint64)
_increment_epoch = _short("wasmtime_engine_increment_epoch", None, _P)
_instantiate = _long("wasmtime_instance_pre_instantiate", _P, _P, _P, _P, _P)
_export_get = _short("wasmtime_instance_export_get", c_bool, _P, _P, c_char_p, c_size_t, _P)
_call = _long("wasmtime_func_call_unchecked", _P, _P, _P, _P, c_size_t, _P)
_global_get = _short("wasmtime_global_get", None, _P, _P, _P)
_global_set = _short("wasmtime_global_set", _P, _P, _P, _P)
_memory_data = _short("wasmtime_memory_data", _P, _P, _P)
_memory_size = _short("wasmtime_memory_size", c_uint64, _P, _P)
_memory_grow = _short("wasmtime_memory_grow", _P, _P, _P, c_uint64, _P)
_table_size = _short("wasmtime_table_size", c_uint64, _P, _P)
_table_get = _short("wasmtime_table_get", c_bool, _P, _P, c_uint64, _P)
_table_set = _short("wasmtime_table_set", _P, _P, _P, c_uint64, _P)
_table_grow = _short("wasmtime_table_grow", _P, _P, _P, c_uint64, _P, _P)
_trap_new = _short("wasmtime_trap_new", _P, c_char_p, c_size_t)
_trap_code = _short("wasmtime_trap_code", c_bool, _P, _P)
_error_new = _short("wasmtime_error_new", _P, c_char_p)
_linker_define = _short(
    "wasmtime_linker_define_func_unchecked",
    _P,
    _P,
    *(c_char_p, c_size_t, c_char_p, c_size_t),
    *(_P, _P, _P, _P),
)

# wasmtime_val_t: a kind byte, then a union of up to 24 bytes.
_VAL_SIZE = ctypes.sizeof(ffi.wasmtime_val_t)
_VAL_OF = ffi.wasmtime_val_t.of.offset
_I32, _I64, _F32, _F64, _V128, _FUNCREF, _EXTERNREF, _ANYREF, _EXNREF = range(9)
_KIND_LETTERS = "iIfFvrx?e"

_TRAPS: Mapping[str, tuple[str, str]] = {
    "STACK_OVERFLOW": ("stack", "the stack is used up"),
    "MEMORY_OUT_OF_BOUNDS": ("memory-bounds", "a memory access out of bounds"),
    "HEAP_MISALIGNED": ("misaligned", "a misaligned atomic access"),
    "TABLE_OUT_OF_BOUNDS": ("table-bounds", "a table access out of bounds"),
    "INDIRECT_CALL_TO_NULL": ("null", "an indirect call of a null element"),
    "BAD_SIGNATURE": ("signature", "an indirect call with another type than the function's"),
    "INTEGER_OVERFLOW": ("integer-overflow", "an integer overflow"),
    "INTEGER_DIVISION_BY_ZERO": ("division", "an integer division by zero"),
    "BAD_CONVERSION_TO_INTEGER": ("conversion", "a float that has no integer"),
    "UNREACHABLE": ("unreachable", "the agent's code reached `unreachable`"),
    "INTERRUPT": ("interrupted", "interrupted by the station"),
    "NULL_REFERENCE": ("null", "a call of a null reference"),
    "ALLOCATION_TOO_LARGE": ("allocation", "an allocation that is too large"),
    "UNCAUGHT_EXCEPTION": ("exception", "an exception that nothing caught"),
}


class _Current(threading.local):
    """The instance whose code this thread runs: callbacks carry no word of their own to find it by."""

    instance: WasmtimeInstance | None = None


_CURRENT = _Current()


# --- callbacks from the engine; each is one C function for all instances ---


def _host_callback(index: int, caller: int, raw: int, size: int) -> int:
    instance = _CURRENT.instance
    assert instance is not None
    reader, writer = instance.program.signatures[index]
    result = instance.host(index, reader.unpack(ctypes.string_at(raw, reader.size)))
    if writer is not None:
        writer(raw, result)
    return 0


def _host_failed(kind: object, error: BaseException, trace: object) -> int:
    if _CURRENT.instance is not None:
        _CURRENT.instance.raised = error
    return int(_trap_new(b"host", 4))


def _epoch_callback(context: int, data: int, delta: int, kind: int) -> int:
    instance = _CURRENT.instance
    assert instance is not None
    instance.tick()
    c_uint64.from_address(delta).value = 1
    c_uint8.from_address(kind).value = 0  # go on
    return 0


def _epoch_failed(kind: object, error: BaseException, trace: object) -> int:
    if _CURRENT.instance is not None:
        _CURRENT.instance.raised = error
    return int(_error_new(b"stopped"))


# By cffi and not by ctypes: when an exception comes before the first line of a callback, as an interrupt from the
# keyboard can, or a recursion that is too deep, ctypes returns whatever lies on the stack, and the engine would
# follow it as a pointer. With cffi the answer is that of `onerror`, or else 0.
_CFFI = cffi.FFI()
_HOST_C = _CFFI.callback(
    "uintptr_t(uintptr_t, uintptr_t, uintptr_t, size_t)", _host_callback, error=0, onerror=_host_failed
)
_EPOCH_C = _CFFI.callback(
    "uintptr_t(uintptr_t, uintptr_t, uintptr_t, uintptr_t)", _epoch_callback, error=0, onerror=_epoch_failed
)
_HOST_CALLBACK = int(_CFFI.cast("uintptr_t", _HOST_C))
_EPOCH_CALLBACK = int(_CFFI.cast("uintptr_t", _EPOCH_C))


def _reader(params: str) -> struct.Struct:
    """Reads raw values, 16 bytes each."""
    return struct.Struct("<" + "".join("I12x" if letter in "if" else "Q8x" for letter in params))


def _writer(results: str) -> Callable[[int, Any], None] | None:
    """Writes results as raw values; a value beyond the type's range is cut to its low bits."""
    if not results:
        return None
    if len(results) == 1:
        mask = 0xFFFFFFFF if results in "if" else 0xFFFFFFFFFFFFFFFF

        def write_one(raw: int, result: Any) -> None:
            c_uint64.from_address(raw).value = result & mask

        return write_one

    def write_all(raw: int, result: Any) -> None:
        for position, (letter, value) in enumerate(zip(results, result, strict=True)):
            mask = 0xFFFFFFFF if letter in "if" else 0xFFFFFFFFFFFFFFFF
            c_uint64.from_address(raw + 16 * position).value = value & mask

    return write_all


# --- the engine ---


class WasmtimeEngine:
    """wasmtime with all that Portcall supports switched on and limits on everything else."""

    name = "wasmtime"
    profiles = frozenset({"standard", "portable"})

    def __init__(self, *, cache: Path | str | None = "", stack: int = DEFAULT_STACK) -> None:
        """`cache`: directory of compiled code, None for none, "" for the default. `stack`: bytes."""
        self.version = package_version("wasmtime")
        self._cache = _open_cache(cache)
        self._stack = stack
        self._lock = threading.Lock()
        self._engines: dict[bool, wasmtime.Engine] = {}
        self._programs: dict[tuple[bytes, bool], WasmtimeProgram] = {}
        self.watch = Watch()

    def program(self, code: bytes, digest: bytes, *, interruptible: bool = True) -> WasmtimeProgram:
        """Compile, or take from the cache. Code that is not interruptible runs faster."""
        with self._lock:
            found = self._programs.pop((digest, interruptible), None)
            if found is not None:
                self._programs[digest, interruptible] = found
                return found
        try:
            shape = interface(code)
        except ModuleError as error:
            raise EngineError(f"the module cannot be read: {error}") from None
        engine = self._engine(interruptible)
        module = self._compile(engine, code, digest, interruptible)
        program = WasmtimeProgram(self, engine, module, digest, shape, interruptible)
        with self._lock:
            self._programs[digest, interruptible] = program
            while len(self._programs) > _KEEP:
                del self._programs[next(iter(self._programs))]
        return program

    def _engine(self, interruptible: bool) -> wasmtime.Engine:
        with self._lock:
            if interruptible not in self._engines:
                config = wasmtime.Config()
                config.epoch_interruption = interruptible
                config.max_wasm_stack = self._stack
                for feature in ("exceptions", "multi_memory", "memory64", "tail_call", "function_references"):
                    setattr(config, f"wasm_{feature}", True)
                config.wasm_gc = True  # function references stand on it; the decoder refuses GC types
                config.cranelift_opt_level = "speed"
                self._engines[interruptible] = wasmtime.Engine(config)
            return self._engines[interruptible]

    def _compile(
        self, engine: wasmtime.Engine, code: bytes, digest: bytes, interruptible: bool
    ) -> wasmtime.Module:
        flavour = "epochs" if interruptible else "plain"
        key = f"wasmtime-{self.version}-{sys.platform}-{flavour}-{digest.hex()}"
        if self._cache is not None:
            stored = self._cache.load(key)
            if stored is not None:
                with contextlib.suppress(wasmtime.WasmtimeError):  # of another build: compile again
                    return _deserialize(engine, stored)
        try:
            module = wasmtime.Module(engine, code)
        except wasmtime.WasmtimeError as error:
            raise EngineError(f"wasmtime cannot compile the module: {_cut(str(error))}") from None
        if self._cache is not None:
            self._cache.store(key, module.serialize())
        return module


def _open_cache(cache: Path | str | None) -> CodeCache | None:
    if cache is None:
        return None
    return CodeCache(default_cache() if cache == "" else Path(cache))


def _deserialize(engine: wasmtime.Engine, stored: memoryview) -> wasmtime.Module:
    return wasmtime.Module.deserialize(engine, bytes(stored))


class WasmtimeProgram:
    """A compiled module with its host functions linked: instances need nothing further."""

    def __init__(
        self,
        engine: WasmtimeEngine,
        native: wasmtime.Engine,
        module: wasmtime.Module,
        digest: bytes,
        shape: Interface,
        interruptible: bool,
    ) -> None:
        self.engine, self.digest, self.interface, self.interruptible = engine, digest, shape, interruptible
        self.imports: Sequence[ImportedFunction] = shape.imports
        self.exports: Mapping[str, Exported] = shape.exports
        self.starts = shape.start
        self.signatures = [(_reader(entry.params), _writer(entry.results)) for entry in shape.imports]
        self._module, self._native = module, native
        self._initial: dict[str, Initial] = {}
        self._lock = threading.Lock()
        self._linker = wasmtime.Linker(native)
        self._linker.allow_shadowing = True  # a module may import one function twice
        linker = ctypes.cast(self._linker.ptr(), c_void_p)
        for index, entry in enumerate(shape.imports):
            self._define(linker, index, entry)
        try:
            self._pre = self._linker.instantiate_pre(module)
        except wasmtime.WasmtimeError as error:
            raise EngineError(f"wasmtime cannot link the module: {_cut(str(error))}") from None
        self.pre = ctypes.cast(self._pre.ptr(), c_void_p)
        self.native = ctypes.cast(native.ptr(), c_void_p)

    def _define(self, linker: c_void_p, index: int, entry: ImportedFunction) -> None:
        kinds = {"i": wasmtime.ValType.i32, "I": wasmtime.ValType.i64}
        kinds |= {"f": wasmtime.ValType.f32, "F": wasmtime.ValType.f64}
        params = [kinds[letter]() for letter in entry.params]
        signature = wasmtime.FuncType(params, [kinds[letter]() for letter in entry.results])
        module, name = entry.module.encode(), entry.name.encode()
        error = _linker_define(
            *(linker, module, len(module), name, len(name)),
            *(ctypes.cast(signature.ptr(), c_void_p), _HOST_CALLBACK, index, None),
        )
        if error:
            raise EngineError(f"wasmtime cannot link {entry.module}.{entry.name}: {_message(error)}")

    def interrupt(self) -> None:
        """Have `tick` called by every running instance, those of other programs too."""
        _increment_epoch(self.native)

    def initial(self, name: str) -> Initial:
        """What the memory `name` holds in a fresh instance."""
        with self._lock:
            found = self._initial.get(name)
            if found is None:
                limits = Limits(memory=_UNLIMITED, table_elements=1 << 32)
                instance = self.instantiate(_no_host, _no_tick, limits)
                found = Initial(instance.memory(name), instance.memory_address(name))
                instance.close()
                self._initial[name] = found
            return found

    def instantiate(self, host: HostCall, tick: Callable[[], None], limits: Limits) -> WasmtimeInstance:
        """A fresh instance, about 10 µs."""
        check_limits(self.interface, limits)
        return WasmtimeInstance(self, host, tick, limits)


class WasmtimeInstance:
    """A store with one instance in it."""

    def __init__(
        self, program: WasmtimeProgram, host: HostCall, tick: Callable[[], None], limits: Limits
    ) -> None:
        self.program, self.host, self.tick = program, host, tick
        self.raised: BaseException | None = None
        self._externs: dict[str, int] = {}
        self._kept: list[Any] = []  # owners of the memory behind `_externs`
        self._views: dict[str, tuple[int, int, memoryview]] = {}
        self._val = (c_uint8 * _VAL_SIZE)()
        self._val_at = ctypes.addressof(self._val)
        self._bits = c_uint64.from_buffer(self._val, _VAL_OF)
        self._store: int | None = _store_new(program.native, None, None)
        self._context = _store_context(self._store)
        frames = "portcall.frames" in program.exports
        self._ceiling = limits.memory // max(1, len(program.interface.memories) - frames)
        _store_limiter(self._store, self._ceiling, limits.table_elements, 1, -1, -1)
        if program.interruptible:
            _store_epoch_callback(self._store, _EPOCH_CALLBACK, None, None)
            _set_epoch_deadline(self._context, 1)
        self._instance = ffi.wasmtime_instance_t()
        self._instance_at = ctypes.addressof(self._instance)
        trap = c_void_p()
        outer, _CURRENT.instance = _CURRENT.instance, self
        try:
            error = _instantiate(program.pre, self._context, self._instance_at, ctypes.addressof(trap))
            self._judge(error, trap.value, "memory")
        except BaseException:
            self.close()
            raise
        finally:
            _CURRENT.instance = outer

    # --- calls ---

    def call(self, name: str, args: Sequence[int] = ()) -> tuple[int, ...]:
        """Call an export with bits."""
        exported = self.program.exports.get(name)
        if exported is None or exported.kind != "func":
            raise EngineError(f"the module exports no function {name!r}")
        if len(args) != len(exported.params):
            raise EngineError(f"{name!r} takes {len(exported.params)} arguments, not {len(args)}")
        slots = max(len(args), len(exported.results), 1)
        raw = bytearray(16 * slots)
        for position, (letter, value) in enumerate(zip(exported.params, args, strict=True)):
            if letter not in "iIfFv":
                raise EngineError(f"{name!r} takes a reference, which cannot be given")
            raw[16 * position : 16 * position + 16] = (value & _MASKS[letter]).to_bytes(16, "little")
        trap = c_void_p()
        buffer = (ctypes.c_char * len(raw)).from_buffer(raw)
        function = self._extern(name)
        outer, _CURRENT.instance = _CURRENT.instance, self
        try:
            error = _call(self._context, function, ctypes.addressof(buffer), slots, ctypes.addressof(trap))
        finally:
            _CURRENT.instance = outer
        if error or trap.value or self.raised is not None:
            self._judge(error, trap.value, "stack")
        return tuple(
            int.from_bytes(raw[16 * position : 16 * position + 16], "little") & _MASKS.get(letter, 0)
            for position, letter in enumerate(exported.results)
        )

    def has(self, name: str) -> bool:
        """Whether there is an export of this name."""
        return name in self.program.exports

    def _judge(self, error: int | None, trap: int | None, limit: str) -> None:
        """Raise what the engine's answer means."""
        raised, self.raised = self.raised, None
        code, text = None, ""
        if error:
            text = _message(error)
        if trap:
            code, text = _trap_of(trap)
        if raised is not None:
            raise raised
        if code == "stack":
            raise LimitReached("stack", "the agent's calls are nested too deeply for its stack")
        if code is not None:
            known = _REASONS.get(code)
            raise WasmTrap(code, known if known is not None else text)
        if error:
            if limit == "memory" and "exceeds" in text:
                raise LimitReached("memory" if "memory" in text else "table", text)
            raise EngineError(f"wasmtime: {text}")

    # --- state ---

    def _extern(self, name: str) -> int:
        """Address of the C structure of an export."""
        found = self._externs.get(name)
        if found is not None:
            return found
        if self._store is None:
            raise EngineError("the instance is closed")
        extern = ffi.wasmtime_extern_t()
        encoded = name.encode()
        if not _export_get(self._context, self._instance_at, encoded, len(encoded), ctypes.addressof(extern)):
            raise EngineError(f"the module exports no {name!r}")
        self._kept.append(extern)
        address: int = ctypes.addressof(extern) + ffi.wasmtime_extern_t.of.offset
        self._externs[name] = address
        return address

    def _of_kind(self, name: str, kind: str) -> int:
        exported = self.program.exports.get(name)
        if exported is None or exported.kind != kind:
            raise EngineError(f"the module exports no {kind} {name!r}")
        return self._extern(name)

    def get_global(self, name: str) -> tuple[str, int]:
        """Type letter and bits."""
        _global_get(self._context, self._of_kind(name, "global"), self._val_at)
        letter = self._letter()
        if letter in "if":
            return letter, self._bits.value & 0xFFFFFFFF
        if letter in "IF":
            return letter, self._bits.value
        if letter == "v":
            return letter, int.from_bytes(bytes(self._val)[_VAL_OF : _VAL_OF + 16], "little")
        return letter, self._identity(letter)

    def set_global(self, name: str, bits: int) -> None:
        """Set a mutable global of a number type."""
        target = self._of_kind(name, "global")
        letter = self.program.exports[name].results
        if letter not in _MASKS or not self.program.exports[name].mutable:
            raise EngineError(f"the global {name!r} cannot be set to a number")
        value = (bits & _MASKS[letter]).to_bytes(16, "little")
        ctypes.memmove(self._val_at + _VAL_OF, value, 16)
        self._val[0] = _KIND_LETTERS.index(letter)
        self._set(_global_set(self._context, target, self._val_at))

    def _set(self, error: int | None) -> None:
        if error:
            raise EngineError(f"wasmtime: {_message(error)}")

    def memory_pages(self, name: str) -> int:
        """Size in pages."""
        return int(_memory_size(self._context, self._of_kind(name, "memory")))

    def memory_grow(self, name: str, pages: int) -> None:
        """Grow to `pages` in all."""
        memory = self._of_kind(name, "memory")
        more = pages - int(_memory_size(self._context, memory))
        if more <= 0:
            return
        if pages * WASM_PAGE > self._ceiling:
            raise LimitReached("memory", f"{pages * WASM_PAGE} bytes of memory; {self._ceiling} are allowed")
        previous = c_uint64()
        error = _memory_grow(self._context, memory, more, ctypes.addressof(previous))
        if error:
            raise LimitReached("memory", _message(error))

    def memory(self, name: str) -> memoryview:
        """Its bytes, writable."""
        memory = self._of_kind(name, "memory")
        size = int(_memory_size(self._context, memory)) * WASM_PAGE
        address = _memory_data(self._context, memory) or 0
        known = self._views.get(name)
        if known is not None and known[:2] == (address, size):
            return known[2]
        view = _view(address, size)
        self._views[name] = (address, size, view)
        return view

    def memory_address(self, name: str) -> int:
        """Address of its first byte."""
        return int(_memory_data(self._context, self._of_kind(name, "memory")) or 0)

    def changed(self, name: str) -> Runs:
        """Pages that are not as they were when an instance is fresh."""
        initial = self.program.initial(name)
        return initial.changed(self.memory_address(name), self.memory_pages(name) * WASM_PAGE)

    def expect(self, name: str, offset: int, size: int) -> None:
        """These bytes of a memory are about to be written."""
        if offset + size <= self.memory_pages(name) * WASM_PAGE:
            expect(self.memory_address(name) + offset, size)

    # --- references ---

    def _letter(self) -> str:
        """Of the type of what is in the value buffer."""
        return _KIND_LETTERS[self._val[0]]

    def _identity(self, letter: str) -> int:
        """Of the reference in the value buffer; 0 for null."""
        if not self._bits.value:  # the store's id is 0 in a null reference
            return 0
        if letter != "r":
            raise EngineError("a reference to something of the host's, which cannot be named")
        return int(c_uint64.from_buffer(self._val, _VAL_OF + 8).value)

    def functions(self, table: str) -> dict[int, int]:
        """Identity -> index."""
        found: dict[int, int] = {}
        for index, identity in enumerate(self.table_elements(table)):
            if identity:
                found.setdefault(identity, index)
        return found

    def table_elements(self, table: str) -> list[int]:
        """The identities of all elements."""
        target, context, at = self._of_kind(table, "table"), self._context, self._val_at
        elements = []
        for index in range(int(_table_size(context, target))):
            _table_get(context, target, index, at)
            elements.append(self._identity(self._letter()))
        return elements

    def table_grow(self, table: str, elements: int) -> None:
        """Grow with nulls to `elements` in all."""
        target = self._of_kind(table, "table")
        more = elements - int(_table_size(self._context, target))
        if more > 0:
            self._null(self.program.exports[table].results)
            previous = c_uint64()
            error = _table_grow(self._context, target, more, self._val_at, ctypes.addressof(previous))
            if error:
                raise LimitReached("table", _message(error))

    def table_set(self, table: str, index: int, functions: str, function: int | None) -> None:
        """Set an element to a function or to null."""
        target = self._of_kind(table, "table")
        self._load(functions, function, self.program.exports[table].results)
        self._set(_table_set(self._context, target, index, self._val_at))

    def set_reference(self, name: str, functions: str, function: int | None) -> None:
        """Set a mutable global to a function or to null."""
        target = self._of_kind(name, "global")
        self._load(functions, function, self.program.exports[name].results)
        self._set(_global_set(self._context, target, self._val_at))

    def _null(self, letter: str) -> None:
        ctypes.memset(self._val_at, 0, _VAL_SIZE)
        self._val[0] = {"x": _EXTERNREF, "e": _EXNREF}.get(letter, _FUNCREF)

    def _load(self, functions: str, function: int | None, letter: str) -> None:
        if function is None:
            self._null(letter)
        elif not _table_get(self._context, self._of_kind(functions, "table"), function, self._val_at):
            raise EngineError(f"there is no function {function}")

    def close(self) -> None:
        """Free everything."""
        store, self._store = self._store, None
        if store is not None:
            self._externs.clear()
            self._views.clear()
            _store_delete(store)

    def __del__(self) -> None:
        self.close()


_MASKS = {"i": 0xFFFFFFFF, "f": 0xFFFFFFFF, "I": (1 << 64) - 1, "F": (1 << 64) - 1, "v": (1 << 128) - 1}
_CODES = {code.value: _TRAPS.get(code.name, (code.name.lower(), "")) for code in wasmtime.TrapCode}
_REASONS = {code: reason for code, reason in _TRAPS.values() if reason}


def _no_host(index: int, args: Sequence[int]) -> None:
    raise EngineError("a host call while the initial memory was read")


def _no_tick() -> None:
    return None


def _view(address: int, size: int) -> memoryview:
    if not size:
        return memoryview(bytearray())
    return memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")


def _message(error: int) -> str:
    """The text of a C error, which is freed."""
    owned = wasmtime.WasmtimeError._from_ptr(ctypes.cast(error, ctypes.POINTER(ffi.wasmtime_error_t)))
    return _cut(str(owned))


def _trap_of(trap: int) -> tuple[str, str]:
    """Code and message of a C trap, which is freed."""
    number = c_int32()
    known = _trap_code(trap, ctypes.addressof(number))
    owned = wasmtime.Trap._from_ptr(ctypes.cast(trap, ctypes.POINTER(ffi.wasm_trap_t)))
    code = _CODES.get(number.value, ("other", ""))[0] if known else "other"
    return code, _cut(owned.message)


def _cut(text: str) -> str:
    return text if len(text) <= _REASON_MAX else text[: _REASON_MAX - 1] + "…"


def assemble(text: str) -> bytes:
    """The binary form of a module in text form (WAT). Raises `EngineError`."""
    try:
        return bytes(wasmtime.wat2wasm(text))
    except wasmtime.WasmtimeError as error:
        raise EngineError(f"the text is not a module: {_cut(str(error))}") from None
