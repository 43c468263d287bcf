"""Threads in which agents run, beside the event loop: few, fair, and none for an agent that waits.

A job is one turn of one agent: it ends when the agent waits, leaves, ends or is asked to suspend. An agent that
computes for longer than a slice while others queue is asked to suspend at its next loop turn, and queues again.

What an agent may use in all is enforced by its `Life`; here is only who runs now. Invariants: at most `threads`
jobs run at once; jobs start in the order in which they came; a job's end is told in the event loop, a few at a time,
and none begins while many are still to be told: thousands that wake together leave the loop time for everybody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define, field

_log = logging.getLogger(__name__)
# Seconds that one agent computes while another waits for a thread.
SLICE = 0.05
# What is to be done after a turn (an instance is taken down) waits until the loop has gone on from it: seconds, and how
# many may wait in one thread, since each holds memory.
AFTER, AFTERS = 0.002, 4
# Ends of turns that the loop has not heard of yet, when no other turn begins; and those that it hears in one step.
UNTOLD, TOLD = 16, 4
# Seconds for which agents that were asked to suspend are waited for at the end; one that does not will go on from where
# it was stored last.
SUSPENDED_WITHIN = 10.0


@define(eq=False)
class Job:
    """One turn. `work` runs in a thread; `interrupt` asks it to end soon; `done(result, error)` runs in the loop, and
    what the result names `after` a moment later in the thread. `dropped` runs instead if it will not begin any more.
    """

    work: Callable[[], Any]
    interrupt: Callable[[], None]
    done: Callable[[Any, BaseException | None], None]
    dropped: Callable[[], None] = lambda: None
    began: float = 0.0
    asked: bool = False


@define(eq=False)
class Workers:
    """`threads` threads for the jobs of one event loop. They are started when the first job comes."""

    threads: int
    _loop: asyncio.AbstractEventLoop | None = None
    _queue: deque[Job] = field(factory=deque)
    _running: set[Job] = field(factory=set)
    _untold: deque[tuple[Job, Any, BaseException | None]] = field(factory=deque)
    _telling: bool = False
    _wake: threading.Condition = field(factory=threading.Condition)
    _started: list[threading.Thread] = field(factory=list)
    _idle: int = 0
    _closing: bool = False
    _ticker: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> int:
        """Jobs that run or queue."""
        return len(self._queue) + len(self._running)

    def submit(self, job: Job) -> None:
        """Queue a job. In the event loop."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        with self._wake:
            if self._closing:
                raise RuntimeError("the workers are closed")
            self._queue.append(job)
            if self._idle:
                self._wake.notify()
            elif len(self._started) < self.threads:
                number = len(self._started) + 1
                thread = threading.Thread(target=self._work, name=f"portcall-agent-{number}", daemon=True)
                self._started.append(thread)
                thread.start()
            elif self._ticker is None:
                self._ticker = self._loop.call_later(SLICE, self._tick)

    def interrupt_all(self) -> None:
        """Ask every running agent to suspend."""
        with self._wake:
            running = list(self._running)
        for job in running:
            job.interrupt()

    async def close(self) -> None:
        """Begin no more jobs, wait for those that run, and end the threads. To be called after `interrupt_all`."""
        with self._wake:
            self._closing = True
            dropped = list(self._queue)
            self._queue.clear()
            self._wake.notify_all()
        if self._ticker is not None:
            self._ticker.cancel()
        for job in dropped:
            job.dropped()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SUSPENDED_WITHIN
        for thread in self._started:
            await loop.run_in_executor(None, thread.join, max(0.0, deadline - loop.time()))
        late = sum(thread.is_alive() for thread in self._started)
        if late:
            _log.warning("%d agents did not suspend in time: they go on from where they were stored last", late)
        while self._untold:
            self._tell()

    def _tick(self) -> None:
        """While jobs queue: those that have had their slice make room."""
        self._ticker = None
        now = time.monotonic()
        with self._wake:
            if not self._queue:
                return
            over = [job for job in self._running if not job.asked and now - job.began >= SLICE]
        for job in over:
            job.asked = True
            job.interrupt()
        assert self._loop is not None
        self._ticker = self._loop.call_later(SLICE, self._tick)

    def _tell(self) -> None:
        """Tell how some turns ended; the others after what else the loop has to do."""
        for _ in range(TOLD):
            with self._wake:
                if not self._untold:
                    self._telling = False
                    return
                job, result, error = self._untold.popleft()
                if len(self._untold) == UNTOLD - 1:
                    self._wake.notify_all()
            try:
                job.done(result, error)
            except Exception:
                _log.exception("the end of a turn could not be followed")
        with self._wake:
            if not self._untold:
                self._telling = False
                return
        assert self._loop is not None
        self._loop.call_soon(self._tell)

    # In the threads

    def _work(self) -> None:
        afters: deque[Callable[[], None]] = deque()
        while True:
            job = self._next(AFTER if afters else None)
            if afters and (job is None or len(afters) >= AFTERS):
                afters.popleft()()
            if job is None:
                if self._closing and not afters:
                    return
                continue
            result, error = None, None
            try:
                result = job.work()
            except BaseException as raised:  # told in the loop: a thread must outlive its jobs
                error = raised
            after = getattr(result, "after", None)
            if after is not None:
                afters.append(after)
            with self._wake:
                self._running.discard(job)
                self._untold.append((job, result, error))
                telling, self._telling = self._telling, True
            assert self._loop is not None
            if not telling:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    self._loop.call_soon_threadsafe(self._tell)

    def _next(self, patience: float | None) -> Job | None:
        """The next job; None when there is none for so long (seconds), or when the workers are closed."""
        with self._wake:
            while not self._queue or len(self._untold) >= UNTOLD:
                if self._closing:
                    return None
                self._idle += 1
                woken = self._wake.wait(patience)
                self._idle -= 1
                if not woken:
                    return None
            job = self._queue.popleft()
            job.began = time.monotonic()
            self._running.add(job)
            return job
