"""Makes the allocator return large blocks of memory to the system when they are freed.

glibc raises its mmap threshold when the first large block is freed: later blocks (up to 32 MiB) stay in its arenas, one
for every few threads, which hardly ever shrink. A station that had passed on agents of 60 MiB kept several times the
memory that it used, for good. A fixed threshold prevents that, and does not affect smaller blocks.

For programs that are only a station: an application that embeds one decides for itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys

LARGE_BYTES = 1 << 20
_M_MMAP_THRESHOLD = -3


def return_large_blocks() -> None:
    """Fix the threshold for the whole process. Does nothing with other allocators than glibc's."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(AttributeError, OSError):  # musl has no `mallopt`
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
