"""Compiling, bounded in time and memory: small modules here, all others in a process that can be given up.

What the compiler takes is far from linear in the size of what it gets, and nothing stops it once it has begun: 5 kB can
take 6 s and 300 MB. So only a module that `is_small` is compiled in the caller's thread; others are in a child with
limits, few at a time, and their time is told to the caller's clock (docs/adr/compiling-in-a-process).

The child is trusted as this process is: what it gives back is machine code. Invariant: whatever a module makes the
compiler do, the caller has a compiled module or an `EngineError` after the time that it allows.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

from agents.budget import helped
from agents.engines.protocols import CompileLimits
from agents.errors import CompilingTooCostly, EngineError
from agents.wasm import decode as wasm
from agents.wasm.reader import Reader

from .capi import shorten
from .compiler import REFUSED

CHILD = Path(__file__).with_name("compiler.py")
# Children at once, of this process: each may take what its limits say.
CHILDREN = 2
# Of a module that is compiled in place: bytes of all its code, locals and functions in all, values in one type. The
# worst that was found within these took 0.4 s of one processor and 40 MB; of 5 kB beyond the last, 6 s and 300 MB.
SMALL_CODE, SMALL_LOCALS, SMALL_TYPE = 8 << 10, 2000, 16
# Seconds by the wall for each of processor time, and beside: for systems without limits, and children that hang.
_WALL_FACTOR, _WALL_S = 30.0, 60.0
FUNC_TYPE = 0x60
_ROOM = threading.Semaphore(CHILDREN)


def is_small(code: bytes) -> bool:
    """Whether compiling takes little, whatever the module does. Raises `ModuleError`."""
    for section, _, payload in wasm.sections(code):
        if section == wasm.TYPE and _widest(bytes(payload)) > SMALL_TYPE:
            return False
        if section == wasm.CODE and (len(payload) > SMALL_CODE or _locals(bytes(payload)) > SMALL_LOCALS):
            return False
    return True


def _widest(types: bytes) -> int:
    """The most parameters, or results, of a type."""
    if len(types) > SMALL_CODE:
        return SMALL_TYPE + 1
    reader, widest = Reader(types), 0
    for _ in range(reader.u32()):
        if reader.byte() != FUNC_TYPE:
            return SMALL_TYPE + 1  # nothing that an agent has: the decoder says so
        for _ in ("parameters", "results"):
            count = reader.u32()
            widest = max(widest, count)
            if count > SMALL_TYPE:
                return widest
            for _ in range(count):
                reader.val_type()
    return widest


def _locals(bodies: bytes) -> int:
    """The number of locals of all functions, and of functions."""
    reader, total = Reader(bodies), 0
    for _ in range(reader.u32()):
        total += 1
        end = reader.u32() + reader.position
        for _ in range(reader.u32()):
            total += reader.u32()
            reader.val_type()
            if total > SMALL_LOCALS:
                return total
        reader.position = end
    return total


def compile_aside(code: bytes, interruptible: bool, stack: int, limits: CompileLimits) -> bytes:
    """The compiled module, from a child. Raises `EngineError`, `CompilingTooCostly`."""
    cpu_s = limits.cpu_ns / 1e9
    order = {"path": sys.path, "interruptible": interruptible, "stack": stack, "cpu_s": cpu_s, "memory": limits.memory}
    with _ROOM:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C at a terminal is for us
        )
        try:
            compiled, said = child.communicate(
                json.dumps(order).encode() + b"\n" + code, _WALL_S + _WALL_FACTOR * cpu_s
            )
        except subprocess.TimeoutExpired:
            compiled, said = b"", b""
        finally:
            child.kill()
            child.wait()
    status = child.returncode
    if status == 0 and len(compiled) > 8:
        used = int.from_bytes(compiled[:8], "little")
        helped(used)
        if used > limits.cpu_ns:  # the system's timer is coarse
            raise _too_long(limits)
        return compiled[8:]
    text = said.decode("utf-8", "replace").strip()
    if status == REFUSED:
        raise EngineError(f"wasmtime cannot compile the module: {shorten(text)}")
    helped(limits.cpu_ns)
    if status == -signal.SIGABRT:  # how the compiler ends when it gets no more memory
        raise CompilingTooCostly("memory", f"compiling the module takes more than {limits.memory >> 20} MiB")
    if status < 0:
        raise _too_long(limits)
    raise EngineError(f"the compiler ended with {status}: {shorten(text)}")


def _too_long(limits: CompileLimits) -> CompilingTooCostly:
    return CompilingTooCostly(
        "cpu", f"compiling the module takes more than {limits.cpu_ns / 1e9:g} s of processor time"
    )
