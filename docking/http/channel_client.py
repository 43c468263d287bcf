"""The client end of a channel: sends many requests concurrently and matches each answer to its request.

Not here: the frames (`channel`). One channel carries all small requests to one station at one address. The first
request opens it, and it is replaced after a while, so that its keys are short-lived. A server without channels (a
proxy, or a station inside another application) gives a plain HTTP answer; from then on, requests to that address go
by HTTP only. Why channels: docs/adr/channels-beside-http.

Invariants: a request that certainly did not arrive raises `PeerUnreachable`, one that may have arrived `NoAnswer`;
concurrent requests per channel are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable, Sequence
from typing import Any, cast

from attrs import define, field

from agents.canonical import Buffer
from agents.credentials.keys import PublicKey
from agents.errors import CredentialError
from docking.aio.failures import reason
from docking.aio.timeouts import within
from docking.aio.transports import connect, write_pieces
from docking.errors import NoAnswer, PeerUnreachable
from docking.http import channel
from docking.http.channel import BrokenChannel, ChannelKeys, EphemeralKey, Frames
from docking.http.connection_pool import CONNECT_TIMEOUT_S, IDLE_TIMEOUT_S, MIN_BYTES_PER_S, RESPONSE_TIMEOUT_S
from docking.http.sealing import SharedKeys

# Concurrent requests per channel. With HTTP requests, stays below the server's per-peer limit.
CLIENT_WINDOW = 48
# Seconds after which a channel is replaced. Keys stolen from memory then open the traffic of this channel and no other.
LIFETIME_S = 600.0
# Seconds without any answer while one is due, after which the next request takes a new channel. After a network
# outage, the old connection may stay silent for much longer than the outage lasted.
SILENCE_S = 2.0
# Seconds for which requests to an address without channels go by HTTP only.
HTTP_ONLY_S = 60.0
# Remembered stations. Bounded, since anyone can make up stations.
MAX_CHANNELS = 4096
# Every HTTP answer begins like this.
_ANSWER = b"HTTP/1."


class _Stage(enum.Enum):
    """The stages of a channel."""

    ASKED = enum.auto()
    """The answering head has not arrived completely."""
    OPEN = enum.auto()
    OVER = enum.auto()
    """There is no channel, or it has closed; incoming data is ignored."""


class ClientChannel(asyncio.Protocol):
    """One channel, at the client."""

    def __init__(self, secrets: SharedKeys, to: PublicKey, fresh: EphemeralKey) -> None:
        self._secrets, self._to = secrets, to
        # Used up when the channel's keys are derived from it.
        self._fresh: EphemeralKey | None = fresh
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._stage = _Stage.ASKED
        self._ends: ChannelKeys | None = None
        self._head = b""
        self._welcomed: asyncio.Future[bool] = self._loop.create_future()
        self._frames = Frames(channel.MAX_ANSWER_FRAME_BYTES)
        self._waiting: dict[int, asyncio.Future[tuple[int, bytes]]] = {}
        self._number = 0
        self._used = self._loop.time()
        # Time of the loop from which on it is not used for another request.
        self.retired = self._used + LIFETIME_S
        # Since when an answer is due and nothing has been received; None if nothing is due.
        self._quiet: float | None = None
        self._timer = self._loop.call_later(IDLE_TIMEOUT_S, self._look)
        self.closed = False

    async def open(self, host: str) -> bool:
        """Ask for a channel; returns whether the server opens one. Raises `OSError`."""
        assert self._fresh is not None
        self._write(channel.greeting(host, self._secrets.name, self._to, self._fresh.public))
        return await self._welcomed

    @property
    def useful(self) -> bool:
        """Whether it can carry another request."""
        if self.closed:
            return False
        now = self._loop.time()
        return now < self.retired and (self._quiet is None or now < self._quiet + SILENCE_S)

    async def request(self, what: int, bodies: Sequence[Buffer], within: float) -> tuple[int, bytes, int]:
        """Send a request; returns status and body of the answer, and the size in bytes of the request's frame.

        Raises `OSError`, and `asyncio.TimeoutError` after `within` seconds.
        """
        if self.closed:
            raise ConnectionResetError("the channel was closed")
        assert self._ends is not None
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        self._used = self._loop.time()
        if self._quiet is None:
            self._quiet = self._used
        frame = self._ends.send.seal((channel.REQUEST_HEAD.pack(number, what), *bodies))
        self._write(frame)
        answer = self._waiting[number] = self._loop.create_future()
        timer = self._loop.call_later(within, _too_late, answer)
        try:
            status, body = await answer
        finally:
            timer.cancel()
            self._waiting.pop(number, None)
        return status, body, len(frame)

    def close(self) -> None:
        """Close it: no more requests."""
        self.closed = True
        if self._transport is not None:
            self._transport.close()

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        write_pieces(self._transport, (data,))

    # Connection callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = cast(asyncio.Transport, transport)  # other loops have their own transport classes

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self.closed = True
        self._timer.cancel()
        if not self._welcomed.done():
            self._welcomed.set_result(False)
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError("the channel was closed"))
                answer.exception()  # retrieved: nobody may be waiting

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._used = self._loop.time()
        try:
            if self._stage is _Stage.ASKED:
                data = self._welcome(data)
            if self._stage is _Stage.OPEN:
                self._take(data)
        except (BrokenChannel, CredentialError, ConnectionError):
            self._stage, self.closed = _Stage.OVER, True
            if self._transport is not None:
                self._transport.abort()

    def _welcome(self, data: bytes) -> bytes:
        """Read the answering head; returns the bytes after it."""
        self._head += data
        head, found, rest = self._head.partition(b"\r\n\r\n")
        if len(head) > channel.MAX_HEAD_BYTES or not self._head.startswith(_ANSWER[: len(self._head)]):
            raise BrokenChannel("an endless head, or none of HTTP")
        if not found:
            return b""
        self._head = b""
        theirs = channel.read_welcome(head)
        if theirs is None:
            self._stage = _Stage.OVER
        else:
            assert self._fresh is not None
            self._ends = channel.calling(self._secrets, self._to, theirs, self._fresh)
            self._fresh = None
            self._stage = _Stage.OPEN
            self._write(self._ends.send.seal(()))
        if not self._welcomed.done():
            self._welcomed.set_result(theirs is not None)
        return rest

    def _take(self, data: bytes) -> None:
        """Read frames."""
        assert self._ends is not None
        self._frames.feed(data)
        while (sealed := self._frames.next()) is not None:
            self._answer(self._ends.receive.open(sealed))
        self._quiet = None
        for answer in self._waiting.values():
            if not answer.done():
                self._quiet = self._used
                break

    def _answer(self, plain: bytes) -> None:
        if len(plain) < channel.ANSWER_HEAD.size:
            raise BrokenChannel("a frame that is too short for an answer")
        number, status = channel.ANSWER_HEAD.unpack_from(plain)
        answer = self._waiting.get(number)
        # Nobody waits for an answer that arrives too late.
        if answer is not None and not answer.done():
            answer.set_result((status, plain[channel.ANSWER_HEAD.size :]))

    def _look(self) -> None:
        """Close it if it is unused."""
        left = self._used + IDLE_TIMEOUT_S - self._loop.time()
        if self._waiting or left > 0:
            self._timer = self._loop.call_later(max(left, 1.0), self._look)
        else:
            self.close()


def _too_late(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(asyncio.TimeoutError())


@define(eq=False, repr=False)
class PeerChannel:
    """What is known about one station at one address."""

    call: ClientChannel | None = None
    opening: asyncio.Task[ClientChannel | None] | None = None
    deaf_until: float = 0.0
    room: asyncio.Semaphore = field(factory=lambda: asyncio.Semaphore(CLIENT_WINDOW))


@define(eq=False, repr=False)
class ChannelPool:
    """The channels of one station to others. `random(n)`: fresh random bytes. Counts the bytes of frames.

    `lines`: those to each peer at each address.
    """

    _secrets: SharedKeys
    _random: Callable[[int], bytes]
    lines: dict[tuple[PublicKey, str, int], PeerChannel] = field(factory=dict)
    sent_bytes: int = 0
    received_bytes: int = 0

    async def ask(
        self, peer: PublicKey, host: str, port: int, what: int, bodies: Sequence[Buffer]
    ) -> tuple[int, bytes] | None:
        """Status and body of the answer, which `peer` itself made; None if there is no channel and nothing was sent.

        Raises `PeerUnreachable`, `NoAnswer`.
        """
        line = self._line(peer, host, port)
        within = RESPONSE_TIMEOUT_S + sum(map(len, bodies)) / MIN_BYTES_PER_S
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
                    continue  # a kept channel that the peer has closed: requests are idempotent
                self.sent_bytes += sent
                self.received_bytes += len(body)
                return status, body

    def close(self) -> None:
        """Close all channels."""
        for line in self.lines.values():
            if line.opening is not None:
                line.opening.cancel()
            if line.call is not None:
                line.call.close()

    def renew(self) -> None:
        """Discard all open channels; requests in progress on them are sent again."""
        for line in self.lines.values():
            line.deaf_until = 0.0
            if line.call is not None:
                line.call.close()

    def _line(self, peer: PublicKey, host: str, port: int) -> PeerChannel:
        line = self.lines.get((peer, host, port))
        if line is None:
            if len(self.lines) >= MAX_CHANNELS:
                for key in [key for key, each in self.lines.items() if each.call is None or each.call.closed]:
                    del self.lines[key]
            line = self.lines[peer, host, port] = PeerChannel()
        return line

    async def _opened(self, line: PeerChannel, peer: PublicKey, host: str, port: int) -> ClientChannel | None:
        """A new channel, shared by concurrent callers."""
        loop = asyncio.get_running_loop()
        if line.opening is None:
            if loop.time() < line.deaf_until:
                return None
            if line.call is not None and not line.call.closed:
                loop.call_later(RESPONSE_TIMEOUT_S, line.call.close)  # expired: pending answers still arrive
            line.call = None
            line.opening = loop.create_task(self._open(peer, host, port))
            line.opening.add_done_callback(lambda task: self._is_open(line, task))
        return await asyncio.shield(line.opening)

    def _is_open(self, line: PeerChannel, task: asyncio.Task[ClientChannel | None]) -> None:
        line.opening = None
        if not task.cancelled() and task.exception() is None:
            line.call = task.result()
            if line.call is None:
                line.deaf_until = asyncio.get_running_loop().time() + HTTP_ONLY_S

    async def _open(self, peer: PublicKey, host: str, port: int) -> ClientChannel | None:
        try:
            call = await connect(
                lambda: ClientChannel(self._secrets, peer, EphemeralKey(self._random(32))),
                host,
                port,
                CONNECT_TIMEOUT_S,
            )
        except (OSError, asyncio.TimeoutError) as error:
            raise PeerUnreachable(f"{host}:{port} does not answer: {reason(error)}") from error
        called = False
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            named = f"[{host}]" if ":" in host else host
            called = await within(CONNECT_TIMEOUT_S, call.open(f"{named}:{port}"))
        if called:
            return call
        call.close()
        return None
