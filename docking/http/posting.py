"""Requests of HTTP/1.1, over connections that are kept.

By the parser `httptools`, on asyncio's transports: measured against httpx, aiohttp, http.client in a thread and h11,
it is two to ten times faster for a small request (docs/topics/performance). Redirects, cookies and proxies do not
exist here.

Invariants: a request that certainly did not arrive is `PeerUnreachable`, one that perhaps did is `NoAnswer`;
connections to one address are bounded, and an idle one is used before a new one is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
from attrs import define, field

from docking.errors import NoAnswer, PeerUnreachable
from docking.http.app import PREFIX
from docking.http.sealed import MAX_ANSWER, NONCE, TAG

CONNECT = 3.0  # seconds until an address is given up
ANSWER = 20.0  # seconds for an answer, beside the time that the body takes
RATE = 1 << 20  # bytes a second: slower is given up
CONNECTIONS = 16  # to one address
IDLE = 60.0  # seconds until an idle connection is closed


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self.since = 0.0
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._parser: Any = None
        self._body: list[bytes] = []
        self._size = 0
        self._keep = True
        self._room: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # other loops have transports of their own kind

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        for future in (self._answer, self._room):
            if future is not None and not future.done():
                future.set_exception(ConnectionResetError("the connection was closed"))
                future.exception()  # seen: nobody may be waiting

    def pause_writing(self) -> None:
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    async def request(self, head: bytes, pieces: Iterable[bytes], within: float) -> tuple[int, bytes]:
        """Send a request; status and body of the answer. Raises `OSError`, `asyncio.TimeoutError` after `within` s."""
        # A timer of our own: `asyncio.wait_for` makes a task for each request.
        timer = self._loop.call_later(within, self._too_late)
        try:
            return await self._request(head, pieces)
        finally:
            timer.cancel()

    def _too_late(self) -> None:
        for future in (self._answer, self._room):
            if future is not None and not future.done():
                future.set_exception(asyncio.TimeoutError())
                future.exception()  # seen: only one of them is waited for

    async def _request(self, head: bytes, pieces: Iterable[bytes]) -> tuple[int, bytes]:
        assert self.transport is not None
        self._answer = self._loop.create_future()
        self._parser, self._body, self._size = httptools.HttpResponseParser(self), [], 0
        waiting = [head]
        size = 0
        for piece in pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= 1 << 18:
                self._write(waiting)
                waiting, size = [], 0
                if self._room is not None:
                    await self._room
                if self._answer.done():
                    break  # refused before it was read whole
        self._write(waiting)
        return await self._answer

    def _write(self, pieces: list[bytes]) -> None:
        assert self.transport is not None
        # Python 3.12 goes on waiting for the descriptor of one that is lost, and so for what has this number next.
        if not self.transport.is_closing():
            self.transport.writelines(pieces)
        elif self._answer is not None and not self._answer.done():
            raise ConnectionResetError("the connection was closed")

    def close(self) -> None:
        """Use it no more."""
        self.closed = True
        if self.transport is not None:
            self.transport.close()

    # From the parser

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self.close()  # a peer that talks unasked
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:  # nobody asked for another protocol
            self._fail(f"not HTTP: {error}")

    def on_body(self, data: bytes) -> None:
        """The parser found a part of the body."""
        self._size += len(data)
        if self._size > MAX_ANSWER + NONCE + TAG:
            self._fail("an answer that is too long")
            return
        self._body.append(data)

    def on_message_complete(self) -> None:
        """The parser found the end of the answer."""
        self._keep = self._parser.should_keep_alive()
        status = self._parser.get_status_code()
        self._parser = None
        if not self._keep:
            self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((status, b"".join(self._body)))

    def _fail(self, why: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(why))
        self.close()


@define(eq=False)
class _Pool:
    """Connections to one address."""

    idle: list[_Connection] = field(factory=list)
    room: asyncio.Semaphore = field(factory=lambda: asyncio.Semaphore(CONNECTIONS))


@define(eq=False)
class Posts:
    """The connections of one station to others. `sent_bytes`, `received_bytes`: heads and bodies of requests, bodies
    of answers.
    """

    _pools: dict[tuple[str, int, bool], _Pool] = field(factory=dict)
    _sweeper: asyncio.TimerHandle | None = None
    sent_bytes: int = 0
    received_bytes: int = 0

    def close(self) -> None:
        """Close all connections."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for pool in self._pools.values():
            for connection in pool.idle:
                connection.close()

    async def send(
        self,
        url: str,
        what: str,
        method: bytes,
        extra: bytes,
        pieces: Callable[[], Iterator[bytes]],
        length: int,
    ) -> tuple[int, bytes]:
        """Send a request to what is below `url`; status and body of the answer. `extra`: more lines of its head;
        `pieces()`: its body of `length` bytes. Raises `PeerUnreachable`, `NoAnswer`.
        """
        parts = urlsplit(url)
        host, secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        head = b"%s %s%s%s HTTP/1.1\r\nhost: %s\r\n%s\r\n" % (
            method,
            parts.path.rstrip("/").encode(),
            PREFIX.encode(),
            what.encode(),
            parts.netloc.encode(),
            extra,
        )
        pool = self._pools.setdefault((host, port, secure), _Pool())
        async with pool.room:
            while True:
                connection, fresh = await self._connection(pool, host, port, secure)
                try:
                    within = ANSWER + length / RATE
                    answer = await connection.request(head, pieces(), within)
                except asyncio.TimeoutError:
                    connection.close()
                    raise NoAnswer(f"no answer from {url} in {within:.0f} s") from None
                except OSError as error:
                    connection.close()
                    if fresh:
                        raise NoAnswer(f"{url}: {error}") from error
                    continue  # a kept connection that the peer has closed: requests may be repeated
                except BaseException:
                    connection.close()
                    raise
                self.sent_bytes += len(head) + length
                self.received_bytes += len(answer[1])
                self._keep(pool, connection)
                return answer

    async def _connection(self, pool: _Pool, host: str, port: int, secure: bool) -> tuple[_Connection, bool]:
        while pool.idle:
            connection = pool.idle.pop()
            if not connection.closed:
                return connection, False
        loop = asyncio.get_running_loop()
        context = ssl.create_default_context() if secure else None
        try:
            _, connection = await asyncio.wait_for(
                loop.create_connection(_Connection, host, port, ssl=context), CONNECT
            )
        except (OSError, asyncio.TimeoutError, ValueError) as error:  # ValueError: a name that cannot be one
            raise PeerUnreachable(f"{host}:{port} does not answer: {error or 'it took too long'}") from error
        return connection, True

    def _keep(self, pool: _Pool, connection: _Connection) -> None:
        if connection.closed:
            return
        loop = asyncio.get_running_loop()
        connection.since = loop.time()
        pool.idle.append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(IDLE, self._sweep)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = None
        left = False
        for pool in self._pools.values():
            old = [c for c in pool.idle if c.closed or loop.time() - c.since >= IDLE]
            for connection in old:
                pool.idle.remove(connection)
                with contextlib.suppress(OSError):
                    connection.close()
            left = left or bool(pool.idle)
        if left:
            self._sweeper = loop.call_later(IDLE, self._sweep)
