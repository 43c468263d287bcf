"""A station ends whatever its peers do, in both kinds of loops, and leaves nothing running."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from agents import canonical
from agents.credentials.keys import SecretKey
from docking.control.client import LENGTH
from docking.http import channel
from docking.http.sealing import SharedKeys
from docking.peers.directory import Peer
from tests.aio import loops
from tests.station.harbour import OWNER, packed, program, station

PEER = SecretKey(canonical.digest(b"a peer that does not answer"))
LEAVES = program("(drop (call $send (s 1) (s 0))) (drop (call $go (s 0)))", "mute|nobody")


class Mute(asyncio.Protocol):
    """Takes connections and says nothing; some do not even read."""

    def __init__(self, met: list[Any]) -> None:
        self.met = met

    def connection_made(self, transport: Any) -> None:
        self.met.append(transport)
        if len(self.met) % 2:
            transport.pause_reading()


async def until(what: Callable[[], Any]) -> None:
    while not what():
        await asyncio.sleep(0.005)


async def hangs_on(there: Any) -> list[asyncio.StreamWriter]:
    """Those who are connected, and do not do what they should."""
    parts = urlsplit(there.url)
    head = b"POST /portcall/1/letter HTTP/1.1\r\nhost: x\r\nportcall-from: %s\r\n" % SharedKeys(PEER).name
    head += b"portcall-salt: %s\r\ncontent-length: 1000\r\n\r\n" % (b"0" * 32)
    own = channel.EphemeralKey(bytes(31) + b"\1")
    greeting = channel.greeting("x", PEER.public.text.encode(), there.key, own.public)
    found = []
    for begun in (b"", b"GET /por", head, head + bytes(300), greeting[:50], greeting, greeting + b"\0\0"):
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(begun)
        await writer.drain()
        found.append(writer)
    # One who asks for much, and does not read it.
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /portcall/1/station HTTP/1.1\r\nhost: x\r\n\r\n" * 3000)
    found.append(writer)
    # And one who listens to what happens.
    _, writer = await asyncio.open_unix_connection(str(there.home / "control.sock"))
    question = canonical.encode(["events", {}])
    writer.write(LENGTH.pack(len(question)) + question)
    await writer.drain()
    found.append(writer)
    return found


@pytest.mark.parametrize("make", loops.LOOPS, ids=loops.kind)
def test_peers_that_do_not_answer_and_callers_that_do_not_end(make: Callable[[], Any], tmp_path: Path) -> None:
    async def main() -> None:
        met: list[Any] = []
        server = await asyncio.get_running_loop().create_server(lambda: Mute(met), "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        home = station("home", tmp_path / "home", control=True, peers=[url, "http://127.0.0.1:9"])
        await home.start()
        callers = []
        try:
            home.core.here.peers.known[PEER.public] = Peer(PEER.public, "mute", (url,), proven=True)
            agent = await home.launch(packed(LEAVES), [PEER.public], owner=OWNER)
            callers = await hangs_on(home)
            await until(lambda: len(met) >= 2)
            await until(lambda: agent.standing == "leaving")
        finally:
            await home.close()
        for transport in (*met, *(writer.transport for writer in callers)):
            transport.abort()
        server.close()
        for _ in range(5):
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        # Callers are ours.
        assert [task for task in left if "docking" in str(task.get_coro())] == []

    loops.run(make, main(), 120)


@pytest.mark.parametrize("make", loops.LOOPS, ids=loops.kind)
def test_stations_that_knock_at_closed_ports_are_closed_in_any_step(make: Callable[[], Any]) -> None:
    """Up to Python 3.11 one of some ten closes never ended: a connection was refused in the very step."""

    async def main() -> None:
        dice = random.Random(5)
        peers = [f"http://127.0.0.1:{port}" for port in range(9, 29)]
        for _ in range(25):
            made = station("home", peers=peers)
            await made.start()
            for _ in range(dice.randrange(40)):
                await asyncio.sleep(0)
            await asyncio.sleep(dice.choice((0, 0.19 + dice.random() * 0.03)))
            await made.close()

    loops.run(make, main(), 200)


HANGS = """
import asyncio, importlib, sys
from docking import Station
from docking.cli import main
importlib.import_module("docking.cli.serving").CLOSE_TIMEOUT_S = 0.5
async def close(self):
    print("closing", flush=True)
    await asyncio.Event().wait()
Station.close = close
sys.argv[0] = "portcall"
main()
"""


def test_a_station_that_cannot_be_closed_ends_all_the_same(tmp_path: Path) -> None:
    environment = {**os.environ, "PORTCALL_KEYS": str(tmp_path / "keys"), "PORTCALL_RUNNING": str(tmp_path / "running")}
    command = ["station", "--name", "home", "--home", str(tmp_path / "home"), "--port", "0", "--host", "127.0.0.1"]
    with subprocess.Popen(
        [sys.executable, "-c", HANGS, *command, "--no-mdns"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            assert process.stderr is not None
            while "it admits" not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            out, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert "closing" in out
    assert process.returncode == 1
    assert "it ends now" in said
