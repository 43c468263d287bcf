"""The threads in which agents run, beside the event loop: few, fair, and none for an agent that waits.

A job is one turn of one agent: it ends when the agent waits, leaves, ends or is asked to suspend. An agent that
computes for longer than a slice while others queue is asked to suspend at its next loop turn, and queues again.

What an agent may use in all is enforced by its `Execution`; here is only who runs when. Invariants: at most `threads`
jobs run at once; jobs start in the order in which they came; the end of a job is handled in the event loop, a few per
step, and no job starts while many ends are unhandled, so thousands that wake together leave the loop time for others.
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

from agents.engines.native_stack import deep_threads
from docking.aio.bells import Bells
from docking.aio.failures import log_error
from docking.aio.threads import in_thread

_log = logging.getLogger(__name__)
# How long one agent may compute while another waits for a thread, seconds.
SLICE_S = 0.05
# Taking down an instance after a turn waits until the loop has handled the turn: for how long (seconds), and how many
# may wait in one thread, since each holds memory.
CLEANUP_DELAY_S, MAX_CLEANUPS = 0.002, 4
# Back-pressure: start no turn while so many finished ones are unhandled; handle so many per step of the loop.
MAX_UNHANDLED_TURNS, TURNS_PER_STEP = 16, 4
# How long closing waits for agents to suspend, seconds. One that does not resumes from its last checkpoint.
SUSPEND_TIMEOUT_S = 5.0


@define(eq=False, repr=False)
class Job:
    """One turn. `work` runs in a thread; `interrupt` asks it to end soon; `done(result, error)` runs in the loop, then
    the result's `after`, a moment later, in the thread. `dropped` runs instead if the job will not start any more.
    """

    work: Callable[[], object]
    interrupt: Callable[[], None]
    done: Callable[[Any, BaseException | None], None]
    dropped: Callable[[], None] = lambda: None
    began: float = 0.0
    asked: bool = False


@define(eq=False, repr=False)
class Workers:
    """The `threads` threads for the jobs of one event loop. They start with the first job.

    `queue`: the jobs that wait for a thread; `running`: those that have one.
    """

    threads: int
    _loop: asyncio.AbstractEventLoop | None = None
    queue: deque[Job] = field(factory=deque)
    running: set[Job] = field(factory=set)
    _untold: deque[tuple[Job, Any, BaseException | None]] = field(factory=deque)
    _telling: bool = False
    _wake: Bells = field(factory=Bells)
    _started: list[threading.Thread] = field(factory=list)
    _idle: int = 0
    _lent: int = 0
    _closing: bool = False
    _ticker: asyncio.Handle | None = None

    @property
    def busy(self) -> int:
        """Jobs that run or queue."""
        return len(self.queue) + len(self.running)

    def submit(self, job: Job) -> None:
        """Queue a job. In the event loop."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        with self._wake:
            if self._closing:
                raise RuntimeError("the workers are closed")
            self.queue.append(job)
            if self._idle:
                self._wake.wake()
            elif len(self._started) < self.threads + self._lent:
                self._start()
            elif self._ticker is None:
                self._ticker = self._loop.call_later(SLICE_S, self._tick)

    def lend(self, more: int) -> None:
        """So many more threads are to run agents, or fewer again: an agent that waits for its memory holds one."""
        with self._wake:
            self._lent += more
            if self.queue and not self._closing and not self._idle and len(self._started) < self.threads + self._lent:
                self._start()
            if more < 0:
                self._wake.wake_all()  # who is too many ends

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name=f"portcall-agent-{len(self._started) + 1}", daemon=True)
        self._started.append(thread)
        with deep_threads():
            thread.start()

    def interrupt_all(self) -> None:
        """Ask every running agent to suspend."""
        with self._wake:
            running = list(self.running)
        for job in running:
            job.interrupt()

    async def close(self) -> None:
        """Start no more jobs, wait for running ones, and end the threads. Call it after `interrupt_all`."""
        with self._wake:
            self._closing = True
            dropped = list(self.queue)
            self.queue.clear()
            self._wake.wake_all()
        if self._ticker is not None:
            self._ticker.cancel()
        for job in dropped:
            job.dropped()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SUSPEND_TIMEOUT_S
        for thread in self._started:
            await in_thread(thread.join, max(0.0, deadline - loop.time()))
        late = sum(thread.is_alive() for thread in self._started)
        if late:
            _log.warning("%d agents did not suspend in time: they go on from where they were stored last", late)
        while self._untold:
            self._tell()

    def _tick(self) -> None:
        """While jobs queue, interrupt those that have had their slice."""
        self._ticker = None
        now = time.monotonic()
        with self._wake:
            if not self.queue:
                return
            over = [job for job in self.running if not job.asked and now - job.began >= SLICE_S]
        for job in over:
            job.asked = True
            job.interrupt()
        assert self._loop is not None
        self._ticker = self._loop.call_later(SLICE_S, self._tick)

    def _tell(self) -> None:
        """Handle the end of some turns; the others after the loop's other work."""
        for _ in range(TURNS_PER_STEP):
            with self._wake:
                if not self._untold:
                    self._telling = False
                    return
                job, result, error = self._untold.popleft()
                if len(self._untold) == MAX_UNHANDLED_TURNS - 1:
                    self._wake.wake_all()
            try:
                job.done(result, error)
            except Exception as error:
                log_error("the end of a turn could not be followed", error)
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
            job = self._next(CLEANUP_DELAY_S if afters else None)
            if job is None and not afters and self._retire():
                return
            if afters and (job is None or len(afters) >= MAX_CLEANUPS):
                try:
                    afters.popleft()()
                except BaseException as raised:  # a thread must outlive this too
                    log_error("what is done after a turn failed", raised)
            if job is None:
                if self._closing and not afters:
                    return
                continue
            after = self._turn(job)
            if after is not None:
                afters.append(after)
            del job, after  # a thread that waits for the next must not keep this one's agent

    @property
    def _too_many(self) -> bool:
        return len(self._started) > self.threads + self._lent

    def _retire(self) -> bool:
        """Whether this thread is one too many; it ends then."""
        with self._wake:
            if self._too_many and not self._closing:
                self._started.remove(threading.current_thread())
                return True
            return False

    def _turn(self, job: Job) -> Callable[[], None] | None:
        """Do a job; what is to be done after it."""
        result, error = None, None
        try:
            result = job.work()
        except BaseException as raised:  # raised in the loop: a thread must outlive its jobs
            error = raised
        with self._wake:
            self.running.discard(job)
            self._untold.append((job, result, error))
            telling, self._telling = self._telling, True
        assert self._loop is not None
        if not telling:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
                self._loop.call_soon_threadsafe(self._tell)
        try:
            return getattr(result, "after", None)
        finally:
            del error  # else it and this frame keep each other

    def _next(self, patience: float | None) -> Job | None:
        """The next job; None when there is none within `patience` seconds, or when the workers are closed."""
        with self._wake:
            while self._too_many or not self.queue or len(self._untold) >= MAX_UNHANDLED_TURNS:
                if self._closing:
                    return None
                if self._too_many:
                    self._wake.wake()  # whoever woke this one has something to do
                    return None
                self._idle += 1
                woken = self._wake.wait(patience)
                self._idle -= 1
                if not woken:
                    return None
            job = self.queue.popleft()
            job.began = time.monotonic()
            self.running.add(job)
            return job
