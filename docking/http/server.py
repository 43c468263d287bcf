"""uvicorn, run inside a station's event loop on a socket that is already open.

Not here: the application (`app`). Invariants: the port is known before it is announced; signals are left to the owner
of the process; closing waits a bounded time for requests in progress.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn
from attrs import define
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from docking.aio.timeouts import within
from docking.aio.transports import write_pieces
from docking.errors import StationError
from docking.http import connections as porch
from docking.http.channel_server import KEEP_ALIVE_S
from docking.http.connections import Channels, ConnectionLimits, Handshake
from docking.http.dispatch import Dispatcher
from docking.http.sealing import SharedKeys

# Concurrent connections, in total and per address; and file descriptors reserved for other uses: the store, the engine
# and our own requests need some, and a process that has none left cannot even refuse a connection.
MAX_CONNECTIONS, MAX_ADDRESS_CONNECTIONS = 2048, 1024
RESERVED_FILES = 256
# Seconds for which requests in progress may finish when the server stops.
CLOSE_GRACE_S = 3
# And those for what is left of requests whose connections were aborted.
CLOSED_S = 1


class _Corked:
    """A transport that joins everything written in one step of the event loop into one write.

    Head and body of an answer then travel in one packet, and wake the peer once.
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
        """Send what is buffered."""
        if self._waiting:
            data, self._waiting = b"".join(self._waiting), []
            with contextlib.suppress(ConnectionError):  # uvicorn learns of it in `connection_lost`
                write_pieces(self._transport, (data,))

    def close(self) -> None:
        """See `asyncio.WriteTransport`."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with the limits on heads and connections that it leaves to a reverse proxy."""

    _timer: asyncio.Handle | None = None
    _head = 0
    _refused = False  # ignore further data
    _unread: asyncio.Handle | None = None
    _unread_bytes = 0

    def __init__(self, *args: Any, stands: ConnectionLimits, **options: Any) -> None:
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
        self._read_on()
        self._porch.queued -= len(self.pipeline)
        self.pipeline.clear()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close at once, and discard what is not written yet."""
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._timer is not None:
            self._head += min(len(data), porch.MAX_HTTP_HEAD_BYTES)
            if self._head > 2 * porch.MAX_HTTP_HEAD_BYTES:
                self.transport.close()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._timer is None:
            self._begin()

    def on_headers_complete(self) -> None:
        self._end()
        if self._refused:
            return
        self._porch.speaks(self)
        if self.cycle is not None and not self.cycle.response_complete:
            # uvicorn queues pipelined requests without a limit, and reads one after each answer.
            if len(self.pipeline) >= porch.QUEUED or self._porch.queued >= porch.ALL_QUEUED:
                self._refused = True
                self.abort()
                return
            self._porch.queued += 1
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        # Another protocol has the connection from here on, and whoever accepts WebSockets bounds their number.
        self._porch.leave(self)
        self._end()
        super().handle_websocket_upgrade()

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_response_complete(self) -> None:
        self._corked.flush()
        self._porch.falls_silent(self)
        waiting = len(self.pipeline)
        super().on_response_complete()
        self._porch.queued -= waiting - len(self.pipeline)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_bytes = self._waiting()
        self._unread = self.loop.call_later(porch.UNREAD_SECONDS, self._look_at_reader)

    def resume_writing(self) -> None:
        self._read_on()
        super().resume_writing()

    def _look_at_reader(self) -> None:
        """Wait for a slow reader; abort a peer that reads nothing, since it ties up a connection and the answer."""
        before, self._unread_bytes = self._unread_bytes, self._waiting()
        if self._unread_bytes >= before:
            self._unread = None
            self.abort()
        else:
            self._unread = self.loop.call_later(porch.UNREAD_SECONDS, self._look_at_reader)

    def _waiting(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def _read_on(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _begin(self) -> None:
        self._head = 0
        self._timer = self.loop.call_later(porch.HEAD_TIMEOUT_S, self._too_slow)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self.transport is not None:
            self.transport.close()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `StationError` with advice if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Give the protocol number explicitly: asyncio turns Nagle's algorithm off only for sockets marked as TCP. Otherwise
    # every answer (a head, then a body) waits 40 ms for the peer's delayed acknowledgement.
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
    """How many connections this process can hold within its limit of open files."""
    with contextlib.suppress(ImportError, OSError):  # Windows has neither the module nor the limit
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY:
            return max(16, min(MAX_CONNECTIONS, soft - RESERVED_FILES))
    return MAX_CONNECTIONS


def quiet_server(app: Any, protocol: Any, idle_s: int, close_s: int, **options: Any) -> uvicorn.Server:
    """A uvicorn that is not started: it logs nothing, says nothing of itself, and believes no `X-Forwarded-For`.

    protocol: makes the protocol of a connection; idle_s, close_s: seconds that a connection may be silent, and that
    requests in progress have at the end; options: others of `uvicorn.Config`
    """
    config = uvicorn.Config(
        app,
        http=protocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=idle_s,
        timeout_graceful_shutdown=close_s,
        **options,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    return server


@contextlib.asynccontextmanager
async def serving(
    app: Any, sock: socket.socket, stands: ConnectionLimits, idle_s: int, close_s: int, **options: Any
) -> AsyncIterator[None]:
    """Serve an application beside a station, on a socket that is bound already, until the block ends.

    stands: its connections; the rest: see `quiet_server`
    """
    server = quiet_server(app, functools.partial(BoundedProtocol, stands=stands), idle_s, close_s, **options)
    await server.startup(sockets=[sock])
    try:
        yield
    finally:
        await server.shutdown(sockets=[sock])


@define(eq=False, repr=False)
class Server:
    """A running uvicorn. `host`, `port`: the address where it listens."""

    host: str
    port: int
    channels: Channels
    _server: uvicorn.Server
    _socket: socket.socket

    @classmethod
    async def start(
        cls, app: Any, reception: Dispatcher, secrets: SharedKeys, random: Callable[[int], bytes], sock: socket.socket
    ) -> Server:
        """Serve `app`, and channels, on `sock`. `random(n)`: fresh random bytes."""
        most = room()
        stands = ConnectionLimits(most, min(MAX_ADDRESS_CONNECTIONS, most))
        channels = Channels(stands, reception, secrets, random)

        def front(**options: Any) -> Handshake:
            return Handshake(stands, channels, functools.partial(BoundedProtocol, stands=stands, **options))

        server = quiet_server(app, front, KEEP_ALIVE_S, CLOSE_GRACE_S + 1, date_header=False, ws="none")
        # `Server.serve` would take over the process's signals and poll ten times a second for its end.
        await server.startup(sockets=[sock])
        await server.on_tick(0)
        host, number = sock.getsockname()[:2]
        return cls(host, number, channels, server, sock)

    @property
    def connections(self) -> set[Any]:
        """The HTTP connections that are open now."""
        found: set[Any] = self._server.server_state.connections
        return found

    async def close(self) -> None:
        """Finish the requests in progress, and stop."""
        # `Server.shutdown` does this too, but waits at least 0.1 s.
        for each in self._server.servers:
            each.close()
        self._socket.close()
        for connection in list(self.connections):
            connection.shutdown()
        await asyncio.gather(self.channels.close(CLOSE_GRACE_S), self._leave(CLOSE_GRACE_S))
        tasks = list(self._server.server_state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSED_S)
            for task in late:
                task.cancel()
        for each in self._server.servers:
            with contextlib.suppress(asyncio.TimeoutError):
                await within(CLOSED_S, each.wait_closed())

    async def _leave(self, patience: float) -> None:
        """Abort connections that do not read their answer or do not finish their request.

        uvicorn keeps the former open, and cancels the latter with a traceback in the log.
        """
        connections = self.connections
        deadline = asyncio.get_running_loop().time() + patience
        while connections and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        for each in list(connections):
            each.abort()
