"""How much time an agent may use, and how much it has used.

CPU time is that of the thread that runs the agent, including host functions, capturing and restoring its state, and of
the threads that help with these. Invariant: a clock
counts only between `start` and `stop`; `over` may be asked from any thread in between.
"""

from __future__ import annotations

import contextlib
import threading
import time

import attrs

from .errors import LimitReached


@attrs.frozen
class TimeBudget:
    """How long an agent may run, over its whole life.

    cpu_ns: nanoseconds of CPU time; None for no limit
    wall_ns: nanoseconds of wall-clock time while it runs; None for no limit
    """

    cpu_ns: int | None = None
    wall_ns: int | None = None


Budget = TimeBudget
"""What `agents` called it first; a `docking.Budget` is of what an owner permits."""


_own = getattr(time, "thread_time_ns", time.monotonic_ns)  # a browser's Python has one thread, and no clock of it


class _Help:
    """What others did for one thread."""

    ns = 0


class _Helped(threading.local):
    def __init__(self) -> None:
        self.help = _Help()


_HELPED = _Helped()


def helped(ns: int) -> None:
    """Others used so much processor time for the agent that this thread runs."""
    _HELPED.help.ns += ns


def spent_ns() -> int:
    """The processor time of this thread, and of those that helped it."""
    return _own() + _HELPED.help.ns


class UsageClock:
    """Time used, in nanoseconds: `cpu` and `wall` of all runs so far."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0
        self._cpu_at = self._wall_at = 0
        self._help = _Help()  # what is done for the running thread
        self._thread: int | None = None  # clock id of the running thread; None where there are no thread clocks

    def start(self) -> None:
        """This thread runs the agent from now on."""
        with contextlib.suppress(AttributeError, OSError):  # not on every system; a browser's Python has one that fails
            self._thread = time.pthread_getcpuclockid(threading.get_ident())
        self._wall_at = time.monotonic_ns()
        self._help = _HELPED.help
        self._cpu_at = self._processor()

    def stop(self) -> None:
        """It no longer does."""
        self.cpu += self._processor() - self._cpu_at
        self.wall += time.monotonic_ns() - self._wall_at

    def _processor(self) -> int:
        # Without thread clocks, use wall-clock time: it is never less than what was used.
        own = time.monotonic_ns() if self._thread is None else time.clock_gettime_ns(self._thread)
        return own + self._help.ns

    def over(self, budget: TimeBudget) -> LimitReached | None:
        """The limit that is used up, or None. Call it while the agent runs."""
        if budget.cpu_ns is not None and self.cpu + self._processor() - self._cpu_at >= budget.cpu_ns:
            return LimitReached("cpu", f"the agent used up its {budget.cpu_ns / 1e9:g} s of processor time")
        if budget.wall_ns is not None and self.wall + time.monotonic_ns() - self._wall_at >= budget.wall_ns:
            return LimitReached("wall", f"the agent used up its {budget.wall_ns / 1e9:g} s")
        return None

    def left(self, budget: TimeBudget) -> int | None:
        """The least time after which a limit can be used up; None if never."""
        left = []
        if budget.cpu_ns is not None:
            left.append(budget.cpu_ns - self.cpu - self._processor() + self._cpu_at)
        if budget.wall_ns is not None:
            left.append(budget.wall_ns - self.wall - time.monotonic_ns() + self._wall_at)
        return max(min(left), 0) if left else None
