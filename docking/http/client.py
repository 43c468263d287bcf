"""Sealed requests to peers, over connections that are kept.

HTTP/1.1 by the parser `httptools`, on asyncio's transports: measured against httpx, aiohttp, http.client in a thread
and h11, it is two to ten times faster for a small request (docs/topics/performance). Redirects, cookies and proxies
do not exist here.

Invariants: a request that certainly did not reach the peer is `PeerUnreachable`, one that perhaps did is `NoAnswer`;
an answer was made by the peer's key, for this request; connections to one peer are bounded, and an idle one is used
before a new one is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
from attrs import define, field

from agents import canonical
from agents.credentials.keys import PublicKey
from agents.errors import CredentialError, NotCanonical
from docking.errors import CarrierError, MalformedMessage, NoAnswer, PeerUnreachable
from docking.handoff import codec
from docking.handoff.messages import Message, Offer, Transfer
from docking.http.app import FROM, PREFIX, SALTED
from docking.http.sealed import MAX_ANSWER, NONCE, SALT, TAG, Secrets, open_answer, seal_request

_log = logging.getLogger(__name__)
CONNECT = 3.0  # seconds until an address is given up
ANSWER = 20.0  # seconds for an answer, beside the time that the body takes
RATE = 1 << 20  # bytes a second: slower is given up
CONNECTIONS = 16  # to one peer
IDLE = 60.0  # seconds until an idle connection is closed
_HELLO_BOUNDS = canonical.Bounds(max_bytes=MAX_ANSWER, max_depth=6, max_items=20_000)


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
                self.transport.writelines(waiting)
                waiting, size = [], 0
                if self._room is not None:
                    await self._room
                if self._answer.done():
                    break  # refused before it was read whole
        self.transport.writelines(waiting)
        return await self._answer

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
        except httptools.HttpParserError as error:
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
class Client:
    """Talks to peers. `addresses(key)`: URLs of a peer, the best first; `met(key, url)` is told what worked."""

    _secrets: Secrets
    _random: Callable[[int], bytes]
    _addresses: Callable[[PublicKey], Sequence[str]]
    _met: Callable[[PublicKey, str], None]
    _pools: dict[tuple[str, int, bool], _Pool] = field(factory=dict)
    _sweeper: asyncio.TimerHandle | None = None
    sent_bytes: int = 0
    received_bytes: int = 0

    async def exchange(self, peer: bytes, message: Message) -> Message | None:
        """See `docking.courier.Carrier`."""
        size = 0
        if isinstance(message, Offer | Transfer):
            size = sum(len(body.data) for body in message.bodies)
        answer = await self._ask(PublicKey(peer), "handoff", codec.encode(message), size)
        if answer is None:
            return None
        try:
            return codec.decode(answer)
        except MalformedMessage as error:
            raise NoAnswer(f"the answer is malformed: {error}") from error

    async def letter(self, peer: PublicKey, value: Any) -> Any:
        """Deliver a letter; what was answered. Raises `CarrierError`."""
        return await self._value(peer, "letter", value)

    async def hello(self, peer: PublicKey, value: Any) -> Any:
        """Greet a station; what it says of itself. Raises `CarrierError`."""
        return await self._value(peer, "hello", value)

    async def _value(self, peer: PublicKey, what: str, value: Any) -> Any:
        body = canonical.encode(value)
        answer = await self._ask(peer, what, [body], len(body))
        try:
            return canonical.decode(answer or b"", _HELLO_BOUNDS)
        except NotCanonical as error:
            raise NoAnswer(f"the answer is malformed: {error}") from error

    async def who(self, url: str) -> tuple[str, PublicKey]:
        """The name and the key that are claimed at `url`. Proves nothing. Raises `CarrierError`."""
        status, body = await self._send(url, "station", b"GET", b"", lambda: iter(()), 0)
        try:
            value = json.loads(body) if status == 200 and len(body) < 4096 else None
            return str(value["name"]), PublicKey.from_text(str(value["key"]))  # type: ignore[index]
        except (ValueError, TypeError, KeyError, CredentialError):
            raise NoAnswer(f"there is no station at {url}") from None

    def close(self) -> None:
        """Close all connections."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for pool in self._pools.values():
            for connection in pool.idle:
                connection.close()

    # How a request is made

    async def _ask(self, peer: PublicKey, what: str, bodies: Sequence[Any], size: int) -> bytes | None:
        addresses = self._addresses(peer)
        if not addresses:
            raise PeerUnreachable(f"no address of the station {peer} is known")
        problem: CarrierError | None = None
        for url in addresses:
            try:
                now = asyncio.get_running_loop().time()
                ephemeral, salt = self._secrets.ephemeral(peer, self._random, now), self._random(SALT)
                length, pieces, mark = seal_request(self._secrets, peer, what, bodies, ephemeral, salt)
            except CredentialError as error:
                raise PeerUnreachable(f"the key of the station cannot be used: {error.reason}") from error
            salted = salt.hex().encode()
            extra = b"%s: %s\r\n%s: %s\r\ncontent-length: %d\r\n" % (FROM, self._secrets.name, SALTED, salted, length)
            try:
                status, body = await self._send(url, what, b"POST", extra, pieces, length)
                return self._opened(peer, url, status, body, mark)
            except PeerUnreachable as error:
                problem = problem or error
            except NoAnswer as error:
                problem = error
        assert problem is not None
        raise problem

    def _opened(self, peer: PublicKey, url: str, status: int, body: bytes, mark: bytes) -> bytes | None:
        if status == 204:
            return None
        if status != 200:
            # Not sealed: anyone on the way may have said it, so nothing follows from it.
            raise NoAnswer(f"{url} answered {status}: {body[:200].decode('utf-8', 'replace')!r}")
        try:
            opened = open_answer(self._secrets, peer, mark, body)
        except CredentialError as error:
            raise NoAnswer(f"another station answers at {url}: {error.reason}") from error
        self._met(peer, url)
        return opened

    async def _send(
        self,
        url: str,
        what: str,
        method: bytes,
        extra: bytes,
        pieces: Callable[[], Iterator[bytes]],
        length: int,
    ) -> tuple[int, bytes]:
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
