"""Clients, agents and stations that send what they should not: refused with a status, and nothing leaks."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docking.errors import CarrierError, MalformedMessage
from docking.http.agent_messages import BadHead, read_response, write_request
from docking.residents import serving
from docking.residents.ferry import Ferry
from tests.station.harbour import harbour, meet, run

from .servers import COUNTER, ask, launch

# Answers with the bytes that it was sent.
RAW = """
import portcall

while True:
    request = portcall.accept()
    with open("/portcall/reply/" + request.id, "wb", 0) as file:
        file.write(request.body)
"""
CSP = "sandbox allow-scripts allow-forms allow-popups"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"hello",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 600 Far\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\nset-cookie: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\rset-cookie: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx : a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n x: folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: \xff\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 65 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + bytes(20000) + b"\r\n\r\n",
    ],
)
def test_an_answer_that_is_none_of_http(answer: bytes) -> None:
    with pytest.raises(BadHead):
        read_response(answer)


def test_headers_that_an_agent_cannot_set() -> None:
    names = ["Connection: x-gone", "X-Gone: 1", "Transfer-Encoding: chunked", "Content-Length: 5", "Set-Cookie: a=b"]
    names += ["Clear-Site-Data: *", "Content-Security-Policy: none", "Portcall-From: me", "Upgrade: h2", "X-Kept: yes"]
    found = read_response(("HTTP/1.1 404 \r\n" + "\r\n".join(names) + "\r\n\r\nbody").encode())
    assert (found.status, found.body) == (404, b"body")
    assert dict(found.headers) == {
        b"x-kept": b"yes",
        b"content-security-policy": CSP.encode(),
        b"x-content-type-options": b"nosniff",
    }


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda data: b"HTTP/1.1 200 \r\n" + data))
def test_any_answer_is_fit_to_be_sent_or_refused(data: bytes) -> None:
    try:
        found = read_response(data)
    except BadHead:
        return
    assert 200 <= found.status <= 599
    for name, value in found.headers:
        assert not {*b"\r\n\0: "} & {*name}
        assert not {*b"\r\n\0"} & {*value}


@given(
    st.binary(max_size=20), st.binary(max_size=40), st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)))
)
def test_any_request_is_whole_or_refused(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    try:
        message = write_request("alpha.1", method, target, headers, b"\r\n\r\nbody")
    except BadHead:
        return
    head, _, body = message.partition(b"\r\n\r\n")
    assert body == b"\r\n\r\nbody"
    assert head.startswith(method + b" " + target + b" HTTP/1.1\r\n")
    assert [line for line in head.split(b"\r\n") if line.startswith(b"portcall-")] == [b"portcall-request: alpha.1"]


@run
async def test_an_agent_that_answers_nonsense() -> None:
    async with harbour("alpha") as (alpha,):
        await launch(alpha, RAW)
        for body in (b"nonsense", b"HTTP/1.1 200 OK\r\nx: a\nset-cookie: b\r\n\r\n"):
            bad = await ask(alpha, "/", "POST", body)
            assert bad.status == 502
            assert "set-cookie" not in bad.headers
        good = await ask(alpha, "/", "POST", b"HTTP/1.1 203 \r\ncontent-length: 99\r\n\r\nwell")
        assert (good.status, good.body, good.headers["content-length"]) == (203, b"well", "4")
        empty = await ask(alpha, "/", "HEAD", b"HTTP/1.1 200 \r\n\r\nnot sent")
        assert (empty.status, empty.body, empty.headers["content-length"]) == (200, b"", "8")


def said(port: int, data: bytes) -> bytes:
    """The status line that raw bytes are answered with."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(data)
        return connection.makefile("rb").readline().strip()


@run
async def test_requests_beyond_the_bounds() -> None:
    async with harbour("alpha") as (alpha,):
        await launch(alpha, COUNTER)
        large = await ask(alpha, "/", "POST", bytes((1 << 20) + 1))
        assert (large.status, large.json["title"]) in ((413, "Request Entity Too Large"), (413, "Content Too Large"))
        assert (await ask(alpha, "/", "POST", bytes(1 << 20))).status == 413  # with its head
        assert (await ask(alpha, "/", headers={f"x-{i}": "1" for i in range(80)})).status == 431
        pieces = (bytes(1 << 16) for _ in range(17))
        assert (await ask(alpha, "/", "POST", pieces)).status == 413
        assert (await ask(alpha, "/", "TRACE")).status == 405
        assert (await ask(alpha, "/", headers={"x": "\xe9"})).status == 400
        path = b"/portcall/1/agents/service"
        for line, status in (
            (b"GET " + path + b"/../..%2f HTTP/1.1\r\nhost: a\r\n\r\n", b"200"),
            (b"GET /portcall/1/agents/ HTTP/1.1\r\nhost: a\r\n\r\n", b"404"),
            (b"GET /portcall/1/agents/%00%0d%0a/ HTTP/1.1\r\nhost: a\r\n\r\n", b"404"),
            (b"GET /portcall/1/%61gents/service/ HTTP/1.1\r\nhost: a\r\n\r\n", b"200"),
            (b"POST " + path + b" HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", b"400"),
        ):
            assert (await asyncio.to_thread(said, cast(int, alpha.port), line)).split()[1] == status, line
        assert alpha.core.serving.waiting_bytes == 0


@run
async def test_more_requests_than_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MAX_WAITING", 4)
    async with harbour("alpha") as (alpha,):
        await launch(alpha, COUNTER)
        busy = [asyncio.create_task(ask(alpha, "/slow?0.5")) for _ in range(4)]
        while sum(alpha.core.serving._asking.values()) < 4:
            await asyncio.sleep(0.005)
        full = await ask(alpha, "/")
        assert (full.status, full.headers["retry-after"]) == (503, "1")
        assert {(await each).status for each in busy} == {200}
        assert (await ask(alpha, "/")).status == 200


@pytest.mark.parametrize(
    "value",
    [
        *(None, 1, [], ["request"], ["answer"], ["other", "a.b"]),
        ["request", "a.b", bytes(31), b"", 1, 1],
        ["request", "ab", bytes(32), b"", 1, 1],
        ["request", "a.b\n", bytes(32), b"", 1, 1],
        ["request", "a.b", bytes(32), bytes((1 << 20) + 1), 1, 1],
        ["request", "a.b", bytes(32), b"", 10**9, 1],
        ["request", "a.b", bytes(32), b"", 1, 99],
        ["answer", "a.b", bytes(32), 200, b"", 0, 1],
        ["answer", "a.b", bytes(32), b"", b"", 0, 1],
        ["answer", "a.b", bytes(32), False, b"", 0, 1],
        ["answer", "a.b", bytes(32), 0, "text", 0, 1],
        ["answer", "a.b", bytes(32), 999, b"", 0, 1],
    ],
)
def test_what_another_station_cannot_send(value: Any) -> None:
    with pytest.raises(MalformedMessage):
        Ferry.read(value)


@run
async def test_a_station_that_answers_for_an_agent_needs_the_id() -> None:
    async with harbour("alpha", "beta") as (alpha, beta):
        agent = await launch(alpha, COUNTER)
        slow = asyncio.create_task(ask(alpha, "/slow?0.3"))
        while not (clients := alpha.core.serving._clients):
            await asyncio.sleep(0.005)
        ident = next(iter(clients))
        mark = ident.partition(".")[0]
        for guess, whom in ((f"{mark}.{'0' * 32}", agent.key), (ident, bytes(32))):
            assert await beta.introductions.serve(alpha.key, ["answer", guess, whom, 0, b"forged", 0, 1]) == ["taken"]
        with pytest.raises(CarrierError):
            await beta.introductions.serve(alpha.key, ["nonsense"])
        assert (await slow).status == 200
        assert alpha.core.serving.counts["late"] == 2
        unknown = ["request", beta.core.serving.new_ident(), bytes(32), b"", 1000, 1]
        assert await beta.introductions.serve(alpha.key, unknown) == ["later"]
        await meet(alpha, beta)
