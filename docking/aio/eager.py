"""Starts work at once, in the current step of the event loop, and makes a task only for what has to wait.

Most of what a station does for one message never waits, and a task would start it one loop iteration later. CPython
3.12 and later can do that (`eager_start`); for older ones, this module steps the coroutine up to its first wait. Why:
docs/adr/begun-at-once-and-looked-out-for.

Invariant: whatever the work does or raises, the caller gets a future, and goes on. On CPython 3.11 and older there
is no current task before the first wait: do not start work that needs one (`asyncio.timeout`) in this way.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


def start_eagerly(work: Coroutine[object, object, T], loop: asyncio.AbstractEventLoop) -> asyncio.Future[T]:
    """Run `work` up to its first wait, and the rest as a task. Call it within a step of `loop`."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, eager_start=True)
    return _begin(work, loop)


def when_done(future: asyncio.Future[T], callback: Callable[[asyncio.Future[T]], object]) -> None:
    """Call back when `future` is done: at once if it already is, instead of one loop iteration later."""
    if future.done():
        callback(future)
    else:
        future.add_done_callback(callback)


def _begin(work: Coroutine[object, object, T], loop: asyncio.AbstractEventLoop) -> asyncio.Future[T]:
    try:
        waits_for = work.send(None)
    except StopIteration as end:
        done: asyncio.Future[T] = loop.create_future()
        done.set_result(end.value)
        return done
    except (KeyboardInterrupt, SystemExit):  # as a task would
        raise
    except BaseException as error:
        failed: asyncio.Future[T] = loop.create_future()
        if isinstance(error, asyncio.CancelledError):
            failed.cancel()
        else:
            failed.set_exception(error)
        return failed
    return loop.create_task(_Rest(work, waits_for))


class _Rest(Coroutine[object, object, T]):
    """A coroutine after its first wait. A task that runs it first receives the future that it waits for."""

    def __init__(self, work: Coroutine[object, object, T], waits_for: Any) -> None:
        self._work = work
        self._waits_for: list[Any] = [waits_for]
        self.__qualname__ = getattr(work, "__qualname__", "work")

    def send(self, value: Any) -> Any:
        return self._waits_for.pop() if self._waits_for else self._work.send(value)

    def throw(self, *error: Any) -> Any:
        self._waits_for.clear()
        return self._work.throw(*error)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, T]:
        raise NotImplementedError("a task takes it, and nobody else")
