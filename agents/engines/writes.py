"""Which pages of a memory were written since one asked last: what sending it ahead, while its agent runs, rests on.

On Linux 6.7 and later the kernel tells it: in userfaultfd's asynchronous write-protect mode the first write to a page
is a short fault, which the kernel handles alone, and one ioctl reports and protects again in the same step. Elsewhere,
and where a sandbox refuses, the memory is compared with a copy: slower, and twice the memory. As in `pages`, the kernel
is not trusted blindly: `kernel_tells` tries it once (docs/adr/who-tells-what-was-written).

Not which pages differ from the initial contents: that is `pages`.

Invariants: a page that was written since the last scan is in the next one, or, if it is written while that goes on, at
the latest in the one after; a page that was not may be there too. What a scan reported is read from `contents` and
nowhere else: of a copy, that is what the scan compared, while the memory may just show what no scan finds again,
because the agent puts back what was there before. Nothing may discard pages of a watched memory (`MADV_DONTNEED`):
kernels before 2026 miss that where it takes a whole large page.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Protocol

from agents.errors import EngineError

from . import userfault
from .pages import HOST_PAGE_BYTES, Runs, Shadow
from .raw import Gate, RawMemory

_FEATURES = userfault.FEATURE_WP_ASYNC | userfault.FEATURE_WP_UNPOPULATED
_TRIED = 4 * HOST_PAGE_BYTES
USERFAULTFD, COMPARISON = "userfaultfd", "comparison"


class WriteWatch(Protocol):
    """Tells what is written in one memory, from when it was made. For one thread at a time; agent code may run."""

    @property
    def kind(self) -> str:
        """How it knows: "userfaultfd" or "comparison"."""

    def scan(self, size: int) -> Runs:
        """Runs of 4 KiB pages of the first `size` bytes that may have been written since the last scan, or since the
        watch began. What the memory has grown by is zero until it is reported.

        Raises `EngineError` if the instance is closed.
        """

    def contents(self) -> AbstractContextManager[memoryview]:
        """The bytes, read only, at least as many as were scanned, to be read inside this block and not kept.

        Raises `EngineError` if the instance is closed.
        """

    def close(self) -> None:
        """Watch no longer. Harmless to repeat, and after the instance is closed."""


def watch_writes(memory: RawMemory) -> WriteWatch:
    """Watch a memory, by the kernel if it can."""
    if kernel_tells():
        with contextlib.suppress(OSError):  # somebody watches it already, or descriptors are used up
            return KernelWatch(memory)
    return ComparisonWatch(memory)


class KernelWatch:
    """By userfaultfd."""

    kind = USERFAULTFD

    def __init__(self, memory: RawMemory) -> None:
        """Watch what it has now, and what it grows by. Raises `OSError`."""
        self._memory = memory
        self._process = os.getpid()
        self._descriptor: int | None = userfault.open_userfault(_FEATURES)
        try:
            self._begin(memory.size())
        except BaseException:
            self.close()
            raise

    def _begin(self, size: int) -> None:
        assert self._descriptor is not None
        with self._memory.held():
            # What is only reserved is registered too: what it grows by can then be watched without a gap.
            userfault.register(self._descriptor, userfault.MODE_WP, self._memory.address, self._memory.limit)
            if size:
                userfault.protect(self._descriptor, self._memory.address, size)

    def scan(self, size: int) -> Runs:
        """Pages that the kernel let somebody write."""
        size = min(size, self._memory.size())
        if self._descriptor is None:
            raise ValueError("this watch is closed")
        everything = [(0, size // HOST_PAGE_BYTES)] if size else []
        if os.getpid() != self._process:  # a fork's memory is not registered
            return everything
        try:
            with self._memory.held():
                return userfault.written(self._memory.address, size)
        except OSError:
            with contextlib.suppress(OSError):  # something was mapped anew
                self._begin(size)
            return everything

    @contextmanager
    def contents(self) -> Iterator[memoryview]:
        """The memory itself."""
        with self._memory.reading() as view:
            yield view

    def close(self) -> None:
        """Watch no longer."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        # Closing does not suffice while a process that was forked meanwhile has the descriptor too.
        with contextlib.suppress(EngineError, OSError), self._memory.held():
            if os.getpid() == self._process:
                userfault.unregister(descriptor, self._memory.address, self._memory.limit)
        os.close(descriptor)

    def __del__(self) -> None:
        self.close()


class ComparisonWatch:
    """By a copy."""

    kind = COMPARISON

    def __init__(self, memory: RawMemory) -> None:
        """Copy what it has now."""
        self._memory: RawMemory = memory
        self._copy: Shadow | None = Shadow()
        self.scan(memory.size())

    def scan(self, size: int) -> Runs:
        """Pages in which the memory differs from the copy, which then is as they were."""
        if self._copy is None:
            raise ValueError("this watch is closed")
        size = min(size, self._memory.size())
        with self._memory.held():
            return self._copy.follow(self._memory.address, size)

    @contextmanager
    def contents(self) -> Iterator[memoryview]:
        """The copy."""
        if self._copy is None:
            raise ValueError("this watch is closed")
        with self._memory.held():
            yield self._copy.view

    def close(self) -> None:
        """Free the copy."""
        self._copy = None


@cache
def kernel_tells() -> bool:
    """Whether the kernel tells what is written; tried with both kinds of mappings that engines use."""
    if not userfault.possible():
        return False
    with contextlib.suppress(OSError), tempfile.TemporaryFile() as file:
        file.write(b"x" * _TRIED)
        file.flush()
        anonymous = mmap.mmap(-1, _TRIED, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        private = mmap.mmap(file.fileno(), _TRIED, flags=mmap.MAP_PRIVATE)
        return _tells_of(anonymous) and _tells_of(private)
    return False


def _tells_of(mapping: mmap.mmap) -> bool:
    owner = ctypes.c_char.from_buffer(mapping)
    memory = RawMemory(Gate(), mapping, ctypes.addressof(owner), _TRIED, _TRIED)
    mapping[HOST_PAGE_BYTES] = 1  # a page that is there before, and is written again
    watch = KernelWatch(memory)
    try:
        for written in ([], [1, 3], [3], []):
            for page in written:
                mapping[page * HOST_PAGE_BYTES] = 2
            if watch.scan(_TRIED) != [(page, 1) for page in written]:
                return False
        return True
    finally:
        watch.close()
