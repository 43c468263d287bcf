"""The application mobility service on a port of its own, under uvicorn, in the event loop of its station.

For programs that have no server to mount it in, such as `portcall station --mec`. Invariants: signals are left to the
owner of the process; connections, heads, idle times and the size of messages are bounded, as those of stations are;
closing is bounded in time.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator

from docking.http import server as http
from docking.http.connections import ConnectionLimits
from docking.mec.models import MAX_BODY_BYTES
from docking.mec.service import MobilityService

# Connections, in all and of one address.
MAX_CONNECTIONS, MAX_ADDRESS_CONNECTIONS = 512, 128
IDLE_S, CLOSE_S = 15, 3


@contextlib.asynccontextmanager
async def serving(app: MobilityService, sock: socket.socket) -> AsyncIterator[None]:
    """Serve on a socket that is bound already, until the block ends. Nothing is believed of `X-Forwarded-For`."""
    stands = ConnectionLimits(MAX_CONNECTIONS, MAX_ADDRESS_CONNECTIONS)
    async with app, http.serving(app, sock, stands, IDLE_S, CLOSE_S, ws_max_size=MAX_BODY_BYTES):
        yield
