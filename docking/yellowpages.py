"""Services: what this station offers to visitors, and which peers offer what.

A service is a Python callable: bytes in, bytes out, sync (run in a thread of its own) or async. It may take
a second argument, the `Visitor`.

Not who may call what: that is the agent's grant, checked before. Invariants: a call ends after its time, whatever the
callable does; a callable that raises gives the agent an errno, and the reason only if it meant to (`ServiceFailed`);
requests and replies are bounded; callables that never return cost a thread each, no more than `threads`,
and hold up nobody who wants to end the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import re
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

from attrs import define, field, frozen

from agents.credentials.keys import PublicKey
from agents.hostcalls import EACCES, EBUSY, EIO, EMSGSIZE, ENOENT, ETIMEDOUT
from agents.waits import BODY_MAX, REASON_MAX, Failed, Reply
from docking.errors import ServiceFailed, StationError

_log = logging.getLogger(__name__)
Service: TypeAlias = Callable[..., "bytes | str | Awaitable[Any] | None"]
# As in a capability: `service:NAME` must be able to name it.
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\Z")
MAX_NAME = 120


@frozen
class Visitor:
    """Who calls a service.

    `agent`: id as text; `call`: its number in this stay, from 1. After a crash a call may come again, with the
    same agent, hop and number, and the same request unless the agent decides otherwise.
    """

    agent: str
    label: str
    owner: PublicKey
    hop: int
    call: int
    station: str


@frozen
class _Offer:
    function: Service
    takes_visitor: bool
    timeout: float


@define(eq=False)
class YellowPages:
    """The services of one station. `threads`: callables that are not async run in as many."""

    threads: int = 8
    _offers: dict[str, _Offer] = field(factory=dict)
    _running: int = 0
    calls: int = 0
    failures: int = 0
    changed: Callable[[], None] = lambda: None

    def offer(self, name: str, function: Service, timeout: float = 30.0) -> None:
        """Offer `function` as `name`. `timeout`: seconds of one call. Raises `StationError` for an impossible name."""
        if not _NAME.match(name) or len(name) > MAX_NAME:
            raise StationError(
                f"{name[:80]!r} is no name of a service: use up to {MAX_NAME} lower case letters, digits, - _ and dots"
            )
        if name in self._offers:
            raise StationError(f"the service {name!r} is offered already")
        try:
            parameters = [
                p
                for p in inspect.signature(function).parameters.values()
                if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)
            ]
        except (TypeError, ValueError):
            parameters = []
        several = len(parameters) > 1 or any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self._offers[name] = _Offer(function, several, timeout)
        self.changed()

    def withdraw(self, name: str) -> None:
        """Offer `name` no more."""
        self._offers.pop(name, None)
        self.changed()

    @property
    def names(self) -> tuple[str, ...]:
        """What is offered."""
        return tuple(sorted(self._offers))

    async def call(self, name: str, request: bytes, visitor: Visitor, allowed: bool) -> Reply | Failed:
        """Call a service for an agent. `allowed`: whether its grant covers it."""
        self.calls += 1
        answer = await self._answer(name, request, visitor, allowed)
        self.failures += isinstance(answer, Failed)
        return answer

    async def _answer(self, name: str, request: bytes, visitor: Visitor, allowed: bool) -> Reply | Failed:
        offer = self._offers.get(name)
        if offer is None:
            return Failed(ENOENT, f"this station offers no service {name!r}")
        if not allowed:
            return Failed(EACCES, f"the agent's permit here does not cover service:{name}")
        arguments = (request, visitor) if offer.takes_visitor else (request,)
        try:
            value = await _within(offer.timeout, self._run(offer.function, arguments))
        except asyncio.TimeoutError:
            return Failed(ETIMEDOUT, f"the service {name!r} took longer than {offer.timeout:g} s")
        except ServiceFailed as error:
            return Failed(error.errno, error.reason[:REASON_MAX])
        except _Busy:
            return Failed(EBUSY, f"the service {name!r} has no thread free")
        except Exception:
            # What went wrong inside is the station's business, and for its log only.
            _log.exception("a service failed", extra={"service": name, "agent": visitor.agent})
            return Failed(EIO, f"the service {name!r} failed")
        body = b"" if value is None else value.encode() if isinstance(value, str) else value
        if not isinstance(body, (bytes, bytearray, memoryview)):
            _log.error("a service replied with %s", type(body).__name__, extra={"service": name})
            return Failed(EIO, f"the service {name!r} failed")
        if len(body) > BODY_MAX:
            return Failed(EMSGSIZE, f"the service {name!r} replied with more than {BODY_MAX} bytes")
        return Reply(bytes(body))

    async def _run(self, function: Service, arguments: tuple[Any, ...]) -> Any:
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
            return await _contained(function(*arguments))
        if self._running >= self.threads:
            raise _Busy
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def returned(value: Any, error: BaseException | None) -> None:
            # Only now is the thread free: a call that timed out still holds it.
            self._running -= 1
            if answer.done():
                return
            if error is None:
                answer.set_result(value)
            else:
                answer.set_exception(error)

        def work() -> None:
            value, error = None, None
            try:
                value = function(*arguments)
            except BaseException as raised:  # told in the loop
                error = raised if isinstance(raised, Exception) else RuntimeError(repr(raised))
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(returned, value, error)

        self._running += 1
        # Not a pool: its threads would be waited for when the process ends.
        threading.Thread(target=work, name="portcall-service", daemon=True).start()
        value = await answer
        return await _contained(value) if inspect.isawaitable(value) else value


async def _contained(work: Any) -> Any:
    """What `work` gives; if it wants to end the process, it has failed like any other."""
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"the service raised {error!r}") from error


async def _within(seconds: float, work: Coroutine[Any, Any, Any]) -> Any:
    """What `work` gives within so many seconds; after them it is cancelled, and not waited for: it may not want to end.

    Not `asyncio.wait_for`, which waits for it, and takes its cancellation for ours. Raises `asyncio.TimeoutError`.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise asyncio.TimeoutError
        if task.cancelled():
            raise RuntimeError("the service was cancelled from inside")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            task.add_done_callback(_ended_late)


def _ended_late(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.warning("a service that had been given up failed: %r", task.exception())


class _Busy(Exception):
    pass
