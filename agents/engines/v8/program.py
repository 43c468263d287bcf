"""The engine and its programs: what is compiled where, and what is kept.

V8 offers no way to keep its machine code from JavaScript, so each process compiles anew; its first tier is quick, and
code that runs often is compiled again in the background, at nobody's expense. On disk is kept what takes longer: the
module with the code that `bits` and `metering` add. Threads of one process share the machine code of a module.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agents.engines.codecache import open_cache
from agents.engines.interface import Interface, extension_interface, interface
from agents.engines.kept import Kept
from agents.engines.metering import METER_VERSION, meter
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
from agents.errors import CompilingTooCostly, EngineError
from agents.wasm.bounds import WASM_PAGE_BYTES
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module

from .bits import BITS_VERSION, as_bits
from .instance import V8Extension, V8Instance
from .link import OK, PATIENCE_S, Link, TooLate
from .places import new_link, node_version, watch

_KEEP = 8
_UNLIMITED = 1 << 32  # pages and elements: for the instance that only shows the initial contents of memories
_NUMBERS = itertools.count()


class V8Engine:
    """V8, in a process of node."""

    name = "v8"
    profiles = frozenset({"standard", "portable"})

    def __init__(self, *, cache: Path | str | None = "", stack: int = DEFAULT_STACK_BYTES) -> None:
        """`cache`: as for wasmtime, of what is compiled. `stack`: bytes, of the threads of the process."""
        self.version = node_version()
        self.stack = stack
        self._cache = open_cache(cache)
        self._programs: Kept[V8Program] = Kept(_KEEP)
        self._extensions: Kept[V8Extension] = Kept(_KEEP)
        self.watch: Watch = watch()

    def quick(self, code: bytes) -> bool:
        """Never: adding code to it is done here, and takes as long as it is large."""
        return False

    def program(
        self, code: bytes, digest: bytes, *, interruptible: bool = True, limits: CompileLimits | None = None
    ) -> V8Program:
        """Compile, or take from memory. All code is interruptible. Of `limits`, the time is kept to."""

        def make() -> V8Program:
            shape = interface(code)
            number, changed = self._changed(code, digest, False, limits)
            return V8Program(self, number, changed, digest, shape)

        return self._programs.get(digest, make)

    def extension(
        self, program: Program, code: bytes, digest: bytes, *, limits: CompileLimits | None = None
    ) -> V8Extension:
        """Compile, or take from memory."""
        assert isinstance(program, V8Program)
        shape_of = program.interface

        def make() -> V8Extension:
            shape = extension_interface(code, shape_of)
            number, changed = self._changed(code, digest, True, limits)
            return V8Extension(number, changed, digest, shape.exports)

        return self._extensions.get((program.digest, digest), make)

    def link(self) -> Link:
        """A place for an instance."""
        return new_link(self.stack)

    def _changed(self, code: bytes, digest: bytes, extension: bool, limits: CompileLimits | None) -> tuple[int, bytes]:
        """A number for the module, and the module with what is added to it, which V8 has compiled once."""
        key = f"v8-{'extension' if extension else 'module'}-{BITS_VERSION}.{METER_VERSION}-{digest.hex()}"
        stored = None if self._cache is None else self._cache.load(key)
        if stored is not None:
            changed = bytes(stored)
        else:
            module = as_bits(decode_module(code), extension=extension)
            changed = encode_module(meter(module, turns=True, accessors=False))
        number = next(_NUMBERS)
        self._compile(number, changed, limits)
        if stored is None and self._cache is not None:
            self._cache.store(key, changed)
        return number, changed

    def _compile(self, number: int, code: bytes, limits: CompileLimits | None) -> None:
        patience = PATIENCE_S if limits is None else min(PATIENCE_S, limits.cpu_ns / 1e9)
        link = self.link()
        try:
            reply = link.request(link.program(number, code), _nothing, patience)
        except TooLate:
            raise CompilingTooCostly("cpu", f"compiling takes more than {patience:g} s") from None
        try:
            if reply[0] != OK:
                raise EngineError(f"v8 cannot compile the module: {bytes(reply[1:]).decode('utf-8', 'replace')}")
        finally:
            link.release()


class V8Program:
    """What instances are made of."""

    interruptible = True

    def __init__(self, engine: V8Engine, number: int, code: bytes, digest: bytes, shape: Interface) -> None:
        self.engine, self.number, self.code, self.digest, self.interface = engine, number, code, digest, shape
        self.imports: Sequence[ImportedFunction] = shape.imports
        self.exports: Mapping[str, Exported] = shape.exports
        self.starts = shape.start
        self.interruptions = 0  # requested so far
        self.running: set[V8Instance] = set()
        self._initial: dict[str, Initial] = {}
        self._lock = threading.Lock()

    def link(self) -> Link:
        """A place for an instance."""
        return self.engine.link()

    def interrupt(self) -> None:
        """Have `tick` called soon."""
        self.interruptions += 1
        for instance in list(self.running):
            instance.interrupt()

    def initial(self, name: str) -> Initial:
        """The contents of the memory `name` in a fresh instance."""
        with self._lock:
            found = self._initial.get(name)
            if found is None:
                limits = Limits(memory=_UNLIMITED * WASM_PAGE_BYTES, table_elements=_UNLIMITED)
                instance = V8Instance(self, _no_host, _no_tick, limits)
                try:
                    found = self._initial[name] = instance.initial(name)
                finally:
                    instance.close()
            return found

    def instantiate(self, host: HostCall, tick: Callable[[], None], limits: Limits) -> V8Instance:
        """A fresh instance."""
        return V8Instance(self, host, tick, limits)


def _no_host(index: int, args: Sequence[int]) -> None:
    raise EngineError("a host call while the initial memory was read")


def _no_tick() -> None:
    return None


def _nothing(message: memoryview) -> Sequence[bytes]:
    raise EngineError("agent code runs while it is compiled")
