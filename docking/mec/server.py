"""The application mobility service on a port of its own, under uvicorn, in the event loop of its station.

For programs that have no server to mount it in, such as `portcall station --mec`. Invariants: signals are left to the
owner of the process; connections, their idle time and the size of messages are bounded; closing is bounded in time.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator

import uvicorn

from docking.mec.models import MAX_BODY_BYTES
from docking.mec.service import MobilityService

MAX_CONNECTIONS, IDLE_S, CLOSE_S = 512, 15, 3


@contextlib.asynccontextmanager
async def serving(app: MobilityService, sock: socket.socket) -> AsyncIterator[None]:
    """Serve on a socket that is bound already, until the block ends. Nothing is believed of `X-Forwarded-For`."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=CLOSE_S,
        ws_max_size=MAX_BODY_BYTES,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    async with app:
        await server.startup(sockets=[sock])
        try:
            yield
        finally:
            await server.shutdown(sockets=[sock])
