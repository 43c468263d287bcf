"""Whatever a peer does with a connection, who calls it hears of a `CarrierError`, and waits before it calls again."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from agents.credentials.keys import PublicKey, SecretKey
from docking.errors import CarrierError
from docking.handoff.messages import Side, Status
from docking.http.client import Client
from docking.http.sealing import SharedKeys
from docking.letters.outbox import FIRST_RETRY_MS, LetterKind, Outbox
from docking.store.changes import PostLetter
from docking.store.group_commit import GroupCommit
from docking.store.store import Store
from tests.aio import loops

ME, PEER = (SecretKey(bytes(31) + bytes([number])) for number in (1, 2))


class Peer(asyncio.Protocol):
    """Does something with each connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport


class ClosesAtOnce(Peer):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class Resets(Peer):
    def connection_made(self, transport: Any) -> None:
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


class ClosesWhenSpokenTo(Peer):
    def data_received(self, data: bytes) -> None:
        self.transport.close()


class AnswersHalf(Peer):
    def data_received(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-le")
        self.transport.close()


class Babbles(Peer):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(b"220 mail.example ESMTP\r\n")


class Redirects(Peer):
    def data_received(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n")


PEERS = [ClosesAtOnce, Resets, ClosesWhenSpokenTo, AnswersHalf, Babbles, Redirects]


@pytest.mark.parametrize("make", loops.LOOPS, ids=loops.kind)
@pytest.mark.parametrize("peer", PEERS)
def test_peers_that_do_not_answer_are_carrier_errors(peer: type[Peer], make: Callable[[], Any]) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(peer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for path in ("", "/below"):
            for _ in range(5):
                client = Client(SharedKeys(ME), os.urandom, lambda key, at=url + path: [at], lambda key, url: None)
                for asking in (
                    client.letter(PEER.public, ["message", bytes(32), []]),
                    client.hello(PEER.public, []),
                    client.exchange(PEER.public.raw, Status(bytes(32), Side.SOURCE, bytes(16))),
                    client.letter(PEER.public, ["message", bytes(300_000), []]),
                    client.who(url + path),
                ):
                    with pytest.raises(CarrierError):
                        await asking
                client.close()
        server.close()

    loops.run(make, main())


def test_a_surprise_is_a_carrier_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: Any) -> Any:
        raise KeyError("a bug")

    client = Client(SharedKeys(ME), os.urandom, lambda key: ["http://127.0.0.1:9"], lambda key, url: None)
    monkeypatch.setattr(client.posts.__class__, "send", fails)
    monkeypatch.setattr(client.calls.__class__, "ask", fails)
    for asking in (client.letter(PEER.public, []), client.who("http://127.0.0.1:9")):
        with pytest.raises(CarrierError, match="KeyError"):
            asyncio.run(asking)


def test_a_letter_whose_delivery_fails_by_surprise_waits_like_any_other() -> None:
    """It was sent again without a pause, as fast as the processor can."""
    now, tries = 1_000_000, list[int]()

    async def main() -> None:
        nonlocal now
        store = Store.open(None, new_epoch=bytes(16), clock=lambda: now)
        journal = GroupCommit(store)
        failed = asyncio.Event()

        async def deliver(key: PublicKey, value: Any) -> Any:
            tries.append(now)
            failed.set()
            raise RuntimeError("unable to perform operation; the handler is closed")

        mailbox = Outbox(SecretKey(bytes(32)).public, journal, deliver, lambda: now)
        letter: PostLetter = mailbox.posted(PEER.public, LetterKind.MESSAGE, bytes(32), [], now + 10**9)
        await journal.write([letter], True)
        mailbox.start()
        for attempt in range(5):
            await failed.wait()
            failed.clear()
            while not (left := store.letters(2**62, 1)) or left[0].attempts <= attempt:
                await asyncio.sleep(0)
            for _ in range(100):  # if it would, it could go on now
                mailbox.nudge()
                await asyncio.sleep(0)
            assert len(tries) == attempt + 1
            assert left[0].due == now + (FIRST_RETRY_MS << attempt)
            now = left[0].due
            mailbox.nudge()
        await mailbox.close()
        await journal.close()
        store.close()

    asyncio.run(main())
    assert len(tries) >= 5
