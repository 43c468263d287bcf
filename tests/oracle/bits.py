"""Values across wasmtime's boundary as bits: no float is rounded, no NaN changed, and v128 can cross at all.

Not the engine of the product (`agents.engines.wasmtime`): the oracle stands on the Python package
wasmtime and its C interface, so that a mistake in the product's engine cannot hide one in the rewriting.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import attrs
import wasmtime
from wasmtime import _ffi as ffi
from wasmtime._func import enter_wasm

KINDS = {"i": 0, "I": 1, "f": 2, "F": 3, "v": 4, "r": 5, "x": 6}
LETTERS = {kind: letter for letter, kind in KINDS.items()}
WIDTHS = {"i": 4, "I": 8, "f": 4, "F": 8, "v": 16}


@attrs.frozen
class Value:
    """One value: `letter` as in the rewriter's metadata (i I f F v; r funcref, x externref).

    `bits` is unsigned; of a reference: 0 for null, else the identity of a function, or the number of a host
    object plus one. `raw` holds a reference as the engine gave it; it is only valid in its store.
    """

    letter: str
    bits: int
    raw: Any = attrs.field(default=None, eq=False, repr=False)


def to_raw(store: wasmtime.Store, value: Value) -> Any:
    """The engine's structure for `value`."""
    if value.raw is not None:
        return value.raw
    raw = ffi.wasmtime_val_t(kind=KINDS[value.letter])
    ctypes.memset(ctypes.byref(raw.of), 0, ctypes.sizeof(raw.of))
    if value.letter in WIDTHS:
        data = value.bits.to_bytes(WIDTHS[value.letter], "little")
        ctypes.memmove(ctypes.byref(raw.of), data, len(data))
    elif value.bits:
        assert value.letter == "x", "a function cannot be made from a number"
        raw = wasmtime.Val.externref(value.bits - 1)._new_raw(store)
    return raw


def from_raw(store: wasmtime.Store, raw: Any) -> Value:
    """The value in the engine's structure; numbers are copied, references stay rooted in their store."""
    letter = LETTERS.get(raw.kind, "?")
    if letter in WIDTHS:
        data = ctypes.string_at(ctypes.byref(raw.of), WIDTHS[letter])
        return Value(letter, int.from_bytes(data, "little"))
    kept = ffi.wasmtime_val_t()
    ctypes.memmove(ctypes.byref(kept), ctypes.byref(raw), ctypes.sizeof(kept))
    if letter == "r":
        null = raw.of.funcref.store_id == 0
        return Value("r", 0 if null else function_identity(raw.of.funcref), kept)
    if letter == "x":
        if raw.of.externref.store_id == 0:
            return Value("x", 0)
        number = wasmtime.Val._from_raw(store, raw, owned=False).value
        return Value("x", number + 1 if isinstance(number, int) else 1 << 40, kept)
    return Value(letter, 0 if _is_null(raw) else 1, kept)


def _is_null(raw: Any) -> bool:
    return raw.of.anyref.store_id == 0


def function_identity(func: Any) -> int:
    """What tells one function of a store from another."""
    return int.from_bytes(ctypes.string_at(ctypes.byref(func), ctypes.sizeof(func)), "little")


def call(store: wasmtime.Store, func: wasmtime.Func, args: Sequence[Value], results: int) -> list[Value]:
    """Call with bits, get bits. Raises wasmtime.Trap, WasmtimeError, or what a host function raised."""
    params = (ffi.wasmtime_val_t * max(1, len(args)))(*(to_raw(store, value) for value in args))
    out = (ffi.wasmtime_val_t * max(1, results))()
    with enter_wasm(store) as trap:
        error = ffi.wasmtime_func_call(
            store._context(), ctypes.byref(func._func), params, len(args), out, results, trap
        )
        if error:
            raise wasmtime.WasmtimeError._from_ptr(error)
    return [from_raw(store, out[position]) for position in range(results)]


def get_global(store: wasmtime.Store, target: wasmtime.Global) -> Value:
    """A global's value."""
    raw = ffi.wasmtime_val_t()
    ffi.wasmtime_global_get(store._context(), ctypes.byref(target._global), ctypes.byref(raw))
    return from_raw(store, raw)


def set_global(store: wasmtime.Store, target: wasmtime.Global, value: Value) -> None:
    """Set a mutable global."""
    raw = to_raw(store, value)
    error = ffi.wasmtime_global_set(store._context(), ctypes.byref(target._global), ctypes.byref(raw))
    if error:
        raise wasmtime.WasmtimeError._from_ptr(error)


def table_values(store: wasmtime.Store, table: wasmtime.Table) -> list[Value]:
    """All elements."""
    values = []
    for index in range(table.size(store)):
        raw = ffi.wasmtime_val_t()
        assert ffi.wasmtime_table_get(store._context(), ctypes.byref(table._table), index, ctypes.byref(raw))
        values.append(from_raw(store, raw))
    return values


def set_table(store: wasmtime.Store, table: wasmtime.Table, values: Sequence[Value]) -> None:
    """Grow to the number of `values` and set all elements."""
    more = len(values) - table.size(store)
    if more > 0:
        raw, previous = to_raw(store, values[-1]), ctypes.c_uint64()
        error = ffi.wasmtime_table_grow(
            store._context(), ctypes.byref(table._table), more, ctypes.byref(raw), ctypes.byref(previous)
        )
        if error:
            raise wasmtime.WasmtimeError._from_ptr(error)
    for index, value in enumerate(values):
        raw = to_raw(store, value)
        error = ffi.wasmtime_table_set(store._context(), ctypes.byref(table._table), index, ctypes.byref(raw))
        if error:
            raise wasmtime.WasmtimeError._from_ptr(error)


def read(store: wasmtime.Store, memory: wasmtime.Memory, start: int, size: int) -> bytes:
    """Bytes of a memory, without the package's detour over a Python list."""
    assert 0 <= start <= start + size <= memory.data_len(store)
    return ctypes.string_at(_address(store, memory) + start, size) if size else b""


def write(store: wasmtime.Store, memory: wasmtime.Memory, start: int, data: bytes) -> None:
    """Bytes into a memory."""
    assert 0 <= start <= start + len(data) <= memory.data_len(store)
    if data:
        ctypes.memmove(_address(store, memory) + start, data, len(data))


def _address(store: wasmtime.Store, memory: wasmtime.Memory) -> int:
    return ctypes.addressof(memory.data_ptr(store).contents)
