"""What happens at a station, published to its listeners: programs, the commands, the console.

Not logging (that is `logging`, with the same words), and not the ledger. Invariants: an event is published after it has
become true; a listener that does not keep up loses the oldest events, and the station waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Literal

from attrs import define, field, frozen

from docking.aio.failures import log_error

EventKind = Literal[
    "launched",  # the agent starts here
    "arrived",  # it came from `place`
    "resumed",  # it goes on after a restart of the station
    "leaving",  # it wants to go to `place`
    "moving",  # it is being moved to `place` while it runs: `text` says how far that is
    "moved",  # it was moved by order to `place`: `text` says what that took
    "left",  # it now belongs to `place`
    "refused",  # it stays: `text` says why
    "log",  # it printed or logged a line
    "report",  # it reported a result: `text` is the key
    "serving",  # it waits for requests of clients, for the first time here
    "call",  # it called the service `place`: `text` says how that ended
    "cloned",  # `text` is the id of the clone
    "amended",  # its owner or home changed something: `text` says what
    "budget-low",  # nine tenths of a budget are used: `text` says of which
    "upgraded",  # it goes on with new code: `text` says with which image
    "waiting",  # it sleeps or waits for a message
    "finished",  # it ended normally, with exit code `text`
    "stopped",  # it trapped or used up its budget: `text` says why; its state is kept
    "disposed",  # a person ended it
    "told",  # home learned that it is at `place`
    "home",  # home received the end of its journey
    "alarm",  # something that an operator should see
    "peer",  # a station was met or lost
]


@frozen
class Event:
    """Something that happened at a station, as `Station.subscribe` and `Agent.events` give it.

    time: milliseconds since 1970
    kind: one word, see `EventKind`: "launched", "arrived", "left", "finished", "log", "alarm", ...
    agent: id as text; empty if the event concerns the station
    label: the agent's label
    place: the other station, or the service
    text: more, depending on the kind
    """

    time: int
    kind: EventKind
    agent: str = ""
    label: str = ""
    place: str = ""
    text: str = ""

    def value(self) -> dict[str, object]:
        """The event as plain values."""
        return {
            "time": self.time,
            "kind": self.kind,
            "agent": self.agent,
            "label": self.label,
            "place": self.place,
            "text": self.text,
        }


# The most events that a listener may be behind.
MAX_BACKLOG = 10_000


@define(eq=False, repr=False)
class Subscription:
    """The events for one listener, as an asynchronous iterator."""

    _wanted: Callable[[Event], bool]
    _events: deque[Event] = field(factory=lambda: deque(maxlen=MAX_BACKLOG))
    _waiter: asyncio.Future[None] | None = None
    _closed: bool = False
    missed: int = 0
    """Events that this listener has lost, since it was too far behind."""

    def tell(self, event: Event) -> None:
        """Publish an event to this listener."""
        try:
            wanted = self._wanted(event)
        except Exception as error:  # the filter is the program's own: its error must not stop the station
            log_error("a subscription cannot say what it wants, and is told everything", error)
            wanted = True
        if wanted:
            self.missed += len(self._events) == MAX_BACKLOG
            self._events.append(event)
            self._wake()

    def close(self) -> None:
        """End the subscription."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def closed(self) -> bool:
        """Whether no further event will come."""
        return self._closed

    def drain(self) -> list[Event]:
        """The events that are there, without waiting for one: for who looks now and then, which costs less."""
        events, self._events = list(self._events), deque(maxlen=MAX_BACKLOG)
        return events

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._events.popleft()


@define(eq=False, repr=False)
class Events:
    """All listeners of a station."""

    _listeners: set[Subscription] = field(factory=set)

    def tell(self, event: Event) -> None:
        """Publish an event to all listeners."""
        for listener in tuple(self._listeners):
            listener.tell(event)

    def subscribe(self, wanted: Callable[[Event], bool] = lambda event: True) -> Subscription:
        """Subscribe to future events for which `wanted` returns true."""
        subscription = Subscription(wanted)
        self._listeners.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription."""
        self._listeners.discard(subscription)
        subscription.close()

    def close(self) -> None:
        """End all subscriptions."""
        for listener in tuple(self._listeners):
            self.unsubscribe(listener)
