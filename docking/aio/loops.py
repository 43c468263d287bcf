"""The event loop of a program that is a station: uvloop where it can be installed, otherwise asyncio's own.

uvloop takes a twentieth off every hop (docs/topics/performance; docs/adr/uvloop-for-programs).
docs/adr/two-event-loops lists how the two differ, and how we handle that. Stations inside other programs run in the
existing loop and leave its exception handler alone. Invariant: an exception that escapes from a callback becomes a log
line, and the loop goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from docking.aio.failures import log_loop_error

try:
    from uvloop import new_event_loop as _new_loop
    from uvloop import run as _run
except ImportError:  # Windows, and Pythons without wheels
    from asyncio import new_event_loop as _new_loop  # type: ignore[assignment]
    from asyncio import run as _run  # type: ignore[assignment]

__all__ = ["new_loop", "run_loop"]
T = TypeVar("T")


def new_loop() -> asyncio.AbstractEventLoop:
    """A new loop, for a thread of its own."""
    loop = _new_loop()
    loop.set_exception_handler(log_loop_error)
    return loop


def run_loop(main: Coroutine[object, object, T]) -> T:
    """Run a program; returns the result of `main`."""

    async def handled() -> T:
        asyncio.get_running_loop().set_exception_handler(log_loop_error)
        return await main

    return _run(handled())
