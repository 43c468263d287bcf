"""An ASGI application under a real server, for tests."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn


class Served:
    """An application under uvicorn, in this loop."""

    def __init__(self, app: Any, lifespan: str = "on", **options: Any) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.server = uvicorn.Server(uvicorn.Config(app, lifespan=lifespan, log_config=None, **options))  # type: ignore[arg-type]

    async def __aenter__(self) -> Served:
        self.server.config.load()
        self.server.lifespan = self.server.config.lifespan_class(self.server.config)
        await self.server.startup(sockets=[self.socket])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.shutdown(sockets=[self.socket])
