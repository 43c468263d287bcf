"""Which pages of a memory differ from what it held at first: the part of capturing that must not take long.

On Linux the kernel knows which pages of a mapping were never touched (`/proc/self/pagemap`), so a large
memory of which little was touched costs little. What was touched is then compared, in bulk,
with `memcmp`. Elsewhere everything is compared. The answer is the same, since it depends on contents
only; a test holds that.

The kernel's word is not taken on trust: `_pagemap_works` tries it once on mappings of both kinds that
engines use, since sandboxes exist that show an empty page map, and believing one would lose an agent's
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

PAGE = 4096
_CHUNK = 16  # pages compared at once before looking at each
_TOUCHED = re.compile(rb"\x01+")
# The top byte of a page map entry: bit 7 present, bit 6 swapped. A page that is neither was never touched.
_FLAGS = bytes(1 if flags & 0xC0 else 0 for flags in range(256))

if sys.platform == "win32":
    _libc = ctypes.PyDLL("msvcrt")
else:
    _libc = ctypes.PyDLL(None)
_memcmp = _libc.memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_memcmp.restype = ctypes.c_int

_HUGE = 2 << 20  # bytes of a large page on the processors that have them at this size
_MADV_HUGEPAGE = 14
_madvise = getattr(_libc, "madvise", None) if sys.platform.startswith("linux") else None
if _madvise is not None:
    _madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    _madvise.restype = ctypes.c_int

Runs = list[tuple[int, int]]  # (first page, number of pages), ascending and apart


class Initial:
    """What a memory held when the instance was fresh. Zero pages, and those beyond its end, take no room."""

    def __init__(self, memory: memoryview, address: int) -> None:
        """Remember the contents of `memory`, which lies at `address`."""
        self.size = len(memory)
        self._copy = mmap.mmap(-1, max(self.size, PAGE))
        self._owner = ctypes.c_char.from_buffer(self._copy)
        self.address = ctypes.addressof(self._owner)
        self.zero = 0  # nothing is held yet: everything is compared with zeros
        for first, count in _compare([(0, self.size // PAGE)], address, self.address, self.size // PAGE):
            self._copy[first * PAGE : (first + count) * PAGE] = memory[first * PAGE : (first + count) * PAGE]

    def changed(self, address: int, size: int) -> Runs:
        """Runs of 4 KiB pages in which the memory at `address`, of `size` bytes, now differs."""
        pages = size // PAGE
        candidates = _touched(address, pages) if _pagemap_works() else None
        if candidates is None:
            candidates = [(0, pages)]
        return _compare(candidates, address, self.address, self.size // PAGE)


def expect(address: int, size: int) -> None:
    """Tell the kernel that all of this will be written at once: few large pages instead of many small faults."""
    if _madvise is None or size < _HUGE:
        return
    start = -(-address // _HUGE) * _HUGE
    end = (address + size) // _HUGE * _HUGE
    if end > start:
        _madvise(start, end - start, _MADV_HUGEPAGE)  # a refusal costs speed only


_ZEROS = (ctypes.c_char * (PAGE * _CHUNK))()
_ZEROS_AT = ctypes.addressof(_ZEROS)


def _compare(candidates: Runs, address: int, initial: int, held: int) -> Runs:
    """Pages of `candidates` that differ from the first `held` pages at `initial`, beyond those from zero."""
    runs: Runs = []
    first = end = -1  # the run that is being found
    compare = _memcmp
    for start, count in candidates:
        page = start
        while page < start + count:
            step = min(_CHUNK, start + count - page, held - page if page < held else _CHUNK)
            base = initial + page * PAGE if page < held else _ZEROS_AT
            at = address + page * PAGE
            if step > 1 and not compare(at, base, step * PAGE):
                page += step
                continue
            for offset in range(0, step * PAGE, PAGE):
                if compare(at + offset, base + offset, PAGE):
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


def _touched(address: int, pages: int) -> Runs | None:
    """Runs of pages that were touched; None when the kernel does not tell."""
    # Opened each time: after a fork, an open page map would still be the parent's.
    try:
        descriptor = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        entries = os.pread(descriptor, pages * 8, address // PAGE * 8)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    if len(entries) != pages * 8:
        return None
    flags = entries[7::8].translate(_FLAGS)
    return [(found.start(), found.end() - found.start()) for found in _TOUCHED.finditer(flags)]


@cache
def _pagemap_works() -> bool:
    if not sys.platform.startswith("linux") or mmap.PAGESIZE != PAGE:
        return False
    with contextlib.suppress(OSError), tempfile.TemporaryFile() as file:
        file.write(b"x" * 4 * PAGE)
        file.flush()
        anonymous = mmap.mmap(-1, 4 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        private = mmap.mmap(file.fileno(), 4 * PAGE, flags=mmap.MAP_PRIVATE)
        found = []
        for mapping in (anonymous, private):
            mapping[PAGE] = mapping[PAGE * 3 + 1] = 1  # write pages 1 and 3
            owner = ctypes.c_char.from_buffer(mapping)
            found.append(_touched(ctypes.addressof(owner), 4) or [])
            del owner
            mapping.close()
        # The kernel may bring in neighbours of a file's page; it must not lose one that was written.
        return found[0] == [(1, 1), (3, 1)] and {1, 3} <= {p for a, n in found[1] for p in range(a, a + n)}
    return False
