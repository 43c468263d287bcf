"""The end of a channel that calls: sends requests, many at once, and gives each its answer.

Not the frames (`channel`). One channel serves for all small requests to one station at one address, is opened by the
first of them, and is replaced after a while, so that its keys are not for long. Whoever does not know channels, a proxy
or a station inside another application, answers with HTTP to the head that asks for one, and is left alone with it.

Invariants: a request that certainly did not arrive is `PeerUnreachable`, one that perhaps did is `NoAnswer`; requests
at once over one channel are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, cast

from attrs import define, field

from agents.credentials.keys import PublicKey
from agents.errors import CredentialError
from docking.errors import NoAnswer, PeerUnreachable
from docking.handoff.messages import Buffer
from docking.http import channel
from docking.http.channel import BrokenChannel, Ends, Frames, Fresh
from docking.http.posting import ANSWER, CONNECT, IDLE, RATE
from docking.http.sealed import Secrets

# Requests at once over one channel: with those by HTTP, no more than a station takes of one other.
WINDOW = 48
# Seconds after which a channel is replaced: who learns its keys from memory reads what it carried, and no more.
LIFE = 600.0
# Seconds that something was asked and nothing at all came: the next request takes a new channel. After a break in the
# network the old connection may be silent for much longer than the break was.
QUIET = 2.0
# Seconds for which an address is asked by HTTP alone, after it did not know channels.
DEAF = 60.0
# Stations whose channels are remembered, at most: anyone can make up stations.
LINES = 4096


class Calling(asyncio.Protocol):
    """One channel."""

    def __init__(self, secrets: Secrets, to: PublicKey, fresh: Fresh) -> None:
        self._secrets, self._to = secrets, to
        # Until the keys of the channel are made from it.
        self._fresh: Fresh | None = fresh
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._ends: Ends | None = None
        self._head = b""
        self._welcomed: asyncio.Future[bool] = self._loop.create_future()
        self._frames = Frames(channel.MOST_ANSWER)
        self._waiting: dict[int, asyncio.Future[tuple[int, bytes]]] = {}
        self._number = 0
        self._used = self._loop.time()
        self._retired = self._used + LIFE
        # Since when something is waited for and nothing was heard, if it is so.
        self._quiet: float | None = None
        self._timer = self._loop.call_later(IDLE, self._look)
        self.closed = False

    async def open(self, host: str) -> bool:
        """Ask for a channel; whether there is one. Raises `OSError`."""
        assert self._transport is not None
        assert self._fresh is not None
        self._transport.write(channel.greeting(host, self._secrets.name, self._to, self._fresh.public))
        return await self._welcomed

    @property
    def useful(self) -> bool:
        """Whether it may be given another request."""
        if self.closed:
            return False
        now = self._loop.time()
        return now < self._retired and (self._quiet is None or now < self._quiet + QUIET)

    async def request(self, what: int, bodies: Sequence[Buffer], within: float) -> tuple[int, bytes, int]:
        """Ask; status and body of the answer, and the size of the request's frame. Raises `OSError`,
        `asyncio.TimeoutError` after `within` seconds.
        """
        if self.closed:
            raise ConnectionResetError("the channel was closed")
        assert self._ends is not None
        assert self._transport is not None
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        self._used = self._loop.time()
        if self._quiet is None:
            self._quiet = self._used
        answer = self._waiting[number] = self._loop.create_future()
        frame = self._ends.send.seal((channel.REQUEST.pack(number, what), *bodies))
        self._transport.write(frame)
        timer = self._loop.call_later(within, _too_late, answer)
        try:
            status, body = await answer
        finally:
            timer.cancel()
            self._waiting.pop(number, None)
        return status, body, len(frame)

    def close(self) -> None:
        """Use it no more."""
        self.closed = True
        if self._transport is not None:
            self._transport.close()

    # From the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = cast(asyncio.Transport, transport)  # other loops have transports of their own kind

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self.closed = True
        self._timer.cancel()
        if not self._welcomed.done():
            self._welcomed.set_result(False)
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError("the channel was closed"))
                answer.exception()  # seen: nobody may be waiting

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._used = self._loop.time()
        try:
            if self._ends is None:
                data = self._welcome(data)
            if self._ends is None:
                return
            self._frames.feed(data)
            while (sealed := self._frames.next()) is not None:
                self._answer(self._ends.receive.open(sealed))
            self._quiet = self._used if any(not answer.done() for answer in self._waiting.values()) else None
        except (BrokenChannel, CredentialError):
            self.closed = True
            if self._transport is not None:
                self._transport.abort()

    def _welcome(self, data: bytes) -> bytes:
        """Read the head; what comes after it."""
        self._head += data
        head, found, rest = self._head.partition(b"\r\n\r\n")
        if len(head) > channel.HEAD:
            raise BrokenChannel("an endless head")
        if not found:
            return b""
        theirs = channel.read_welcome(head)
        if theirs is not None:
            assert self._fresh is not None
            self._ends = channel.calling(self._secrets, self._to, theirs, self._fresh)
            self._fresh = None
            assert self._transport is not None
            self._transport.write(self._ends.send.seal(()))
        if not self._welcomed.done():
            self._welcomed.set_result(theirs is not None)
        return rest

    def _answer(self, plain: bytes) -> None:
        if len(plain) < channel.ANSWER.size:
            raise BrokenChannel("a frame that is too short for an answer")
        number, status = channel.ANSWER.unpack_from(plain)
        answer = self._waiting.get(number)
        # An answer nobody waits for came too late.
        if answer is not None and not answer.done():
            answer.set_result((status, plain[channel.ANSWER.size :]))

    def _look(self) -> None:
        """Close it when it is not used."""
        left = self._used + IDLE - self._loop.time()
        if self._waiting or left > 0:
            self._timer = self._loop.call_later(max(left, 1.0), self._look)
        else:
            self.close()


def _too_late(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(asyncio.TimeoutError())


@define(eq=False)
class _Line:
    """What is known of one station at one address."""

    call: Calling | None = None
    opening: asyncio.Task[Calling | None] | None = None
    deaf_until: float = 0.0
    room: asyncio.Semaphore = field(factory=lambda: asyncio.Semaphore(WINDOW))


@define(eq=False)
class Calls:
    """The channels of one station to others. `random(n)`: fresh random bytes; counts bytes of frames."""

    _secrets: Secrets
    _random: Callable[[int], bytes]
    _lines: dict[tuple[PublicKey, str, int], _Line] = field(factory=dict)
    sent_bytes: int = 0
    received_bytes: int = 0

    async def ask(
        self, peer: PublicKey, host: str, port: int, what: int, bodies: Sequence[Buffer]
    ) -> tuple[int, bytes] | None:
        """Status and body of the answer of `peer`, which is the one who made it. None: there is no channel to be had,
        and nothing was sent. Raises `PeerUnreachable`, `NoAnswer`.
        """
        line = self._line(peer, host, port)
        within = ANSWER + sum(len(body) for body in bodies) / RATE
        async with line.room:
            while True:
                call, fresh = line.call, False
                if call is None or not call.useful:
                    call, fresh = await self._opened(line, peer, host, port), True
                    if call is None:
                        return None
                try:
                    status, body, sent = await call.request(what, bodies, within)
                except asyncio.TimeoutError:
                    call.close()
                    raise NoAnswer(f"no answer from {host}:{port} in {within:.0f} s") from None
                except OSError as error:
                    if fresh:
                        raise NoAnswer(f"{host}:{port}: {error}") from error
                    continue  # a kept channel that the peer has closed: requests may be repeated
                self.sent_bytes += sent
                self.received_bytes += len(body)
                return status, body

    def close(self) -> None:
        """Close all channels."""
        for line in self._lines.values():
            if line.opening is not None:
                line.opening.cancel()
            if line.call is not None:
                line.call.close()

    def _line(self, peer: PublicKey, host: str, port: int) -> _Line:
        line = self._lines.get((peer, host, port))
        if line is None:
            if len(self._lines) >= LINES:
                for key in [key for key, each in self._lines.items() if each.call is None or each.call.closed]:
                    del self._lines[key]
            line = self._lines[peer, host, port] = _Line()
        return line

    async def _opened(self, line: _Line, peer: PublicKey, host: str, port: int) -> Calling | None:
        """A new channel; those who ask at once share it."""
        loop = asyncio.get_running_loop()
        if line.opening is None:
            if loop.time() < line.deaf_until:
                return None
            if line.call is not None and not line.call.closed:
                loop.call_later(ANSWER, line.call.close)  # its time is over, what was asked is still answered
            line.call = None
            line.opening = loop.create_task(self._open(peer, host, port))
            line.opening.add_done_callback(lambda task: self._is_open(line, task))
        return await asyncio.shield(line.opening)

    def _is_open(self, line: _Line, task: asyncio.Task[Calling | None]) -> None:
        line.opening = None
        if not task.cancelled() and task.exception() is None:
            line.call = task.result()
            if line.call is None:
                line.deaf_until = asyncio.get_running_loop().time() + DEAF

    async def _open(self, peer: PublicKey, host: str, port: int) -> Calling | None:
        loop = asyncio.get_running_loop()
        try:
            _, call = await asyncio.wait_for(
                loop.create_connection(lambda: Calling(self._secrets, peer, Fresh(self._random(32))), host, port),
                CONNECT,
            )
        except (OSError, asyncio.TimeoutError, ValueError) as error:  # ValueError: a name that cannot be one
            raise PeerUnreachable(f"{host}:{port} does not answer: {error or 'it took too long'}") from error
        called = False
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            named = f"[{host}]" if ":" in host else host
            called = await asyncio.wait_for(call.open(f"{named}:{port}"), CONNECT)
        if called:
            return call
        call.close()
        return None
