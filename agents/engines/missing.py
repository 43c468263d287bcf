"""Pages of an instance's memory that are not there yet: an agent runs before all of its memory has come (post-copy).

Agent code that touches such a page stands still in the middle of an instruction until the page is provided. The event
loop of whoever runs it is told through a descriptor, gets the page from where it is, and provides it; meanwhile it
provides the others in whatever order it likes. All this is in one process: agent code holds no lock of Python's
(docs/adr/pages-that-come-later says why there is no other process for it).

What it cannot do:
- **Python must not touch a missing page.** The thread would stand still with the interpreter lock, and nobody could
  provide the page: the process hangs. So whatever reads or writes the memory in Python first calls `make_present`, in
  the agent's thread and never in the event loop; `agents.hostcalls.GuestMemory` does it for host functions. Capturing,
  watching writes and reading by address are refused while pages are missing.
- A system call on a missing page fails with EFAULT, or does less than it was asked to.
- An engine that holds the interpreter lock while agent code runs (wasmer) cannot have missing pages.
- An agent that waits for a page ends neither at its limits nor when it is asked to: only `abandon` wakes it, and the
  instance is worth nothing from then on. The time that it waits counts as time by the wall.
- What the memory grows by is there at once: zeros.

Invariants: no page that is owed is ever seen with other contents than those provided; if it cannot be provided any
more, the instance first loses its way to the outside (`stop`), and only then its code goes on, on zeros, to be ended.
A page is provided once: what comes later for the same page is left out, since the agent may have written it.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
import select
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache

import cffi  # type: ignore[import-untyped, unused-ignore]

from agents.errors import EngineError, MemoryMissing

from . import userfault
from .pages import HOST_PAGE_BYTES, Runs, discard
from .raw import Gate, RawMemory, bytes_at

# A mapping, and twice as many when its neighbours are of another kind: the system allows 65,530 in all by default
# (vm.max_map_count).
_RANGES = 256
_MAP_FIXED = 0x10  # asm-generic/mman-common.h
_PATIENCE_MS = 2000  # for a fault when it is tried whether the kernel hands them out
_MAPPED = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ (\d+)", re.MULTILINE)
_buffers = cffi.FFI()
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


class MissingPages:
    """The missing pages of one memory.

    `provide`, `zero`, `faults` and `waiting` are for one thread, that of the event loop, but may come from any;
    `make_present` is for the thread of the agent.
    """

    def __init__(self, memory: RawMemory, owed: Runs, stop: Callable[[], None]) -> None:
        """Take away the pages `owed`, whatever is in them; nothing may run in the instance yet.

        `stop`: cuts the instance off from its host, and makes its code end soon; called by `abandon`, in any thread.

        Raises `EngineError` if the system cannot do this.
        """
        self._memory, self._stop = memory, stop
        pages = memory.size() // HOST_PAGE_BYTES
        self._owed = bytearray(pages)  # 1 for each page that is missing
        for first, count in owed:
            if first < 0 or count < 1 or first + count > pages:
                raise ValueError("pages outside the memory")
            self._owed[first : first + count] = b"\1" * count
        self.left = self._owed.count(1)
        """How many pages are missing."""
        self.abandoned = False
        self._lock = threading.Condition(threading.Lock())
        self._waiting: dict[int, None] = {}  # pages that somebody waits for, the first first
        self._asked: list[int] = []  # of these, what Python waits for, until it is told
        self._descriptor = self._bell = self._both = -1
        try:
            self._descriptor = userfault.open_userfault(0)
            self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._both = _polling(self._descriptor, self._bell)
            with memory.held():
                self._take_away(pages)
        except OSError as error:
            self._close_descriptors()
            raise EngineError(f"this system cannot have pages that come later: {error.strerror or error}") from None
        except BaseException:
            self._close_descriptors()
            raise

    def _take_away(self, pages: int) -> None:
        runs = list(_runs(self._owed, 0, pages))
        self._registered = _ranges(runs)
        for first, count in self._registered:
            _make_anonymous(self._at(first), count * HOST_PAGE_BYTES)
        for first, count in runs:
            discard(self._at(first), count * HOST_PAGE_BYTES)
        for first, count in self._registered:
            userfault.register(self._descriptor, userfault.MODE_MISSING, self._at(first), count * HOST_PAGE_BYTES)

    def _at(self, page: int) -> int:
        return self._memory.address + page * HOST_PAGE_BYTES

    # --- the event loop ---

    def fileno(self) -> int:
        """A descriptor that can be read when `faults` has something to say."""
        return self._both

    def faults(self) -> list[int]:
        """Offsets of pages for which somebody waits now, and which were not told before. Does not wait."""
        told = []
        with self._lock:
            if self.abandoned or self._descriptor < 0:
                return []
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._bell)
            for page in self._asked:
                if self._owed[page]:
                    told.append(page)
            self._asked.clear()
            while addresses := userfault.faults(self._descriptor):
                for address in addresses:
                    page = (address - self._memory.address) // HOST_PAGE_BYTES
                    if not self._owed[page]:
                        self._fill(page, 1, None)  # between pages that are owed, and never touched: zero
                        with contextlib.suppress(OSError):
                            userfault.wake(self._descriptor, self._at(page), HOST_PAGE_BYTES)
                    elif page not in self._waiting:
                        self._waiting[page] = None
                        told.append(page)
        return [page * HOST_PAGE_BYTES for page in told]

    def waiting(self) -> list[int]:
        """Offsets of all pages for which somebody waits, as told by `faults`; the one that waits longest is first."""
        with self._lock:
            return [page * HOST_PAGE_BYTES for page in self._waiting]

    def missing(self) -> Runs:
        """Runs of pages that are missing."""
        with self._lock:
            return list(_runs(self._owed, 0, len(self._owed)))

    def provide(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """The contents of whole pages. Those that are there already stay as they are.

        Raises `EngineError` if the instance is closed or abandoned.
        """
        source = _buffers.from_buffer(data)
        self._put(offset, len(data), int(_buffers.cast("uintptr_t", source)))

    def zero(self, offset: int, size: int) -> None:
        """These pages are zero. As `provide`."""
        self._put(offset, size, None)

    def _put(self, offset: int, size: int, source: int | None) -> None:
        if offset % HOST_PAGE_BYTES or size % HOST_PAGE_BYTES or offset < 0:
            raise ValueError("not whole pages")
        start, end = offset // HOST_PAGE_BYTES, (offset + size) // HOST_PAGE_BYTES
        if end > len(self._owed):
            raise ValueError("pages outside the memory")
        with self._memory.held(), self._lock:
            if self.abandoned:
                raise MemoryMissing()
            for first, count in list(_runs(self._owed, start, end)):
                self._fill(first, count, None if source is None else source + (first - start) * HOST_PAGE_BYTES)
                self._owed[first : first + count] = bytes(count)
                self.left -= count
                for page in [page for page in self._waiting if first <= page < first + count]:
                    del self._waiting[page]
            self._lock.notify_all()
            if not self.left:
                self._unregister()

    def _fill(self, page: int, count: int, source: int | None) -> None:
        try:
            userfault.fill(self._descriptor, self._at(page), count * HOST_PAGE_BYTES, source)
        except OSError as error:
            raise EngineError(f"a page cannot be put into the memory: {error.strerror}") from None

    # --- the agent's thread ---

    def make_present(self, offset: int, size: int) -> None:
        """Wait until nothing of this range is missing. What lies outside the memory is not looked at.

        Raises `MemoryMissing` if it will never come.
        """
        if not self.left and not self.abandoned:
            return
        start, end = max(0, offset) // HOST_PAGE_BYTES, -(-(offset + size) // HOST_PAGE_BYTES)
        with self._lock:
            pages = [page for first, count in _runs(self._owed, start, end) for page in range(first, first + count)]
            new = [page for page in pages if page not in self._waiting]
            self._waiting.update(dict.fromkeys(new))
            self._asked += new
            if new and not self.abandoned:
                os.eventfd_write(self._bell, 1)
            while not self.abandoned and self._owed.find(1, start, max(start, end)) >= 0:
                self._lock.wait()
            if self.abandoned:
                raise MemoryMissing()

    # --- the end ---

    def abandon(self) -> None:
        """Give up: whoever waits goes on, only to be ended. Harmless when all pages are there, and to repeat."""
        with self._lock:
            if self.abandoned or not self.left:
                return
            self.abandoned = True
            self._lock.notify_all()
        self._stop()  # before anything of it goes on
        with contextlib.suppress(EngineError), self._memory.held(), self._lock:
            self._unregister()

    def _unregister(self) -> None:
        for first, count in self._registered:
            with contextlib.suppress(OSError):
                userfault.unregister(self._descriptor, self._at(first), count * HOST_PAGE_BYTES)

    def close(self) -> None:
        """Abandon what is missing, and free the descriptors: nobody may poll them any more. Harmless to repeat."""
        self.abandon()
        with self._lock:
            self._close_descriptors()

    def _close_descriptors(self) -> None:
        descriptors = self._descriptor, self._bell, self._both
        self._descriptor = self._bell = self._both = -1
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)


def _polling(*descriptors: int) -> int:
    """A descriptor that can be read when any of these can."""
    poll = select.epoll()
    for descriptor in descriptors:
        poll.register(descriptor, select.EPOLLIN)
    own = os.dup(poll.fileno())
    poll.close()
    return own


def _runs(flags: bytearray, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Runs of ones between two places."""
    end = min(end, len(flags))
    while start < end:
        first = flags.find(1, start, end)
        if first < 0:
            return
        start = flags.find(0, first, end)
        if start < 0:
            start = end
        yield first, start - first


def _ranges(runs: Runs) -> Runs:
    """Few ranges that hold all of these runs, and as little as possible between them."""
    gaps = sorted(((runs[i][0] - sum(runs[i - 1]), i) for i in range(1, len(runs))), reverse=True)
    ranges: Runs = []
    cuts = sorted(i for _, i in gaps[: _RANGES - 1])
    for begin, end in zip([0, *cuts], [*cuts, len(runs)], strict=True):
        if begin < end:
            ranges.append((runs[begin][0], sum(runs[end - 1]) - runs[begin][0]))
    return ranges


def _make_anonymous(address: int, size: int) -> None:
    """Replace what is mapped from a file here, as initial contents are, by memory with the same contents.

    A page of a file is never missing: it would be there again, and old, as soon as it is discarded.
    """
    assert _libc is not None
    with open("/proc/self/maps", "rb") as file:
        mapped = file.read()
    for found in _MAPPED.finditer(mapped):
        start, end = max(int(found[1], 16), address), min(int(found[2], 16), address + size)
        if start >= end or found[3] == b"0":
            continue
        kept = bytes(bytes_at(start, end - start))
        protection, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
        pointer, word = ctypes.c_void_p, ctypes.c_size_t
        _libc.mmap.restype = ctypes.c_void_p
        if _libc.mmap(pointer(start), word(end - start), protection, flags, -1, ctypes.c_long(0)) != start:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        bytes_at(start, end - start)[:] = kept


@cache
def pages_can_be_missing() -> bool:
    """Whether the kernel hands out faults: tried once, with a thread that waits for a page."""
    if not userfault.possible():
        return False
    size = 2 * HOST_PAGE_BYTES
    mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    owner = ctypes.c_char.from_buffer(mapping)
    address = ctypes.addressof(owner)
    try:
        pages = MissingPages(RawMemory(Gate(), mapping, address, size, size), [(1, 1)], lambda: None)
    except EngineError:
        return False
    target = ctypes.create_string_buffer(1)
    # `memmove` of ctypes releases the interpreter lock.
    reader = threading.Thread(target=ctypes.memmove, args=(target, address + HOST_PAGE_BYTES, 1), daemon=True)
    reader.start()
    try:
        poll = select.poll()
        poll.register(pages.fileno(), select.POLLIN)
        if not poll.poll(_PATIENCE_MS) or pages.faults() != [HOST_PAGE_BYTES]:
            return False
        pages.provide(HOST_PAGE_BYTES, b"x" * HOST_PAGE_BYTES)
    finally:
        pages.close()
        reader.join()
    return target.raw == b"x"
