"""Crowds at the door: connections that say nothing, bodies that hardly move, gigabytes announced. Peers get through."""

from __future__ import annotations

import asyncio
import os
from typing import Any
from urllib.parse import urlsplit

import pytest
from attrs import evolve

from agents.credentials.keys import PublicKey, SecretKey
from docking import Station
from docking.handoff import codec
from docking.handoff.messages import Body, Side, StateAnswer, Status, Transfer
from docking.http.client import Client
from docking.http.sealing import SharedKeys, seal_request
from tests.patience import PATIENCE
from tests.station.harbour import harbour, run

PEER = SecretKey(bytes(31) + b"p")
SALTED = f"portcall-salt: {bytes(16).hex()}\r\n"
Crowd = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


async def crowd(there: Station, number: int, data: bytes = b"") -> Crowd:
    """So many connections that say this."""
    parts = urlsplit(there.url)
    found = []
    for _ in range(number):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(data)
        found.append((reader, writer))
    return found


def sealed(to: PublicKey, bodies: list[Any]) -> Any:
    """A request whose salt is all zeros."""
    secrets = SharedKeys(PEER)
    return seal_request(secrets, to, "handoff", bodies, secrets.ephemeral(to, os.urandom, 0.0), bytes(16))


def unfinished(there: Station, announced: int) -> bytes:
    """The beginning of a request that is sealed as it should be, with a body of this size to come."""
    _, pieces, _ = sealed(there.key, [bytes(1 << 17)])
    head = f"POST /portcall/1/handoff HTTP/1.1\r\nhost: x\r\nportcall-from: {PEER.public.text}\r\n{SALTED}"
    return head.encode() + b"content-length: %d\r\n\r\n" % announced + b"".join(pieces())[:200]


async def answered(there: Station) -> bool:
    """Whether a peer gets through."""
    client = Client(SharedKeys(PEER), os.urandom, lambda key: [there.url], lambda key, url: None)
    try:
        status = Status(bytes(32), Side.SOURCE, bytes(16))
        return isinstance(await client.exchange(there.key.raw, status), StateAnswer)
    finally:
        client.close()


def end(crowd: Crowd) -> None:
    for _, writer in crowd:
        writer.close()


@run
async def test_connections_that_say_nothing_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docking.http.server.MAX_CONNECTIONS", 20)
    monkeypatch.setattr("docking.http.connections.HEAD_TIMEOUT_S", PATIENCE)
    async with harbour("home") as (home,):
        silent = await crowd(home, 60)
        assert await answered(home)
        # The oldest were closed, and not by their own time.
        for reader, _ in silent[:30]:
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        assert not any(reader.at_eof() for reader, _ in silent[-10:])
        end(silent)


@run
async def test_one_address_does_not_have_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docking.http.server.MAX_ADDRESS_CONNECTIONS", 5)
    async with harbour("home") as (home,):
        silent = await crowd(home, 12)
        assert await answered(home)
        assert len(home.server.connections) <= 5
        end(silent)


@run
async def test_bodies_that_hardly_move_are_left_whatever_they_announce() -> None:
    async with harbour("home") as (home,):
        reception = home.reception
        reception.limits = evolve(reception.limits, patience_s=PATIENCE, requests=8)
        slow = await crowd(home, 8, unfinished(home, 90 << 20))
        # Four have places, the other four of the same address have none.
        while reception.requests.total < 4 or reception.refused != {503: 4}:
            await asyncio.sleep(0.01)
        end(slow)
        while reception.requests.total:
            await asyncio.sleep(0.01)
        # A byte now and then keeps nobody's.
        reception.limits = evolve(reception.limits, patience_s=0.3)
        slow = await crowd(home, 4, unfinished(home, 90 << 20))
        while reception.refused.get(408, 0) < 4:
            for _, writer in slow:
                if not writer.is_closing():
                    writer.write(b"x")
            await asyncio.sleep(0.02)
        assert reception.requests.total == 0
        assert await answered(home)
        end(slow)


@run
async def test_gigabytes_that_are_announced_at_once_are_bounded() -> None:
    async with harbour("home") as (home,):
        reception = home.reception
        reception.limits = evolve(reception.limits, body_bytes=200 << 20)
        large = await crowd(home, 3, unfinished(home, 90 << 20))
        statuses = [(await asyncio.wait_for(reader.readline(), PATIENCE)).split(b" ")[1] for reader, _ in large[1:]]
        assert statuses == [b"503", b"503"]  # half is 100 MiB
        assert await answered(home)  # what is small needs no room
        end(large)
        while reception.bodies.total:
            await asyncio.sleep(0.01)
        assert not reception.bodies.of


@run
async def test_a_message_that_announces_more_than_its_request_gets_no_room() -> None:
    async with harbour("home") as (home,):
        head = codec.encode_message(Transfer(bytes(32), (Body(0, bytes(1 << 20)),)))[0]
        _, pieces, _ = sealed(home.key, [head])
        body = b"".join(pieces())
        request = f"POST /portcall/1/handoff HTTP/1.1\r\nhost: x\r\nportcall-from: {PEER.public.text}\r\n{SALTED}"
        whole = request.encode() + b"content-length: %d\r\n\r\n" % len(body) + body
        [(reader, writer)] = await crowd(home, 1, whole)
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"%d are read" % len(body) in answer
        writer.close()
