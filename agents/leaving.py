"""When a running agent has to leave, and how it is told: asked for, budget used up, or interrupted.

It is told in three ways: by the poll flag, a word in the memory of its frames that its loops look at; at
its next call of a suspending import; and, if it reaches neither in time, by the engine's interruption,
which ends it.

Not what then happens to it (`agents.life`). Invariants: the flag is written only while its memory exists,
under the lock; `ask` and `interrupt` may be called from any thread and from a signal handler.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from .budget import Budget, Clock
from .engines import Engine, Instance, Program
from .engines.watch import Alarm
from .errors import LimitReached
from .interruption import Interruption

T = TypeVar("T")

FRAMES = "portcall.frames"
_GRACE = 50_000_000  # ns to reach a poll when the budget is used up, before the agent is stopped hard
_HEARTBEAT = 100_000_000  # ns until the first look at the clocks: an interrupt from the keyboard is seen then
_AGAIN = 10_000_000  # ns between looks after the first


class Leaving:
    """Around all code of one agent that runs."""

    def __init__(self, engine: Engine, program: Program, budget: Budget) -> None:
        self.budget = budget
        self.clock = Clock()
        self.always = False  # at every opportunity
        self.asked = False
        self.spent: LimitReached | None = None
        self.depth = 0  # exports of the agent that are being called, one inside the other
        self._lock = threading.RLock()  # again by the same thread: `ask` in a signal handler
        self._flag = 0  # address of the poll flag, while it can be written
        self._patience = 0  # until when an agent whose budget is used up may reach a poll
        self._interruption = Interruption(self._raise_flag)
        self.use(engine, program)

    def use(self, engine: Engine, program: Program) -> None:
        """From now on the agent is this program."""
        self._engine, self._program = engine, program
        self._polls = FRAMES in program.exports and "portcall.state" in program.exports

    def ask(self) -> None:
        """The agent shall suspend."""
        with self._lock:
            self.asked = True
            self._raise_flag()

    def interrupt(self) -> None:
        """What runs the agent shall raise `KeyboardInterrupt`."""
        self._interruption.note()

    @contextmanager
    def run(self) -> Iterator[None]:
        """Around one run: the clocks go; what was asked for is met by its end, whatever that is.

        Raises `KeyboardInterrupt` at its end, or at that of agent code in it, when one came meanwhile.
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
        """Around what is done before a run: the clocks go, and what is asked for meanwhile is for the run."""
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
        """Raises `LimitReached` when the budget is used up."""
        over = self.clock.over(self.budget)
        if over is not None:
            raise over

    def guest(self, code: Callable[[], T], instance: Instance | None, depth: int = 1) -> T:
        """Run agent code, watched, with the poll flag within reach. At another depth than 1 it cannot unwind."""
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
            flag, self._flag = self._flag, 0
            if flag:
                _write(flag, False)
        self.depth += 1
        try:
            return code()
        finally:
            self.depth -= 1
            if flag:
                self._reach(instance)

    def forget(self) -> None:
        """The flag is out of reach: its memory may go."""
        with self._lock:
            self._flag = 0

    def tick(self) -> None:
        """In the agent's thread, between two of its instructions. Raises what ends it."""
        self._interruption.check()
        if self.due:  # a signal handler may have asked just before the flag was set to the contrary
            self._raise_flag()
        over = self.clock.over(self.budget)
        if over is None:
            return
        self._overdue()
        if not self._polls or self.depth != 1 or time.monotonic_ns() > self._patience:
            raise over

    def _reach(self, instance: Instance) -> None:
        if self._polls:
            with self._lock:
                self._flag = instance.memory_address(FRAMES)
                _write(self._flag, self.due)

    def _raise_flag(self) -> None:
        if self._flag:
            _write(self._flag, True)

    def _watch(self) -> Alarm | None:
        """Look at the clocks when the budget may be used up, and again and again from then on.

        An engine may miss an interruption that falls into the answer to the one before, so one is not enough.
        """
        left = self.clock.left(self.budget)
        if self._program.interruptible:
            first = _HEARTBEAT if left is None else min(left, _HEARTBEAT)
            return self._engine.watch.after(first, self._program.interrupt, _AGAIN)
        if left is not None and self._polls:
            return self._engine.watch.after(left, self._overdue, _AGAIN)
        return None

    def _overdue(self) -> None:
        """Have the agent leave at its next poll if its budget is used up. From any thread."""
        over = self.clock.over(self.budget)
        if over is not None:
            with self._lock:
                if self.spent is None:
                    self.spent, self._patience = over, time.monotonic_ns() + _GRACE
                self._raise_flag()


def _write(address: int, raised: bool) -> None:
    ctypes.c_uint32.from_address(address).value = raised
