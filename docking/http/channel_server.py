"""The server end of a channel: accepts requests, dispatches them, and sends each answer when it is ready.

Not here: the frames (`channel`), and handling of requests (`dispatch`).

Invariants: at most `SERVER_WINDOW` requests of one channel are in progress; further ones stay unread in the connection.
The channel closes if the peer does not read answers, leaves a frame unfinished, or is silent for too long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from attrs import define, field

from agents.canonical import Buffer
from agents.credentials.keys import PublicKey
from docking.aio import eager
from docking.aio.transports import write_pieces
from docking.http.channel import ANSWER_HEAD, MAX_REQUEST_BYTES, REQUEST_HEAD, BrokenChannel, ChannelKeys, Frames
from docking.http.dispatch import REQUEST_KINDS, Dispatcher, RequestRefused

_log = logging.getLogger(__name__)
# Concurrent requests of one channel, and frames handled in one step of the event loop.
SERVER_WINDOW = 64
# Seconds for which an idle connection is kept, also for HTTP. Longer than at the client, so that the client closes
# it first.
KEEP_ALIVE_S = 75


@define(eq=False, repr=False)
class ServerChannel(asyncio.Protocol):
    """One channel, at the server.

    `busy(channel, bool)` is called when it begins to have requests in progress, and when it has none left;
    `over(channel)` when it ends.
    """

    _reception: Dispatcher
    _ends: ChannelKeys
    _sender: PublicKey
    _address: str
    _transport: asyncio.Transport
    _busy: Callable[[ServerChannel, bool], None]
    _over: Callable[[ServerChannel], None]
    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop)
    # The size limit is 0 until the client has proven its key with an empty frame.
    _frames: Frames = field(factory=lambda: Frames(0))
    _proven: bool = False
    _tasks: set[asyncio.Future[None]] = field(factory=set)
    _unread: bool = False  # the peer does not read: answers wait
    _held: bool = False  # reading is paused
    _closing: bool = False
    _heard: float = 0.0
    _late: asyncio.Handle | None = None
    _late_since: float = 0.0
    _idle: asyncio.Handle | None = None

    def begin(self, data: bytes) -> None:
        """Take over the connection. `data`: bytes already received."""
        self._heard = self._loop.time()
        self._idle = self._loop.call_later(KEEP_ALIVE_S, self._look)
        self._transport.set_protocol(self)
        self.data_received(data)

    # Connection callbacks

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._frames.feed(data)
        self._take()

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`: the peer reads answers more slowly than they are made."""
        self._unread = True
        self._hold(True)
        self._watch()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._unread = False
        self._take()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`. Requests in progress are finished, but nobody receives their answers."""
        self._closing = True
        for timer in (self._late, self._idle):
            if timer is not None:
                timer.cancel()
        self._over(self)

    # Requests

    def _take(self) -> None:
        """Handle the frames received, as far as the window allows."""
        try:
            for _ in range(SERVER_WINDOW):
                if self._closing or self._unread or len(self._tasks) >= SERVER_WINDOW:
                    break
                sealed = self._frames.next()
                if sealed is None:
                    self._hold(False)
                    self._watch()
                    return
                self._heard = self._loop.time()
                self._request(self._ends.receive.open(sealed))
            else:
                self._loop.call_soon(self._take)
        except BrokenChannel as error:
            _log.info("a channel of %s is closed: %s", self._address, error)
            self._reception.refused[400] += 1
            self.abort()
            return
        self._hold(True)
        self._watch()

    def _request(self, plain: bytes) -> None:
        if not self._proven:
            self._proven, self._frames.most = True, MAX_REQUEST_BYTES
            return
        if len(plain) < REQUEST_HEAD.size:
            raise BrokenChannel("a frame that is too short for a request")
        number, what = REQUEST_HEAD.unpack_from(plain)
        if what >= len(REQUEST_KINDS):
            raise BrokenChannel("a request of an unknown kind")
        self._reception.received_bytes += len(plain)
        try:
            self._reception.begin(self._address, self._sender)
        except RequestRefused as refused:
            self._tell(number, self._reception.refusal(refused))
            return
        if not self._tasks:
            self._busy(self, True)
        work = self._answer(number, REQUEST_KINDS[what], memoryview(plain)[REQUEST_HEAD.size :])
        # Handoff messages are mostly answered without waiting; other requests may run foreign code.
        task = (
            eager.start_eagerly(work, self._loop) if REQUEST_KINDS[what] == "handoff" else self._loop.create_task(work)
        )
        if task.done():
            self._rest()
        else:
            self._tasks.add(task)
            task.add_done_callback(self._answered)

    async def _answer(self, number: int, what: str, body: memoryview) -> None:
        try:
            answer = await self._reception.whole(what, self._sender, body, self._address)
        except Exception as error:
            self._tell(number, self._reception.refusal(error))
        else:
            self._send(number, 204 if answer is None else 200, answer or ())
        finally:
            self._reception.end(self._address, self._sender)

    def _answered(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        self._rest()
        if self._held:
            self._take()

    def _rest(self) -> None:
        if not self._tasks:
            self._busy(self, False)
            if self._closing:
                self._transport.close()

    def _tell(self, number: int, refused: RequestRefused) -> None:
        self._send(number, refused.status, (refused.why.encode(),))

    def _send(self, number: int, status: int, parts: tuple[Buffer, ...] | list[Buffer]) -> None:
        with contextlib.suppress(ConnectionError):  # nobody is left to receive it
            frame = self._ends.send.seal((ANSWER_HEAD.pack(number, status), *parts))
            write_pieces(self._transport, (frame,))
            self._reception.sent_bytes += len(frame)

    # Timeouts

    def _hold(self, wanted: bool) -> None:
        """Pause reading, or resume it."""
        if wanted != self._held and not self._transport.is_closing():
            self._held = wanted
            (self._transport.pause_reading if wanted else self._transport.resume_reading)()

    def _watch(self) -> None:
        """Run a timer while we wait for the peer to finish a frame, to read, or to prove its key."""
        waits = self._unread or (self._frames.inside and not self._held) or not self._proven
        if self._late is not None and (not waits or self._heard > self._late_since):
            self._late.cancel()
            self._late = None
        if waits and self._late is None and not self._transport.is_closing():
            self._late, self._late_since = self._loop.call_later(self._patience, self.abort), self._loop.time()

    @property
    def _patience(self) -> float:
        return self._reception.limits.patience_s

    def _look(self) -> None:
        """Close the channel if it is unused."""
        left = self._heard + KEEP_ALIVE_S - self._loop.time()
        if self._tasks or left > 0:
            self._idle = self._loop.call_later(max(left, 1.0), self._look)
        else:
            self._transport.close()

    # Closing

    def shutdown(self) -> None:
        """Accept no more requests, answer those in progress, and close."""
        self._closing = True
        if not self._tasks:
            self._transport.close()

    def abort(self) -> None:
        """Close at once, and discard unwritten data."""
        self._closing = True
        self._transport.abort()
