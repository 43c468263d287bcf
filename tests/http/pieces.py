"""Bytes cut into pieces, and everything that reads pieces beside what reads the same bytes whole.

A connection gives bytes in pieces of any size. A reader that is fed in pieces must say exactly what its twin says that
is given all at once: whole, byte by byte, and in random pieces, empty ones among them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from agents import canonical
from agents.credentials import sealing
from agents.credentials.keys import SecretKey
from agents.errors import CannotOpen
from docking.errors import MalformedMessage
from docking.handoff import codec
from docking.http import channel
from docking.http.channel import BrokenChannel, Frames
from docking.http.channel_client import ClientChannel
from docking.http.connection_pool import _Connection
from docking.http.sealing import SharedKeys
from tests.vectors import write_messages

CALLER, CALLED = (SecretKey(canonical.digest(name)) for name in (b"caller", b"called"))
FRESH, FRESH_TOO = (channel.EphemeralKey(canonical.digest(name)) for name in (b"fresh", b"fresh too"))
BOX, CONTEXT = CALLED.box(), b"context"
MOST = 1000


def whole(data: bytes) -> Iterator[bytes]:
    """One piece."""
    yield data


def bytewise(data: bytes) -> Iterator[bytes]:
    """A piece for each byte."""
    for at in range(len(data)):
        yield data[at : at + 1]


def randomly(rng: Random) -> Callable[[bytes], Iterator[bytes]]:
    """Pieces of random sizes, none among them."""

    def cut(data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            size = rng.choice((0, 1, 1, 2, 7, 8, 9, rng.randrange(1, 200), rng.randrange(1, 200_000)))
            yield data[at : at + size]
            at += size
        if rng.random() < 0.5:
            yield b""

    return cut


def cuts(seed: int = 0, times: int = 8) -> list[Callable[[bytes], Iterator[bytes]]]:
    """The ways in which bytes are cut."""
    return [whole, bytewise, *(randomly(Random(seed + number)) for number in range(times))]


# A message of the handoff


def decoded(data: bytes, limits: codec.MessageLimits = codec.DEFAULT_LIMITS) -> Any:
    """What the one-shot decoder says: a message or the code of the refusal."""
    try:
        return codec.decode_message(data, limits)
    except MalformedMessage as error:
        return error.code


def read(pieces: Iterator[bytes], limits: codec.MessageLimits = codec.DEFAULT_LIMITS) -> Any:
    """What the reader in pieces says: a message, the code of the refusal, or None if it waits for more."""
    reader, found = codec.MessageReader(limits), None
    try:
        for piece in pieces:
            message = reader.feed(piece)
            assert message is None or found is None
            found = found or message
    except MalformedMessage as error:
        for more in (b"", b"x"):
            with contextlib.suppress(MalformedMessage):
                assert reader.feed(more) is None  # whatever comes after it, it is not a message
        return error.code
    return found


def same_message(data: bytes, cut: Callable[[bytes], Iterator[bytes]]) -> None:
    """The two agree. One that ends too soon is refused by the one and waited for by the other."""
    one, other = decoded(data), read(cut(data))
    assert other == one or (other is None and isinstance(one, str)), (data[:100].hex(), one, other)


def messages() -> list[bytes]:
    """All published vectors, those that are refused too."""
    vectors = json.loads(write_messages.FILE.read_text("utf-8"))
    return [bytes.fromhex(vector["bytes"]) for kind in ("messages", "refused") for vector in vectors[kind]]


# Sealed bytes


def opened(data: bytes) -> bytes | str:
    """What is in sealed bytes, all at once; the code of the refusal."""
    try:
        return sealing.open_sealed(data, BOX, CONTEXT)
    except CannotOpen as error:
        return error.code


def opened_in(pieces: Iterator[bytes]) -> bytes | str:
    """The same, in pieces."""
    opener, found = sealing.Opener(sealing.Recipient(BOX), CONTEXT), []
    try:
        for piece in pieces:
            found += opener.feed(piece)
        found.append(opener.finish())
    except CannotOpen as error:
        code = error.code
    else:
        return b"".join(found)
    for over in (lambda: opener.feed(b"x"), opener.finish):
        try:
            over()
        except CannotOpen:
            continue
        raise AssertionError("an opener that has refused goes on")
    return code


def sealed(size: int) -> bytes:
    """Sealed bytes."""
    plain = (bytes(range(256)) * (size // 256 + 1))[:size]
    return sealing.seal(plain, CALLED.public.box(), CONTEXT, canonical.digest(b"ephemeral"))


# Frames of a channel


def framed(data: bytes) -> list[bytes] | str:
    """The frames in bytes, by looking at all of them; how far they can be read is said by the length alone."""
    found, at = [], 0
    while len(data) - at >= 4:
        (size,) = struct.unpack_from(">I", data, at)
        if not channel.TAG_BYTES <= size <= MOST + channel.TAG_BYTES:
            return "broken"
        if len(data) - at - 4 < size:
            break
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def framed_in(pieces: Iterator[bytes]) -> list[bytes] | str:
    """The same, in pieces."""
    frames, found = Frames(MOST), []
    try:
        for piece in pieces:
            frames.feed(piece)
            while (frame := frames.next()) is not None:
                found.append(frame)
    except BrokenChannel:
        pass
    else:
        return found
    for more in (b"", b"x" * (2 * MOST)):
        frames.feed(more)
        try:
            frame = frames.next()
        except BrokenChannel:
            continue
        raise AssertionError(f"a frame after a broken one: {frame!r}")
    return "broken"


# Answers to requests, over a channel and by HTTP: the real protocols, on a real connection that says nothing itself.


@contextlib.asynccontextmanager
async def on_a_line(make: Callable[[], asyncio.Protocol]) -> Any:
    """A protocol, connected, and the other end."""
    here, there = socket.socketpair()
    with there:
        there.setblocking(False)
        transport, protocol = await asyncio.get_running_loop().create_connection(make, sock=here)
        try:
            yield protocol
        finally:
            transport.abort()
            await asyncio.sleep(0)


def channel_answers(bodies: list[bytes]) -> bytes:
    """What a station says that welcomes a channel, and answers so many requests."""
    ends = channel.called(SharedKeys(CALLED), CALLER.public, FRESH.public, FRESH_TOO)
    frames = [ends.send.seal((channel.ANSWER_HEAD.pack(number, 200), body)) for number, body in enumerate(bodies, 1)]
    return channel.welcome(FRESH_TOO.public) + b"".join(frames)


async def called_in(cut: Callable[[bytes], Iterator[bytes]], data: bytes, requests: int) -> list[Any]:
    """What is understood of it: whether there is a channel, and each answer, or that there is none."""
    async with on_a_line(lambda: ClientChannel(SharedKeys(CALLER), CALLED.public, FRESH)) as call:
        opening = asyncio.ensure_future(call.open("x"))
        await asyncio.sleep(0)
        head, found, rest = data.partition(b"\r\n\r\n")
        for piece in cut(head + found):
            call.data_received(piece)
        if not call._welcomed.done():
            call.close()  # the head ends too soon
        asked = []
        if await opening:
            asked = [asyncio.ensure_future(call.request(0, (), 30.0)) for _ in range(requests)]
            await asyncio.sleep(0)
        for piece in cut(rest):
            if not call.closed:
                call.data_received(piece)
        call.close()
        said = await asyncio.gather(*asked, return_exceptions=True)
        return [opening.result(), *(each[:2] if isinstance(each, tuple) else type(each) for each in said)]


async def posted_in(cut: Callable[[bytes], Iterator[bytes]], data: bytes) -> Any:
    """The answer of HTTP in these bytes, or that there is none."""
    async with on_a_line(_Connection) as connection:
        asking = asyncio.ensure_future(connection.request(b"", (), 30.0))
        await asyncio.sleep(0)
        for piece in cut(data):
            if not connection.closed:
                connection.data_received(piece)
        connection.close()
        (said,) = await asyncio.gather(asking, return_exceptions=True)
        return said if isinstance(said, tuple) else ConnectionError
