"""`portcall station --mec`: its options, and the API that it serves."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import click
import httpx
import pytest
from websockets.asyncio.client import connect

from docking.cli.edge import Edge
from docking.errors import ConfigError, StationError
from docking.http.server import listen
from docking.mec import server
from docking.mec.service import MobilityService
from docking.mec.settings import Settings
from tests.mec.edge import MOVES, SERVICES, SUBSCRIPTIONS, played, problem, registration, subscription
from tests.station.harbour import harbour, run, station


@pytest.mark.parametrize(
    ("edge", "says"),
    [
        (Edge(None, "127.0.0.1", ("10.0.0.0/8",), None), "need --mec PORT"),
        (Edge(None, "127.0.0.1", (), Path("tokens")), "need --mec PORT"),
        (Edge(0, "0.0.0.0", (), None), "give --mec-tokens FILE"),
        (Edge(0, "mec.example", (), None), "give --mec-tokens FILE"),
    ],
)
def test_what_does_not_go_together(edge: Edge, says: str) -> None:
    with pytest.raises(click.UsageError, match=says):
        edge.check()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_on_this_machine_it_needs_no_token(host: str) -> None:
    Edge(0, host, (), None).check()


def test_what_is_wrong_is_told_before_anything_starts(tmp_path: Path) -> None:
    made = station("alpha")
    with pytest.raises(ConfigError, match="is no host"):
        Edge(0, "127.0.0.1", ("a b",), None).prepare(made)
    (tmp_path / "tokens").write_text("# nobody\n")
    with pytest.raises(click.ClickException, match="holds no token"):
        Edge(0, "127.0.0.1", (), tmp_path / "tokens").prepare(made)
    with pytest.raises(StationError, match="--mec-host"):
        Edge(0, "192.0.2.1", (), None).prepare(made)


@run
async def test_it_serves_until_it_is_cancelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tokens").write_text("# clients\none\n\noperator boss\n")
    async with harbour("alpha") as (alpha,):
        serve = Edge(0, "127.0.0.1", (), tmp_path / "tokens").prepare(alpha)
        task = asyncio.get_running_loop().create_task(serve())
        said = ""
        while "/amsi/v1" not in said:
            await asyncio.sleep(0.005)
            said += capsys.readouterr().err
        url = said.split()[-1].removesuffix("/amsi/v1")
        async with httpx.AsyncClient(base_url=url, trust_env=False, verify=False) as client:
            problem(await client.get(SERVICES), 401)
            one = {"authorization": "Bearer one"}
            assert (await client.post(SERVICES, json=registration(), headers=one)).status_code == 201
            problem(await client.get(MOVES, headers=one), 403)
            assert (await client.get(MOVES, headers={"authorization": "Bearer boss"})).json() == []
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with httpx.AsyncClient(base_url=url, trust_env=False, verify=False) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(SERVICES)
        await Edge(None, "127.0.0.1", (), None).prepare(alpha)()


@run
async def test_connections_that_say_nothing_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_ADDRESS_CONNECTIONS", 4)
    service = MobilityService(played("a1"), Settings(retry_s=0.01))
    sock = listen("127.0.0.1", 0)
    host, port = sock.getsockname()
    async with server.serving(service, sock), contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            _, writer = await asyncio.open_connection(host, port)
            stack.callback(writer.close)
        url = f"http://{host}:{port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, verify=False, timeout=60) as client:
            assert (await client.get(SERVICES)).json() == []
            wanted = {"websockNotifConfig": {"requestWebsocketUri": True}, "requestTestNotification": True}
            body = {k: v for k, v in subscription("", **wanted).items() if k != "callbackReference"}
            for _ in range(8):  # a WebSocket does not count for ever
                made = (await client.post(SUBSCRIPTIONS, json=body)).json()
                async with connect(made["websockNotifConfig"]["websocketUri"], proxy=None) as socket:
                    assert "TestNotification" in str(await socket.recv())
            answer = await client.post(SERVICES, content=b"x" * 70_000, headers={"content-type": "application/json"})
            problem(answer, 413)
