"""What happens at the stations, for the browsers that look: one subscription per station, one message for all of them.

Nothing is subscribed while nobody looks. Events are collected for a moment and sent together, encoded once, so that
watching costs the same whether ten agents move or ten thousand. Invariants: what waits for a reader is bounded; a
reader that is too slow loses it and is told to look again (`sync`), and the station waits for nobody; the number of
readers is bounded.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence

from attrs import define, field, frozen

from docking.aio.failures import log_failure
from docking.errors import StationError
from docking.events import Event, Events, Subscription

MAX_READERS = 32
# Seconds for which events are collected, and between two signs of life where none come.
TICK_S, SILENCE_S = 0.3, 15.0
# Events in one message, and characters of each text in them; more than that, and readers look for themselves.
MAX_EVENTS, MAX_TEXT = 200, 200
# Messages that may wait for a reader.
MAX_WAITING = 16
SYNC, ALIVE = b"event: sync\ndata: {}\n\n", b": alive\n\n"


@frozen(eq=False, repr=False)
class Watched:
    """A station whose events are sent. `events()`: raises `StationError` while it does not run."""

    name: str
    events: Callable[[], Events]


@define(eq=False, repr=False)
class Reader:
    """One browser. Its messages are those of `next`."""

    _waiting: deque[bytes] = field(factory=deque)
    _wake: asyncio.Event = field(factory=asyncio.Event)
    _over: bool = False

    def put(self, message: bytes) -> None:
        """Have it sent; if too much waits, all of that is forgotten, and the reader looks again."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.clear()
            message = SYNC
        self._waiting.append(message)
        self._wake.set()

    def end(self) -> None:
        """Nothing more comes."""
        self._over = True
        self._wake.set()

    async def next(self) -> bytes | None:
        """All that waits; None at the end."""
        await self._wake.wait()
        self._wake.clear()
        if self._over:
            self._wake.set()
            return None
        message = b"".join(self._waiting)
        self._waiting.clear()
        return message


@define(eq=False, repr=False)
class Feed:
    """The readers of one console."""

    _stations: Sequence[Watched]
    readers: set[Reader] = field(factory=set)
    _heard: dict[str, tuple[Events, Subscription]] = field(factory=dict)
    _task: asyncio.Task[None] | None = None
    _silent: float = 0.0

    def join(self) -> Reader | None:
        """A new reader; None if there are too many."""
        if len(self.readers) >= MAX_READERS:
            return None
        reader = Reader()
        self.readers.add(reader)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(log_failure)
        reader.put(SYNC)
        return reader

    def leave(self, reader: Reader) -> None:
        """It has gone."""
        reader.end()
        self.readers.discard(reader)

    def close(self) -> None:
        """End all of them."""
        for reader in tuple(self.readers):
            self.leave(reader)

    async def _run(self) -> None:
        try:
            while self.readers:
                changed = self._listen()
                await asyncio.sleep(TICK_S)
                message = self._message()
                if changed:
                    message = SYNC + message
                self._silent = 0.0 if message else self._silent + TICK_S
                if not message and self._silent >= SILENCE_S:
                    message, self._silent = ALIVE, 0.0
                if message:
                    for reader in tuple(self.readers):
                        reader.put(message)
        finally:
            for events, subscription in self._heard.values():
                events.unsubscribe(subscription)
            self._heard.clear()

    def _listen(self) -> bool:
        """Subscribe to the stations that run; whether one has started or ended."""
        changed = False
        for station in self._stations:
            old = self._heard.get(station.name)
            if old is not None and not old[1].closed:
                continue
            try:
                events = station.events()
                self._heard[station.name] = (events, events.subscribe())
                changed = True
            except StationError:
                changed |= self._heard.pop(station.name, None) is not None
        return changed

    def _message(self) -> bytes:
        """What has happened since the last time; empty for nothing."""
        events: list[tuple[str, Event]] = []
        lost = 0
        for name, (_, subscription) in self._heard.items():
            lost += subscription.missed
            subscription.missed = 0
            found = subscription.drain()
            lost += max(len(found) - MAX_EVENTS, 0)
            events += [(name, each) for each in found[-MAX_EVENTS:]]
        if not events and not lost:
            return b""
        events.sort(key=lambda item: item[1].time)
        lost += max(len(events) - MAX_EVENTS, 0)
        told = [_told(name, event) for name, event in events[-MAX_EVENTS:]]
        data = json.dumps({"events": told, "lost": lost}, ensure_ascii=True, separators=(",", ":"))
        return b"data: " + data.encode() + b"\n\n"


def _told(station: str, event: Event) -> dict[str, object]:
    value = event.value()
    for name in ("label", "place", "text"):
        value[name] = str(value[name])[:MAX_TEXT]
    return {"station": station, **value}
