"""Disk space that a store reserves for the day its disk is full: agents must then still be able to end and to leave.

A file of its own, deleted when the store meets a full disk, and made again when there is space. Not a quota: it does
not matter who fills the disk. Invariant: the space is really allocated, so deleting the file frees it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from attrs import frozen

# Bytes: some hundred small transactions; after that, space freed by deletions can be reused.
RESERVE_BYTES = 4 << 20
# The reserve is kept only where this many times as much is free.
RESERVE_HEADROOM = 8


@frozen
class Reserve:
    """The space reserved at `path`."""

    path: Path

    def keep(self) -> bool:
        """Reserve the space if plenty is free; returns whether it is reserved. Otherwise the store does without."""
        try:
            if self.path.exists():
                return True
            if shutil.disk_usage(self.path.parent).free < RESERVE_HEADROOM * RESERVE_BYTES:
                return False
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            with contextlib.suppress(AttributeError):  # not on macOS
                os.posix_fallocate(file, 0, RESERVE_BYTES)
        except OSError:
            self.give_up()
            return False
        finally:
            os.close(file)
        return True

    def give_up(self) -> bool:
        """Free the space; returns whether there was any."""
        try:
            self.path.unlink()
        except OSError:
            return False
        return True
