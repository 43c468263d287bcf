"""Callbacks from wasmtime: for a host function, and when its epoch advances.

One C function each for all instances; they find the instance through the thread that runs it. They are made with
cffi: docs/adr/callbacks-through-cffi says why.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from ctypes import c_uint8, c_uint64
from typing import Any, Protocol

import cffi  # type: ignore[import-untyped, unused-ignore]

from agents.engines.protocols import HostCall

from .capi import error_new, trap_new

Signatures = list[tuple[struct.Struct, "Callable[[Any, Any], None] | None"]]


class HasSignatures(Protocol):
    """The program of an instance: for each import, how to read its arguments and write its results."""

    signatures: Signatures


class CalledBack(Protocol):
    """What a callback needs of the instance that it is for."""

    host: HostCall
    tick: Callable[[], None]
    raised: BaseException | None

    @property
    def program(self) -> HasSignatures:
        """Its program."""


class _Current(threading.local):
    """The instance whose code this thread runs: a callback gets no argument by which to find it."""

    instance: CalledBack | None = None


CURRENT = _Current()


def _host_callback(index: int, caller: int, raw: Any, size: int) -> int:
    instance = CURRENT.instance
    assert instance is not None
    reader, writer = instance.program.signatures[index]
    result = instance.host(index, reader.unpack(_buffer(raw, reader.size)))
    if writer is not None:
        writer(raw, result)
    return 0


def _host_failed(kind: object, error: BaseException, trace: object) -> int:
    if CURRENT.instance is not None:
        CURRENT.instance.raised = error
    return int(trap_new(b"host", 4))


def _epoch_callback(context: int, data: int, delta: int, kind: int) -> int:
    instance = CURRENT.instance
    assert instance is not None
    instance.tick()
    c_uint64.from_address(delta).value = 1
    c_uint8.from_address(kind).value = 0  # go on
    return 0


def _epoch_failed(kind: object, error: BaseException, trace: object) -> int:
    if CURRENT.instance is not None:
        CURRENT.instance.raised = error
    return int(error_new(b"stopped"))


# cffi, not ctypes: when an exception comes before the first line of a callback, as a keyboard interrupt can, or one
# from a recursion that is too deep, ctypes returns whatever is on the stack, and the engine would follow it as a
# pointer. With cffi the result is that of `onerror`, or else 0 (docs/adr/callbacks-through-cffi).
_CFFI = cffi.FFI()
_buffer = _CFFI.buffer
_HOST_C = _CFFI.callback(
    "uintptr_t(uintptr_t, uintptr_t, uint64_t *, size_t)", _host_callback, error=0, onerror=_host_failed
)
_EPOCH_C = _CFFI.callback(
    "uintptr_t(uintptr_t, uintptr_t, uintptr_t, uintptr_t)", _epoch_callback, error=0, onerror=_epoch_failed
)
HOST_CALLBACK = int(_CFFI.cast("uintptr_t", _HOST_C))
EPOCH_CALLBACK = int(_CFFI.cast("uintptr_t", _EPOCH_C))


def reader(params: str) -> struct.Struct:
    """Reads raw values, 16 bytes each."""
    return struct.Struct("<" + "".join("I12x" if letter in "if" else "Q8x" for letter in params))


def writer(results: str) -> Callable[[Any, Any], None] | None:
    """Writes results as raw values, each into two of the given words.

    A value out of the type's range is cut to its low bits.
    """
    if not results:
        return None
    if len(results) == 1:
        mask = 0xFFFFFFFF if results in "if" else 0xFFFFFFFFFFFFFFFF

        def write_one(raw: Any, result: Any) -> None:
            raw[0] = result & mask

        return write_one

    def write_all(raw: Any, result: Any) -> None:
        for position, (letter, value) in enumerate(zip(results, result, strict=True)):
            mask = 0xFFFFFFFF if letter in "if" else 0xFFFFFFFFFFFFFFFF
            raw[2 * position] = value & mask

    return write_all
