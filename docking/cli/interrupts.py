"""Defers Ctrl-C while a command is being imported, until the command starts.

Interrupting an import would leave a half-imported module, and `run --suspend-to` still has a snapshot to write.
Invariant: only the default handler of the main thread is replaced, and it is restored.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

pressed = False
"""Whether Ctrl-C was pressed while it was deferred."""


def hold() -> None:
    """From now on Ctrl-C only sets `pressed`. Does nothing if Ctrl-C already has another handler."""
    default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if default and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _note)


def release() -> bool:
    """Let Ctrl-C interrupt again. Returns whether it was pressed meanwhile."""
    global pressed
    if signal.getsignal(signal.SIGINT) is _note:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    was, pressed = pressed, False
    return was


def _note(number: int, frame: FrameType | None) -> None:
    global pressed
    if pressed:  # pressed twice: the user insists
        raise KeyboardInterrupt
    pressed = True
