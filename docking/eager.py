"""Begins work at once, in the step of the loop in which it was asked for, and makes a task only of what waits.

Most of what a station does for one message never waits, and a task would begin it a turn of the loop later. CPython
from 3.12 on can do that itself (`eager_start`); for older ones this steps the coroutine up to its first wait.

Invariant: whatever the work does or raises, the caller is given a future, and goes on. On CPython 3.11 and older there
is no current task up to the first wait: what needs one (`asyncio.timeout`) is not to be begun like this.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


def begin(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> asyncio.Future[T]:
    """Run `work` up to its first wait, and what is left of it as a task. To be called in a step of `loop`."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, eager_start=True)
    return _begin(work, loop)


def _begin(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> asyncio.Future[T]:
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


class _Rest(Coroutine[Any, Any, T]):
    """A coroutine from its first wait on: a task that takes it is given that first, as if it had begun it."""

    def __init__(self, work: Coroutine[Any, Any, T], waits_for: Any) -> None:
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
