"""A module that hops: runs a rewritten module on its ABI alone and takes every opportunity to suspend.

`Traveller` speaks to the rewritten module directly (the reserved exports, the frames memory), beside the
product's runtime, so that the two check each other. Each hop captures the state to a `State` of plain
data, leaves the instance, makes a fresh one, restores, and resumes there.

Invariant: nothing is carried from one instance to the next but what `State` holds.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import wasmtime

from agents.rewrite.exports import changed_tables
from agents.rewrite.metadata import METADATA_SECTION, RESUME_SECTION, decode_metadata, split_frames
from agents.wasm.decode import custom_section, decode_module
from agents.wasm.encode import encode_module
from agents.wasm.syntax import F32, F64, I32, I64, V128, Export, Module, ValType

from . import bits
from .bits import Value
from .interposed import Switch

PAGE = 65536
TRANSFER, SLOT = 16, 16
_ZEROS = bytes(PAGE)
OFF = ("wasm_stack_switching", "wasm_custom_page_sizes", "wasm_wide_arithmetic", "wasm_threads")
_LETTERS = {I32: "i", I64: "I", F32: "f", F64: "F", V128: "v"}


def letter(kind: ValType) -> str:
    """A value type as the letter that `Value` uses."""
    heap = getattr(kind, "heap", None)
    if heap is None:
        return _LETTERS[kind]
    if heap in ("extern", "noextern"):
        return "x"
    return "e" if heap in ("exn", "noexn") else "r"


def engine(*, nans: bool = True) -> wasmtime.Engine:
    """All of WebAssembly 3.0; `nans`: made canonical, or two compilations of one sum may differ in bits."""
    config = wasmtime.Config()
    for name in dir(config):
        if name.startswith("wasm_"):
            setattr(config, name, name not in OFF)
    config.cranelift_nan_canonicalization = nans
    config.max_wasm_stack = 512 * 1024
    config.memory_reservation = 0  # thousands of instances in one address space
    config.memory_guard_size = 0
    config.memory_reservation_for_growth = 0
    return wasmtime.Engine(config)


class Compiler:
    """An engine and what it has compiled so far, since many runs share one interpreter."""

    def __init__(self) -> None:
        self.engine = engine()
        self._modules: dict[bytes, wasmtime.Module] = {}

    def module(self, wasm: bytes) -> wasmtime.Module:
        """Compile, once."""
        if wasm not in self._modules:
            self._modules[wasm] = wasmtime.Module(self.engine, wasm)
        return self._modules[wasm]

    def store(self) -> wasmtime.Store:
        """A fresh store."""
        return new_store(self.engine)


def new_store(on: wasmtime.Engine) -> wasmtime.Store:
    """A store that may hold as many instances as a journey has hops."""
    store = wasmtime.Store(on)
    store.set_limits(instances=10_000_000, memories=10_000_000, tables=10_000_000)
    return store


_RESUMPTIONS: weakref.WeakKeyDictionary[wasmtime.Module, wasmtime.Module] = weakref.WeakKeyDictionary()


def _resumption(on: wasmtime.Engine, module: wasmtime.Module, code: bytes | None) -> wasmtime.Module | None:
    """The resume module of `module`, compiled once."""
    if code is not None and module not in _RESUMPTIONS:
        _RESUMPTIONS[module] = wasmtime.Module(on, code)
    return _RESUMPTIONS.get(module)


@attrs.frozen
class State:
    """All that travels. `memories`: (pages, {page number: bytes that are not all zero})."""

    memories: tuple[tuple[int, dict[int, bytes]], ...]
    globals: tuple[Value | int, ...]  # an int: position in the module's table of functions
    tables: tuple[tuple[Value | int, ...], ...]
    frames: bytes


class Traveller:
    """One rewritten module, in whichever instance it lives just now.

    module: `wasm`, the rewritten module, compiled. link: makes the imports, one extern per import, in order.
    hops: at most this many per call; then it runs on undisturbed. fresh_store: makes the store for each hop;
    without it all instances live in the first one, as modules that import from each other must.
    """

    def __init__(
        self,
        store: wasmtime.Store,
        module: wasmtime.Module,
        wasm: bytes,
        link: Callable[[Traveller], Sequence[Any]],
        hops: int,
        fresh_store: Callable[[], wasmtime.Store] | None = None,
    ) -> None:
        self.store, self.module, self.link, self.limit = store, module, link, hops
        self.fresh_store = fresh_store
        section = custom_section(wasm, METADATA_SECTION)
        assert section is not None
        self.metadata = decode_metadata(section)
        self.shape: Module = decode_module(wasm)
        self.exported = {export.name: export for export in self.shape.exports}
        self.resumption = _resumption(store.engine, module, custom_section(wasm, RESUME_SECTION))
        self.second: wasmtime.Instance | None = None  # of the resume module, beside the present instance
        self.pending: Callable[[], Sequence[Value]] | None = None
        self.hopped = 0  # in the last call
        self.cut = False  # the last call used up its hops
        self.switch: Switch | None = None  # set by who links a module with a site between any two instructions
        self.instance = self._instantiate()
        self.start_pending = self.metadata.start

    def _instantiate(self) -> wasmtime.Instance:
        self.second = None
        return wasmtime.Instance(self.store, self.module, self.link(self))

    def export(self, name: str) -> Any:
        """An export of the present instance."""
        if name == "resume":
            return self._resume()
        return self.instance.exports(self.store)["portcall." + name]

    def _resume(self) -> Any:
        """The driver, which comes from the resume module: all its imports are exports of the instance."""
        assert self.resumption is not None
        if self.second is None:
            exports = self.instance.exports(self.store)
            imports = [exports[entry.name or ""] for entry in self.resumption.imports]
            self.second = wasmtime.Instance(self.store, self.resumption, imports)
        return self.second.exports(self.store)["portcall.resume"]

    # --- running -----------------------------------------------------------------------------------------

    def invoke(self, name: str, args: Sequence[Value]) -> list[Value]:
        """Call an export and take every opportunity to hop. Raises what the engine raises."""
        functype = self.shape.func_type(self.exported[name].index)
        func = self.instance.exports(self.store)[name]
        self.hopped, self.cut = 0, False
        if self.switch is not None:
            self.switch.turn(True)
        if self.resumption is None:
            return bits.call(self.store, func, args, len(functype.results))
        self._ask()
        results = bits.call(self.store, func, args, len(functype.results))
        if self.suspended():
            while self.suspended():
                self.hop()
                self.complete()
                self._ask()
                bits.call(self.store, self.export("resume"), (), 0)
            results = self.results(name)
        return results

    def results(self, name: str) -> list[Value]:
        """The results of the export `name`, after a resumption that ended it."""
        functype = self.shape.func_type(self.exported[name].index)
        return self._transferred([letter(kind) for kind in functype.results])

    def suspend(self, complete: Callable[[], Sequence[Value]]) -> None:
        """For a host function: suspend here, and be completed at the destination."""
        self.pending = complete
        bits.set_global(self.store, self.export("state"), Value("i", 1))

    def here(self, module: wasmtime.Module) -> wasmtime.Func:
        """``oracle.here`` for the present store; `module` is `interposed.switch_module`'s."""
        self.switch = Switch(module, self.store, self.may_hop, lambda: self.suspend(lambda: ()))
        return self.switch.here

    def may_hop(self) -> bool:
        """Whether this call has hops left."""
        return self.hopped < self.limit

    def complete(self) -> None:
        """Do what the host call that suspended was to do, if there is one, and give its results."""
        if self.pending is not None:
            completed, self.pending = self.pending, None
            self._answer(completed())

    def _ask(self) -> None:
        self.cut = not self.may_hop()
        self.ask(self.may_hop())

    def ask(self, leave: bool) -> None:
        """Set or clear the poll flag."""
        self._write(self.export("frames"), 0, int(leave).to_bytes(4, "little"))

    def suspended(self) -> bool:
        """Whether the call that just returned was unwound."""
        return bits.get_global(self.store, self.export("state")).bits == 1

    def _answer(self, values: Sequence[Value]) -> None:
        frames = self.export("frames")
        for slot, value in enumerate(values):
            data = value.bits.to_bytes(bits.WIDTHS[value.letter], "little")
            self._write(frames, TRANSFER + SLOT * slot, data)

    def reset(self) -> None:
        """After a trap or an exception, which ends an agent: let a script go on with this instance."""
        if self.resumption is not None:
            self.pending = None
            bits.set_global(self.store, self.export("state"), Value("i", 0))
            for name in ("bottom", "top"):
                bits.set_global(self.store, self.export(name), Value("i", self.metadata.base))

    def _transferred(self, kinds: Sequence[str]) -> list[Value]:
        frames = self.export("frames")
        values = []
        for slot, kind in enumerate(kinds):
            assert kind in bits.WIDTHS, f"a result of type {kind} came through the transfer area"
            at = TRANSFER + SLOT * slot
            data = self._read(frames, at, at + bits.WIDTHS[kind])
            values.append(Value(kind, int.from_bytes(data, "little")))
        return values

    # --- hopping -----------------------------------------------------------------------------------------

    def hop(self) -> None:
        """Leave this instance and arrive in a fresh one."""
        state = self.capture()
        split_frames(self.metadata, state.frames)  # the metadata admits every frame that our own code made
        self.hopped += 1
        left = self.store
        if self.fresh_store is not None:
            self.store = self.fresh_store()
        self.instance = self._instantiate()
        if left is not self.store:
            left.close()  # not when Python gets round to it: thousands of stores are more than a process can map
        self.restore(state)

    def capture(self) -> State:
        """The present instance as data."""
        functions = self._functions()
        count = self.metadata.memories
        memories = tuple(self._capture_memory(self.export(f"memory.{n}")) for n in range(count))
        values = tuple(
            self._named(bits.get_global(self.store, self.export(f"global.{n}")), functions)
            for n in self.metadata.globals
        )
        tables = tuple(
            tuple(self._named(v, functions) for v in bits.table_values(self.store, self.export(f"table.{n}")))
            for n in self.metadata.tables
        )
        bottom = bits.get_global(self.store, self.export("bottom")).bits
        top = bits.get_global(self.store, self.export("top")).bits
        return State(memories, values, tables, self._read(self.export("frames"), bottom, top))

    def restore(self, state: State) -> None:
        """Make the present, fresh instance continue `state`."""
        for number, (pages, written) in enumerate(state.memories):
            self._restore_memory(self.export(f"memory.{number}"), pages, written)
        functions = None
        if "portcall.functions" in self.exported:
            functions = bits.table_values(self.store, self.export("functions"))
        for number, value in zip(self.metadata.globals, state.globals, strict=True):
            bits.set_global(self.store, self.export(f"global.{number}"), self._found(value, functions))
        for number, values in zip(self.metadata.tables, state.tables, strict=True):
            found = [self._found(value, functions) for value in values]
            bits.set_table(self.store, self.export(f"table.{number}"), found)
        frames = self.export("frames")
        end = self.metadata.base + len(state.frames)
        while frames.size(self.store) * PAGE < end:
            frames.grow(self.store, 1)
        self._write(frames, self.metadata.base, state.frames)
        bits.set_global(self.store, self.export("bottom"), Value("i", self.metadata.base))
        bits.set_global(self.store, self.export("top"), Value("i", end))
        if self.metadata.drops:
            bits.call(self.store, self.export("drop"), (), 0)

    def _functions(self) -> dict[int, int]:
        if "portcall.functions" not in self.exported:
            return {}
        table = bits.table_values(self.store, self.export("functions"))
        return {value.bits: position for position, value in reversed(list(enumerate(table)))}

    @staticmethod
    def _named(value: Value, functions: dict[int, int]) -> Value | int:
        if value.letter == "r" and value.bits:
            return functions[value.bits]
        # Without `raw`, a reference to an object of the host's is made again, which may be in another store.
        return Value(value.letter, value.bits)

    @staticmethod
    def _found(value: Value | int, functions: list[Value] | None) -> Value:
        if isinstance(value, int):
            assert functions is not None
            return functions[value]
        return value

    def _capture_memory(self, memory: wasmtime.Memory) -> tuple[int, dict[int, bytes]]:
        pages = memory.size(self.store)
        written = {}
        for page in range(pages):
            data = self._read(memory, page * PAGE, (page + 1) * PAGE)
            if data != _ZEROS:
                written[page] = data
        return pages, written

    def _restore_memory(self, memory: wasmtime.Memory, pages: int, written: dict[int, bytes]) -> None:
        before = memory.size(self.store)
        if pages > before:
            memory.grow(self.store, pages - before)
        for page in range(pages):
            if page in written:
                self._write(memory, page * PAGE, written[page])
            elif page < before:  # an active segment may have written here, and the program have cleared it
                at = page * PAGE
                if self._read(memory, at, at + PAGE) != _ZEROS:
                    self._write(memory, at, _ZEROS)

    def _read(self, memory: wasmtime.Memory, start: int, end: int) -> bytes:
        return bits.read(self.store, memory, start, end - start)

    def _write(self, memory: wasmtime.Memory, at: int, data: bytes) -> None:
        bits.write(self.store, memory, at, data)


def exposing(wasm: bytes) -> bytes:
    """The same module with its memories, changed tables and mutable globals exported under the rewriter's names."""
    module = decode_module(wasm)
    exports = list(module.exports)
    exports += [Export(f"portcall.memory.{n}", "memory", n) for n in range(len(module.mem_types))]
    exports += [Export(f"portcall.table.{n}", "table", n) for n in changed_tables(module)]
    mutable = [number for number, kind in enumerate(module.global_types) if kind.mutable]
    exports += [Export(f"portcall.global.{n}", "global", n) for n in mutable]
    return encode_module(attrs.evolve(module, exports=tuple(exports), source=None, offsets={}))
