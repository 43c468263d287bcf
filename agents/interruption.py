"""Ctrl-C while an agent's code runs in the main thread.

Python's own handler raises `KeyboardInterrupt` wherever it happens to run. That may be the first line of a
callback from an engine, before any `try`: there it would be printed and lost, and an agent in an endless
loop could not be stopped. So while agent code runs, the signal is noted, and raised where it cannot be lost.
See docs/adr/callbacks-through-cffi.

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
        """Install the handler. Does nothing outside the main thread, or where the program has its own handler."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.default_int_handler
            signal.signal(signal.SIGINT, lambda number, frame: self.note())

    def release(self) -> None:
        """Restore the previous handler. Raises `KeyboardInterrupt` if one was noted."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
        self.check()

    def check(self) -> None:
        """Raises `KeyboardInterrupt` if one was noted."""
        if self.noted:
            self.noted = False
            raise KeyboardInterrupt

    def note(self) -> None:
        """Note a keyboard interrupt."""
        self.noted = True
        self._tell()
