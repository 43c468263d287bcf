"""The door of a station: what is not sealed to it, not announced, too large, too slow or altered does not come in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from attrs import evolve

from agents import canonical
from agents.credentials.keys import PublicKey, SecretKey
from agents.version import VERSION
from docking import Station
from docking.errors import KeyChanged, NoAnswer, PeerUnreachable
from docking.handoff import codec
from docking.handoff.messages import HandoffStanding, Side, StateAnswer, Status
from docking.http.channel import MAX_REQUEST_BODY_BYTES
from docking.http.connections import QUEUED, ConnectionLimits
from docking.http.sealing import SharedKeys, open_answer, opener, seal_answer, seal_request
from tests.patience import PATIENCE
from tests.station.harbour import harbour, run, station

STATUS = Status(bytes(32), Side.SOURCE, bytes(16))


async def raw(there: Station, data: bytes, close: bool = False) -> tuple[int, bytes]:
    """Status and body of what a station answers to these bytes."""
    parts = urlsplit(there.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(data)
        if close:
            writer.write_eof()
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        body = await reader.readexactly(int(fields[b"content-length"]))
        return int(head.split(b" ")[1]), body
    finally:
        writer.close()


def post(what: str, body: bytes, sender: str, *, length: int | None = None, extra: bytes = b"") -> bytes:
    """A request."""
    size = b"" if length == -1 else b"content-length: %d\r\n" % (len(body) if length is None else length)
    head = f"POST /portcall/1/{what} HTTP/1.1\r\nhost: x\r\nportcall-from: {sender}\r\n".encode()
    head += b"portcall-salt: %s\r\n" % ZERO.hex().encode()
    return head + size + extra + b"\r\n" + body


def seal(secrets: SharedKeys, to: PublicKey, what: str, bodies: Sequence[bytes | memoryview]) -> Any:
    """A request whose salt is all zeros."""
    return seal_request(secrets, to, what, bodies, secrets.ephemeral(to, os.urandom, 0.0), ZERO)


def sealed(there: Station, key: SecretKey, what: str = "handoff", body: bytes | None = None) -> bytes:
    """A sealed body for a station."""
    plain = b"".join(codec.encode_message(STATUS)) if body is None else body
    _, pieces, _ = seal(SharedKeys(key), there.key, what, [plain])
    return b"".join(pieces())


PEER, ZERO = SecretKey(bytes(31) + b"p"), bytes(16)


@run
async def test_a_station_says_which_key_is_here() -> None:
    async with harbour("home") as (home,):
        status, body = await raw(home, b"GET /portcall/1/station HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (status, json.loads(body)) == (200, {"protocol": 1, "name": "home", "key": home.key.text})


@run
async def test_a_path_may_end_with_a_slash() -> None:
    """Litestar adds one to what is below its mounts."""
    async with harbour("home") as (home,):
        status, _ = await raw(home, b"GET /dock/portcall/1/station/ HTTP/1.1\r\nhost: x\r\n\r\n")
        assert status == 200
        status, _ = await raw(home, post("handoff/", sealed(home, PEER), PEER.public.text))
        assert status == 200
        status, _ = await raw(home, b"GET /portcall/1/station// HTTP/1.1\r\nhost: x\r\n\r\n")
        assert status == 404


@run
async def test_an_honest_request_is_answered_sealed() -> None:
    async with harbour("home") as (home,):
        secrets = SharedKeys(PEER)
        _, pieces, header = seal(secrets, home.key, "handoff", codec.encode_message(STATUS))
        status, body = await raw(home, post("handoff", b"".join(pieces()), PEER.public.text))
        assert status == 200
        assert b"PCH" not in body
        answer = codec.decode_message(open_answer(secrets, home.key, header, body))
        assert answer == StateAnswer(STATUS.hid, Side.SOURCE, HandoffStanding.UNKNOWN)


@run
async def test_what_is_refused_at_the_door() -> None:
    async with harbour("home", "other") as (home, other):
        me, good = PEER.public.text, sealed(home, PEER)
        stranger = SecretKey(bytes(31) + b"s").public.text
        cases: list[tuple[bytes, int]] = [
            (b"GET /index.html HTTP/1.1\r\nhost: x\r\n\r\n", 404),
            (b"GET //x HTTP/1.1\r\nhost: x\r\n\r\n", 404),
            (b"GET /portcall/1/handoff HTTP/1.1\r\nhost: x\r\n\r\n", 404),
            (b"GET /portcall/1/metrics HTTP/1.1\r\nhost: x\r\n\r\n", 404),
            (post("elsewhere", good, me), 404),
            (post("handoff", good, "ed25519:nonsense"), 400),
            (post("handoff", good, "ed25519:" + "a" * 52), 400),  # a key of small order
            (post("handoff", good, stranger), 403),  # sealed by another than it says
            (post("handoff", sealed(other, PEER), me), 403),  # sealed to another station
            (post("letter", good, me), 403),  # moved to another place
            (post("handoff", good[:-1] + bytes([good[-1] ^ 1]), me), 403),
            (post("handoff", good + b"x", me), 403),
            (post("handoff", good[:40], me), 400),
            (post("handoff", b"not sealed at all, but long enough to be something that is sealed", me), 403),
            (post("handoff", sealed(home, PEER, body=b"not a message"), me), 400),
            (post("handoff", sealed(home, PEER, body=b"".join(codec.encode_message(STATUS)) + b"x"), me), 400),
            (post("letter", sealed(home, PEER, "letter", b"\xff"), me), 400),
            (post("handoff", b"", me, length=-1), 411),
            (post("handoff", b"1\r\nx\r\n0\r\n\r\n", me, length=-1, extra=b"transfer-encoding: chunked\r\n"), 411),
            (post("handoff", b"", me, length=1 << 40), 413),
            (post("hello", b"", me, length=1 << 20), 413),
        ]
        for data, expected in cases:
            status, body = await asyncio.wait_for(raw(home, data), PATIENCE)
            assert (status, data[:60]) == (expected, data[:60]), body


@run
async def test_a_browser_is_told_what_this_is_and_nothing_about_the_station() -> None:
    async with harbour("secretive") as (home,):
        status, body = await raw(home, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert status == 200
        assert b"This is a Portcall station" in body
        assert b"portcall station --console" in body
        for secret in (b"secretive", home.key.text.encode(), home.key.id.encode(), VERSION.encode()):
            assert secret not in body
        status, other = await raw(home, b"POST / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (status, b"station answers" in other) == (404, True)


@run
async def test_letters_that_are_none_are_refused_with_a_code() -> None:
    async with harbour("home", "other") as (home, other):
        for value in (None, 5, [], ["message"], ["message", bytes(31), []], ["unheard-of", bytes(32), None]):
            answer = await other.introductions.letter(home.key, value)
            assert answer[0] == "refused", value
        for content in (None, [], [bytes(32), "x", b"y", "z"], [b"short", "x", b"y", 0], [bytes(32), "\x07", b"", 0]):
            answer = await other.introductions.letter(home.key, ["message", bytes(32), content])
            assert answer[:1] == ["refused"], content
        nobody = await other.introductions.letter(home.key, ["message", bytes(32), [bytes(32), "x", b"", 0]])
        assert nobody[:2] == ["refused", "unknown-agent"]
        astray = await other.introductions.letter(home.key, ["message", bytes(32), [bytes(32), "x", b"", 999]])
        assert astray[0] == "later"


@run
async def test_one_who_is_slow_is_left() -> None:
    async with harbour("home") as (home,):
        reception = home.reception
        reception.limits = evolve(reception.limits, patience_s=0.2, min_bytes_per_s=1 << 20)
        me, good = PEER.public.text, sealed(home, PEER)
        status, _ = await asyncio.wait_for(raw(home, post("handoff", good[:60], me, length=len(good))), PATIENCE)
        assert status == 408


GET = b"GET /portcall/1/station HTTP/1.1\r\nhost: x\r\n\r\n"


@run
async def test_heads_that_do_not_end_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docking.http.connections.HEAD_TIMEOUT_S", 0.2)
    async with harbour("home") as (home,):
        parts = urlsplit(home.url)
        for data in (b"", b"POST /portcall/1/handoff HTTP/1.1\r\nx: ", b"GET / HTTP/1.1\r\nx: " + b"y" * (1 << 20)):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(data)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            writer.close()
        # One that is kept may be quiet in between.
        monkeypatch.setattr("docking.http.connections.HEAD_TIMEOUT_S", PATIENCE)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(GET)
        await reader.readuntil(b"}")
        monkeypatch.setattr("docking.http.connections.HEAD_TIMEOUT_S", 0.2)
        await asyncio.sleep(0.3)
        writer.write(GET)
        await reader.readuntil(b"}")
        writer.close()


@run
async def test_requests_at_once_are_bounded() -> None:
    async with harbour("home") as (home,):
        reception = home.reception
        reception.limits = evolve(reception.limits, requests=1, patience_s=5.0)
        me, good = PEER.public.text, sealed(home, PEER)
        parts = urlsplit(home.url)
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(post("handoff", good[:60], me, length=len(good)))
        while reception.requests.total == 0:
            await asyncio.sleep(0.005)
        status, _ = await raw(home, post("handoff", good, me))
        assert status == 503
        writer.close()
        while reception.requests.total:
            await asyncio.sleep(0.005)
        assert (await raw(home, post("handoff", good, me)))[0] == 200


@run
async def test_one_peer_cannot_take_all_the_room() -> None:
    async with harbour("home") as (home,):
        reception = home.reception
        reception.limits = evolve(reception.limits, per_peer=0)
        status, body = await raw(home, post("handoff", sealed(home, PEER), PEER.public.text))
        assert (status, body) == (429, b"too many requests of one station at once")


def limits_of(there: Station) -> ConnectionLimits:
    return there.server.channels.limits


@run
async def test_a_few_requests_may_be_sent_before_the_first_answer() -> None:
    async with harbour("home") as (home,):
        parts = urlsplit(home.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(GET * (1 + QUEUED))
        for _ in range(1 + QUEUED):
            await reader.readuntil(b"}")
        writer.write(GET)
        await reader.readuntil(b"}")
        assert limits_of(home).queued == 0
        writer.close()


@run
async def test_one_who_sends_requests_without_end_and_reads_nothing_is_left() -> None:
    async with harbour("home") as (home,):
        parts = urlsplit(home.url)
        limits = limits_of(home)
        most = 0
        for _ in range(3):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
            with contextlib.suppress(ConnectionError):
                while not writer.is_closing():
                    writer.write(GET * 1000)
                    most = max(most, limits.queued)
                    await asyncio.wait_for(writer.drain(), PATIENCE)
                    await asyncio.sleep(0)
            writer.close()
        assert most <= QUEUED
        assert (await raw(home, GET))[0] == 200
        while limits.queued:
            await asyncio.sleep(0.005)


@run
async def test_requests_that_wait_are_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docking.http.connections.ALL_QUEUED", 2)
    async with harbour("home") as (home,):
        good = sealed(home, PEER)
        begun = post("handoff", good[:60], PEER.public.text, length=len(good))
        parts = urlsplit(home.url)
        (first, one), (second, two) = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(2)]
        one.write(post("handoff", good, PEER.public.text) + GET + GET)
        for _ in range(2):
            await first.readuntil(b"}")
        limits_of(home).queued = 1  # another connection's
        two.write(post("handoff", good, PEER.public.text) + GET + GET + begun)
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(second.read(), PATIENCE)
        assert limits_of(home).queued == 1
        one.close()
        two.close()


@run
async def test_one_who_does_not_read_answers_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docking.http.connections.UNREAD_SECONDS", 0.1)
    async with harbour("home", show_metrics=True) as (home,):
        parts = urlsplit(home.url)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.connect((parts.hostname, parts.port))
        sock.setblocking(False)
        connections = home.server.connections
        sent, get = 0, GET.replace(b"/station", b"/metrics")
        while True:
            with contextlib.suppress(BlockingIOError):
                try:
                    sent += sock.send(get)
                except ConnectionError:
                    break
            await asyncio.sleep(0.001)
        sock.close()
        while connections:
            await asyncio.sleep(0.005)
        assert (await raw(home, GET))[0] == 200


# The client


@run
async def test_the_client_keeps_its_connection_and_notices_when_it_is_gone() -> None:
    async with harbour("home", "other") as (home, other):
        client = home.client
        # Too long for a channel.
        letter = ["message", bytes(32), [bytes(32), "x", bytes(MAX_REQUEST_BODY_BYTES), 0]]
        assert (await home.introductions.letter(other.key, letter))[:2] == ["refused", "unknown-agent"]
        (pool,) = client.posts.pools.values()
        first = list(pool.idle)
        assert len(first) == 1
        await home.introductions.letter(other.key, letter)
        assert pool.idle == first
        for connection in first:
            assert connection.transport is not None
            connection.transport.abort()
        assert (await home.introductions.letter(other.key, letter))[:2] == ["refused", "unknown-agent"]
        assert pool.idle != first


@run
async def test_an_answer_of_another_station_is_no_answer() -> None:
    async with harbour("home", "other", "third") as (home, other, third):
        home.introductions.peers.known[third.key] = evolve(
            home.introductions.peers.known[third.key], addresses=(other.url,)
        )
        with pytest.raises(NoAnswer):
            await home.introductions.letter(third.key, ["told", bytes(32), []])


@run
async def test_a_closed_port_is_unreachable() -> None:
    async with harbour("home", "other") as (home, other):
        await other.close()
        with pytest.raises(PeerUnreachable):
            await home.introductions.letter(other.key, ["told", bytes(32), []])


@run
async def test_the_next_address_is_tried() -> None:
    async with harbour("home", "other") as (home, other):
        peers = home.introductions.peers
        peers.known[other.key] = evolve(peers.known[other.key], addresses=("http://127.0.0.1:1", other.url))
        assert await home.introductions.letter(other.key, ["told", bytes(32), []]) == ["taken"]
        assert peers.addresses(other.key)[0] == other.url


@run
async def test_a_server_that_is_no_station() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answers.pop(0))
        writer.close()

    answers = [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n" + bytes(3 << 20),
        b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n",
        b"",
    ]
    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with station("home") as home:
        home.introductions.peers.configure(PEER.public, "babbler", url)
        while answers:
            with pytest.raises(NoAnswer):
                await home.introductions.letter(PEER.public, ["told", bytes(32), []])
    server.close()


@run
async def test_a_changed_key_is_refused_until_a_person_accepts_it() -> None:
    async with station("home") as home:
        async with station("beta") as before:
            await home.introductions.call_on(before.url)
        async with station("beta", key=SecretKey(bytes(32))) as after:
            with pytest.raises(KeyChanged, match="portcall key accept beta"):
                await home.introductions.call_on(after.url)
            assert await home.introductions.find("beta") == before.key
            home.introductions.peers.accept("beta", after.key)
            await home.introductions.call_on(after.url)
            assert await home.introductions.find("beta") == after.key


@run
async def test_a_key_that_was_accepted_by_command_is_seen_by_a_station_that_runs(tmp_path: Path) -> None:
    from docking.trust.identity import PINS_FILE, load_pins, save_pins

    async with station("home", tmp_path / "home") as home:
        async with station("beta") as before:
            await home.introductions.call_on(before.url)
        path = tmp_path / "home" / PINS_FILE
        async with station("beta", key=SecretKey(bytes(32))) as after, station("gamma") as gamma:
            with pytest.raises(KeyChanged):
                await home.introductions.call_on(after.url)
            save_pins(path, load_pins(path).accept("beta", after.key, 0))
            await home.introductions.call_on(gamma.url)
            assert load_pins(path).key("beta") == after.key
            await home.introductions.call_on(after.url)
            assert await home.introductions.find("beta") == after.key


@run
async def test_stations_introduce_themselves_both_ways() -> None:
    async with station("home") as home, station("other") as other:
        other.offer("oracle", lambda request: b"")
        await home.introductions.call_on(other.url)
        here, there = home.introductions.peers.get(other.key), other.introductions.peers.get(home.key)
        assert here is not None
        assert (here.name, here.services, here.proven) == ("other", ("oracle",), True)
        assert there is not None
        assert (there.name, there.addresses, there.proven) == ("home", (home.url,), True)


@run
async def test_hostile_introductions_are_bounded() -> None:
    async with harbour("home") as (home,):
        hostile: list[Any] = [
            None,
            [],
            [2, "beta", [], []],
            [1, "../x", [], []],
            [1, "beta", "no list", []],
            [1, "beta", [], [b"bytes", 5, "x" * 1000, "\x1b[2J"]],
            [1, "gamma", ["javascript:alert(1)", "http://user@host:1", 7, "http://ok:1"], []],
        ]
        for number, card in enumerate(hostile):
            key = SecretKey(bytes(31) + bytes([number + 1]))
            home.introductions.introduced(key.public, card)
        peers = {peer.name: peer for peer in home.introductions.peers.all()}
        assert set(peers) == {"beta", "gamma"}
        assert peers["beta"].services == ()
        assert peers["gamma"].addresses == ("http://ok:1",)


# Sealing


def test_answers_are_bound_to_their_request() -> None:
    a, b = SharedKeys(SecretKey(bytes(32))), SharedKeys(PEER)
    headers = []
    for number in range(2):
        salt = bytes([number]) * 16
        ephemeral = a.ephemeral(b.me, os.urandom, 0.0)
        _, pieces, header = seal_request(a, b.me, "handoff", [b"question"], ephemeral, salt)
        one = opener(b, a.me, "handoff", salt)
        assert b"".join(one.feed(b"".join(pieces()))) + one.finish() == b"question"
        headers.append(header)
    answer = seal_answer(b, a.me, headers[0], b"answer", os.urandom(32))
    assert open_answer(a, b.me, headers[0], answer) == b"answer"
    from agents.errors import CannotOpen

    for header, sealed_answer in ((headers[1], answer), (headers[0], answer[:-1]), (headers[0], b"")):
        with pytest.raises(CannotOpen):
            open_answer(a, b.me, header, sealed_answer)


@pytest.mark.parametrize("sizes", [[0], [1], [65536], [65537], [131072], [10, 70_000, 196_608, 1], [65536, 65536, 5]])
def test_bodies_of_every_size_are_sealed_in_pieces(sizes: list[int]) -> None:
    a, b = SharedKeys(SecretKey(bytes(32))), SharedKeys(PEER)
    bodies = [canonical.digest(bytes([n])) * (size // 32 + 1) for n, size in enumerate(sizes)]
    bodies = [body[:size] for body, size in zip(bodies, sizes, strict=True)]
    size, pieces, _ = seal(a, b.me, "x", bodies)
    data = b"".join(pieces())
    assert len(data) == size
    one = opener(b, a.me, "x", ZERO)
    assert b"".join(one.feed(data)) + one.finish() == b"".join(bodies)


@run
async def test_a_salt_that_is_none_is_refused() -> None:
    async with harbour("home") as (home,):
        good = post("handoff", sealed(home, PEER), PEER.public.text)
        for salt in (b"", b"00", b"zz" * 16, b"00" * 17, "\u00e9".encode() * 16):
            status, body = await raw(home, good.replace(b"00" * 16, salt, 1))
            assert (status, b"Portcall-Salt" in body) == (400, True)
        status, _ = await raw(home, good.replace(b"00" * 16, b"01" * 16, 1))
        assert status == 403


def test_an_ephemeral_key_serves_for_a_while() -> None:
    a, b = SharedKeys(SecretKey(bytes(32))), SharedKeys(PEER)
    keys = [a.ephemeral(b.me, os.urandom, float(now)).public for now in (0, 59, 60, 61)]
    assert keys[0] == keys[1] != keys[2] == keys[3]
    many = {a.ephemeral(b.me, os.urandom, 62.0).public for _ in range(2000)}
    assert len(many) == 2
