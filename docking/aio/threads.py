"""Functions that run in a thread while the event loop goes on.

Invariants: the caller learns how the function ended, whatever it raises; a function that may never return runs in
a thread of its own, which delays nobody's exit; the number of such threads is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from attrs import define, field

from agents.engines.native_stack import deep_threads

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: object) -> T:
    """The result of `function(*args)`, run in the loop's executor. Only for functions that certainly return soon."""

    def run() -> T:
        try:
            return function(*args)
        except StopIteration as error:
            raise tellable(error) from error

    return await asyncio.get_running_loop().run_in_executor(None, run)


def tellable(error: BaseException) -> Exception:
    """The error as one that a future can hold, and that only tells its awaiter that something failed.

    A future refuses a StopIteration, so its awaiter would never wake. A CancelledError from foreign code
    would be taken for a cancellation of the awaiter, and a SystemExit would end the loop.
    """
    if isinstance(error, Exception) and not isinstance(error, (StopIteration, StopAsyncIteration)):
        return error
    told = RuntimeError(f"it raised {type(error).__name__}")
    told.__cause__ = error
    return told


class NoThread(Exception):
    """The limit of running threads is reached."""


@define(eq=False, repr=False)
class Daemons:
    """Threads for functions that may never return. `most`: of them at once.

    Not a pool: the process would wait for a pool's threads before it ends.
    """

    most: int
    name: str = "portcall-daemon"
    _room: threading.Semaphore = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._room = threading.Semaphore(self.most)

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """The result of `function(*args)`. Raises `NoThread`, and what the function raises, as `tellable`."""
        if not self._room.acquire(blocking=False):
            raise NoThread
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def returned(value: Any, error: Exception | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(value)
            else:
                answer.set_exception(error)

        def work() -> None:
            value, error = None, None
            try:
                value = function(*args)
            except BaseException as raised:  # reported in the event loop
                error = tellable(raised)
            # Release only when the function has ended, even if nobody waits for it any more.
            self._room.release()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(returned, value, error)

        try:
            with deep_threads():
                threading.Thread(target=work, name=self.name, daemon=True).start()
        except RuntimeError as error:  # the system has no more threads
            self._room.release()
            raise NoThread from error
        return await answer
