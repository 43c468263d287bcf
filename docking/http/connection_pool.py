"""HTTP/1.1 requests over persistent connections.

Uses the parser `httptools` on asyncio's transports. For a small request this is two to ten times faster than httpx,
aiohttp, http.client in a thread, and h11 (measured in docs/topics/performance). Redirects, cookies and proxies are not
supported.

Invariants: a request that certainly did not arrive raises `PeerUnreachable`, one that may have arrived `NoAnswer`;
connections to one address are bounded, and an idle one is reused before a new one is opened.
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

from docking.aio.failures import reason
from docking.aio.threads import in_thread
from docking.aio.transports import connect, write_pieces
from docking.errors import NoAnswer, PeerUnreachable
from docking.http.app import URL_PREFIX
from docking.http.sealing import MAX_ANSWER_BYTES, REQUEST_KEY_BYTES, TAG_BYTES

CONNECT_TIMEOUT_S = 3.0  # seconds to wait for a connection to an address
RESPONSE_TIMEOUT_S = 20.0  # seconds to wait for an answer, beside the time for the body
MIN_BYTES_PER_S = 1 << 20  # bytes per second: give up below this
CONNECTION_LIMIT = 16  # to one address
IDLE_TIMEOUT_S = 60.0  # seconds until an idle connection is closed


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
        self.transport = cast(asyncio.Transport, transport)  # other loops have their own transport classes

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        for future in (self._answer, self._room):
            if future is not None and not future.done():
                future.set_exception(ConnectionResetError("the connection was closed"))
                future.exception()  # retrieved: nobody may be waiting

    def pause_writing(self) -> None:
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    async def request(self, head: bytes, pieces: Iterable[bytes], within: float) -> tuple[int, bytes]:
        """Send a request; returns status and body of the answer.

        Raises `OSError`, and `asyncio.TimeoutError` after `within` seconds.
        """
        # Our own timer: `asyncio.wait_for` would make a task for each request.
        timer = self._loop.call_later(within, self._too_late)
        try:
            return await self._request(head, pieces)
        finally:
            timer.cancel()

    def _too_late(self) -> None:
        for future in (self._answer, self._room):
            if future is not None and not future.done():
                future.set_exception(asyncio.TimeoutError())
                future.exception()  # retrieved: only one of the two is awaited

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
                    # The peer answered before it read the whole body: it would take the next request for its rest.
                    self.close()
                    return await self._answer
        self._write(waiting)
        return await self._answer

    def _write(self, pieces: list[bytes]) -> None:
        assert self.transport is not None
        try:
            # Python 3.12 keeps waiting on the descriptor of a lost connection, and so on the next one with that number.
            write_pieces(self.transport, pieces)
        except ConnectionError:
            if self._answer is None or not self._answer.done():
                raise

    def close(self) -> None:
        """Close it: no more requests."""
        self.closed = True
        if self.transport is not None:
            self.transport.close()

    # Parser callbacks

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self.close()  # the peer sends data without a request
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:  # nobody asked for another protocol
            self._fail(f"not HTTP: {error}")

    def on_body(self, data: bytes) -> None:
        """Part of the body was parsed."""
        self._size += len(data)
        if self._size > MAX_ANSWER_BYTES + REQUEST_KEY_BYTES + TAG_BYTES:
            self._fail("an answer that is too long")
            return
        self._body.append(data)

    def on_message_complete(self) -> None:
        """The answer is complete."""
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


@define(eq=False, repr=False)
class _HostPool:
    """Connections to one address."""

    idle: list[_Connection] = field(factory=list)
    room: asyncio.Semaphore = field(factory=lambda: asyncio.Semaphore(CONNECTION_LIMIT))


@define(eq=False, repr=False)
class ConnectionPool:
    """The connections of one station to others.

    `sent_bytes`, `received_bytes`: heads and bodies of requests, bodies of answers.
    """

    pools: dict[tuple[str, int, bool], _HostPool] = field(factory=dict)
    _sweeper: asyncio.Handle | None = None
    sent_bytes: int = 0
    received_bytes: int = 0

    def close(self) -> None:
        """Close all connections."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for pool in self.pools.values():
            for connection in pool.idle:
                connection.close()

    def renew(self) -> None:
        """Discard all open connections: the network has changed, and they may be dead without any error."""
        for pool in self.pools.values():
            for connection in pool.idle:
                connection.close()
            pool.idle.clear()

    async def send(
        self,
        url: str,
        what: str,
        method: bytes,
        extra: bytes,
        pieces: Callable[[], Iterator[bytes]],
        length: int,
    ) -> tuple[int, bytes]:
        """Send a request to the path `what` below `url`; returns status and body of the answer.

        `extra`: more header lines; `pieces()`: yields the body of `length` bytes. Raises `PeerUnreachable`, `NoAnswer`.
        """
        parts = urlsplit(url)
        host, secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        head = b"%s %s%s%s HTTP/1.1\r\nhost: %s\r\n%s\r\n" % (
            method,
            parts.path.rstrip("/").encode(),
            URL_PREFIX.encode(),
            what.encode(),
            parts.netloc.encode(),
            extra,
        )
        pool = self.pools.setdefault((host, port, secure), _HostPool())
        async with pool.room:
            while True:
                connection, fresh = await self._connection(pool, host, port, secure)
                try:
                    within = RESPONSE_TIMEOUT_S + length / MIN_BYTES_PER_S
                    answer = await connection.request(head, pieces(), within)
                except asyncio.TimeoutError:
                    connection.close()
                    raise NoAnswer(f"no answer from {url} in {within:.0f} s") from None
                except OSError as error:
                    connection.close()
                    if fresh:
                        raise NoAnswer(f"{url}: {error}") from error
                    continue  # a kept connection that the peer has closed: requests are idempotent
                except BaseException:
                    connection.close()
                    raise
                self.sent_bytes += len(head) + length
                self.received_bytes += len(answer[1])
                self._keep(pool, connection)
                return answer

    async def _connection(self, pool: _HostPool, host: str, port: int, secure: bool) -> tuple[_Connection, bool]:
        while pool.idle:
            connection = pool.idle.pop()
            if not connection.closed:
                return connection, False
        # Reading the system's certificates takes some 50 ms, in which the loop would stand still.
        context = await in_thread(ssl.create_default_context) if secure else None
        try:
            connection = await connect(_Connection, host, port, CONNECT_TIMEOUT_S, context)
        except (OSError, asyncio.TimeoutError) as error:
            raise PeerUnreachable(f"{host}:{port} does not answer: {reason(error)}") from error
        return connection, True

    def _keep(self, pool: _HostPool, connection: _Connection) -> None:
        if connection.closed:
            return
        loop = asyncio.get_running_loop()
        connection.since = loop.time()
        pool.idle.append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(IDLE_TIMEOUT_S, self._sweep)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = None
        left = False
        for pool in self.pools.values():
            old = [c for c in pool.idle if c.closed or loop.time() - c.since >= IDLE_TIMEOUT_S]
            for connection in old:
                pool.idle.remove(connection)
                with contextlib.suppress(OSError):
                    connection.close()
            left = left or bool(pool.idle)
        if left:
            self._sweeper = loop.call_later(IDLE_TIMEOUT_S, self._sweep)
