"""Accepted connections: how many there may be, and whether each is HTTP or a channel.

Invariants: connections are counted before anything is read from them; a connection that does not begin exactly like a
channel is HTTP from its first byte; the time until its kind is known is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol, cast

from attrs import define, field

from agents.errors import CredentialError
from docking.aio.transports import write_pieces
from docking.http import channel
from docking.http.channel_server import ServerChannel
from docking.http.dispatch import Dispatcher
from docking.http.sealing import SharedKeys

# The limits of a request's head, in seconds and bytes: slow heads tie up connections, endless ones memory.
HEAD_TIMEOUT_S, MAX_HTTP_HEAD_BYTES = 10.0, 64 << 10
# Pipelined requests (sent before the previous answer), per connection and in total: each holds a head and the beginning
# of a body. Stations never send any.
QUEUED, ALL_QUEUED = 4, 128
# Seconds for which a peer may read nothing while data for it is waiting.
UNREAD_SECONDS = 20.0


class Connection(Protocol):
    """A connection that counts against the limits."""

    def abort(self) -> None:
        """Close at once, and discard unwritten data."""


@define(eq=False, repr=False)
class ConnectionLimits:
    """The connections of one server. `most`: in total; `of_one`: of one address.

    When the limit is reached, the oldest connection whose request has not begun is closed to make room: a real peer
    sends its request at once, so idle connections cannot keep it out.
    """

    most: int
    of_one: int
    queued: int = 0
    """Pipelined requests on all connections."""
    _addresses: dict[Connection, str] = field(factory=dict)
    _counts: Counter[str] = field(factory=Counter)
    # Connections whose head has not arrived, in the order in which they became idle.
    _silent: dict[Connection, None] = field(factory=dict)

    def enter(self, connection: Connection, address: str) -> bool:
        """Register a connection; returns whether it may stay."""
        if self._counts[address] >= self.of_one and not self._make_room(address):
            return False
        if len(self._addresses) >= self.most and not self._make_room(None):
            return False
        self._addresses[connection] = address
        self._counts[address] += 1
        self._silent[connection] = None
        return True

    def _make_room(self, address: str | None) -> bool:
        for connection in self._silent:
            if address is None or self._addresses[connection] == address:
                self.leave(connection)
                connection.abort()
                return True
        return False

    def speaks(self, connection: Connection) -> None:
        """Its head has arrived."""
        self._silent.pop(connection, None)

    def falls_silent(self, connection: Connection) -> None:
        """Its request is answered, or it begins another head."""
        if connection in self._addresses:
            self._silent.setdefault(connection)

    def leave(self, connection: Connection) -> None:
        """It has ended."""
        self._silent.pop(connection, None)
        address = self._addresses.pop(connection, None)
        if address is not None:
            self._counts[address] -= 1
            if not self._counts[address]:
                del self._counts[address]


@define(eq=False, repr=False)
class Channels:
    """The channels of one server. `random(n)`: fresh random bytes; `open`: those that run."""

    limits: ConnectionLimits
    _reception: Dispatcher
    _secrets: SharedKeys
    _random: Callable[[int], bytes]
    # Connections whose kind is not known yet, and channels.
    fronts: set[Handshake] = field(factory=set)
    open: set[ServerChannel] = field(factory=set)

    def begin(self, head: bytes, rest: bytes, transport: asyncio.Transport, address: str) -> bool:
        """Turn the connection into a channel if its head asks for one and one is allowed; returns whether it did."""
        asked = channel.read_greeting(head)
        if asked is None or asked.to != self._secrets.name:
            return False
        try:
            sender = self._reception.sender(asked.sender)
            fresh = channel.EphemeralKey(self._random(32))
            ends = channel.called(self._secrets, sender, asked.fresh, fresh)
        except CredentialError:
            return False
        called = ServerChannel(self._reception, ends, sender, address, transport, self._busy, self._over)
        if not self.limits.enter(called, address):
            called.abort()
            return True
        self.open.add(called)
        with contextlib.suppress(ConnectionError):  # `connection_lost` handles the rest
            write_pieces(transport, (channel.welcome(fresh.public),))
        called.begin(rest)
        return True

    def _busy(self, called: ServerChannel, busy: bool) -> None:
        (self.limits.speaks if busy else self.limits.falls_silent)(called)

    def _over(self, called: ServerChannel) -> None:
        self.limits.leave(called)
        self.open.discard(called)

    async def close(self, patience: float) -> None:
        """Finish the requests in progress, for at most `patience` seconds, and close all channels."""
        for front in tuple(self.fronts):
            front.abort()
        for each in tuple(self.open):
            each.shutdown()
        deadline = asyncio.get_running_loop().time() + patience
        while self.open and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        for each in tuple(self.open):
            each.abort()


class Handshake(asyncio.Protocol):
    """A connection whose kind is not known yet. `http()`: makes the protocol for an HTTP connection."""

    def __init__(self, limits: ConnectionLimits, channels: Channels, http: Callable[[], Any]) -> None:
        self._limits, self._channels, self._http = limits, channels, http
        self._start = b""
        self._transport: asyncio.Transport | None = None
        self._address = ""
        self._timer: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = cast(asyncio.Transport, transport)  # other loops have their own transport classes
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._channels.fronts.add(self)
        if self._limits.enter(self, self._address):
            self._timer = asyncio.get_running_loop().call_later(HEAD_TIMEOUT_S, self.abort)
        else:
            self.abort()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._start += data
        head, found, rest = self._start.partition(b"\r\n\r\n")
        line = channel.UPGRADE_LINE
        if not self._start.startswith(line[: len(self._start)]) or len(head) > channel.MAX_HEAD_BYTES:
            self._is_http()
        elif found:
            self._leave()
            if not self._channels.begin(head, rest, self._of(), self._address):
                self._is_http()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self._leave()

    def abort(self) -> None:
        """Close at once, and discard what is not written yet."""
        self._of().abort()

    def _is_http(self) -> None:
        self._leave()
        http = self._http()
        transport = self._of()
        transport.set_protocol(http)
        http.connection_made(transport)
        if not transport.is_closing():
            http.data_received(self._start)

    def _of(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def _leave(self) -> None:
        self._limits.leave(self)
        self._channels.fronts.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
