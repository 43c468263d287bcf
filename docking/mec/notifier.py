"""Notifications on their way to subscribers: over HTTP to a callback, or over a WebSocket that the subscriber opened.

One queue for each subscription, in order, with one task while it is not empty. Not here: what is said, and to whom
(`docking.mec.mobility`). Invariants: queues, requests at a time, attempts and times are bounded; nobody waits for a
subscriber; when a queue is full its oldest notification is lost, and counted; an answer of the subscriber is waited for
before the next notification.

Over a WebSocket a notification is one text message, framed as 3GPP TS 29.122 clause 5.2.5.4 does, which MEC 009 refers
to; so is its answer:

    3GPP-WS-Notif-Seq: 1            3GPP-WS-Notif-Seq: 1
    Content-Type: application/json  204 No Content
    Content-Length: 123
                                    (an empty line)
    {"notificationType": ...}
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

from attrs import define, field

from docking.aio.failures import log_failure
from docking.aio.timeouts import ended, within
from docking.mec.book import Subscribed
from docking.mec.callbacks import BadCallback, CallbackRefused, Caller, DeliveryFailed

_log = logging.getLogger("portcall.mec")
# Callbacks that are under way at a time.
AT_ONCE = 16
LONGEST_WAIT_S = 30.0
MAX_ANSWER_CHARS = 4096


# Answers that a subscriber sent and nobody has looked at yet.
MAX_ANSWERS = 16


class Wire(Protocol):
    """A WebSocket that a subscriber has opened. Sending and receiving raise `DeliveryFailed` once it is closed."""

    async def send(self, text: str) -> None:
        """Send a message."""

    async def receive(self) -> str:
        """The next message."""

    async def close(self) -> None:
        """Close it."""


@define(eq=False, repr=False)
class _Line:
    """An open WebSocket, and the answers that came over it."""

    wire: Wire
    reader: asyncio.Task[None] | None = None
    answers: asyncio.Queue[str] = field(factory=lambda: asyncio.Queue(MAX_ANSWERS))

    async def read(self) -> None:
        """Take in answers until it is closed."""
        while True:
            try:
                text = await self.wire.receive()
            except DeliveryFailed:
                return
            if not self.answers.full():
                self.answers.put_nowait(text[:MAX_ANSWER_CHARS])


@define(eq=False, repr=False)
class _Queue:
    """The notifications for one subscription, each with the record that it was meant for."""

    waiting: deque[tuple[Subscribed, bytes]]
    task: asyncio.Task[None] | None = None
    sequence: int = 0
    awake: asyncio.Event = field(factory=asyncio.Event)


@define(eq=False, repr=False)
class Notifier:
    """Delivers notifications. `most`: that wait for one subscriber; `attempts`, `retry_s`: of one notification."""

    _caller: Caller
    _most: int
    _attempts: int
    _retry_s: float
    _queues: dict[str, _Queue] = field(factory=dict)
    _lines: dict[str, _Line] = field(factory=dict)
    _room: asyncio.Semaphore | None = None
    delivered: int = 0
    failed: int = 0
    dropped: int = 0

    async def prepare(self) -> None:
        """Do before the first notification what it would wait for."""
        await self._caller.prepare()

    def tell(self, to: Subscribed, notification: Mapping[str, Any]) -> None:
        """Send a notification, as soon as those before it are there."""
        queue = self._queues.get(to.id)
        if queue is None:
            queue = self._queues[to.id] = _Queue(deque())
        if len(queue.waiting) >= self._most:
            queue.waiting.popleft()
            self.dropped += 1
        queue.waiting.append((to, json.dumps(notification, separators=(",", ":")).encode()))
        if queue.task is None:
            queue.task = asyncio.get_running_loop().create_task(self._work(to.id, queue))
            queue.task.add_done_callback(log_failure)

    def forget(self, ident: str) -> None:
        """A subscription is over by its subscriber's will: nothing more is sent."""
        self._hang_up(ident)
        queue = self._queues.pop(ident, None)
        if queue is not None and queue.task is not None:
            queue.task.cancel()

    async def serve(self, ident: str, wire: Wire) -> None:
        """Use a WebSocket that a subscriber has opened, until it is closed or the subscriber opens another."""
        line = _Line(wire)
        line.reader = asyncio.get_running_loop().create_task(line.read())
        self._hang_up(ident)
        self._lines[ident] = line
        if ident in self._queues:
            self._queues[ident].awake.set()  # try at once what waits
        try:
            await asyncio.wait({line.reader})
        finally:
            if self._lines.get(ident) is line:
                del self._lines[ident]
            await ended([line.reader])
            await wire.close()

    def _hang_up(self, ident: str) -> None:
        line = self._lines.pop(ident, None)
        if line is not None and line.reader is not None:
            line.reader.cancel()

    async def _work(self, ident: str, queue: _Queue) -> None:
        while queue.waiting:
            to, body = queue.waiting.popleft()
            queue.sequence += 1
            if await self._deliver(to, body, queue):
                self.delivered += 1
            else:
                self.failed += 1
        if self._queues.get(ident) is queue:
            del self._queues[ident]

    async def _deliver(self, to: Subscribed, body: bytes, queue: _Queue) -> bool:
        wait = self._retry_s
        self._room = self._room or asyncio.Semaphore(AT_ONCE)
        for attempt in range(1, self._attempts + 1):
            queue.awake.clear()
            try:
                async with self._room:
                    await self._send(to, body, queue.sequence)
                return True
            except (BadCallback, CallbackRefused) as error:
                _log.warning("a notification for subscription %s is not sent: %s", to.id, error)
                return False
            except DeliveryFailed as error:
                _log.info("attempt %d for subscription %s failed: %s", attempt, to.id, error)
            if attempt < self._attempts:
                try:
                    await within(wait, queue.awake.wait())
                except asyncio.TimeoutError:
                    wait = min(wait * 2, LONGEST_WAIT_S)
        _log.warning("a notification for subscription %s is given up after %d attempts", to.id, self._attempts)
        return False

    async def _send(self, to: Subscribed, body: bytes, sequence: int) -> None:
        line = self._lines.get(to.id)
        if line is not None:
            await self._over(line, body, sequence)
        elif to.body.callbackReference is not None:
            await self._caller.post(to.body.callbackReference, body, to.requester)
        else:
            raise DeliveryFailed("its WebSocket is not open")

    async def _over(self, line: _Line, body: bytes, sequence: int) -> None:
        head = f"3GPP-WS-Notif-Seq: {sequence}\r\n"
        kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            await within(self._caller.timeout_s, self._exchange(line, head, kind + body.decode()))
        except asyncio.TimeoutError:
            raise DeliveryFailed("no answer came over the WebSocket") from None

    @staticmethod
    async def _exchange(line: _Line, head: str, rest: str) -> None:
        await line.wire.send(head + rest)
        while True:
            answer = await line.answers.get()
            # An answer to an earlier attempt may come late.
            if answer.startswith(head):
                if answer[len(head) : len(head) + 1] != "2":
                    raise DeliveryFailed("the answer over the WebSocket was no success")
                return

    async def close(self) -> None:
        """Stop; what was not delivered is lost."""
        tasks = [queue.task for queue in self._queues.values() if queue.task is not None]
        self._queues.clear()
        for ident in tuple(self._lines):
            self._hang_up(ident)
        await ended(tasks)
        await self._caller.close()
