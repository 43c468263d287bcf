"""When a running agent has to leave, and how it is told: on request, at the end of its budget, or interrupted.

It is told in three ways: by the poll flag, a word in the memory of its frames that its loops check; at
its next call of a suspending import; and, if it reaches neither in time, by the engine's interruption,
which ends it.

Not here: what happens to it then (`agents.execution`). Invariants: the flag is written only while its memory exists,
under the lock; `ask` and `interrupt` may be called from any thread and from a signal handler.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from .budget import TimeBudget, UsageClock
from .engines import Engine, Instance, Program
from .engines.watch import Alarm
from .errors import LimitReached
from .interruption import Interruption

T = TypeVar("T")

FRAMES_EXPORT = "portcall.frames"
_GRACE = 50_000_000  # ns to reach a poll once the budget is used up, before the agent is stopped hard
# ns until the clocks are first checked. Output that was taken without Python is shown then, and a keyboard interrupt
# is noticed.
_HEARTBEAT = 40_000_000
_AGAIN = 10_000_000  # ns between later checks


class Preemption:
    """Wraps all running code of one agent."""

    def __init__(self, engine: Engine, program: Program, budget: TimeBudget) -> None:
        self.budget = budget
        self.clock = UsageClock()
        self.always = False  # leave at every opportunity
        self.asked = False
        self.spent: LimitReached | None = None
        self.depth = 0  # depth of nested calls of the agent's exports
        self._lock = threading.RLock()  # reentrant: `ask` may run in a signal handler
        self._flag: Callable[[bool], None] | None = None  # sets the poll flag, while it may be set
        self._patience = 0  # until when an agent whose budget is used up may reach a poll
        me = weakref.proxy(self)  # avoids a cycle, as in `Execution`
        self._interruption = Interruption(lambda: me._raise_flag())
        self.use(engine, program)

    def use(self, engine: Engine, program: Program) -> None:
        """Watch this program from now on."""
        self._engine, self._program = engine, program
        self._polls = FRAMES_EXPORT in program.exports and "portcall.state" in program.exports

    def ask(self) -> None:
        """Ask the agent to suspend."""
        with self._lock:
            self.asked = True
            self._raise_flag()

    def interrupt(self) -> None:
        """Have the code that runs the agent raise `KeyboardInterrupt`."""
        self._interruption.note()

    @contextmanager
    def run(self) -> Iterator[None]:
        """Wraps one run: the clocks run; the end of the run, whatever it is, settles any request to suspend.

        Raises `KeyboardInterrupt` at its end, or when agent code in it ends, if one came meanwhile.
        """
        self.spent = None
        self.clock.start()
        self._interruption.hold()
        try:
            yield
        finally:
            self.asked = False
            self.clock.stop()
            self._interruption.release()

    @contextmanager
    def preparation(self) -> Iterator[None]:
        """Wraps the work before a run: the clocks run, and requests made meanwhile apply to the run."""
        self.clock.start()
        try:
            yield
        finally:
            self.clock.stop()

    @property
    def due(self) -> bool:
        """Whether the agent has to leave."""
        return self.asked or self.always or self.spent is not None or self._interruption.noted

    def check(self) -> None:
        """Raises `LimitReached` if the budget is used up."""
        if (over := self.clock.over(self.budget)) is not None:
            try:
                raise over
            finally:
                del over  # else it and this frame keep each other, and the agent with them

    def guest(self, code: Callable[[], T], instance: Instance | None, depth: int = 1) -> T:
        """Run agent code, watched and with the poll flag set up. At any depth but 1 it cannot unwind."""
        outer, self.depth = self.depth, depth
        alarm = self._watch()
        try:
            if depth == 1 and instance is not None:
                self._reach(instance)
            return code()
        finally:
            self.depth = outer
            self.forget()
            if alarm is not None:
                alarm.cancel()
            self._interruption.check()

    def nested(self, code: Callable[[], T], instance: Instance) -> T:
        """Run agent code inside a host function: no poll may unwind through that."""
        with self._lock:
            flag, self._flag = self._flag, None
            if flag is not None:
                flag(False)
        self.depth += 1
        try:
            return code()
        finally:
            self.depth -= 1
            if flag is not None:
                self._reach(instance)

    def forget(self) -> None:
        """Stop writing the flag: its memory may be freed."""
        with self._lock:
            self._flag = None

    def tick(self) -> None:
        """Called in the agent's thread, between two of its instructions. Raises what ends the agent."""
        self._interruption.check()
        if self.due:  # a signal handler may have asked just before the flag was cleared
            self._raise_flag()
        if self.clock.over(self.budget) is None:
            return
        self._overdue()
        if not self._polls or self.depth != 1 or time.monotonic_ns() > self._patience:
            self.check()

    def _reach(self, instance: Instance) -> None:
        if self._polls:
            with self._lock:
                self._flag = instance.flag(FRAMES_EXPORT)
                self._flag(self.due)

    def _raise_flag(self) -> None:
        if self._flag is not None:
            self._flag(True)

    def _watch(self) -> Alarm | None:
        """Check the clocks when the budget may be used up, and repeatedly from then on.

        An engine may miss an interruption that arrives while it handles the previous one, so one is not enough.
        """
        left = self.clock.left(self.budget)
        if self._program.interruptible:
            first = _HEARTBEAT if left is None else min(left, _HEARTBEAT)
            return self._engine.watch.after(first, self._program.interrupt, _AGAIN)
        if left is not None and self._polls:
            return self._engine.watch.after(left, self._overdue, _AGAIN)
        return None

    def _overdue(self) -> None:
        """Make the agent leave at its next poll if its budget is used up. Thread-safe."""
        over = self.clock.over(self.budget)
        if over is not None:
            with self._lock:
                if self.spent is None:
                    self.spent, self._patience = over, time.monotonic_ns() + _GRACE
                self._raise_flag()
