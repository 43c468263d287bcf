"""The end of a channel that was called: takes requests, has them answered, and sends the answers as they come.

Not the frames (`channel`), nor what a request asks for (`reception`). Invariants: at most `WINDOW` requests of one
channel are being answered, and what is behind them waits in the connection, unread; whoever does not read answers, or
begins frames and does not end them, or says nothing for long, is left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from attrs import define, field

from agents.credentials.keys import PublicKey
from docking import eager
from docking.handoff.messages import Buffer
from docking.http.channel import ANSWER, MOST_REQUEST, REQUEST, BrokenChannel, Ends, Frames
from docking.http.reception import ASKED, Reception, Refused

_log = logging.getLogger(__name__)
# Requests of one channel that are answered at once, and frames that are taken in one step of the loop.
WINDOW = 64
# Seconds for which a connection that is not used is kept, one of HTTP too; longer than the caller keeps it, so that it
# is the caller who closes.
KEEP = 75


@define(eq=False)
class Called(asyncio.Protocol):
    """One channel. `busy(channel, bool)` is told when it begins to have something to do, and when it has nothing;
    `over(channel)` when it ends.
    """

    _reception: Reception
    _ends: Ends
    _sender: PublicKey
    _address: str
    _transport: asyncio.Transport
    _busy: Callable[[Called, bool], None]
    _over: Callable[[Called], None]
    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop)
    # Until the caller has proven its key, by an empty frame, it is given no room.
    _frames: Frames = field(factory=lambda: Frames(0))
    _proven: bool = False
    _tasks: set[asyncio.Future[None]] = field(factory=set)
    _unread: bool = False  # the peer does not read: answers wait
    _held: bool = False  # reading waits
    _closing: bool = False
    _heard: float = 0.0
    _late: asyncio.TimerHandle | None = None
    _idle: asyncio.TimerHandle | None = None

    def begin(self, data: bytes) -> None:
        """Take the connection over; `data` came already."""
        self._heard = self._loop.time()
        self._idle = self._loop.call_later(KEEP, self._look)
        self._transport.set_protocol(self)
        self.data_received(data)

    # From the connection

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._frames.feed(data)
        self._take()

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`: answers are not read as fast as they are made."""
        self._unread = True
        self._hold(True)
        self._watch()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._unread = False
        self._take()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`. What is being answered is done, and told to nobody."""
        self._closing = True
        for timer in (self._late, self._idle):
            if timer is not None:
                timer.cancel()
        self._over(self)

    # Requests

    def _take(self) -> None:
        """Take what is here, as much as there is room for."""
        try:
            for _ in range(WINDOW):
                if self._closing or self._unread or len(self._tasks) >= WINDOW:
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
            self._proven, self._frames.most = True, MOST_REQUEST
            return
        if len(plain) < REQUEST.size:
            raise BrokenChannel("a frame that is too short for a request")
        number, what = REQUEST.unpack_from(plain)
        if what >= len(ASKED):
            raise BrokenChannel("a request of an unknown kind")
        self._reception.received_bytes += len(plain)
        try:
            self._reception.begin(self._address, self._sender)
        except Refused as refused:
            self._tell(number, self._reception.refusal(refused))
            return
        if not self._tasks:
            self._busy(self, True)
        work = self._answer(number, ASKED[what], memoryview(plain)[REQUEST.size :])
        # Messages of the handoff are mostly answered without a wait; others may end in code of others.
        task = eager.begin(work, self._loop) if ASKED[what] == "handoff" else self._loop.create_task(work)
        if task.done():
            self._rest()
        else:
            self._tasks.add(task)
            task.add_done_callback(self._answered)

    async def _answer(self, number: int, what: str, body: memoryview) -> None:
        try:
            answer = await self._reception.whole(what, self._sender, body)
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

    def _tell(self, number: int, refused: Refused) -> None:
        self._send(number, refused.status, (refused.why.encode(),))

    def _send(self, number: int, status: int, parts: tuple[Buffer, ...] | list[Buffer]) -> None:
        if not self._transport.is_closing():
            frame = self._ends.send.seal((ANSWER.pack(number, status), *parts))
            self._reception.sent_bytes += len(frame)
            self._transport.write(frame)

    # Patience

    def _hold(self, wanted: bool) -> None:
        """Read no more, or again."""
        if wanted != self._held and not self._transport.is_closing():
            self._held = wanted
            (self._transport.pause_reading if wanted else self._transport.resume_reading)()

    def _watch(self) -> None:
        """Give the peer some time to end what it has begun, or to read; and stop the clock if that is not up to it."""
        waits = self._unread or (self._frames.inside and not self._held) or not self._proven
        if self._late is not None and (not waits or self._heard > self._late.when() - self._patience):
            self._late.cancel()
            self._late = None
        if waits and self._late is None and not self._transport.is_closing():
            self._late = self._loop.call_later(self._patience, self.abort)

    @property
    def _patience(self) -> float:
        return self._reception.limits.patience

    def _look(self) -> None:
        """Close a channel that is not used."""
        left = self._heard + KEEP - self._loop.time()
        if self._tasks or left > 0:
            self._idle = self._loop.call_later(max(left, 1.0), self._look)
        else:
            self._transport.close()

    # Its end

    def shutdown(self) -> None:
        """Take no more requests, answer those that are here, and close."""
        self._closing = True
        if not self._tasks:
            self._transport.close()

    def abort(self) -> None:
        """Close it now, whatever is still to be written."""
        self._closing = True
        self._transport.abort()
