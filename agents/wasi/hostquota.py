"""How much a granted directory may hold: keeps agents from filling the host's disk.

A quota belongs to the directory, not to one agent: it counts what was in the directory when it was granted, and what
agents have added and removed since. Bytes are file sizes, so a sparse file counts in full; names are files, directories
and links. A file without a name counts until the last agent has closed it; otherwise creating, unlinking and keeping
files open would still fill the disk.

Other programs are not accounted for: what they do in the directory after it was granted is not seen.
Invariant: while `lock` is held, the count equals what agents have stored.
"""

from __future__ import annotations

import os
import stat as stats
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from agents.errors import CallFailed

from . import abi

DEFAULT_BYTES = 64 << 20
DEFAULT_NAMES = 10_000


class Quota:
    """At most `size` bytes and `names` names. Thread-safe; hold `lock` over a change and its count."""

    def __init__(self, size: int = DEFAULT_BYTES, names: int = DEFAULT_NAMES) -> None:
        self.size, self.names = size, names
        self.used = 0
        self.named = 0
        self.lock = threading.RLock()  # reentrant: an unreferenced handle may be closed at any time
        self._open: Counter[tuple[int, int]] = Counter()  # (device, inode) -> how often agents have it open

    def measure(self, directory: int) -> None:
        """Count what is in the open directory `directory`, but stop once it is full."""
        with self.lock:
            self.used = self.named = 0
            for _, folders, files, at in os.fwalk(".", dir_fd=directory, follow_symlinks=False):
                self.named += len(folders) + len(files)
                if self.named > self.names:
                    return
                for name in files:
                    try:
                        found = os.stat(name, dir_fd=at, follow_symlinks=False)
                    except OSError:
                        continue
                    self.used += found.st_size if stats.S_ISREG(found.st_mode) else 0

    @property
    def room(self) -> int:
        """Bytes that can be added."""
        return max(self.size - self.used, 0)

    def grow(self, size: int) -> None:
        """Count `size` more bytes, or fewer if negative. Raises ENOSPC if there is no room for them."""
        if size > self.room:
            raise CallFailed(abi.ENOSPC, "the granted directory may hold no more bytes")
        self.used = max(self.used + size, 0)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Wraps the creation of a name. Raises ENOSPC if the limit is reached."""
        with self.lock:
            if self.named >= self.names:
                raise CallFailed(abi.ENOSPC, f"the granted directory holds {self.named} names")
            yield
            self.named += 1

    def unnamed(self, was: os.stat_result) -> None:
        """A name was removed; `was`: what it stood for, just before."""
        self.named = max(self.named - 1, 0)
        last = stats.S_ISREG(was.st_mode) and was.st_nlink == 1
        if last and not self._open[was.st_dev, was.st_ino]:
            self.grow(-was.st_size)

    def opened(self, fd: int) -> None:
        """An agent has opened the file `fd`."""
        with self.lock:
            found = os.fstat(fd)
            self._open[found.st_dev, found.st_ino] += 1

    def closing(self, fd: int) -> None:
        """An agent is about to close the file `fd`."""
        with self.lock:
            found = os.fstat(fd)
            key = found.st_dev, found.st_ino
            self._open[key] -= 1
            if self._open[key] <= 0:
                del self._open[key]
                if found.st_nlink == 0:
                    self.grow(-found.st_size)
