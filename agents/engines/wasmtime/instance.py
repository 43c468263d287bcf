"""A running instance, and how a callback finds it."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Mapping, Sequence
from ctypes import c_uint8, c_uint64, c_void_p
from typing import Any, NoReturn, Protocol

from wasmtime import _ffi as ffi

from agents.engines.interface import Interface, first_places
from agents.engines.missing import MissingPages, pages_can_be_missing
from agents.engines.native_stack import check_stack
from agents.engines.pages import Initial, Runs, expect, release
from agents.engines.protocols import REBINDABLE, ComesLater, Exported, Extension, HostCall, Limits, Rebound
from agents.engines.raw import Gate, RawMemory, bytes_at
from agents.engines.writes import WriteWatch, watch_writes
from agents.errors import EngineError, LimitReached, MemoryMissing, WasmTrap
from agents.wasm.bounds import WASM_PAGE_BYTES

from .callbacks import CURRENT, EPOCH_CALLBACK, Signatures
from .capi import (
    KIND_LETTERS,
    REASONS,
    VAL_OF,
    VAL_SIZE,
    call,
    export_get,
    global_get,
    global_set,
    instantiate,
    instantiate_with,
    memory_data,
    memory_grow,
    memory_size,
    message,
    set_epoch_deadline,
    store_context,
    store_delete,
    store_epoch_callback,
    store_limiter,
    store_new,
    table_get,
    table_grow,
    table_set,
    table_size,
    trap_of,
)
from .compiler import MEMORY_RESERVATION
from .extension import WasmtimeExtension
from .late_binding import AGENT_EXPORTS, LATE_EXPORTS
from .rebinding import Rebinding, start_clock

# Instances in one store: the agent's, what extends it, what stands between it and the host, what answers beside it.
_INSTANCES = 4
# Bytes of a memory from which on freeing it takes long enough to be noticed by others.
_LARGE_BYTES = 16 << 20
_EXTERN = ctypes.sizeof(ffi.wasmtime_extern_t)
_MASKS = {"i": 0xFFFFFFFF, "f": 0xFFFFFFFF, "I": (1 << 64) - 1, "F": (1 << 64) - 1, "v": (1 << 128) - 1}


class LinkedProgram(Protocol):
    """What an instance needs of its program."""

    signatures: Signatures
    exports: Mapping[str, Exported]
    interface: Interface
    interruptible: bool
    starts: bool
    memories: Sequence[str]
    stack: int
    pre: c_void_p
    module: c_void_p
    native: c_void_p
    late: Sequence[bytes]

    def interrupt(self) -> None:
        """Have `tick` called soon."""

    def initial(self, name: str) -> Initial:
        """The contents of the memory `name` in a fresh instance."""

    def rebinding(self, text: str) -> Rebinding:
        """A module that its instances can be bound to."""


class WasmtimeInstance:
    """A store with one instance in it."""

    def __init__(self, program: LinkedProgram, host: HostCall, tick: Callable[[], None], limits: Limits) -> None:
        self.program: LinkedProgram = program
        self.host, self.tick = host, tick
        self.raised: BaseException | None = None
        self._externs: dict[str, int] = {}
        self._added: dict[str, Exported] = {}  # exports of the extension
        self._extension: WasmtimeExtension | None = None
        self._kept: list[Any] = []  # owners of the memory behind `_externs`
        self._views: dict[str, tuple[int, int, memoryview]] = {}  # export, pages, bytes
        self._missing: dict[int, MissingPages] = {}  # by the index of the memory
        self._gate: Gate | None = None  # once a memory is used by its address
        self._val = (c_uint8 * VAL_SIZE)()
        self._val_at = ctypes.addressof(self._val)
        self._bits = c_uint64.from_buffer(self._val, VAL_OF)
        self._store: int | None = store_new(program.native, None, None)
        self._context = store_context(self._store)
        frames = "portcall.frames" in program.exports
        self._ceiling = limits.memory // max(1, len(program.interface.memories) - frames)
        elements = max(limits.table_elements, len(REBINDABLE) if program.late else 0)
        store_limiter(self._store, self._ceiling, elements, _INSTANCES, -1, -1)
        if program.interruptible:
            store_epoch_callback(self._store, EPOCH_CALLBACK, None, None)
            set_epoch_deadline(self._context, 1)
        self._instance, self._second = ffi.wasmtime_instance_t(), ffi.wasmtime_instance_t()
        self._late, self._beside = ffi.wasmtime_instance_t(), ffi.wasmtime_instance_t()
        self._instance_at, self._late_at = ctypes.addressof(self._instance), ctypes.addressof(self._late)
        trap = c_void_p()
        self._instantiated = False  # before it is made, nothing of it may be asked for
        if program.starts:
            check_stack(program.stack)
        outer, CURRENT.instance = CURRENT.instance, self
        try:
            first = self._late_at if program.late else self._instance_at
            error = instantiate(program.pre, self._context, first, ctypes.addressof(trap))
            self._judge(error, trap.value, "memory")
            if program.late:
                self._add(program.module, self._instance_at, [(self._late_at, program.late)])
            self._instantiated = True
        except BaseException:
            self.close()
            raise
        finally:
            CURRENT.instance = outer

    # --- calls ---

    def call(self, name: str, args: Sequence[int] = ()) -> tuple[int, ...]:
        """Call an export with bits."""
        exported = self.program.exports.get(name) or self._added.get(name)
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
        check_stack(self.program.stack)
        outer, CURRENT.instance = CURRENT.instance, self
        try:
            error = call(self._context, function, ctypes.addressof(buffer), slots, ctypes.addressof(trap))
        finally:
            CURRENT.instance = outer
        if error or trap.value or self.raised is not None:
            self._judge(error, trap.value, "stack")
        return tuple(
            int.from_bytes(raw[16 * position : 16 * position + 16], "little") & _MASKS.get(letter, 0)
            for position, letter in enumerate(exported.results)
        )

    def has(self, name: str) -> bool:
        """Whether there is an export with this name."""
        return name in self.program.exports or name in self._added

    def _judge(self, error: int | None, trap: int | None, limit: str) -> None:
        """Raise what the engine's answer means."""
        raised, self.raised = self.raised, None
        code, text = None, ""
        if error:
            text = message(error)
        if trap:
            code, text = trap_of(trap)
        if raised is not None:
            try:
                raise raised
            finally:
                # Else the exception and this frame, in its traceback, keep each other, and all of the agent with them.
                del raised
        if code == "stack":
            raise LimitReached("stack", "the agent's calls are nested too deeply for its stack")
        if code is not None:
            known = REASONS.get(code)
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
        instance = ctypes.addressof(self._second) if name in self._added else self._instance_at
        self._export(instance, [name.encode()], ctypes.addressof(extern))
        self._kept.append(extern)
        address: int = ctypes.addressof(extern) + ffi.wasmtime_extern_t.of.offset
        self._externs[name] = address
        return address

    def extend(self, extension: Extension) -> None:
        """Add the functions of an extension."""
        assert isinstance(extension, WasmtimeExtension)
        if self._store is None:
            raise EngineError("the instance is closed")
        if self._extension is not None:
            raise EngineError("the instance is extended already")
        self._add(extension.native, ctypes.addressof(self._second), [(self._instance_at, extension.imports)])
        self._extension, self._added = extension, dict(extension.exports)

    def rebind(self, module: str) -> Rebound | None:
        """Have a module answer the calls of `REBINDABLE`."""
        if not self.program.late or self._store is None:
            return None
        rebinding, origin = self.program.rebinding(module), start_clock(self._context)
        given = [(self._late_at, LATE_EXPORTS), (self._instance_at, AGENT_EXPORTS)]
        beside = ctypes.addressof(self._beside)
        self._add(rebinding.module, beside, given, rebinding.clock)
        extern = ffi.wasmtime_extern_t()
        self._export(beside, [b"memory"], ctypes.addressof(extern))
        memory = ctypes.addressof(extern) + ffi.wasmtime_extern_t.of.offset
        size = int(memory_size(self._context, memory)) * WASM_PAGE_BYTES
        return Rebound(bytes_at(memory_data(self._context, memory) or 0, size), origin)

    def _add(
        self,
        module: c_void_p,
        to: int,
        imports: Sequence[tuple[int, Sequence[bytes]]],
        last: Callable[[int, int], None] | None = None,
    ) -> None:
        """Instantiate a module with exports of instances that are there already, and with what `last` writes."""
        count = sum(len(names) for _, names in imports) + (last is not None)
        externs = (c_uint8 * (count * _EXTERN))()
        at = place = ctypes.addressof(externs)
        for instance, names in imports:
            place = self._export(instance, names, place)
        if last is not None:
            last(self._context, place)
        trap = c_void_p()
        error = instantiate_with(self._context, module, at, count, to, ctypes.addressof(trap))
        self._judge(error, trap.value, "memory")

    def _export(self, instance: int, names: Sequence[bytes], place: int) -> int:
        """Write the C structures of exports of an instance, one after the other; returns the place behind them."""
        for name in names:
            if not export_get(self._context, instance, name, len(name), place):
                raise EngineError(f"the module exports no {name.decode()!r}")
            place += _EXTERN
        return place

    def _of_kind(self, name: str, kind: str) -> int:
        exported = self.program.exports.get(name)
        if exported is None or exported.kind != kind:
            raise EngineError(f"the module exports no {kind} {name!r}")
        return self._extern(name)

    def get_global(self, name: str) -> tuple[str, int]:
        """Type letter and bits."""
        global_get(self._context, self._of_kind(name, "global"), self._val_at)
        letter = self._letter()
        if letter in "if":
            return letter, self._bits.value & 0xFFFFFFFF
        if letter in "IF":
            return letter, self._bits.value
        if letter == "v":
            return letter, int.from_bytes(bytes(self._val)[VAL_OF : VAL_OF + 16], "little")
        return letter, self._identity(letter)

    def set_global(self, name: str, bits: int) -> None:
        """Set a mutable global of a number type."""
        target = self._of_kind(name, "global")
        letter = self.program.exports[name].results
        if letter not in _MASKS or not self.program.exports[name].mutable:
            raise EngineError(f"the global {name!r} cannot be set to a number")
        value = (bits & _MASKS[letter]).to_bytes(16, "little")
        ctypes.memmove(self._val_at + VAL_OF, value, 16)
        self._val[0] = KIND_LETTERS.index(letter)
        self._set(global_set(self._context, target, self._val_at))

    def _set(self, error: int | None) -> None:
        if error:
            raise EngineError(f"wasmtime: {message(error)}")

    def memory_pages(self, name: str) -> int:
        """Size in pages."""
        return int(memory_size(self._context, self._of_kind(name, "memory")))

    def memory_grow(self, name: str, pages: int) -> None:
        """Grow to `pages` in total."""
        memory = self._of_kind(name, "memory")
        more = pages - int(memory_size(self._context, memory))
        if more <= 0:
            return
        if pages * WASM_PAGE_BYTES > self._ceiling:
            raise LimitReached("memory", f"{pages * WASM_PAGE_BYTES} bytes of memory; {self._ceiling} are allowed")
        previous = c_uint64()
        error = memory_grow(self._context, memory, more, ctypes.addressof(previous))
        if error:
            raise LimitReached("memory", message(error))

    def memory(self, name: str) -> memoryview:
        """Its bytes, writable."""
        known = self._views.get(name)
        memory = self._of_kind(name, "memory") if known is None else known[0]
        pages = memory_size(self._context, memory)
        if known is not None and known[1] == pages:  # it moves only when it grows
            return known[2]
        view = bytes_at(memory_data(self._context, memory) or 0, pages * WASM_PAGE_BYTES)
        self._views[name] = (memory, pages, view)
        return view

    def on_demand(self, name: str) -> tuple[memoryview, ComesLater | None]:
        """Its bytes, and the pages of them that are missing."""
        return self.memory(name), self.missing(name)

    def flag(self, name: str) -> Callable[[bool], None]:
        """What sets the first word of a memory."""
        word = ctypes.c_uint32.from_address(self.memory_address(name))

        def write(raised: bool) -> None:
            word.value = raised

        return write

    def memory_address(self, name: str) -> int:
        """Address of its first byte."""
        return int(memory_data(self._context, self._of_kind(name, "memory")) or 0)

    def raw(self, name: str) -> RawMemory:
        """The memory by its address."""
        self._whole(name)
        return self._raw(name, self)

    def _raw(self, name: str, owner: object) -> RawMemory:
        address, size = self.memory_address(name), self.memory_pages(name) * WASM_PAGE_BYTES
        wide = self.program.exports[name].results == "I"
        if wide and self._ceiling > MEMORY_RESERVATION:
            raise EngineError(f"the memory {name!r} may move when it grows")
        if self._gate is None:
            self._gate = Gate()
        most = min(self._ceiling, MEMORY_RESERVATION) // WASM_PAGE_BYTES * WASM_PAGE_BYTES
        return RawMemory(self._gate, owner, address, size, max(size, most))

    def watch_writes(self, name: str) -> WriteWatch:
        """Watch what is written in the memory."""
        return watch_writes(self.raw(name))

    def may_owe(self) -> bool:
        """Where the system hands out faults."""
        return pages_can_be_missing()

    def owe(self, name: str, owed: Runs) -> MissingPages:
        """Take away pages."""
        index = self.program.exports[name].index if self._of_kind(name, "memory") else -1
        frames = self.program.exports.get("portcall.frames")
        if index in self._missing or (frames is not None and frames.index == index):
            raise EngineError(f"pages of the memory {name!r} cannot come later")
        cut_off = weakref.WeakMethod(self._cut_off)

        def stop() -> None:
            if (method := cut_off()) is not None:
                method()

        found = self._missing[index] = MissingPages(self._raw(name, None), owed, stop)
        return found

    def missing(self, name: str) -> MissingPages | None:
        """Its missing pages."""
        if not self._missing:
            return None
        found = self._missing.get(self.program.exports[name].index)
        return found if found is not None and (found.left or found.abandoned) else None

    def _whole(self, name: str) -> None:
        if name in self.program.exports and self.missing(name) is not None:
            raise EngineError(f"pages of the memory {name!r} are missing")

    def _cut_off(self) -> None:
        """Let nothing out any more, and have what runs end. From any thread."""
        self.host, self.tick = _given_up, _given_up
        self.program.interrupt()

    def changed(self, name: str) -> Runs:
        """Pages that differ from a fresh instance."""
        self._whole(name)
        initial = self.program.initial(name)
        return initial.changed(self.memory_address(name), self.memory_pages(name) * WASM_PAGE_BYTES)

    def expect(self, name: str, offset: int, size: int, whole: bool = False) -> None:
        """Announce that these bytes of a memory are about to be written."""
        if offset + size <= self.memory_pages(name) * WASM_PAGE_BYTES:
            expect(self.memory_address(name) + offset, size)

    # --- references ---

    def _letter(self) -> str:
        """The type letter of the value in the value buffer."""
        return KIND_LETTERS[self._val[0]]

    def _identity(self, letter: str) -> int:
        """The identity of the reference in the value buffer; 0 for null."""
        if not self._bits.value:  # the store's id is 0 in a null reference
            return 0
        if letter != "r":
            raise EngineError("a reference to something of the host's, which cannot be named")
        return int(c_uint64.from_buffer(self._val, VAL_OF + 8).value)

    def functions(self, table: str) -> dict[int, int]:
        """Identity -> index."""
        return first_places(self.table_elements(table))

    def table_elements(self, table: str) -> list[int]:
        """The identities of all elements."""
        target, context, at = self._of_kind(table, "table"), self._context, self._val_at
        elements = []
        for index in range(int(table_size(context, target))):
            table_get(context, target, index, at)
            elements.append(self._identity(self._letter()))
        return elements

    def table_grow(self, table: str, elements: int) -> None:
        """Grow with nulls to `elements` in total."""
        target = self._of_kind(table, "table")
        more = elements - int(table_size(self._context, target))
        if more > 0:
            self._null(self.program.exports[table].results)
            previous = c_uint64()
            error = table_grow(self._context, target, more, self._val_at, ctypes.addressof(previous))
            if error:
                raise LimitReached("table", message(error))

    def table_set(self, table: str, index: int, functions: str, function: int | None) -> None:
        """Set an element to a function or to null."""
        target = self._of_kind(table, "table")
        self._load(functions, function, self.program.exports[table].results)
        self._set(table_set(self._context, target, index, self._val_at))

    def set_reference(self, name: str, functions: str, function: int | None) -> None:
        """Set a mutable global to a function or to null."""
        target = self._of_kind(name, "global")
        self._load(functions, function, self.program.exports[name].results)
        self._set(global_set(self._context, target, self._val_at))

    def _null(self, letter: str) -> None:
        ctypes.memset(self._val_at, 0, VAL_SIZE)
        self._val[0] = KIND_LETTERS.index(letter) if letter in "xe" else KIND_LETTERS.index("r")

    def _load(self, functions: str, function: int | None, letter: str) -> None:
        if function is None:
            self._null(letter)
        elif not table_get(self._context, self._of_kind(functions, "table"), function, self._val_at):
            raise EngineError(f"there is no function {function}")

    def close(self) -> None:
        """Free everything."""
        large = self._large() if self._instantiated and self._store is not None else ()
        store, self._store = self._store, None
        if store is not None:
            for pages in self._missing.values():
                pages.close()
            self._missing.clear()
            if self._gate is not None:
                self._gate.close()
            for address, size in large:  # before the store is deleted, which is done with the interpreter lock
                release(address, size)
            self._externs.clear()
            self._views.clear()
            store_delete(store)

    def _large(self) -> Sequence[tuple[int, int]]:
        """Address and bytes of each large memory."""
        sizes = [(name, self.memory_pages(name) * WASM_PAGE_BYTES) for name in self.program.memories]
        return tuple({(self.memory_address(name), size) for name, size in sizes if size >= _LARGE_BYTES})

    def __del__(self) -> None:
        self.close()


def _given_up(*_: object) -> NoReturn:
    raise MemoryMissing()
