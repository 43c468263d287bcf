"""What an agent may use of time, and what it used.

Processor time is that of the thread that runs the agent, host functions included. Invariant: a clock
counts only between `start` and `stop`; `over` may be asked from any thread in between.
"""

from __future__ import annotations

import threading
import time

import attrs

from .errors import LimitReached


@attrs.frozen
class Budget:
    """Nanoseconds of processor time and of time on the wall, for the whole life; None is no limit."""

    cpu_ns: int | None = None
    wall_ns: int | None = None


class Clock:
    """Time used, in nanoseconds: `cpu` and `wall` of all runs until now."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0
        self._cpu_at = self._wall_at = 0
        self._thread: int | None = None  # clock id of the thread that runs; None where there are none

    def start(self) -> None:
        """This thread runs the agent from now on."""
        if hasattr(time, "pthread_getcpuclockid"):
            self._thread = time.pthread_getcpuclockid(threading.get_ident())
        self._wall_at = time.monotonic_ns()
        self._cpu_at = self._processor()

    def stop(self) -> None:
        """It does not any more."""
        self.cpu += self._processor() - self._cpu_at
        self.wall += time.monotonic_ns() - self._wall_at

    def _processor(self) -> int:
        # Without thread clocks, time on the wall stands in: never less than what was used.
        return time.monotonic_ns() if self._thread is None else time.clock_gettime_ns(self._thread)

    def over(self, budget: Budget) -> LimitReached | None:
        """What is used up, while the agent runs."""
        if budget.cpu_ns is not None and self.cpu + self._processor() - self._cpu_at >= budget.cpu_ns:
            return LimitReached("cpu", f"the agent used up its {budget.cpu_ns / 1e9:g} s of processor time")
        if budget.wall_ns is not None and self.wall + time.monotonic_ns() - self._wall_at >= budget.wall_ns:
            return LimitReached("wall", f"the agent used up its {budget.wall_ns / 1e9:g} s")
        return None

    def left(self, budget: Budget) -> int | None:
        """The least time after which something can be used up; None for never."""
        left = []
        if budget.cpu_ns is not None:
            left.append(budget.cpu_ns - self.cpu - self._processor() + self._cpu_at)
        if budget.wall_ns is not None:
            left.append(budget.wall_ns - self.wall - time.monotonic_ns() + self._wall_at)
        return max(min(left), 0) if left else None
