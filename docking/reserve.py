"""Room that a store keeps for the day on which its disk is full: by then agents must still be able to end and to leave.

A file of its own, given up when the store meets a full disk, and made again when there is room. Not a quota: who fills
the disk is no business of it. Invariant: what is kept was really allotted, so giving it up makes room.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from attrs import frozen

# Bytes: some hundred small transactions, after which what was deleted can be used again.
SIZE = 4 << 20
# It is kept only where this many times as much is free.
PLENTY = 8


@frozen
class Reserve:
    """The room kept at `path`."""

    path: Path

    def keep(self) -> bool:
        """Keep it, if there is plenty; whether it is kept. Where there is not, the store does without."""
        try:
            if self.path.exists():
                return True
            if shutil.disk_usage(self.path.parent).free < PLENTY * SIZE:
                return False
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            with contextlib.suppress(AttributeError):  # not on macOS
                os.posix_fallocate(file, 0, SIZE)
        except OSError:
            self.give_up()
            return False
        finally:
            os.close(file)
        return True

    def give_up(self) -> bool:
        """Make room; whether there was something to give up."""
        try:
            self.path.unlink()
        except OSError:
            return False
        return True
