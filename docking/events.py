"""What happens at a station, told to whoever listens: programs, the commands, the console.

Not logging (that is `logging`, with the same words), and not the ledger. Invariant: an event is told after it is true;
a listener that does not keep up loses the oldest events, and the station waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

from attrs import define, field, frozen

Kind = Literal[
    "launched",  # the agent begins here
    "arrived",  # ... came from `place`
    "resumed",  # ... goes on after the station was restarted
    "leaving",  # it wants to go to `place`
    "left",  # it is `place`'s
    "refused",  # it stays: `text` says why
    "log",  # it printed or logged a line
    "report",  # it reported a result: `text` is the key
    "call",  # it called the service `place`: `text` says how that ended
    "cloned",  # `text` is the id of the clone
    "waiting",  # it sleeps or waits for a message
    "finished",  # it ended well, with exit code `text`
    "stopped",  # it trapped or used up its budget: `text` says why, and its state is kept
    "disposed",  # a person ended it
    "told",  # home hears that it is at `place`
    "home",  # home has the end of its journey
    "alarm",  # something that a person should see
    "peer",  # a station was met or lost
]


@frozen
class Event:
    """`time`: ms since 1970. `agent`: id as text, empty for what concerns the station.

    `place`: a station or service.
    """

    time: int
    kind: Kind
    agent: str = ""
    label: str = ""
    place: str = ""
    text: str = ""

    def value(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "time": self.time,
            "kind": self.kind,
            "agent": self.agent,
            "label": self.label,
            "place": self.place,
            "text": self.text,
        }


# Events that one listener may be behind.
BACKLOG = 10_000


@define(eq=False)
class Subscription:
    """Events for one listener, as an asynchronous iterator."""

    _wanted: Callable[[Event], bool]
    _events: deque[Event] = field(factory=lambda: deque(maxlen=BACKLOG))
    _waiter: asyncio.Future[None] | None = None
    _closed: bool = False

    def tell(self, event: Event) -> None:
        """Something happened."""
        if self._wanted(event):
            self._events.append(event)
            self._wake()

    def close(self) -> None:
        """No more will come."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._events.popleft()


@define(eq=False)
class Events:
    """All listeners of a station."""

    _listeners: set[Subscription] = field(factory=set)

    def tell(self, event: Event) -> None:
        """Tell everybody."""
        for listener in tuple(self._listeners):
            listener.tell(event)

    def subscribe(self, wanted: Callable[[Event], bool] = lambda event: True) -> Subscription:
        """Listen, from now on, to what is `wanted`."""
        subscription = Subscription(wanted)
        self._listeners.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Listen no more."""
        self._listeners.discard(subscription)
        subscription.close()

    def close(self) -> None:
        """No more events."""
        for listener in tuple(self._listeners):
            self.unsubscribe(listener)
