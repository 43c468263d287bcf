"""Small answers do not wait for the peer's delayed acknowledgement."""

from __future__ import annotations

import asyncio
import socket

import pytest

from docking.errors import StationError
from docking.http.server import listen
from tests.patience import PATIENCE


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_accepted_connections_do_not_wait_to_fill_segments(host: str) -> None:
    async def run() -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                sock = transport.get_extra_info("socket")
                accepted.set_result(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                transport.close()

        try:
            sock = listen(host, 0)
        except StationError as error:
            pytest.skip(f"no {host} on this machine: {error}")
        server = await asyncio.get_running_loop().create_server(Protocol, sock=sock)
        try:
            _, writer = await asyncio.open_connection(*sock.getsockname()[:2])
            writer.close()
            return await asyncio.wait_for(accepted, PATIENCE)
        finally:
            server.close()

    assert asyncio.run(run()) == 1
