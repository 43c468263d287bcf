"""The engine and its programs: compiling, the caches, linking."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from ctypes import c_void_p
from importlib.metadata import version as package_version
from pathlib import Path

import wasmtime

from agents.engines import DEFAULT_STACK, Exported, HostCall, ImportedFunction, Limits
from agents.engines.codecache import open_cache
from agents.engines.interface import Interface, check_limits, interface
from agents.engines.pages import Initial
from agents.engines.watch import Watch
from agents.errors import EngineError, ModuleError

from .callbacks import HOST_CALLBACK, reader, writer
from .capi import cut, increment_epoch, linker_define, message
from .instance import WasmtimeInstance

_KEEP = 8  # programs kept in memory per engine; each holds its machine code
_UNLIMITED = 1 << 40  # bytes: for the instance that only shows what memories hold at first


class WasmtimeEngine:
    """wasmtime with all that Portcall supports switched on and limits on everything else."""

    name = "wasmtime"
    profiles = frozenset({"standard", "portable"})

    def __init__(self, *, cache: Path | str | None = "", stack: int = DEFAULT_STACK) -> None:
        """`cache`: directory of compiled code, None for none, "" for the default. `stack`: bytes."""
        self.version = package_version("wasmtime")
        self._cache = open_cache(cache)
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

    def _compile(self, engine: wasmtime.Engine, code: bytes, digest: bytes, interruptible: bool) -> wasmtime.Module:
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
            raise EngineError(f"wasmtime cannot compile the module: {cut(str(error))}") from None
        if self._cache is not None:
            self._cache.store(key, module.serialize())
        return module


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
        self.signatures = [(reader(entry.params), writer(entry.results)) for entry in shape.imports]
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
            raise EngineError(f"wasmtime cannot link the module: {cut(str(error))}") from None
        self.pre = ctypes.cast(self._pre.ptr(), c_void_p)
        self.native = ctypes.cast(native.ptr(), c_void_p)

    def _define(self, linker: c_void_p, index: int, entry: ImportedFunction) -> None:
        kinds = {"i": wasmtime.ValType.i32, "I": wasmtime.ValType.i64}
        kinds |= {"f": wasmtime.ValType.f32, "F": wasmtime.ValType.f64}
        params = [kinds[letter]() for letter in entry.params]
        signature = wasmtime.FuncType(params, [kinds[letter]() for letter in entry.results])
        module, name = entry.module.encode(), entry.name.encode()
        error = linker_define(
            *(linker, module, len(module), name, len(name)),
            *(ctypes.cast(signature.ptr(), c_void_p), HOST_CALLBACK, index, None),
        )
        if error:
            raise EngineError(f"wasmtime cannot link {entry.module}.{entry.name}: {message(error)}")

    def interrupt(self) -> None:
        """Have `tick` called by every running instance, those of other programs too."""
        increment_epoch(self.native)

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


def _no_host(index: int, args: Sequence[int]) -> None:
    raise EngineError("a host call while the initial memory was read")


def _no_tick() -> None:
    return None
