"""Ctrl-C while an agent's code runs in the main thread.

Python's own handler raises `KeyboardInterrupt` wherever it is called. That may be the first line of a
callback from an engine, before any `try`: there it would be printed and lost, and an agent in an endless
loop could not be stopped. So while agent code runs, the signal is noted, and raised where nothing is lost.

Not a handler of its own: where the program has set one (as asyncio does), this does nothing.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

Handler = Callable[[int, FrameType | None], object]


class Interruption:
    """Between `hold` and `release`, a keyboard interrupt is `noted` instead of raised."""

    __slots__ = ("_before", "_tell", "noted")

    def __init__(self, tell: Callable[[], None]) -> None:
        """`tell` is called in the signal handler; it must not raise."""
        self._tell = tell
        self._before: Handler | None = None
        self.noted = False

    def hold(self) -> None:
        """In a thread other than the main one, or under a handler of the program's, nothing happens."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.default_int_handler
            signal.signal(signal.SIGINT, lambda number, frame: self.note())

    def release(self) -> None:
        """As it was before `hold`. Raises `KeyboardInterrupt` when one was noted."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
        self.check()

    def check(self) -> None:
        """Raises `KeyboardInterrupt` when one was noted."""
        if self.noted:
            self.noted = False
            raise KeyboardInterrupt

    def note(self) -> None:
        """A keyboard interrupt came."""
        self.noted = True
        self._tell()
