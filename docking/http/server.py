"""uvicorn, run inside a station's event loop on a socket that is open already.

Not the application (`app`). Invariants: the port is known before anybody is told of it; signals are left to whoever
owns the process; closing waits for the requests that are being answered, but not for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from attrs import define
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from docking.errors import StationError
from docking.http import porch
from docking.http.called import KEEP
from docking.http.porch import Channels, Front, Porch
from docking.http.reception import Reception
from docking.http.sealed import Secrets

# Connections at once, of all and of one address; and descriptors of the process that are not for connections of others:
# the store, the engine and our own requests need some, and a process without any cannot even refuse.
CONNECTIONS, OF_ONE_ADDRESS = 2048, 1024
RESERVED = 256
# Seconds in which requests that are being answered may be, when the server stops.
LAST_ANSWERS = 3


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
            self._loop.call_soon(self.flush)
        self._waiting.append(data)

    def flush(self) -> None:
        """Send what waits."""
        if self._waiting:
            data, self._waiting = b"".join(self._waiting), []
            self._transport.write(data)

    def close(self) -> None:
        """See `asyncio.WriteTransport`."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Protocol(HttpToolsProtocol):
    """uvicorn's, and the bounds on heads and connections that it leaves to a proxy in front of it."""

    _timer: asyncio.TimerHandle | None = None
    _head = 0

    def __init__(self, *args: Any, stands: Porch, **options: Any) -> None:
        super().__init__(*args, **options)
        self._porch = stands

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        corked: Any = _Corked(transport, self.loop)  # type: ignore[arg-type]
        self._corked: _Corked = corked
        super().connection_made(corked)
        if self._porch.enter(self, str(self.client[0]) if self.client else ""):
            self._begin()
        else:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._porch.leave(self)
        self._end()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close it now, whatever is still to be written."""
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._timer is not None:
            self._head += min(len(data), porch.HEAD_BYTES)
            if self._head > 2 * porch.HEAD_BYTES:
                self.transport.close()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._timer is None:
            self._begin()

    def on_headers_complete(self) -> None:
        self._end()
        self._porch.speaks(self)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        self._corked.flush()
        self._porch.falls_silent(self)
        super().on_response_complete()

    def _begin(self) -> None:
        self._head = 0
        self._timer = self.loop.call_later(porch.HEAD_SECONDS, self._too_slow)

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
        what = "choose another with --port, or 0 for any free one"
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            what = "name an address of this machine with --host, or 0.0.0.0 for all"
        elif error.errno == errno.EACCES:
            what = "ports below 1024 are the system's, choose a higher one with --port"
        raise StationError(f"port {port} of {host} cannot be used ({reason}): {what}") from error
    return sock


def room() -> int:
    """How many connections this process can take: what its limit of open files leaves."""
    with contextlib.suppress(ImportError, OSError):  # Windows has neither the module nor the limit
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY:
            return max(16, min(CONNECTIONS, soft - RESERVED))
    return CONNECTIONS


@define(eq=False)
class Server:
    """A running uvicorn. `port`: where it listens."""

    port: int
    channels: Channels
    _server: uvicorn.Server
    _socket: socket.socket

    @classmethod
    async def start(
        cls, app: Any, reception: Reception, secrets: Secrets, random: Callable[[int], bytes], sock: socket.socket
    ) -> Server:
        """Serve `app` on `sock`, and channels. `random(n)`: fresh random bytes."""
        most = room()
        stands = Porch(most, min(OF_ONE_ADDRESS, most))
        channels = Channels(stands, reception, secrets, random)

        def front(**options: Any) -> Front:
            return Front(stands, channels, functools.partial(_Protocol, stands=stands, **options))

        protocol: Any = front
        config = uvicorn.Config(
            app,
            http=protocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP,
            timeout_graceful_shutdown=LAST_ANSWERS,
            ws="none",
        )
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        # `Server.serve` would take the process's signals, and look ten times a second whether it shall end.
        await server.startup(sockets=[sock])
        await server.on_tick(0)
        return cls(sock.getsockname()[1], channels, server, sock)

    async def close(self) -> None:
        """Answer what is being answered, and stop."""
        await asyncio.gather(self._server.shutdown(sockets=[self._socket]), self.channels.close(LAST_ANSWERS))
