"""Where connections of others come in: how many there may be, and whether one is HTTP or a channel.

Invariants: connections are counted before anything of them is read; a connection that does not begin exactly as a
channel does is HTTP from its first byte; nobody has long to show which it is.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol, cast

from attrs import define, field

from agents.errors import CredentialError
from docking.http import channel
from docking.http.called import Called
from docking.http.reception import Reception
from docking.http.sealed import Secrets

# Seconds in which the head of a request must come, and its bytes: slow heads hold connections, endless ones memory.
HEAD_SECONDS, HEAD_BYTES = 10.0, 64 << 10


class Connection(Protocol):
    """What is counted."""

    def abort(self) -> None:
        """Close it now, whatever is still to be written."""


@define(eq=False)
class Porch:
    """The connections of one server. `most`: of all, `of_one`: of one address.

    When there are too many, one whose request has not begun makes room, the oldest first: a peer that connects has
    something to say, so a crowd that says nothing keeps nobody out.
    """

    most: int
    of_one: int
    _addresses: dict[Connection, str] = field(factory=dict)
    _counts: Counter[str] = field(factory=Counter)
    # Those whose head is not here yet, in the order in which they began to be.
    _silent: dict[Connection, None] = field(factory=dict)

    def enter(self, connection: Connection, address: str) -> bool:
        """A connection was made; whether it may stay."""
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
        """Its head is here."""
        self._silent.pop(connection, None)

    def falls_silent(self, connection: Connection) -> None:
        """It was answered, or begins another head."""
        if connection in self._addresses:
            self._silent.setdefault(connection)

    def leave(self, connection: Connection) -> None:
        """It ends."""
        self._silent.pop(connection, None)
        address = self._addresses.pop(connection, None)
        if address is not None:
            self._counts[address] -= 1
            if not self._counts[address]:
                del self._counts[address]


@define(eq=False)
class Channels:
    """The channels of one server. `random(n)`: fresh random bytes."""

    _porch: Porch
    _reception: Reception
    _secrets: Secrets
    _random: Callable[[int], bytes]
    # Connections that have not shown yet what they are, and channels.
    fronts: set[Front] = field(factory=set)
    _open: set[Called] = field(factory=set)

    def begin(self, head: bytes, rest: bytes, transport: asyncio.Transport, address: str) -> bool:
        """Make a channel of the connection whose head this is, if it asks for one and may have it."""
        asked = channel.read_greeting(head)
        if asked is None or asked.to != self._secrets.name:
            return False
        try:
            sender = self._reception.sender(asked.sender)
            fresh = channel.Fresh(self._random(32))
            ends = channel.called(self._secrets, sender, asked.fresh, fresh)
        except CredentialError:
            return False
        called = Called(self._reception, ends, sender, address, transport, self._busy, self._over)
        if not self._porch.enter(called, address):
            called.abort()
            return True
        self._open.add(called)
        transport.write(channel.welcome(fresh.public))
        called.begin(rest)
        return True

    def _busy(self, called: Called, busy: bool) -> None:
        (self._porch.speaks if busy else self._porch.falls_silent)(called)

    def _over(self, called: Called) -> None:
        self._porch.leave(called)
        self._open.discard(called)

    async def close(self, patience: float) -> None:
        """Answer what is being answered, for so many seconds at most, and end all channels."""
        for front in tuple(self.fronts):
            front.abort()
        for each in tuple(self._open):
            each.shutdown()
        deadline = asyncio.get_running_loop().time() + patience
        while self._open and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        for each in tuple(self._open):
            each.abort()


class Front(asyncio.Protocol):
    """A connection until it shows what it is. `http()`: the protocol for one that is HTTP."""

    def __init__(self, porch: Porch, channels: Channels, http: Callable[[], Any]) -> None:
        self._porch, self._channels, self._http = porch, channels, http
        self._start = b""
        self._transport: asyncio.Transport | None = None
        self._address = ""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = cast(asyncio.Transport, transport)  # other loops have transports of their own kind
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._channels.fronts.add(self)
        if self._porch.enter(self, self._address):
            self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self.abort)
        else:
            self.abort()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._start += data
        head, found, rest = self._start.partition(b"\r\n\r\n")
        line = channel.LINE
        if not self._start.startswith(line[: len(self._start)]) or len(head) > channel.HEAD:
            self._is_http()
        elif found:
            self._leave()
            if not self._channels.begin(head, rest, self._of(), self._address):
                self._is_http()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self._leave()

    def abort(self) -> None:
        """Close it now, whatever is still to be written."""
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
        self._porch.leave(self)
        self._channels.fronts.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
