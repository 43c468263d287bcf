"""The part of wasmtime's C interface that is used: functions, values, and its error and trap messages.

Functions that return at once keep the interpreter lock; those that may run agent code release it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import c_bool, c_char_p, c_int32, c_size_t, c_uint64, c_void_p
from typing import Any

import wasmtime
from wasmtime import _ffi as ffi

from agents.errors import EngineError

_REASON_MAX = 2000  # characters of a trap's message: the guest chooses its function names


def _short(name: str, result: Any, *args: Any) -> Any:
    """A C function that returns at once: it keeps the interpreter lock."""
    return ctypes.PYFUNCTYPE(result, *args)((name, ffi.dll))


def _long(name: str, result: Any, *args: Any) -> Any:
    """A C function that may run agent code: it releases the interpreter lock meanwhile."""
    return ctypes.CFUNCTYPE(result, *args)((name, ffi.dll))


_P = c_void_p
store_new = _short("wasmtime_store_new", _P, _P, _P, _P)
store_delete = _short("wasmtime_store_delete", None, _P)
store_context = _short("wasmtime_store_context", _P, _P)
store_limiter = _short("wasmtime_store_limiter", None, _P, *[ctypes.c_int64] * 5)
store_epoch_callback = _short("wasmtime_store_epoch_deadline_callback", None, _P, _P, _P, _P)
set_epoch_deadline = _short("wasmtime_context_set_epoch_deadline", None, _P, c_uint64)
increment_epoch = _short("wasmtime_engine_increment_epoch", None, _P)
instantiate = _long("wasmtime_instance_pre_instantiate", _P, _P, _P, _P, _P)
instantiate_with = _long("wasmtime_instance_new", _P, _P, _P, _P, c_size_t, _P, _P)
export_get = _short("wasmtime_instance_export_get", c_bool, _P, _P, c_char_p, c_size_t, _P)
call = _long("wasmtime_func_call_unchecked", _P, _P, _P, _P, c_size_t, _P)
global_get = _short("wasmtime_global_get", None, _P, _P, _P)
global_set = _short("wasmtime_global_set", _P, _P, _P, _P)
memory_data = _short("wasmtime_memory_data", _P, _P, _P)
memory_size = _short("wasmtime_memory_size", c_uint64, _P, _P)
memory_grow = _short("wasmtime_memory_grow", _P, _P, _P, c_uint64, _P)
table_size = _short("wasmtime_table_size", c_uint64, _P, _P)
table_get = _short("wasmtime_table_get", c_bool, _P, _P, c_uint64, _P)
table_set = _short("wasmtime_table_set", _P, _P, _P, c_uint64, _P)
table_grow = _short("wasmtime_table_grow", _P, _P, _P, c_uint64, _P, _P)
trap_new = _short("wasmtime_trap_new", _P, c_char_p, c_size_t)
_trap_code = _short("wasmtime_trap_code", c_bool, _P, _P)
error_new = _short("wasmtime_error_new", _P, c_char_p)
wasi_new = _short("wasi_config_new", _P)
set_wasi = _short("wasmtime_context_set_wasi", _P, _P, _P)
linker_get = _short("wasmtime_linker_get", c_bool, _P, _P, *(c_char_p, c_size_t, c_char_p, c_size_t), _P)
linker_define = _short(
    "wasmtime_linker_define_func_unchecked",
    _P,
    _P,
    *(c_char_p, c_size_t, c_char_p, c_size_t),
    *(_P, _P, _P, _P),
)

# wasmtime_val_t: a kind byte, then a union of up to 24 bytes.
VAL_SIZE = ctypes.sizeof(ffi.wasmtime_val_t)
VAL_OF = ffi.wasmtime_val_t.of.offset
KIND_LETTERS = "iIfFvrx?e"

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


_CODES = {code.value: _TRAPS.get(code.name, (code.name.lower(), "")) for code in wasmtime.TrapCode}
REASONS = {code: reason for code, reason in _TRAPS.values() if reason}


def message(error: int) -> str:
    """The text of a C error. Frees the error."""
    owned = wasmtime.WasmtimeError._from_ptr(ctypes.cast(error, ctypes.POINTER(ffi.wasmtime_error_t)))
    return shorten(str(owned))


def trap_of(trap: int) -> tuple[str, str]:
    """Code and message of a C trap. Frees the trap."""
    number = c_int32()
    known = _trap_code(trap, ctypes.addressof(number))
    owned = wasmtime.Trap._from_ptr(ctypes.cast(trap, ctypes.POINTER(ffi.wasm_trap_t)))
    code = _CODES.get(number.value, ("other", ""))[0] if known else "other"
    return code, shorten(owned.message)


def shorten(text: str) -> str:
    return text if len(text) <= _REASON_MAX else text[: _REASON_MAX - 1] + "…"


def assemble(text: str) -> bytes:
    """The binary form of a module in text form (WAT). Raises `EngineError`."""
    try:
        return bytes(wasmtime.wat2wasm(text))
    except wasmtime.WasmtimeError as error:
        raise EngineError(f"the text is not a module: {shorten(str(error))}") from None
