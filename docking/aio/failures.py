"""Errors of callbacks and tasks that nobody awaits: one log line each, and the loop goes on.

Not for expected errors, which are handled where they occur. Invariants: nothing here raises; a line has a bounded
length and names objects only by their class: a `repr` may be long, or fail itself.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import PurePath
from typing import Any

_log = logging.getLogger(__name__)
# Characters of a line, and frames of the traceback that it names: where the error was raised, and the calls before.
LINE_CHARS, TRACE_FRAMES = 400, 3


def describe_error(error: BaseException) -> str:
    """An error in one line: what, and where."""
    try:
        text = " ".join(str(error).split())[:LINE_CHARS]
    except Exception:  # from a foreign class
        text = "it cannot be told"
    places = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{PurePath(code.co_filename).name}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    name = type(error).__name__
    return f"{name}: {text}" + (f" (in {' > '.join(places[-TRACE_FRAMES:])})" if places else "")


def reason(error: BaseException) -> str:
    """Why a connection failed, for people: as the system says it, without the number."""
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "it took too long"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def log_error(what: str, error: BaseException | None) -> None:
    """Log the error; the whole traceback at debug level."""
    line = " ".join(what.split())[:LINE_CHARS]
    if error is None:
        _log.error("%s", line)
        return
    _log.error("%s: %s", line, describe_error(error))
    _log.debug("%s", line, exc_info=error)


def log_failure(task: asyncio.Future[Any]) -> None:
    """A done callback for a task that nobody awaits: logs its error."""
    if not task.cancelled() and (error := task.exception()) is not None:
        work = getattr(task, "get_coro", lambda: None)()
        log_error(f"{getattr(work, '__qualname__', 'work')} failed", error)


def log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception handler for an event loop: see `asyncio.loop.set_exception_handler`.

    The default one shows every object in `context`.
    """
    try:
        error = context.get("exception")
        log_error(
            str(context.get("message") or "something failed"), error if isinstance(error, BaseException) else None
        )
    except Exception as trouble:
        _log.error("an error could not be told: %s", type(trouble).__name__)
