"""The console on a port of its own, beside its stations, in their event loop.

Invariants: connections, heads and idle times are bounded; closing ends the streams first, and is bounded in time.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator

from docking.console.app import Console
from docking.http import server as http
from docking.http.connections import ConnectionLimits

# Connections, in all and of one address.
MAX_CONNECTIONS, MAX_ADDRESS_CONNECTIONS = 256, 192
IDLE_S, CLOSE_S = 30, 2


@contextlib.asynccontextmanager
async def serving(console: Console, sock: socket.socket) -> AsyncIterator[None]:
    """Serve a console on a socket that is bound already, until the block ends."""
    stands = ConnectionLimits(MAX_CONNECTIONS, MAX_ADDRESS_CONNECTIONS)
    async with http.serving(console, sock, stands, IDLE_S, CLOSE_S, ws="none"):
        try:
            yield
        finally:
            console.close()
