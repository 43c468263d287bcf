"""The control channel: who may open it, and that every question has an answer, whatever was asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from agents import canonical
from agents.credentials.passport import Clones
from docking import Station, Terms
from docking.control import server as control
from docking.control.client import LENGTH, running
from docking.errors import PeerUnreachable
from docking.peers.directory import url_of
from docking.residents.berth import Standing
from tests.patience import PATIENCE
from tests.residents.guests import LISTENER
from tests.station.harbour import begin, run, settled, station


async def ask(home: Path, data: Any, raw: bool = False) -> Any:
    """The first answer to a question on the socket in a station's home; None if it hangs up."""
    reader, writer = await asyncio.open_unix_connection(str(home / "control.sock"))
    try:
        body = b"" if raw else canonical.encode(data)
        writer.write(data if raw else LENGTH.pack(len(body)) + body)
        (size,) = LENGTH.unpack(await asyncio.wait_for(reader.readexactly(LENGTH.size), PATIENCE))
        return canonical.decode(await reader.readexactly(size))
    except asyncio.IncompleteReadError:
        return None
    finally:
        writer.close()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where stations note that they run."""
    monkeypatch.setenv("PORTCALL_RUNNING", str(tmp_path / "running"))
    return tmp_path


def controlled(home: Path) -> Station:
    return station("home", home, control=True)


BAD: list[Any] = [
    None,
    5,
    [],
    ["status"],
    ["status", 5],
    ["status", {"x": 1}],
    [5, {}],
    ["unheard-of", {}],
    ["_answer", {}],
    ["__class__", {}],
    ["find", {"agent": None}],
    ["where", {"agent": []}],
    ["logs", {"agent": 5}],
    ["send", {"agent": 5, "body": 5}],
    ["wait", {"agent": 5, "most": 5}],
    ["wait", {"agent": "nobody", "most": "x"}],
    ["decide", {"handoff": 5, "what": "adopt"}],
    ["decide", {"handoff": "", "what": "close"}],
    ["meet", {"url": 5}],
    ["meet", {"url": "http://\0"}],
    ["meet", {"url": "http://[::1"}],
    ["meet", {"url": "http://a..b:1"}],
    ["prepare", {"via": 5}],
    ["prepare", {"via": [5]}],
    ["stations", {"wait": "x"}],
    ["launch", dict.fromkeys(("passport", "opening", "state", "image", "digest"), b"")],
    ["launch", dict.fromkeys(("passport", "opening", "state", "image", "digest"), 5)],
    ["launch", dict.fromkeys(("passport", "opening", "state", "image", "digest"), b"x")],
]


@run
async def test_every_question_has_an_answer(tmp_path: Path) -> None:
    async with controlled(tmp_path / "home"):
        for question in BAD:
            answer = await ask(tmp_path / "home", question)
            assert answer is not None, question
            assert answer[0] == "error", question
            assert answer[1], question
        for raw in (b"\xff\xff\xff\xff", b"\0\0\0\5\xff\xff\xff\xff\xff", b"\0\0\0\0"):
            assert await ask(tmp_path / "home", raw, raw=True) is None
        assert (await ask(tmp_path / "home", ["status", {}]))[0] == "end"


@run
async def test_an_order_to_clone_says_what_became_of_it(tmp_path: Path) -> None:
    async with controlled(tmp_path / "home") as home:
        for clones, done in ((Clones(1, 1), True), (Clones(0, 0), False)):
            agent = await begin(home, LISTENER, terms=Terms(clones=clones))
            await settled(home, agent, Standing.WAITING)
            kind, answer = await ask(tmp_path / "home", ["order", {"agent": agent.id, "what": "clone"}])
            if done:
                assert (kind, answer["agent"], answer["done"]) == ("end", agent.id, "obeyed")
                assert home.agent(answer["clone"]).id != agent.id
            else:
                assert (kind, answer) == ("error", "the agent was not cloned: the passport allows no further clone")


@run
async def test_only_the_user_can_open_it_and_it_goes_with_the_station(tmp_path: Path) -> None:
    path = tmp_path / "home" / "control.sock"
    async with controlled(tmp_path / "home"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0
        for note, _ in running():
            assert stat.S_IMODE(note.stat().st_mode) & 0o077 == 0
    assert not path.exists()
    assert running() == []


@run
async def test_a_socket_that_a_killed_station_left_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "home" / "control.sock"
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with controlled(tmp_path / "home"):
        assert (await ask(tmp_path / "home", ["status", {}]))[0] == "end"


@run
async def test_where_the_path_is_too_long_it_is_a_port_with_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / ("x" * 120) / "home"
    home.parent.mkdir()
    async with controlled(home):
        [(_, noted)] = running()
        assert not noted.socket
        assert len(noted.token) == 64
        for token, expected in ((noted.token, True), ("0" * 64, False), ("", False), (noted.token[:-1], False)):
            reader, writer = await asyncio.open_connection("127.0.0.1", noted.port)
            for value in (token, ["status", {}]):
                body = canonical.encode(value)
                writer.write(LENGTH.pack(len(body)) + body)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                answer = await asyncio.wait_for(reader.read(4), PATIENCE)
            assert bool(answer) is expected
            writer.close()
        sock = next(iter(home.glob("*.sock")), None)
        assert sock is None
        # Nothing is kept of who has not said the secret: a frame of megabytes, or bytes that are no CBOR or no text.
        for data in (LENGTH.pack(1 << 20), LENGTH.pack(2) + b"\xff\xff", LENGTH.pack(3) + b"\x62\xc3\xa9", b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", noted.port)
            writer.write(data)
            if not data:
                monkeypatch.setattr(control, "SECRET_TIMEOUT_S", 0.05)
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", noted.port)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(4), PATIENCE) == b""
            writer.close()


def test_addresses_that_no_resolver_takes() -> None:
    for text in (
        "http://a..b:1",
        "http://" + "x" * 64 + ".org:1",
        "http://[::1",
        "a:99999",
        "ftp://a:1",
        "http://a b:1",
    ):
        assert url_of(text) is None, text
    assert url_of("alpha.local:7707") == "http://alpha.local:7707"


@run
async def test_a_name_that_cannot_be_one_is_unreachable() -> None:
    from docking.http.client import Client
    from docking.http.sealing import SharedKeys
    from tests.station.harbour import OWNER

    client = Client(SharedKeys(OWNER), os.urandom, lambda key: (), lambda key, url: None)
    for url in ("http://a..b:1", "http://\0:1"):
        with pytest.raises(PeerUnreachable):
            await client.who(url)
