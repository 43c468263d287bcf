"""Connections to other stations: what is loaded for TLS."""

from __future__ import annotations

import ssl
import threading

import pytest

from docking.errors import PeerUnreachable
from docking.http.connection_pool import ConnectionPool
from tests.station.harbour import run


def test_certificates_are_read_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    context = ssl.create_default_context

    def noted() -> ssl.SSLContext:
        made.append(threading.get_ident())
        return context()

    monkeypatch.setattr(ssl, "create_default_context", noted)

    @run
    async def main() -> None:
        pool = ConnectionPool()
        with pytest.raises(PeerUnreachable):
            await pool.send("https://127.0.0.1:1", "/hello", b"GET", b"", lambda: iter(()), 0)
        pool.close()

    main()
    assert len(made) == 1
    assert threading.get_ident() not in made
