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

from agents.canonical import digest as _digest
from agents.engines.codecache import open_cache, target
from agents.engines.interface import Interface, check_limits, extension_interface, interface
from agents.engines.kept import Kept
from agents.engines.pages import Initial
from agents.engines.protocols import (
    DEFAULT_STACK_BYTES,
    CompileLimits,
    Exported,
    HostCall,
    ImportedFunction,
    Limits,
    Program,
)
from agents.engines.watch import Watch
from agents.errors import EngineError

from .callbacks import HOST_CALLBACK, Signatures, reader, writer
from .capi import assemble, increment_epoch, linker_define, message, shorten
from .compiler import configured
from .compiling import compile_aside, is_small
from .extension import WasmtimeExtension
from .instance import WasmtimeInstance
from .late_binding import late_bound
from .rebinding import Rebinding

_KEEP = 8  # programs kept in memory per engine, and as many extensions; each holds its machine code
_UNLIMITED = 1 << 40  # bytes: for the instance that only shows the initial contents of memories


class WasmtimeEngine:
    """wasmtime with everything that Portcall supports switched on, and everything else switched off or limited."""

    name = "wasmtime"
    profiles = frozenset({"standard", "portable"})

    def __init__(self, *, cache: Path | str | None = "", stack: int = DEFAULT_STACK_BYTES) -> None:
        """`cache`: directory of compiled code, None for none, "" for the default. `stack`: bytes."""
        self.version = package_version("wasmtime")
        self._cache = open_cache(cache)
        self.stack = stack
        self._lock = threading.Lock()
        self._engines: dict[bool, wasmtime.Engine] = {}
        self._programs: Kept[WasmtimeProgram] = Kept(_KEEP)
        self._extensions: Kept[WasmtimeExtension] = Kept(_KEEP)
        self._rebindings: Kept[Rebinding] = Kept(_KEEP)
        self.watch = Watch()

    def program(
        self, code: bytes, digest: bytes, *, interruptible: bool = True, limits: CompileLimits | None = None
    ) -> WasmtimeProgram:
        """Compile the code, or take it from the cache. Code that is not interruptible runs faster."""

        def make() -> WasmtimeProgram:
            shape = interface(code)
            module = self.compiled(code, digest, interruptible, limits)
            return WasmtimeProgram(self, self._engine(interruptible), module, digest, shape, interruptible)

        return self._programs.get((digest, interruptible), make)

    def extension(
        self, program: Program, code: bytes, digest: bytes, *, limits: CompileLimits | None = None
    ) -> WasmtimeExtension:
        """Compile the code, or take it from the cache."""
        assert isinstance(program, WasmtimeProgram)

        def make() -> WasmtimeExtension:
            shape = extension_interface(code, program.interface)
            return WasmtimeExtension(self.compiled(code, digest, program.interruptible, limits), digest, shape)

        return self._extensions.get((program.digest, digest, program.interruptible), make)

    def rebinding(self, text: str, interruptible: bool) -> Rebinding:
        """A module that instances can be bound to. It is ours, and small."""

        def make() -> Rebinding:
            code = assemble(text)
            return Rebinding(self._engine(interruptible), self.compiled(code, _digest(code), interruptible, None))

        return self._rebindings.get((text, interruptible), make)

    def quick(self, code: bytes) -> bool:
        """Whether it is compiled in this process."""
        return is_small(code)

    def _engine(self, interruptible: bool) -> wasmtime.Engine:
        with self._lock:
            if interruptible not in self._engines:
                # Its time is that of the thread that compiles.
                self._engines[interruptible] = configured(interruptible, self.stack, parallel=False)
            return self._engines[interruptible]

    def compiled(
        self, code: bytes, digest: bytes, interruptible: bool, limits: CompileLimits | None
    ) -> wasmtime.Module:
        """The module, compiled now or taken from the cache."""
        engine = self._engine(interruptible)
        flavour = "epochs" if interruptible else "plain"
        key = f"wasmtime-{self.version}-{target()}-{flavour}-{digest.hex()}"
        if self._cache is not None:
            stored = self._cache.load(key)
            if stored is not None:
                with contextlib.suppress(wasmtime.WasmtimeError):  # of another build: compile again
                    return _deserialize(engine, stored)
        small = is_small(code)
        if small or limits is None or not sys.executable:
            # A large one on all processors: nobody counts its time.
            compiler = engine if small else configured(interruptible, self.stack, parallel=True)
            try:
                module = wasmtime.Module(compiler, code)
            except wasmtime.WasmtimeError as error:
                raise EngineError(f"wasmtime cannot compile the module: {shorten(str(error))}") from None
            if small and self._cache is None:
                return module
            compiled = bytes(module.serialize())
            if self._cache is not None:
                self._cache.store(key, compiled)
            return module if small else wasmtime.Module.deserialize(engine, compiled)
        compiled = compile_aside(code, interruptible, self.stack, limits)
        if self._cache is not None:
            self._cache.store(key, compiled)
        return wasmtime.Module.deserialize(engine, compiled)


def _deserialize(engine: wasmtime.Engine, stored: memoryview) -> wasmtime.Module:
    return wasmtime.Module.deserialize(engine, bytes(stored))


class WasmtimeProgram:
    """A compiled module with its host functions linked: instances need nothing else."""

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
        self.stack = engine.stack
        self.imports: Sequence[ImportedFunction] = shape.imports
        self.exports: Mapping[str, Exported] = shape.exports
        self.starts = shape.start
        self.memories: Sequence[str] = [name for name, each in shape.exports.items() if each.kind == "memory"]
        self.signatures: Signatures = [(reader(entry.params), writer(entry.results)) for entry in shape.imports]
        self._module, self._native = module, native
        self._initial: dict[str, Initial] = {}
        self._lock = threading.Lock()
        self._linker = wasmtime.Linker(native)
        self._linker.allow_shadowing = True  # a module may import one function twice
        linker = ctypes.cast(self._linker.ptr(), c_void_p)
        for index, entry in enumerate(shape.imports):
            self._define(linker, index, entry)
        late = late_bound(shape)
        self.late: Sequence[bytes] = [] if late is None else [b"%d" % index for index in range(len(shape.imports))]
        """If its imports are the exports of another module, so that they can be bound anew: the names of these."""
        try:
            if late is None:
                self._pre = self._linker.instantiate_pre(module)
            else:
                self._pre = self._linker.instantiate_pre(engine.compiled(late, _digest(late), interruptible, None))
        except wasmtime.WasmtimeError as error:
            raise EngineError(f"wasmtime cannot link the module: {shorten(str(error))}") from None
        self.pre = ctypes.cast(self._pre.ptr(), c_void_p)
        self.module = ctypes.cast(module.ptr(), c_void_p)
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
        """Have `tick` called soon by every running instance, including those of other programs."""
        increment_epoch(self.native)

    def rebinding(self, text: str) -> Rebinding:
        """A module that its instances can be bound to."""
        return self.engine.rebinding(text, self.interruptible)

    def initial(self, name: str) -> Initial:
        """The contents of the memory `name` in a fresh instance."""
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
        """A fresh instance; takes about 10 µs."""
        check_limits(self.interface, limits)
        return WasmtimeInstance(self, host, tick, limits)


def _no_host(index: int, args: Sequence[int]) -> None:
    raise EngineError("a host call while the initial memory was read")


def _no_tick() -> None:
    return None
