"""The kinds of event loops that stations run in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop]
try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment]
else:
    LOOPS.append(uvloop.new_event_loop)

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def kind(make: Callable[[], asyncio.AbstractEventLoop]) -> str:
    """The name of one kind."""
    return make.__module__.partition(".")[0]


def run(make: Callable[[], asyncio.AbstractEventLoop], main: Coroutine[Any, Any, Any], seconds: float = 60.0) -> Any:
    """Run a coroutine in a loop of one kind, as `asyncio.run` does."""
    loop = make()
    try:
        return loop.run_until_complete(asyncio.wait_for(main, seconds))
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
