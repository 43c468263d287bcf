"""A station that runs in a thread of its own, for programs without an event loop.

Its methods may be called from any other thread, and wait. Invariant: everything that touches the station runs in its
loop; ending joins the thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from agents.credentials.keys import PublicKey, SecretKey
from agents.stack import Stack
from docking.aio.loops import new_loop
from docking.errors import StationError
from docking.handle import Agent
from docking.letters.orders import OrderOutcome
from docking.residents.options import MoveReport
from docking.residents.services import ServiceFunction

if TYPE_CHECKING:
    from docking.handle import Report
    from docking.station import Station

T = TypeVar("T")
F = TypeVar("F", bound=ServiceFunction)


class Threaded:
    """A station that runs in a thread; its methods may be called from any other, and wait. `Station.in_thread` makes
    one.

        with docking.Station("alpha").in_thread() as station:
            report = station.launch(image, owner=key).wait(30)

    station: the station, not started yet
    """

    def __init__(self, station: Station) -> None:
        self.station = station
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._run, name=f"station-{station.name}", daemon=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        # Here, since the thread that ends it may have a running loop of its own, as in a notebook.
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def begin(self) -> None:
        """Start. Raises as `Station.start` does."""
        self._thread.start()
        try:
            self.do(self.station.start())
        except BaseException:
            self._stop()
            raise

    def end(self) -> None:
        """Stop."""
        try:
            self.do(self.station.close())
        finally:
            self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def do(self, work: Coroutine[object, object, T], timeout: float | None = None) -> T:
        """The result of a coroutine that runs in the station's thread.

        work: the coroutine
        timeout: seconds to wait; None waits for ever

        Raises what it raises; `StationError` where it cannot run: the station has ended, or this is its own thread.
        """
        if self._loop.is_closed() or threading.current_thread() is self._thread:
            work.close()
            if self._loop.is_closed():
                raise StationError(f"the station {self.station.name} has ended")
            # It would wait for itself: an async service runs there.
            raise StationError("this is the station's own thread: await the methods of its `station` here")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def launch(self, *args: Any, **options: Any) -> ThreadedAgent:
        """Launch an agent; `args` and `options` are those of `Station.launch`."""
        return ThreadedAgent(self, self.do(self.station.launch(*args, **options)))

    def agent(self, text: str, owner: SecretKey | None = None) -> ThreadedAgent:
        """A handle on the agent that `text` means, with the key of its `owner`; see `Station.agent`."""
        return ThreadedAgent(self, self.call(lambda: self.station.agent(text, owner)))

    def call(self, what: Callable[[], T]) -> T:
        """The result of `what`, a function without arguments, called in the station's thread."""

        async def run() -> T:
            return what()

        return self.do(run())

    def service(self, name: str, *, timeout: float = 30.0) -> Callable[[F], F]:
        """A decorator that offers a function as `name`, for `timeout` seconds a call (30); see `Station.service`."""

        def offer(function: F) -> F:
            self.offer(name, function, timeout=timeout)
            return function

        return offer

    @property
    def name(self) -> str:
        """What the station is called."""
        return self.station.name

    def offer(self, name: str, function: ServiceFunction, *, timeout: float = 30.0) -> None:
        """Offer `function` as `name`, for `timeout` seconds a call (30); see `Station.offer`."""
        self.call(lambda: self.station.offer(name, function, timeout=timeout))

    def withdraw(self, name: str) -> None:
        """Offer the service `name` no more; see `Station.withdraw`."""
        self.call(lambda: self.station.withdraw(name))

    @property
    def failure(self) -> str:
        """See `Station.failure`."""
        return self.station.failure

    @property
    def url(self) -> str:
        """See `Station.url`."""
        return str(self.call(lambda: self.station.url))

    @property
    def key(self) -> PublicKey:
        """See `Station.key`."""
        return self.station.key


class ThreadedAgent:
    """A handle on an agent, for programs without an event loop."""

    def __init__(self, threaded: Threaded, agent: Agent) -> None:
        self._threaded, self._agent = threaded, agent
        self.id = agent.id

    def wait(self, timeout: float | None = None) -> Report:
        """See `Agent.wait`."""
        return self._threaded.do(self._agent.wait(timeout))

    def stack(self) -> Stack:
        """See `Agent.stack`."""
        return self._threaded.do(self._agent.stack())

    def move(self, to: str, **options: Any) -> MoveReport:
        """See `Agent.move`."""
        return self._threaded.do(self._agent.move(to, **options))

    def top_up(self, *amounts: Any, **options: Any) -> OrderOutcome:
        """See `Agent.top_up`."""
        return self._threaded.do(self._agent.top_up(*amounts, **options))

    def renew(self, hours: float, **options: Any) -> OrderOutcome:
        """See `Agent.renew`."""
        return self._threaded.do(self._agent.renew(hours, **options))

    def __getattr__(self, name: str) -> Any:
        """The other methods of `Agent` that do not wait."""
        value = self._threaded.call(lambda: getattr(self._agent, name))
        if not callable(value):
            return value
        return lambda *args, **options: self._threaded.call(lambda: value(*args, **options))
