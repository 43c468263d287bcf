"""Awaiting with a timeout.

Replaces `asyncio.wait_for`. Up to Python 3.11, that returns its result when it arrives in the same step in which the
caller is cancelled: the cancellation is lost, and a task that was to end goes on for ever. Invariants: a
cancellation of the caller always gets through; a result that nobody takes is not lost but passed to `lost`; work
that does not stop delays nobody.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from docking.aio.failures import describe_error

_log = logging.getLogger(__name__)
# How often a task is cancelled before it is given up.
CANCEL_TRIES = 4

T = TypeVar("T")


async def within(
    seconds: float | None, work: Coroutine[object, object, T], lost: Callable[[T], object] = lambda result: None
) -> T:
    """The result of `work` if it comes within `seconds` (None: no limit); then `work` is cancelled and abandoned.

    `lost(result)` is called with a result that comes after that or after the caller was cancelled, for example to close
    a connection. Raises what `work` raises, `asyncio.TimeoutError`, and RuntimeError if `work` was cancelled inside.
    """
    task = asyncio.get_running_loop().create_task(work)
    taken = False
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise asyncio.TimeoutError
        taken = True
    finally:
        if not taken:
            task.cancel()
            task.add_done_callback(functools.partial(_left, lost))
    if task.cancelled():
        raise RuntimeError("what was waited for was cancelled from inside")
    return task.result()


async def ended(tasks: Iterable[asyncio.Future[Any]], seconds: float = 2.0) -> None:
    """Cancel tasks and wait until they have ended, for at most `seconds`.

    Cancels more than once, since foreign code may swallow a cancellation. Tasks that do not end are named in the log.
    """
    left = set(tasks)
    for _ in range(CANCEL_TRIES):
        for task in left:
            task.cancel()
        if left:
            done, left = await asyncio.wait(left, timeout=seconds / CANCEL_TRIES)
            for task in done:
                if not task.cancelled():
                    task.exception()  # retrieved; whoever started the task logs it
    for task in left:
        work = getattr(task, "get_coro", lambda: None)()
        _log.warning("%s does not end, and is not waited for", getattr(work, "__qualname__", "work"))


def _left(lost: Callable[[T], object], task: asyncio.Task[T]) -> None:
    if task.cancelled():
        return
    if (error := task.exception()) is not None:
        _log.info("work that was given up failed: %s", describe_error(error))
    else:
        lost(task.result())
