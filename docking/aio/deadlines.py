"""One thing to do later for each of many names, on one timer of the event loop.

Thousands of agents may sleep at a station: a timer of the loop for each would take 750 bytes under uvloop, and no loop
waits for more than some weeks. Invariants: nothing is called early; who was stopped is not called; the loop goes on
between the calls when many are due at once.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable

from attrs import define, field

from docking.aio.timers import call_at

# Seconds for which others wait while calls are made; and for which the loop's own timer is set at most.
AT_ONCE_S, LONGEST_S = 0.005, 86_400.0
_Entry = tuple[float, int, bytes, Callable[..., object], tuple[object, ...]]


@define(eq=False, repr=False)
class Deadlines:
    """What is to be done, by name. Use it in the thread of a running loop."""

    _entries: dict[bytes, _Entry] = field(factory=dict)
    _heap: list[_Entry] = field(factory=list)
    """All entries, and some that count no more."""
    _number: int = 0
    _timer: asyncio.Handle | None = None
    _due: float = 0.0
    _calling: bool = False

    def __contains__(self, name: bytes) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def start(self, name: bytes, seconds: float, callback: Callable[..., object], *args: object) -> None:
        """Call `callback(*args)` in so many seconds, instead of what was to be done for this name."""
        loop = asyncio.get_running_loop()
        self._number += 1
        entry = (loop.time() + max(0.0, seconds), self._number, name, callback, args)
        self.stop(name)
        self._entries[name] = entry
        heapq.heappush(self._heap, entry)
        if not self._calling and (self._timer is None or entry[0] < self._due):
            self._set(loop, entry[0])

    def stop(self, name: bytes) -> None:
        """Do nothing for this name."""
        if self._entries.pop(name, None) is not None and len(self._heap) > 2 * len(self._entries) + 64:
            self._heap = list(self._entries.values())
            heapq.heapify(self._heap)

    def close(self) -> None:
        """Do nothing any more."""
        self._entries.clear()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = min(due, loop.time() + LONGEST_S)
        self._timer = call_at(loop, self._due, self._call)

    def _call(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer, until, self._calling = None, time.perf_counter() + AT_ONCE_S, True
        try:
            while self._heap and self._heap[0][0] <= loop.time():
                entry = heapq.heappop(self._heap)
                _, _, name, callback, args = entry
                if self._entries.get(name) is not entry:
                    continue
                del self._entries[name]
                try:
                    callback(*args)
                except Exception as error:  # one of thousands: the others are not to wait for ever
                    loop.call_exception_handler({"message": "a call at its time failed", "exception": error})
                if time.perf_counter() >= until:  # `loop.time()` may stand still meanwhile
                    break
        finally:
            self._calling = False
            if self._heap:
                self._set(loop, self._heap[0][0])
