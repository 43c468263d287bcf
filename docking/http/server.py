"""uvicorn, run inside a station's event loop on a socket that is open already.

Not the application (`app`). Invariants: the port is known before anybody is told of it; signals are left to whoever
owns the process; closing waits for the requests that are being answered, but not for long.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from attrs import define
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from docking.errors import StationError

# Connections at once: beyond it, uvicorn answers 503 by itself.
CONNECTIONS = 2048
# Seconds an idle connection of a peer is kept; longer than the client keeps it, so that it is the client who closes.
KEEP = 75
# Seconds in which the head of a request must come, and its bytes: slow heads hold connections, endless ones memory.
HEAD_SECONDS, HEAD_BYTES = 10.0, 64 << 10


class _Corked:
    """A transport that sends what is written in one step of the loop at once.

    Head and body of an answer are one packet then, and wake the peer once.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._waiting: list[bytes] = []

    def write(self, data: bytes) -> None:
        """See `asyncio.WriteTransport`."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def _flush(self) -> None:
        if self._waiting:
            data, self._waiting = b"".join(self._waiting), []
            self._transport.write(data)

    def close(self) -> None:
        """See `asyncio.WriteTransport`."""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Protocol(HttpToolsProtocol):
    """uvicorn's, and the bounds on heads that it leaves to a proxy in front of it."""

    _timer: asyncio.TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(_Corked(transport, self.loop))  # type: ignore[arg-type]
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._timer is not None:
            self._head += min(len(data), HEAD_BYTES)
            if self._head > 2 * HEAD_BYTES:
                self.transport.close()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._timer is None:
            self._begin()

    def on_headers_complete(self) -> None:
        self._end()
        super().on_headers_complete()

    def _begin(self) -> None:
        self._head = 0
        self._timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self.transport is not None:
            self.transport.close()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `StationError` with what to do when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named for asyncio: it turns Nagle's algorithm off only where it sees TCP. Otherwise every answer
    # (a head, and then a body) waits 40 ms for the peer's delayed acknowledgement.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6 and host == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
        sock.listen(1024)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        reason = (error.strerror or str(error)).lower()
        raise StationError(
            f"port {port} of {host} cannot be used ({reason}): choose another with --port, or 0 for any free one"
        ) from error
    return sock


@define(eq=False)
class Server:
    """A running uvicorn. `port`: where it listens."""

    port: int
    _server: uvicorn.Server
    _socket: socket.socket

    @classmethod
    async def start(cls, app: Any, sock: socket.socket) -> Server:
        """Serve `app` on `sock`."""
        config = uvicorn.Config(
            app,
            http=_Protocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=KEEP,
            timeout_graceful_shutdown=3,
            ws="none",
        )
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        # `Server.serve` would take the process's signals, and look ten times a second whether it shall end.
        await server.startup(sockets=[sock])
        await server.on_tick(0)
        return cls(sock.getsockname()[1], server, sock)

    async def close(self) -> None:
        """Answer what is being answered, and stop."""
        await self._server.shutdown(sockets=[self._socket])
