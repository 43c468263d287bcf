"""Which pages of a memory differ from its initial contents: the part of capturing that has to be fast.

On Linux the kernel knows which pages of a mapping were never touched (`/proc/self/pagemap`), so a large
memory of which little was touched costs little. Touched pages are then compared, in bulk,
with `memcmp`. Elsewhere, and for small memories, everything is compared. The answer is the same, since it
depends on contents only; a test checks that.

The kernel's answer is not trusted blindly: `pagemap_works` tries it once on mappings of both kinds that
engines use. Some sandboxes show an empty page map, and believing one would lose an agent's
memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
import sys
import tempfile
from functools import cache

HOST_PAGE_BYTES = 4096
_CHUNK = 16  # pages compared at once, before comparing each
_SMALL = 64  # pages; up to this size, comparing everything is faster than asking the kernel
_TOUCHED = re.compile(rb"\x01+")
# The top byte of a page map entry: bit 7 present, bit 6 swapped. A page with neither was never touched.
_FLAGS = bytes(1 if flags & 0xC0 else 0 for flags in range(256))

if sys.platform == "win32":
    _libc = ctypes.PyDLL("msvcrt")
else:
    _libc = ctypes.PyDLL(None)
_memcmp = _libc.memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_memcmp.restype = ctypes.c_int

_HUGE = 2 << 20  # bytes of a large page, on processors that have them in this size
_MADV_HUGEPAGE = 14
_madvise = getattr(_libc, "madvise", None) if sys.platform.startswith("linux") else None
if _madvise is not None:
    _madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    _madvise.restype = ctypes.c_int


# Without the interpreter lock: other threads go on.
_unlocked = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None
_MADV_DONTNEED, _MADV_POPULATE_WRITE = 4, 23
RELEASED_BYTES = 8 << 20  # given back at once: meanwhile no other thread of the process can map memory


def discard(address: int, size: int) -> None:
    """Give pages back to the system. Those of anonymous memory are zero, or missing, from then on. Raises `OSError`."""
    if _unlocked is None:
        raise OSError("not on this system")
    if _unlocked.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), _MADV_DONTNEED):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def populate(memory: memoryview) -> None:
    """Have the system find memory for what is about to be written, which can take milliseconds for each MiB, while
    other threads of the interpreter go on. Nothing must be missing in it. Harmless where the system does not know it.
    """
    if _unlocked is None or not len(memory):
        return
    owner = ctypes.c_char.from_buffer(memory)
    start = ctypes.addressof(owner)
    first, end = start // HOST_PAGE_BYTES * HOST_PAGE_BYTES, start + len(memory)
    _unlocked.madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), _MADV_POPULATE_WRITE)


def release(address: int, size: int) -> None:
    """Give a large memory that nobody uses any more back to the system in pieces, so that unmapping it is quick."""
    with contextlib.suppress(OSError):
        for at in range(0, size, RELEASED_BYTES):
            discard(address + at, min(RELEASED_BYTES, size - at))


def zeros(size: int) -> mmap.mmap:
    """A mapping whose pages take space when they are written. One that is shared, as by default, also when they are
    read."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


Runs = list[tuple[int, int]]  # (first page, number of pages), ascending, not adjacent


class Initial:
    """The contents of a memory in a fresh instance. Zero pages, and those beyond its end, take no space."""

    def __init__(self, memory: memoryview, address: int) -> None:
        """Copy the contents of `memory`, which is at `address`."""
        self.size = len(memory)
        self._copy = zeros(max(self.size, HOST_PAGE_BYTES))
        self._owner = ctypes.c_char.from_buffer(self._copy)
        self.address = ctypes.addressof(self._owner)
        _copy(_compare([(0, self.size // HOST_PAGE_BYTES)], address, 0, 0), address, self.address)  # unlike zeros

    def contents(self, at: int, size: int) -> bytes:
        """`size` bytes at `at`; zeros beyond its end."""
        return self._copy[at : min(at + size, self.size)].ljust(size, b"\0") if at < self.size else bytes(size)

    def has(self, at: int, contents: memoryview) -> bool:
        """Whether these are its contents at `at`."""
        if at >= self.size and len(contents) <= len(_ZEROS):
            return contents == _ZERO_BYTES[: len(contents)]
        return contents == self.contents(at, len(contents))

    def changed(self, address: int, size: int) -> Runs:
        """Runs of 4 KiB pages in which the memory at `address`, of `size` bytes, differs now."""
        return _compare(touched(address, size), address, self.address, self.size // HOST_PAGE_BYTES)


class Shadow:
    """A copy of a memory that follows it. Pages that have always been zero take no space."""

    def __init__(self) -> None:
        self._reserve(HOST_PAGE_BYTES)

    def _reserve(self, size: int) -> None:
        self._bytes = zeros(size)
        self._owner = ctypes.c_char.from_buffer(self._bytes)
        self._address = ctypes.addressof(self._owner)

    def follow(self, address: int, size: int) -> Runs:
        """Take over what differs in the memory at `address`, of `size` bytes; runs of the pages in which something did.

        The memory may be written meanwhile: the copy then has what was there before or after, and the rest next time.
        """
        held = len(self._bytes)
        if size > held:
            owner, old = self._owner, self._address
            self._reserve(max(size, 2 * held))
            _copy(_compare([(0, held // HOST_PAGE_BYTES)], old, 0, 0), old, self._address)
            del owner
        pages = size // HOST_PAGE_BYTES
        runs = _compare([(0, pages)], address, self._address, pages)
        _copy(runs, address, self._address)
        return runs

    @property
    def view(self) -> memoryview:
        """The copy."""
        return memoryview(self._bytes).toreadonly()


def touched(address: int, size: int) -> Runs:
    """Runs of 4 KiB pages of the memory at `address` that may differ from its initial contents; nothing is compared."""
    pages = size // HOST_PAGE_BYTES
    found = _touched(address, pages) if pages > _SMALL and pagemap_works() else None
    return [(0, pages)] if found is None else found


def expect(address: int, size: int) -> None:
    """Tell the kernel that this range is about to be written whole: a few large pages instead of many small faults."""
    if _madvise is None or size < _HUGE:
        return
    start = -(-address // _HUGE) * _HUGE
    end = (address + size) // _HUGE * _HUGE
    if end > start:
        _madvise(start, end - start, _MADV_HUGEPAGE)  # a failure only costs speed


def differing(address: int, other: int, pages: int) -> Runs:
    """Runs of the 4 KiB pages in which what lies at two addresses differs, of so many pages."""
    return _compare([(0, pages)], address, other, pages)


_ZEROS = (ctypes.c_char * (HOST_PAGE_BYTES * _CHUNK))()
_ZEROS_AT = ctypes.addressof(_ZEROS)
_ZERO_BYTES = memoryview(bytes(len(_ZEROS)))


def _compare(candidates: Runs, address: int, initial: int, held: int) -> Runs:
    """Pages of `candidates` that differ from the `held` initial pages at `initial`; beyond those, from zero."""
    runs: Runs = []
    first = end = -1  # the run being collected
    compare = _memcmp
    for start, count in candidates:
        page = start
        while page < start + count:
            step = min(_CHUNK, start + count - page, held - page if page < held else _CHUNK)
            base = initial + page * HOST_PAGE_BYTES if page < held else _ZEROS_AT
            at = address + page * HOST_PAGE_BYTES
            if step > 1 and not compare(at, base, step * HOST_PAGE_BYTES):
                page += step
                continue
            for offset in range(0, step * HOST_PAGE_BYTES, HOST_PAGE_BYTES):
                if compare(at + offset, base + offset, HOST_PAGE_BYTES):
                    if end == page:
                        end += 1
                    else:
                        if end > first:
                            runs.append((first, end - first))
                        first, end = page, page + 1
                page += 1
    if end > first:
        runs.append((first, end - first))
    return runs


def _copy(runs: Runs, source: int, target: int) -> None:
    """Copy pages between two addresses."""
    for first, count in runs:
        offset = first * HOST_PAGE_BYTES
        ctypes.memmove(target + offset, source + offset, count * HOST_PAGE_BYTES)


def _touched(address: int, pages: int) -> Runs | None:
    """Runs of touched pages; None if the kernel does not tell."""
    # Opened each time: after a fork, an already open page map would still be the parent's.
    try:
        descriptor = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        entries = os.pread(descriptor, pages * 8, address // HOST_PAGE_BYTES * 8)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    if len(entries) != pages * 8:
        return None
    flags = entries[7::8].translate(_FLAGS)
    return [(found.start(), found.end() - found.start()) for found in _TOUCHED.finditer(flags)]


@cache
def pagemap_works() -> bool:
    """Whether the kernel tells which pages of a private mapping are its own; tried with both kinds that engines use."""
    if not sys.platform.startswith("linux") or mmap.PAGESIZE != HOST_PAGE_BYTES:
        return False
    with contextlib.suppress(OSError), tempfile.TemporaryFile() as file:
        file.write(b"x" * 4 * HOST_PAGE_BYTES)
        file.flush()
        anonymous = mmap.mmap(-1, 4 * HOST_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        private = mmap.mmap(file.fileno(), 4 * HOST_PAGE_BYTES, flags=mmap.MAP_PRIVATE)
        found = []
        for mapping in (anonymous, private):
            mapping[HOST_PAGE_BYTES] = mapping[HOST_PAGE_BYTES * 3 + 1] = 1  # write pages 1 and 3
            owner = ctypes.c_char.from_buffer(mapping)
            found.append(_touched(ctypes.addressof(owner), 4) or [])
            del owner
            mapping.close()
        # The kernel may also report neighbours of a file's page, but it must report every page that was written.
        return found[0] == [(1, 1), (3, 1)] and {1, 3} <= {p for a, n in found[1] for p in range(a, a + n)}
    return False
