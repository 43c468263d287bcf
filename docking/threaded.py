"""A station that runs in a thread of its own, for programs without an event loop.

Its methods may be called from any other thread, and wait. Invariant: everything that touches the station runs in its
loop; ending joins the thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from agents.credentials.keys import PublicKey, SecretKey
from docking.agent import Agent
from docking.errors import StationError
from docking.loops import new_loop
from docking.yellowpages import Service

if TYPE_CHECKING:
    from docking.serve import Station

F = TypeVar("F", bound=Service)


class Threaded:
    """A station that runs in a thread; its methods may be called from any other, and wait."""

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

    def do(self, work: Any, timeout: float | None = None) -> Any:
        """The result of a coroutine that runs in the station's thread. Raises `StationError` where it cannot be had."""
        if self._loop.is_closed() or threading.current_thread() is self._thread:
            work.close()
            if self._loop.is_closed():
                raise StationError(f"the station {self.station.name} has ended")
            # It would wait for itself: an async service runs there.
            raise StationError("this is the station's own thread: await the methods of its `station` here")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def launch(self, *args: Any, **options: Any) -> ThreadedAgent:
        """See `Station.launch`."""
        return ThreadedAgent(self, self.do(self.station.launch(*args, **options)))

    def agent(self, text: str, owner: SecretKey | None = None) -> ThreadedAgent:
        """See `Station.agent`."""
        return ThreadedAgent(self, self.call(lambda: self.station.agent(text, owner)))

    def call(self, what: Callable[[], Any]) -> Any:
        """The result of a function that runs in the station's thread."""

        async def run() -> Any:
            return what()

        return self.do(run())

    def service(self, name: str, *, timeout: float = 30.0) -> Callable[[F], F]:
        """See `Station.service`."""

        def offer(function: F) -> F:
            self.call(lambda: self.station.offer(name, function, timeout=timeout))
            return function

        return offer

    def withdraw(self, name: str) -> None:
        """See `Station.withdraw`."""
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

    def wait(self, timeout: float | None = None) -> Any:
        """See `Agent.wait`."""
        return self._threaded.do(self._agent.wait(timeout))

    def __getattr__(self, name: str) -> Any:
        """The other methods of `Agent` that do not wait."""
        value = self._threaded.call(lambda: getattr(self._agent, name))
        if not callable(value):
            return value
        return lambda *args, **options: self._threaded.call(lambda: value(*args, **options))
