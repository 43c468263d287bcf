"""The last few things that were made, by key: programs take long to compile, and machine code takes much memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from agents.errors import EngineError, ModuleError

T = TypeVar("T")


class Kept(Generic[T]):
    """The last few things that were made, by key. Of threads that want the same one, one makes it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._made: dict[Hashable, T] = {}
        self._making: dict[Hashable, threading.Event] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made for this key, or is now. Raises what `make` raises, a `ModuleError` as `EngineError`."""
        while True:
            with self._lock:
                found = self._made.pop(key, None)
                if found is not None:
                    self._made[key] = found
                    return found
                other = self._making.get(key)
                if other is None:
                    mine = self._making[key] = threading.Event()
                    break
            other.wait()  # if it fails, the others try
        try:
            made = make()
            with self._lock:
                self._made[key] = made
                while len(self._made) > self._most:
                    del self._made[next(iter(self._made))]
            return made
        except ModuleError as error:
            raise EngineError(f"the module cannot be read: {error}") from None
        finally:
            with self._lock:
                del self._making[key]
            mine.set()
