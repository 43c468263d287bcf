"""Channels between real stations: used where there are any, done without elsewhere, and safe from callers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from attrs import define, evolve

from agents import canonical
from agents.credentials.keys import SecretKey
from docking import Station
from docking.errors import NoAnswer, PeerUnreachable
from docking.handoff import codec
from docking.handoff.messages import HandoffStanding, Side, StateAnswer, Status
from docking.http import channel
from docking.http import channel_client as calling
from docking.http import channel_server as called
from docking.http.channel_client import ClientChannel
from docking.http.dispatch import REQUEST_KINDS
from docking.http.sealing import SharedKeys
from tests.patience import PATIENCE
from tests.station.harbour import harbour, meet, run, station

PEER = SecretKey(canonical.digest(b"a caller"))
STATUS = b"".join(codec.encode_message(Status(bytes(32), Side.SOURCE, bytes(16))))
UNKNOWN = StateAnswer(bytes(32), Side.SOURCE, HandoffStanding.UNKNOWN)
HANDOFF, LETTER, HELLO = range(3)


def lines(there: Station) -> list[calling.PeerChannel]:
    """The channels that a station has called."""
    return list(there.client.calls.lines.values())


def call_of(there: Station) -> ClientChannel:
    """Its only channel."""
    (line,) = lines(there)
    assert line.call is not None
    return line.call


def open_at(there: Station) -> set[Any]:
    """The channels that others have called there."""
    return there.server.channels.open


def posted(there: Station) -> int:
    """Bytes that it has sent by HTTP."""
    return there.client.posts.sent_bytes


async def settled(what: Any, wanted: Any = True) -> None:
    """Until `what()` is so."""
    while what() != wanted:
        await asyncio.sleep(0.005)


@define
class Caller:
    """Someone with a key who calls a station, and may do as it likes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    ends: channel.ChannelKeys

    async def frame(self) -> bytes:
        """The next frame, opened."""
        size = int.from_bytes(await self.reader.readexactly(4), "big")
        return self.ends.receive.open(await self.reader.readexactly(size))

    async def answer(self) -> tuple[int, int, bytes]:
        """Number, status and body of the next answer."""
        frame = await self.frame()
        return *channel.ANSWER_HEAD.unpack_from(frame), frame[channel.ANSWER_HEAD.size :]

    def ask(self, number: int, what: int, body: bytes) -> bytes:
        """Send a request; the frame."""
        frame = self.ends.send.seal([channel.REQUEST_HEAD.pack(number, what), body])
        self.writer.write(frame)
        return frame

    async def left(self) -> bool:
        """Wait until the station has closed the connection, without another answer."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read() == b""
        return True


@contextlib.asynccontextmanager
async def caller(there: Station, key: SecretKey = PEER, *, proof: bool = True) -> AsyncIterator[Caller]:
    """A channel to a station."""
    parts = urlsplit(there.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        own = channel.EphemeralKey(canonical.digest(b"a secret"))
        writer.write(channel.greeting("x", key.public.text.encode(), there.key, own.public))
        head = await reader.readuntil(b"\r\n\r\n")
        fresh = channel.read_welcome(head[:-4])
        assert fresh is not None
        ends = channel.calling(SharedKeys(key), there.key, fresh, own)
        if proof:
            writer.write(ends.send.seal([]))
        yield Caller(reader, writer, ends)
    finally:
        writer.close()


# Where they are used


@run
async def test_small_requests_share_one_channel_and_large_ones_go_by_http() -> None:
    async with harbour("home", "other") as (home, other):
        before, first = posted(home), call_of(home)
        letter = ["message", bytes(32), [bytes(32), "x", b"", 0]]
        answers = await asyncio.gather(*(home.introductions.letter(other.key, letter) for _ in range(100)))
        assert [answer[:2] for answer in answers] == [["refused", "unknown-agent"]] * 100
        assert posted(home) == before
        assert call_of(home) is first
        assert len(open_at(other)) == 1
        letter[2][2] = bytes(channel.MAX_REQUEST_BODY_BYTES)  # type: ignore[index]
        assert (await home.introductions.letter(other.key, letter))[:2] == ["refused", "unknown-agent"]
        assert posted(home) > before + channel.MAX_REQUEST_BODY_BYTES


@run
async def test_each_answer_is_for_its_request_whatever_comes_first() -> None:
    async with harbour("home", "other") as (home, other):
        gates = {number: asyncio.Event() for number in range(40)}

        async def letter(sender: Any, value: Any) -> Any:
            await gates[value].wait()
            return ["taken", value]

        other.reception.doors.letter = letter  # type: ignore[method-assign]
        asked = [asyncio.ensure_future(home.introductions.letter(other.key, number)) for number in gates]
        await settled(lambda: other.reception.requests.total, 40)
        for number in reversed(gates):
            gates[number].set()
            assert await asked[number] == ["taken", number]
        assert len(open_at(other)) == 1


@run
async def test_a_station_inside_another_application_is_asked_by_http() -> None:
    from docking.http.server import Server, listen

    async with station("home") as home, station("inner", port=None, url="http://127.0.0.1:1/below") as inner:
        app = await inner.application()
        sock = listen("127.0.0.1", 0)
        server = await Server.start(app, app.reception, SharedKeys(PEER), lambda size: bytes(size), sock)
        try:
            url = f"http://127.0.0.1:{server.port}"
            # One that names a path, and one that does not but is not the station itself: another key answers there.
            for each in (f"{url}/below", url):
                peers = home.introductions.peers
                assert (await home.introductions.call_on(each)).key == inner.key
                peers.known[inner.key] = evolve(peers.known[inner.key], addresses=(each,))
                assert await home.introductions.letter(inner.key, ["told", bytes(32), []]) == ["taken"]
            assert all(line.call is None for line in lines(home))
        finally:
            await server.close()


BABBLE = [
    b"SSH-2.0-OpenSSH\r\n",
    b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n",
    channel.welcome(bytes(32)),  # a point of small order
    channel.welcome(bytes(31) + b"\x09") + bytes.fromhex("00000020") + bytes(32),
    channel.welcome(bytes(31) + b"\x09") + b"\xff" * 100,
    b"x" * 100_000,
    b"",
]


@pytest.mark.parametrize("babble", BABBLE)
def test_whoever_answers_nonsense_is_asked_by_http_and_breaks_nothing(babble: bytes) -> None:
    heads = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(babble)
            await writer.drain()
        writer.close()

    @run
    async def test() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with station("home") as home:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            home.introductions.peers.configure(PEER.public, "babbler", url)
            for _ in range(2):
                with pytest.raises(NoAnswer):
                    await home.introductions.letter(PEER.public, ["told", bytes(32), []])
        server.close()

    test()
    assert heads[0].startswith(channel.UPGRADE_LINE)
    if not channel.read_welcome(babble.partition(b"\r\n\r\n")[0]):
        # It is not asked for a channel again soon.
        assert [head.startswith(channel.UPGRADE_LINE) for head in heads] == [True, False, False]


@run
async def test_another_station_at_an_address_makes_no_channel() -> None:
    async with harbour("home", "other", "third") as (home, other, third):
        peers = home.introductions.peers
        peers.known[third.key] = evolve(peers.known[third.key], addresses=(other.url,))
        with pytest.raises(NoAnswer):
            await home.introductions.letter(third.key, ["told", bytes(32), []])
        assert len(open_at(other)) == 2  # those of home and of third


@run
async def test_a_channel_that_was_cut_is_opened_again_and_requests_are_sent_again() -> None:
    async with harbour("home", "other") as (home, other):
        for _ in range(3):
            first = call_of(home)
            for each in tuple(open_at(other)):
                each.abort()
            # Both while home knows that it is closed, and while it does not.
            assert await home.introductions.letter(other.key, ["told", bytes(32), []]) == ["taken"]
            assert call_of(home) is not first


@run
async def test_a_new_channel_that_is_cut_with_the_request_is_no_answer() -> None:
    async with harbour("home", "other") as (home, other):

        async def letter(sender: Any, value: Any) -> Any:
            for each in tuple(open_at(other)):
                each.abort()
            return ["taken"]

        other.reception.doors.letter = letter  # type: ignore[method-assign]
        with pytest.raises(NoAnswer):
            await home.introductions.letter(other.key, ["told", bytes(32), []])


@run
async def test_a_closed_port_is_unreachable_and_a_silent_one_gives_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with harbour("home", "other") as (home, other):
        await home.introductions.greet(other.key)  # the channel is open
        monkeypatch.setattr(calling, "RESPONSE_TIMEOUT_S", 0.3)
        monkeypatch.setattr("docking.http.connection_pool.RESPONSE_TIMEOUT_S", 0.3)

        async def letter(sender: Any, value: Any) -> Any:
            await asyncio.Event().wait()

        other.reception.doors.letter = letter  # type: ignore[method-assign]
        with pytest.raises(NoAnswer, match="no answer from"):
            await home.introductions.letter(other.key, [])
        assert call_of(home).closed
        writers = []
        silent = await asyncio.start_server(lambda reader, writer: writers.append(writer), "127.0.0.1", 0)
        peers = home.introductions.peers
        url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        peers.known[other.key] = evolve(peers.known[other.key], addresses=(url,))
        with pytest.raises(NoAnswer):
            await home.introductions.letter(other.key, [])
        for writer in writers:
            writer.close()
        silent.close()
        peers.known[other.key] = evolve(peers.known[other.key], addresses=("http://127.0.0.1:1",))
        with pytest.raises(PeerUnreachable):
            await home.introductions.letter(other.key, [])


@run
async def test_a_channel_is_replaced_after_its_time_and_ends_what_it_has_begun() -> None:
    async with harbour("home", "other") as (home, other):
        gate = asyncio.Event()

        async def letter(sender: Any, value: Any) -> Any:
            if value == "slow":  # stations that meet have letters of their own, too
                await gate.wait()
            return value

        other.reception.doors.letter = letter  # type: ignore[method-assign]
        first = call_of(home)
        slow = asyncio.ensure_future(home.introductions.letter(other.key, "slow"))
        await settled(lambda: other.reception.requests.total, 1)
        first.retired = 0.0
        await home.introductions.greet(other.key)
        assert call_of(home) is not first
        gate.set()
        assert await slow == "slow"


@run
async def test_channels_that_are_not_used_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "IDLE_TIMEOUT_S", 0.1)
    async with harbour("home", "other") as (home, other):
        await settled(lambda: bool(open_at(other)) or bool(open_at(home)), False)
    monkeypatch.setattr(calling, "IDLE_TIMEOUT_S", 60.0)
    monkeypatch.setattr(called, "KEEP_ALIVE_S", 0.1)
    async with harbour("home", "other") as (home, other):
        await settled(lambda: bool(open_at(other)) or bool(open_at(home)), False)


@run
async def test_a_station_that_stops_answers_what_it_has_and_takes_no_more() -> None:
    async with station("home") as home:
        async with station("other") as other:
            await meet(home, other)
            gate = asyncio.Event()

            async def letter(sender: Any, value: Any) -> Any:
                gate.set()
                await asyncio.sleep(0.2)
                return "taken"

            other.reception.doors.letter = letter  # type: ignore[method-assign]
            asked = asyncio.ensure_future(home.introductions.letter(other.key, []))
            await gate.wait()
        assert await asked == "taken"


# Callers who mean no good


@run
async def test_an_honest_caller_is_answered() -> None:
    async with harbour("home") as (home,), caller(home) as peer:
        peer.ask(7, HANDOFF, STATUS)
        number, status, body = await peer.answer()
        assert (number, status, codec.decode_message(body)) == (7, 200, UNKNOWN)
        peer.ask(8, LETTER, canonical.encode(["told", bytes(32), []]))
        assert await peer.answer() == (8, 200, canonical.encode(["taken"]))
        peer.ask(9, LETTER, b"\xff")
        assert (await peer.answer())[:2] == (9, 400)
        peer.ask(10, HANDOFF, STATUS[:-1])
        assert (await peer.answer())[:2] == (10, 400)
        peer.ask(11, HELLO, canonical.encode([]))
        assert (await peer.answer())[:2] == (11, 200)


@run
async def test_what_was_recorded_says_nothing_a_second_time() -> None:
    async with harbour("home") as (home,):
        async with caller(home) as peer:
            frame = peer.ask(1, LETTER, canonical.encode(["told", bytes(32), []]))
            await peer.answer()
        async with caller(home, proof=False) as again:
            first = again.ends.send.seal([])
            again.writer.write(first + frame)
            assert await again.left()


@pytest.mark.parametrize(
    "nonsense",
    [
        bytes.fromhex("00000020") + bytes(32),  # no proof
        bytes.fromhex("00000021") + bytes(33),  # a first frame that is no proof
        bytes.fromhex("7fffffff"),
        bytes(4),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_who_does_not_prove_its_key_is_left_at_once(nonsense: bytes) -> None:
    @run
    async def test() -> None:
        async with harbour("home") as (home,), caller(home, proof=False) as peer:
            peer.writer.write(nonsense)
            assert await peer.left()
            assert not open_at(home)

    test()


@run
async def test_frames_that_are_no_requests_end_the_channel() -> None:
    async with harbour("home") as (home,):
        for plain in (
            b"",
            b"1234",
            channel.REQUEST_HEAD.pack(1, len(REQUEST_KINDS)),
            channel.REQUEST_HEAD.pack(1, 0) + bytes(channel.MAX_REQUEST_BODY_BYTES + 1),
        ):
            async with caller(home) as peer:
                peer.writer.write(peer.ends.send.seal([plain]))
                assert await peer.left()
        assert home.reception.refused[400] == 4


@run
async def test_frames_that_do_not_end_and_answers_that_are_not_read_are_not_waited_for_long() -> None:
    async with harbour("home") as (home,):
        reception = home.reception
        reception.limits = evolve(reception.limits, patience_s=1.0)
        async with caller(home, proof=False) as peer:  # never proves anything
            assert await peer.left()
        async with caller(home) as peer:
            peer.ask(1, HANDOFF, STATUS)
            await peer.answer()
            peer.writer.write(bytes.fromhex("00010000") + bytes(100))
            while not (peer.reader.at_eof() or peer.reader.exception()):  # a byte now and then keeps nobody
                peer.writer.write(b"x")
                await asyncio.sleep(0.02)
        async with caller(home) as peer:
            home.reception.doors.letter = big  # type: ignore[method-assign]
            (there,) = open_at(home)
            for number in range(100):
                peer.ask(number, LETTER, canonical.encode([]))
            await settled(lambda: bool(open_at(home)), False)
            # What waited was bounded: the station read no more requests than it had answers in the air.
            assert there._transport.get_write_buffer_size() == 0


async def big(sender: Any, value: Any) -> Any:
    return bytes(1 << 19)


@run
async def test_requests_of_one_channel_are_bounded_and_none_is_lost() -> None:
    async with harbour("home") as (home,), caller(home) as peer:
        gate, most = asyncio.Event(), 0

        async def letter(sender: Any, value: Any) -> Any:
            nonlocal most
            most = max(most, home.reception.requests.total)
            await gate.wait()
            return value

        home.reception.doors.letter = letter  # type: ignore[method-assign]
        for number in range(1000):
            peer.ask(number, LETTER, canonical.encode(number))
        await settled(lambda: most, called.SERVER_WINDOW)
        gate.set()
        found = [await peer.answer() for _ in range(1000)]
        assert sorted(found) == [(number, 200, canonical.encode(number)) for number in range(1000)]
        assert most == called.SERVER_WINDOW
        assert not home.reception.requests.of


@run
async def test_a_station_that_has_enough_to_do_says_so() -> None:
    async with harbour("home") as (home,), caller(home) as peer:
        reception = home.reception
        reception.limits = evolve(reception.limits, per_peer=0)
        peer.ask(1, HANDOFF, STATUS)
        assert (await peer.answer())[:2] == (1, 429)
        reception.limits = evolve(reception.limits, per_peer=64, requests=0)
        reception.requests.take("another", 1, 10)
        peer.ask(2, HANDOFF, STATUS)
        assert (await peer.answer())[:2] == (2, 503)
        reception.limits = evolve(reception.limits, requests=512)
        peer.ask(3, HANDOFF, STATUS)
        assert (await peer.answer())[:2] == (3, 200)
        assert reception.refused == {429: 1, 503: 1}


@run
async def test_channels_count_as_connections_and_idle_ones_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docking.http.server.MAX_CONNECTIONS", 20)
    async with harbour("home") as (home,), contextlib.AsyncExitStack() as stack:
        crowd = []
        for number in range(40):
            key = SecretKey(canonical.digest(b"%d" % number))
            crowd.append(await stack.enter_async_context(caller(home, key)))
        assert len(open_at(home)) == 20
        assert all([await peer.left() for peer in crowd[:20]])
        crowd[-1].ask(1, HANDOFF, STATUS)
        assert (await crowd[-1].answer())[1] == 200


@run
async def test_slow_and_endless_heads_of_channels_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docking.http.connections.HEAD_TIMEOUT_S", 0.2)
    async with harbour("home") as (home,):
        parts = urlsplit(home.url)
        for data in (b"", b"G", channel.UPGRADE_LINE, channel.UPGRADE_LINE + b"x: " + b"y" * 10_000):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(data)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            writer.close()
        await settled(lambda: bool(home.server.channels.fronts), False)


@run
async def test_a_head_that_comes_byte_by_byte_is_understood_as_what_it_is() -> None:
    async with harbour("home") as (home,):
        parts = urlsplit(home.url)
        head = channel.greeting("x", PEER.public.text.encode(), home.key, channel.EphemeralKey(bytes(31) + b"s").public)
        for data, wanted in (
            (head, b"HTTP/1.1 101 "),
            (head.replace(b"portcall-to: ed", b"portcall-to: xd"), b"HTTP/1.1 404 "),
            (b"GET /portcall/1/station HTTP/1.1\r\nhost: x\r\n\r\n", b"HTTP/1.1 200 "),
        ):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            for byte in data:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert (await reader.readuntil(b"\r\n")).startswith(wanted)
            writer.close()


@run
async def test_nothing_is_left_of_channels_that_ended() -> None:
    def channels() -> list[called.ServerChannel]:
        gc.collect()
        return [each for each in gc.get_objects() if isinstance(each, called.ServerChannel)]

    before = channels()  # of other tests
    async with harbour("home") as (home,):
        for _ in range(20):
            async with caller(home) as peer:
                peer.ask(1, HANDOFF, STATUS)
                await peer.answer()
        await settled(lambda: bool(open_at(home)), False)
        assert not [each for each in channels() if not any(each is other for other in before)]
        assert not home.reception.requests_by_peer


@run
async def test_a_channel_that_went_silent_holds_nobody_up_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    # A break in the network: what was on its way is lost, and the old connection does not come back for minutes.
    monkeypatch.setattr(calling, "SILENCE_S", 0.2)
    pipes: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
    broken = asyncio.Event()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, whole: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if whole or not broken.is_set():
                    writer.write(data)

    async with harbour("home", "other") as (home, other):
        parts = urlsplit(other.url)

        async def line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection(parts.hostname, parts.port)
            pipes.append((writer, back))
            whole = broken.is_set()
            await asyncio.gather(carry(reader, back, whole), carry(there, writer, whole))

        proxy = await asyncio.start_server(line, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        peers = home.introductions.peers
        peers.known[other.key] = evolve(peers.known[other.key], addresses=(url,))
        assert await home.introductions.letter(other.key, ["told", bytes(32), []]) == ["taken"]
        broken.set()
        lost = asyncio.ensure_future(home.introductions.letter(other.key, ["told", bytes(32), []]))
        await asyncio.sleep(0.3)
        again = home.introductions.letter(other.key, ["told", bytes(32), []])
        assert await asyncio.wait_for(again, PATIENCE) == ["taken"]
        assert not lost.done()
        lost.cancel()
        for pair in pipes:
            for writer in pair:
                writer.close()
        proxy.close()
