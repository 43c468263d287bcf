"""A station as people run it, besieged: afterwards it answers, has given everything back, and said nothing of bugs.

The process is the real one; what is counted (descriptors, threads, memory) is what the system says of it.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from attrs import define

from agents import canonical
from agents.credentials.keys import PublicKey, SecretKey
from docking.errors import CarrierError
from docking.handoff.messages import (
    Abort,
    Body,
    CommitMessage,
    Done,
    Message,
    Offer,
    Part,
    ReceiptMessage,
    Side,
    StateAnswer,
    Status,
    Transfer,
    Want,
    handoff_id,
)
from docking.http.client import Client
from docking.http.sealing import SharedKeys, seal_request
from tests.patience import PATIENCE

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
ROOT = Path(__file__).parents[2]
RANDOM = random.Random(7)
KINDS = ("passport", "trail", "results", "image", "state")


def noise(size: int) -> bytes:
    return RANDOM.randbytes(size)


@define
class Besieged:
    """The station."""

    process: subprocess.Popen[bytes]
    url: str
    key: PublicKey
    said: Path

    def facts(self) -> tuple[int, int, int]:
        """Descriptors, threads, and megabytes of memory."""
        folder = Path(f"/proc/{self.process.pid}")
        status = (folder / "status").read_text()
        threads, memory = (int(re.findall(rf"{word}:\s+(\d+)", status)[0]) for word in ("Threads", "VmRSS"))
        return len(list((folder / "fd").iterdir())), threads, memory >> 10

    def client(self, key: SecretKey) -> Client:
        return Client(SharedKeys(key), os.urandom, lambda peer: [self.url], lambda peer, url: None)

    async def answers(self) -> bool:
        """Whether an honest peer is answered."""
        client = self.client(SecretKey(bytes(31) + b"h"))
        try:
            answer = await client.exchange(self.key.raw, Status(bytes(32), Side.SOURCE, bytes(16)))
            return isinstance(answer, StateAnswer)
        finally:
            client.close()


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Besieged]:
    folder = tmp_path_factory.mktemp("siege")
    environment = {**os.environ, "PORTCALL_RUNNING": str(folder / "running"), "HOME": str(folder)}
    environment |= {"XDG_CONFIG_HOME": str(folder), "XDG_STATE_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "docking.cli", "station", "--name", "besieged", "--home", str(folder / "home")]
    command += ["--host", "127.0.0.1", "--port", "0", "--no-mdns", "--log", "json"]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    said = folder / "said"
    with said.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, env=environment)
    try:
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(r"at (http\S+), key (\S+)", said.read_text())):
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield Besieged(process, found[1], PublicKey.from_text(found[2]), said)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert "Traceback" not in said.read_text()
        assert said.stat().st_size < 1 << 20  # a siege does not fill the log
    finally:
        process.kill()
        process.wait()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def connections(there: Besieged, count: int, data: Callable[[int], bytes], hold: float) -> None:
    """So many connections at once that say this, and are not heard out."""
    parts = urlsplit(there.url)
    made = []
    for number in range(count):
        try:
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        except OSError:
            continue
        writer.write(data(number))
        made.append(writer)
    assert await there.answers()
    await asyncio.sleep(hold)
    for writer in made:
        writer.close()


async def silence(there: Besieged) -> None:
    await connections(there, 3000, lambda number: b"", 0)


async def garbage(there: Besieged) -> None:
    def data(number: int) -> bytes:
        request = b"POST /portcall/1/handoff HTTP/1.1\r\nhost: x\r\nportcall-from: ed25519:"
        whole = bytearray(request + b"a" * 52 + b"\r\ncontent-length: 300\r\n\r\n" + noise(300))
        for _ in range(number % 5):
            whole[RANDOM.randrange(len(whole))] = RANDOM.randrange(256)
        return bytes(whole) if number % 7 else noise(500)

    await connections(there, 400, data, 0.2)


async def slow_bodies(there: Besieged) -> None:
    key = SecretKey(noise(32))
    secrets = SharedKeys(key)
    ephemeral = secrets.ephemeral(there.key, os.urandom, 0.0)
    _, pieces, _ = seal_request(secrets, there.key, "handoff", [bytes(1 << 17)], ephemeral, bytes(16))
    begin = b"".join(pieces())[:300]
    head = f"POST /portcall/1/handoff HTTP/1.1\r\nhost: x\r\nportcall-from: {key.public.text}\r\n".encode()
    await connections(there, 600, lambda number: head + b"content-length: %d\r\n\r\n" % (900_000 + number) + begin, 1)


async def asked(there: Besieged, count: int, make: Callable[[Client, SecretKey], Awaitable[Any]]) -> None:
    """So many questions of eight strangers, a few at a time. Each has an answer, or a refusal at the door."""
    strangers = [(there.client(key), key) for key in (SecretKey(noise(32)) for _ in range(8))]

    async def one(number: int) -> None:
        try:
            await make(*strangers[number % 8])
        except CarrierError as error:
            assert " answered 4" in str(error) or " answered 503" in str(error), error

    for first in range(0, count, 16):
        await asyncio.gather(*(one(number) for number in range(first, first + 16)))
    for client, _ in strangers:
        client.close()


async def half_open_offers(there: Besieged) -> None:
    async def offer(client: Client, key: SecretKey) -> Any:
        agent, nonce = noise(32), noise(16)
        hid = handoff_id(agent, 3, key.public.raw, there.key.raw, nonce)
        junk = [noise(RANDOM.randrange(1, 2000)) for _ in KINDS]
        parts = tuple(Part(kind, canonical.digest(body), len(body)) for kind, body in zip(KINDS, junk, strict=True))
        came = tuple(Body(index, junk[index]) for index in range(5) if RANDOM.random() < 0.7)
        to = there.key.raw
        message = Offer(hid, agent, 3, key.public.raw, to, nonce, nonce, agent, 2**40, parts, came)
        return await client.exchange(to, message)

    await asked(there, 640, offer)


async def strays(there: Besieged) -> None:
    def message() -> Message:
        hid = noise(32)
        return RANDOM.choice(
            [
                CommitMessage(hid, noise(4096)),
                Abort(hid),
                Done(hid),
                ReceiptMessage(hid, noise(16), noise(4000)),
                Status(hid, Side.SOURCE, noise(16)),
                Status(hid, Side.DESTINATION, noise(16)),
                Transfer(hid, (Body(0, noise(10_000)),)),
                Want(hid, tuple(range(64))),
            ]
        )

    await asked(there, 960, lambda client, key: client.exchange(there.key.raw, message()))


async def letters(there: Besieged) -> None:
    def letter() -> Any:
        return RANDOM.choice(
            [
                ["told", noise(32), [[noise(32), noise(32), 2**32 - 1, "travelling", "x" * 900] for _ in range(256)]],
                ["told", noise(32), [0] * 4000],
                ["message", noise(32), [noise(32), "x", noise(1 << 16), 0]],
                ["ended", noise(32), [b"\x83" * (1 << 20), "finished", "0"]],
                ["order", noise(32), [noise(300), 0]],
            ]
        )

    await asked(there, 112, lambda client, key: client.letter(there.key, letter()))


async def greetings(there: Besieged) -> None:
    async def greet(_: Client, key: SecretKey) -> None:
        stranger = there.client(SecretKey(noise(32)))
        card = [1, f"n{noise(6).hex()}", ["http://10.0.0.1:1"] * 8, [f"{n:03}{'s' * 90}" for n in range(256)]]
        await stranger.hello(there.key, card)
        stranger.close()

    await asked(there, 400, greet)


@pytest.mark.parametrize(
    "attack", [silence, garbage, slow_bodies, half_open_offers, strays, letters, greetings], ids=lambda f: f.__name__
)
def test_a_siege(besieged: Besieged, attack: Callable[[Besieged], Awaitable[None]]) -> None:
    async def main() -> None:
        assert await besieged.answers()
        descriptors, threads, memory = besieged.facts()
        await asyncio.wait_for(attack(besieged), PATIENCE)
        assert await besieged.answers()
        deadline = time.monotonic() + PATIENCE
        while besieged.facts()[0] > descriptors + 4:
            assert time.monotonic() < deadline, f"{besieged.facts()} after {descriptors, threads, memory}"
            await asyncio.sleep(0.05)
        _, threads_after, memory_after = besieged.facts()
        assert threads_after <= threads + 16  # the loop's own, which are kept
        assert memory_after <= memory + 48

    asyncio.run(main())
