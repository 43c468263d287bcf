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
import contextvars
import inspect
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeAlias, TypeVar

from attrs import define, field, frozen

from agents.credentials.keys import PublicKey
from agents.hostcalls import EACCES, EBUSY, EIO, EMSGSIZE, ENOENT, ETIMEDOUT
from agents.waits import MAX_BODY_BYTES, MAX_REASON_BYTES, Failed, Reply
from docking.aio.threads import Daemons, NoThread, tellable
from docking.aio.timeouts import within
from docking.errors import ServiceFailed, StationError

_log = logging.getLogger(__name__)
ServiceFunction: TypeAlias = Callable[..., "bytes | str | Awaitable[object]"]
F = TypeVar("F", bound=ServiceFunction)
_PACKAGE = str(Path(__file__).parents[1])
# As in a capability: `service:NAME` must be able to name it.
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\Z")
MAX_SERVICE_NAME = 120
SHOWN_SERVICES = 5  # of a station, that are named to who asked for one that it has not


def check_service_name(name: str) -> None:
    """Raises `StationError` for a name that no service can have."""
    if not _NAME.match(name) or len(name) > MAX_SERVICE_NAME:
        raise StationError(
            f"{name[:80]!r} is no name of a service:"
            f" use up to {MAX_SERVICE_NAME} lower case letters, digits, - _ and dots, such as 'stock.count'"
        )


def check_service(name: str, function: ServiceFunction) -> None:
    """Raises `StationError` as `check_service_name`, TypeError for what cannot serve: not a function, or one that takes
    no request or says that it returns None.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a service is text, not {type(name).__name__}: @station.service('stock.count')")
    check_service_name(name)
    if not callable(function):
        raise TypeError(
            f"the service {name!r} is a function of the request, not {type(function).__name__}: lambda request: b'...'"
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some of those written in C
        return
    if signature.return_annotation in (None, "None"):
        raise TypeError(f"the service {name!r} is to return bytes or text, and says `-> None`: an empty reply is b''")
    try:
        signature.bind(b"")
    except TypeError:
        try:
            signature.bind(b"", b"")
        except TypeError:
            raise TypeError(
                f"the service {name!r} is called with a request, or a request and a visitor:"
                " def serve(request: bytes, visitor: docking.Visitor) -> bytes"
            ) from None


@frozen
class Visitor:
    """Who calls a service.

    agent: id of the agent, as text
    label: what its owner calls it
    owner: the key of its owner
    hop: how many times it has moved
    call: number of the call in this stay, from 1. After a crash a call may come again, with the same agent, hop and
        number, and the same request unless the agent decides otherwise
    station: the name of this station
    """

    agent: str
    label: str
    owner: PublicKey
    hop: int
    call: int
    station: str


class Offering(Protocol):
    """What a function that offers services is given: a `docking.Station`, or one that is played.

    def services(station: docking.Offering) -> None:
        station.offer("stock.count", lambda request: b"12")
    """

    @property
    def name(self) -> str:
        """What the station is called."""

    def offer(self, name: str, function: ServiceFunction, *, timeout: float = 30.0) -> None:
        """Offer `function` as `name`, for `timeout` seconds a call (30); see `docking.Station.offer`."""

    def service(self, name: str, *, timeout: float = 30.0) -> Callable[[F], F]:
        """A decorator that offers a function as `name`, for `timeout` seconds a call; see `docking.Station.service`."""


@frozen
class _Offer:
    function: ServiceFunction
    takes_visitor: bool
    timeout_s: float


@define(eq=False, repr=False)
class Services:
    """The services of one station. `threads`: callables that are not async run in as many."""

    threads: int = 8
    _offers: dict[str, _Offer] = field(factory=dict)
    _daemons: Daemons = field(init=False)
    calls: int = 0
    failures: int = 0
    changed: Callable[[], None] = lambda: None

    def __attrs_post_init__(self) -> None:
        self._daemons = Daemons(self.threads, "portcall-service")

    def offer(self, name: str, function: ServiceFunction, timeout: float = 30.0) -> None:
        """Offer `function` as `name`. `timeout`: seconds of one call. Raises as `check_service`."""
        check_service(name, function)
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
            return Failed(ENOENT, f"this station offers no service {name!r}{self._instead()}"[:MAX_REASON_BYTES])
        if not allowed:
            return Failed(EACCES, f"the agent's permit here does not cover service:{name}")
        arguments = (request, visitor) if offer.takes_visitor else (request,)
        try:
            body = await within(offer.timeout_s, self._reply(name, offer.function, arguments))
        except asyncio.TimeoutError:
            return Failed(ETIMEDOUT, f"the service {name!r} took longer than {offer.timeout_s:g} s")
        except ServiceFailed as error:
            return Failed(error.errno, error.reason[:MAX_REASON_BYTES])
        except NoThread:
            return Failed(EBUSY, f"the service {name!r} has no thread free")
        except Exception as error:
            # Details of the failure are for the station's log only.
            said = {"service": name, "agent": visitor.agent}
            _log.error("the service %r failed: %s", name, error, exc_info=_from_the_service(error), extra=said)
            return Failed(EIO, f"the service {name!r} failed")
        if len(body) > MAX_BODY_BYTES:
            return Failed(EMSGSIZE, f"the service {name!r} replied with more than {MAX_BODY_BYTES} bytes")
        return Reply(body)

    def _instead(self) -> str:
        """What it offers, for who asked for something else."""
        names = self.names
        more = f" and {len(names) - SHOWN_SERVICES} more" if len(names) > SHOWN_SERVICES else ""
        return f"; it offers {', '.join(names[:SHOWN_SERVICES])}{more}" if names else ", nor any other"

    async def _reply(self, name: str, function: ServiceFunction, arguments: tuple[object, ...]) -> bytes:
        """The reply of a service, as bytes. Raises what `_answer` handles, whatever the service raises."""
        try:
            return _bytes_of(name, await self._run(function, arguments))
        except (asyncio.CancelledError, NoThread):
            raise
        except asyncio.TimeoutError as error:  # its own, and not that of the call
            raise RuntimeError("the service raised a TimeoutError") from error
        except BaseException as error:
            raise tellable(error)  # noqa: B904  (it has its cause)

    async def _run(self, function: ServiceFunction, arguments: tuple[object, ...]) -> object:
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
            return await function(*arguments)  # type: ignore[misc]
        # In the context of the call, as an async one is: the application's trace goes on in it.
        value = await self._daemons.run(contextvars.copy_context().run, function, *arguments)
        return await value if inspect.isawaitable(value) else value


def _from_the_service(error: Exception) -> tuple[type[Exception], Exception, TracebackType | None]:
    """The error with its traceback from the service's own code on, for its author."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        trace = trace.tb_next
    return type(error), error, trace or error.__traceback__


def _bytes_of(name: str, value: object) -> bytes:
    """The bytes that a service returned. Raises TypeError, UnicodeEncodeError."""
    if isinstance(value, (bytes, str)):
        return value.encode() if isinstance(value, str) else value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    what = "nothing: an empty reply is b''" if value is None else type(value).__name__
    raise TypeError(f"the service {name!r} is to return bytes or text, and returned {what}")
