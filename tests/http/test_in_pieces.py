"""Readers in pieces say what their twins say that are given all at once, on the same vectors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest

from agents import canonical
from agents.credentials.sealing import HEADER_SIZE, PIECE_BYTES, TAG_BYTES
from docking.control.client import LENGTH
from docking.handoff import codec
from docking.handoff.messages import Body, HandoffStanding, Side, StateAnswer, Status, Transfer
from docking.http import channel
from docking.http.sealing import SALT_BYTES, SharedKeys, opener, seal_request
from tests.fuzz.amount import Amount
from tests.http import fuzz, pieces
from tests.http.pieces import CALLED, CALLER, bytewise, cuts, whole
from tests.station.harbour import harbour, run, station

EMPTY_HEAD = codec.FRAME_PREFIX.pack(codec.MAGIC, codec.PROTOCOL_VERSION, 0)


# Messages of the handoff


@pytest.mark.parametrize("number", range(len(pieces.messages())))
def test_published_messages(number: int) -> None:
    data = pieces.messages()[number]
    for cut in cuts(number):
        pieces.same_message(data, cut)
        for end in {len(data) // 2, len(data) - 1}:
            pieces.same_message(data[:end], cut)
        pieces.same_message(data + b"\0", cut)
        pieces.same_message(data + data, cut)


@pytest.mark.parametrize("after", [b"", b"\0", EMPTY_HEAD])
def test_an_empty_head_is_refused(after: bytes) -> None:
    for cut in cuts():
        assert pieces.read(cut(EMPTY_HEAD + after)) == pieces.decoded(EMPTY_HEAD + after) == "malformed-message"


def test_empty_bodies_are_bodies() -> None:
    message = Transfer(bytes(32), (Body(0, b""), Body(1, b""), Body(2, b"x"), Body(3, b"")))
    for each in (message, Transfer(bytes(32), (Body(0, b""),))):
        for cut in cuts():
            assert pieces.read(cut(b"".join(codec.encode_message(each)))) == each


def test_a_reader_that_has_refused_refuses_what_follows() -> None:
    good = b"".join(codec.encode_message(Status(bytes(32), Side.SOURCE, bytes(16))))
    for bad in (EMPTY_HEAD, b"GET / HT", good + b"x"):
        reader = codec.MessageReader()
        with pytest.raises(codec.MalformedMessage):
            reader.feed(bad)
        with pytest.raises(codec.MalformedMessage):
            reader.feed(good)
    reader = codec.MessageReader()
    assert reader.feed(good) is not None
    assert reader.feed(b"") is None  # it is given once


# Sealed bytes

SIZES = (0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, 2 * PIECE_BYTES + 1)


@pytest.mark.parametrize("size", SIZES)
def test_sealed_bytes(size: int) -> None:
    data = pieces.sealed(size)
    bent = data[: HEADER_SIZE + 5] + bytes([data[HEADER_SIZE + 5] ^ 1]) + data[HEADER_SIZE + 6 :]
    edges = (
        0,
        1,
        HEADER_SIZE - 1,
        HEADER_SIZE,
        HEADER_SIZE + TAG_BYTES,
        HEADER_SIZE + PIECE_BYTES + TAG_BYTES,
        len(data) - 1,
    )
    for each in (data, bent, data + b"\0", b"x" + data, *(data[:end] for end in edges)):
        expected = pieces.opened(each)
        for cut in cuts(size, 3):
            assert pieces.opened_in(cut(each)) == expected


@pytest.mark.parametrize("size", SIZES)
def test_a_request_is_sealed_the_same_however_its_bodies_are_cut(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    secrets, salt, made = SharedKeys(CALLER), bytes(SALT_BYTES), set()
    ephemeral = secrets.ephemeral(CALLED.public, lambda size: bytes(size), 0.0)
    for cut in (whole, *cuts(size, 6)[2:]):
        _, sealed, _ = seal_request(secrets, CALLED.public, "letter", list(cut(body)), ephemeral, salt)
        made.add(b"".join(sealed()))
    assert len(made) == 1
    reader = opener(SharedKeys(CALLED), CALLER.public, "letter", salt)
    found = b"".join(reader.feed(made.pop()))
    assert found + reader.finish() == body


# Frames


def test_frames() -> None:
    frames = [bytes(channel.TAG_BYTES), bytes(channel.TAG_BYTES + 1), bytes(pieces.MOST + channel.TAG_BYTES)]
    data = b"".join(LENGTH.pack(len(frame)) + frame for frame in frames)
    for size in (0, channel.TAG_BYTES - 1, pieces.MOST + channel.TAG_BYTES + 1, 0xFFFFFFFF):
        bent = data + LENGTH.pack(size) + bytes(100)
        for cut in cuts(size):
            assert pieces.framed_in(cut(bent)) == pieces.framed(bent) == "broken"
    for cut in cuts():
        assert pieces.framed_in(cut(data)) == pieces.framed(data) == frames


# Answers


def test_answers_over_a_channel() -> None:
    data = pieces.channel_answers([b"", b"one", bytes(5000)])
    refused = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
    for each, requests in ((data, 3), (data[:-1], 3), (data[:-1] + b"\0", 3), (refused, 2), (refused * 3, 2)):

        async def main(each: bytes = each, requests: int = requests) -> None:
            expected = await pieces.called_in(whole, each, requests)
            assert expected[0] is each.startswith(data[:40])
            for cut in cuts(times=4):
                assert await pieces.called_in(cut, each, requests) == expected

        asyncio.run(main())


def test_who_has_refused_a_channel_is_not_listened_to() -> None:
    """Whatever follows the refusal was kept, and looked through again with each piece."""

    async def main() -> None:
        keys = SharedKeys(CALLER)
        async with pieces.on_a_line(lambda: pieces.ClientChannel(keys, CALLED.public, pieces.FRESH)) as call:
            call.data_received(b"HTTP/1.1 404 Not Found\r\n\r\n")
            for _ in range(10):
                call.data_received(bytes(1000))
            assert not call._head

    asyncio.run(main())


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n",
        b"HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"",
    ],
)
def test_answers_of_http(data: bytes) -> None:
    async def main() -> None:
        expected = await pieces.posted_in(whole, data)
        for cut in cuts(times=4):
            assert await pieces.posted_in(cut, data) == expected

    asyncio.run(main())


# A station that is spoken to byte by byte

STATUS = b"".join(codec.encode_message(Status(bytes(32), Side.SOURCE, bytes(16))))
UNKNOWN = b"".join(codec.encode_message(StateAnswer(bytes(32), Side.SOURCE, HandoffStanding.UNKNOWN)))


@pytest.mark.parametrize("cut", [whole, bytewise])
@run
async def test_a_channel_is_begun_and_used(cut: Callable[[bytes], Any]) -> None:
    async with harbour("home") as (home,):
        parts = urlsplit(home.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)

        async def say(data: bytes) -> None:
            for piece in cut(data):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)  # a packet for each

        await say(channel.greeting("x", CALLER.public.text.encode(), home.key, pieces.FRESH.public))
        fresh = channel.read_welcome((await reader.readuntil(b"\r\n\r\n"))[:-4])
        assert fresh is not None
        ends = channel.calling(SharedKeys(CALLER), home.key, fresh, pieces.FRESH)
        await say(ends.send.seal([]) + ends.send.seal([channel.REQUEST_HEAD.pack(7, 0), STATUS]))
        (size,) = LENGTH.unpack(await reader.readexactly(4))
        answer = ends.receive.open(await reader.readexactly(size))
        assert answer == channel.ANSWER_HEAD.pack(7, 200) + UNKNOWN
        writer.close()


@pytest.mark.parametrize("cut", [whole, bytewise])
@run
async def test_a_request_of_http_is_answered(cut: Callable[[bytes], Any]) -> None:
    async with harbour("home") as (home,):
        parts = urlsplit(home.url)
        secrets, salt = SharedKeys(CALLER), bytes(SALT_BYTES)
        for message, status in ((STATUS, b"200"), (EMPTY_HEAD, b"400"), (EMPTY_HEAD + b"\0", b"400")):
            ephemeral = secrets.ephemeral(home.key, lambda size: bytes(size - 1) + b"\1", 0.0)
            length, sealed, _ = seal_request(secrets, home.key, "handoff", [message], ephemeral, salt)
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            head = b"POST /portcall/1/handoff HTTP/1.1\r\nhost: x\r\nportcall-from: %s\r\n" % secrets.name
            head += b"portcall-salt: %s\r\ncontent-length: %d\r\n\r\n" % (salt.hex().encode(), length)
            for piece in cut(head + b"".join(sealed())):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            assert (await reader.readline()).split()[1] == status
            writer.close()


@pytest.mark.parametrize("cut", [whole, bytewise])
@run
async def test_questions_on_the_control_channel_are_answered(cut: Callable[[bytes], Any], tmp_path: Any) -> None:
    async with station("home", tmp_path / "home", control=True):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "home" / "control.sock"))
        for _ in range(2):
            question = canonical.encode(["status", {}])
            for piece in cut(LENGTH.pack(len(question)) + question):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            (size,) = LENGTH.unpack(await reader.readexactly(4))
            kind, value = canonical.decode(await reader.readexactly(size))
            assert (kind, value["name"]) == ("end", "home")
        writer.close()


# A short run of the fuzz test; `python -m tests.http.fuzz` is the long one.


def test_damaged_bytes_are_read_the_same_in_pieces() -> None:
    counts = fuzz.attack(Random(1), Amount(tries=600))
    assert min(counts.values()) > 20, counts
