"""The memory of an instance by its address, for other threads than the one that runs it.

While agent code runs, nobody else may enter the engine: not even to ask how large a memory is. But its bytes can be
read, torn as they may be, since the memory does not move up to `RawMemory.limit`; and the kernel knows its size. What
is read so is worth something only together with `writes`, which tells what was written meanwhile.

Invariant: no byte is touched after the instance is closed. Closing waits for those who read; they are to be quick.
"""

from __future__ import annotations

import ctypes
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from agents.errors import EngineError
from agents.wasm.bounds import WASM_PAGE_BYTES

_EFAULT = 14
_NR_RT_SIGPROCMASK = {"x86_64": 14, "aarch64": 135, "riscv64": 135, "loongarch64": 135}  # asm/unistd.h
_libc = ctypes.PyDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


class Gate:
    """Who reads the memories of one instance now, so that closing it can wait for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside = 0
        self._closed = False

    @contextmanager
    def passed(self) -> Iterator[None]:
        """The instance stays open meanwhile. Raises `EngineError` if it is closed."""
        with self._changed:
            if self._closed:
                raise EngineError("the instance is closed")
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Let nobody in any more, and wait for those who are inside. Not from inside."""
        with self._changed:
            self._closed = True
            while self._inside:
                self._changed.wait()


class RawMemory:
    """One memory of an open instance.

    address: of its first byte, while the instance is open
    limit: bytes that it can grow to, all of them reserved at that address
    """

    def __init__(self, gate: Gate, owner: object, address: int, size: int, limit: int) -> None:
        """`owner`: what must not be collected while this is held. `size`: bytes now."""
        self.address, self.limit = address, limit
        self._gate, self._owner, self._known = gate, owner, size

    def size(self) -> int:
        """Bytes that it has now; where the system does not tell, as many as it had when this was made.

        Raises `EngineError` if the instance is closed.
        """
        with self._gate.passed():
            low, high = self._known, self.limit
            if low < high and _readable(self.address + low):  # it has grown
                while high - low > WASM_PAGE_BYTES:
                    middle = (low + high) // 2 // WASM_PAGE_BYTES * WASM_PAGE_BYTES
                    low, high = (middle, high) if _readable(self.address + middle) else (low, middle)
                self._known = high
            return self._known

    def held(self) -> AbstractContextManager[None]:
        """The instance stays open inside this block. Raises `EngineError` if it is closed."""
        return self._gate.passed()

    @contextmanager
    def reading(self) -> Iterator[memoryview]:
        """Its bytes, to be read inside this block and not kept. Raises `EngineError` if the instance is closed."""
        with self.writing() as view:
            yield view.toreadonly()

    @contextmanager
    def writing(self) -> Iterator[memoryview]:
        """The same, to be written too: only while no agent code runs in the instance."""
        size = self.size()
        with self._gate.passed():
            yield bytes_at(self.address, size)


def bytes_at(address: int, size: int) -> memoryview:
    """The bytes of this process at an address."""
    if not size:
        return memoryview(bytearray())
    return memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")


def _readable(address: int) -> bool:
    """Whether the page with this address can be read."""
    number = _NR_RT_SIGPROCMASK.get(platform.machine())
    if _libc is None or number is None:
        return False
    # It copies the set of 8 bytes before it refuses the first argument, and changes nothing.
    long, pointer = ctypes.c_long, ctypes.c_void_p
    _libc.syscall(long(number), long(-1), pointer(address), pointer(None), long(8))
    return ctypes.get_errno() != _EFAULT
