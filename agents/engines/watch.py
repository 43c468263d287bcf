"""A thread that calls actions at given times: it stops agents that do not return by themselves.

One per engine, started on first use; it sleeps in between. Actions are short and must not raise.
Invariant: an action that is cancelled before its time is not called.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

WatchAction = Callable[[], None]


class Alarm:
    """An action at a time (monotonic nanoseconds), and again every `again` nanoseconds, unless that is 0."""

    __slots__ = ("action", "again", "number", "when")

    def __init__(self, when: int, number: int, action: WatchAction, again: int) -> None:
        self.when, self.number, self.action, self.again = when, number, action, again

    def __lt__(self, other: Alarm) -> bool:
        return (self.when, self.number) < (other.when, other.number)

    def cancel(self) -> None:
        """Do not call it any more."""
        self.action = _nothing


def _nothing() -> None:
    return None


class Watch:
    """The thread and its pending actions."""

    def __init__(self) -> None:
        self._alarms: list[Alarm] = []
        self._numbers = itertools.count()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def after(self, nanoseconds: int, action: WatchAction, again: int = 0) -> Alarm:
        """Call `action` this long from now, in the watch's thread; then again every `again` nanoseconds, unless 0."""
        alarm = Alarm(time.monotonic_ns() + nanoseconds, next(self._numbers), action, again)
        with self._wake:
            heapq.heappush(self._alarms, alarm)
            if self._thread is None or not self._thread.is_alive():  # a forked child has no thread
                self._thread = threading.Thread(target=self._run, name="portcall-watch", daemon=True)
                self._thread.start()
            if self._alarms[0] is alarm:
                self._wake.notify()
        return alarm

    def _run(self) -> None:
        while True:
            with self._wake:
                while self._alarms and self._alarms[0].action is _nothing:
                    heapq.heappop(self._alarms)
                if not self._alarms:
                    self._wake.wait()
                    continue
                early = self._alarms[0].when - time.monotonic_ns()
                if early > 0:
                    self._wake.wait(early / 1e9)
                    continue
                alarm = heapq.heappop(self._alarms)
                if alarm.again:
                    alarm.when = time.monotonic_ns() + alarm.again
                    heapq.heappush(self._alarms, alarm)
            alarm.action()
