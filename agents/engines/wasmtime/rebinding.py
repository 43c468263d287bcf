"""The module that answers calls of an agent beside it (`protocols.Instance.rebind`), and the clock that it reads."""

from __future__ import annotations

import ctypes
import time
from ctypes import c_void_p

import wasmtime

from agents.errors import EngineError

from .capi import linker_get, message, set_wasi, wasi_new

_CLOCK = (b"wasi_snapshot_preview1", 22, b"clock_time_get", 14)
_ENOUGH = 20_000  # ns within which the origin of the native clock is known
_TRIES = 5


class Rebinding:
    """The module, compiled."""

    def __init__(self, engine: wasmtime.Engine, module: wasmtime.Module) -> None:
        self._module, self._linker = module, wasmtime.Linker(engine)
        self._linker.define_wasi()
        self.module = ctypes.cast(module.ptr(), c_void_p)
        self._wasi = ctypes.cast(self._linker.ptr(), c_void_p)

    def clock(self, context: int, at: int) -> None:
        """Write the C structure of the function `clock_time_get` of wasmtime's own WASI in this store."""
        if not linker_get(self._wasi, context, *_CLOCK, at):
            raise EngineError("wasmtime has no clock_time_get")


def start_clock(context: int) -> int:
    """Give the store what wasmtime's own WASI needs; returns the origin of its monotonic clock.

    That clock begins when this is made: between two readings of ours, of which the earlier is returned.
    """
    origin = 0
    for _ in range(_TRIES):
        origin = time.monotonic_ns()
        error = set_wasi(context, wasi_new())
        if error:
            raise EngineError(f"wasmtime has no clock: {message(error)}")
        if time.monotonic_ns() - origin < _ENOUGH:
            break
    return origin
