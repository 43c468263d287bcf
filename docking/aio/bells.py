"""A lock under which threads wait to be woken. The last one to wait is woken first, since its caches are warm.

Like `threading.Condition`, which wakes the longest waiter and takes more steps to do it. Invariant: as many
threads are woken as were asked for, if so many wait; one whose timeout ends at that moment counts as woken.
"""

from __future__ import annotations

import threading


class Bells:
    """The lock, as a context manager, and its waiters. Call all methods with the lock held."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waiting: list[threading.Lock] = []
        """One for each that waits, the last to come at the end."""

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def wait(self, patience: float | None) -> bool:
        """Release the lock until woken, or for `patience` seconds; returns whether it was woken."""
        bell = threading.Lock()
        bell.acquire()
        self.waiting.append(bell)
        self._lock.release()
        try:
            bell.acquire(timeout=-1 if patience is None else patience)
        finally:
            self._lock.acquire()
            woken = bell not in self.waiting
            if not woken:
                self.waiting.remove(bell)
        return woken

    def wake(self) -> None:
        """Wake one waiter, if there is one."""
        if self.waiting:
            self.waiting.pop().release()

    def wake_all(self) -> None:
        """Wake all waiters."""
        while self.waiting:
            self.waiting.pop().release()
