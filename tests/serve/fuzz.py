"""Damaged requests of clients, and damaged answers of agents, at a station that runs, as long as you like.

    python -m tests.serve.fuzz --seconds 60 [--seed N]

One agent counts the requests that it gets; another one answers with what its clients send. What must hold: the station
logs no error, answers each whole request in HTTP, and an honest one all the while; and afterwards nothing of a client
is left: no place, no byte, no request that waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import logging
from collections import Counter
from random import Random

import click

from docking import Station, Terms
from tests.bench.live_requests import service
from tests.fuzz.amount import Amount, judged, options, tell
from tests.patience import PATIENCE
from tests.station.fuzz import _Errors, inside
from tests.station.harbour import OWNER, harbour, packed

# Answers with the last so many bytes of the request.
BODY = 300
ECHO = f"""(module
  (import "portcall" "accept" (func $accept (param i32 i32 i32) (result i32)))
  (import "portcall" "reply" (func $reply (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "run") (result i32) (local $n i32)
    (loop $next
      (local.set $n (call $accept (i32.const 1024) (i32.const 32768) (i32.const -1)))
      (if (i32.gt_s (local.get $n) (i32.const {BODY}))
        (then (drop (call $reply
          (i32.add (local.get $n) (i32.const {1024 - BODY - 4 - 85})) (i32.const 85)
          (i32.add (local.get $n) (i32.const {1024 - BODY})) (i32.const {BODY})))))
      (br $next))
    (i32.const 0)))"""
REQUESTS = (
    b"GET /portcall/1/agents/counts/x?y=z HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
    b"POST /portcall/1/agents/counts/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nPrefer: wait=1\r\n\r\nhello",
    b"POST /portcall/1/agents/counts HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET /portcall/1/agents/counts/%20/../a HTTP/1.1\r\nHost: a\r\nConnection: close, x-a\r\nX-A: 1\r\n\r\n",
    b"HEAD /portcall/1/agents/nobody/ HTTP/1.1\r\nHost: a\r\nPortcall-Forward: always\r\n\r\n",
)
ANSWERS = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-y: z\r\n\r\nbody",
    b"HTTP/1.1 204 \r\nconnection: x-y\r\nx-y: z\r\n\r\n",
    b"HTTP/1.0 404 Not Found\r\nset-cookie: a=b\r\ncontent-length: 99\r\n\r\nnothing",
)


async def said(port: int, data: bytes, seconds: float) -> http.client.HTTPResponse | None:
    """What is answered within so many seconds; None where nothing is, or where nobody waits for it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        if not seconds:
            await asyncio.sleep(0)
            return None
        answer = b""
        with contextlib.suppress(ConnectionError, asyncio.TimeoutError):
            while piece := await asyncio.wait_for(reader.read(1 << 16), seconds):
                answer += piece
                with contextlib.suppress(AssertionError):
                    return parsed(answer, data)
        return parsed(answer, data) if answer else None
    finally:
        writer.close()


def parsed(data: bytes, request: bytes) -> http.client.HTTPResponse:
    """The response to that request. Raises `AssertionError`."""

    class Connection(io.BytesIO):
        def makefile(self, *_: object, **__: object) -> io.BytesIO:
            return self

    response = http.client.HTTPResponse(Connection(data), method=request.split(b" ")[0].decode("latin-1"))  # type: ignore[arg-type]
    try:
        response.begin()
        response.read()
    except http.client.HTTPException as error:
        raise AssertionError(f"what is answered is none of HTTP: {error!r}: {data[:300]!r}") from error
    return response


async def begun(at: Station, wat: str, label: str) -> None:
    """An agent that serves."""
    await at.launch(packed(wat, entry="run"), owner=OWNER, terms=Terms(label=label))


async def attack(rng: Random, amount: Amount) -> Counter[str]:
    """Damage requests and answers, in that amount; how they were answered. Raises `AssertionError`."""
    counts, errors = Counter[str](), _Errors()
    logging.getLogger().addHandler(errors)
    try:
        async with harbour("alpha") as (alpha,):
            port = alpha.port or 0
            await begun(alpha, service(1), "counts")
            await begun(alpha, ECHO, "echo")
            while amount.more():
                await once(port, rng, amount, counts)
                assert not errors.seen, errors.seen[0]
            answer = await said(port, REQUESTS[0], PATIENCE)
            assert answer is not None, "an honest request is not answered"
            assert answer.status == 200, answer.status
            await nothing_left(alpha)
        assert not errors.seen, errors.seen[0]
    finally:
        logging.getLogger().removeHandler(errors)
    return counts


async def once(port: int, rng: Random, amount: Amount, counts: Counter[str]) -> None:
    """A damaged request, or a damaged answer."""
    waits = rng.random() < 0.9
    if rng.random() < 0.5:
        body = inside(rng.choice(ANSWERS), rng).ljust(BODY)[:BODY]
        head = b"POST /portcall/1/agents/echo/ HTTP/1.1\r\nPrefer: wait=1\r\nConnection: close\r\n"
        head += b"Content-Length: %d\r\n\r\n"
        answer = await said(port, amount.give(head % BODY + body), PATIENCE if waits else 0.0)
        assert answer is not None or not waits, "a whole request is not answered"
        counts["answers: nobody waits" if answer is None else f"answers: {answer.status}"] += 1
        if answer is not None and answer.status != 502:
            names = {name.lower() for name, _ in answer.getheaders()}
            assert not names & {"set-cookie", "clear-site-data", "portcall-request"}, answer.getheaders()
    else:
        data = amount.give(inside(rng.choice(REQUESTS), rng))
        answer = await said(port, data, 0.1 if waits else 0.0)  # most are not whole
        counts["requests: nothing" if answer is None else f"requests: {answer.status}"] += 1


async def nothing_left(at: Station) -> None:
    """Wait until no client of an agent is left, and nothing of one."""
    assert at._app is not None
    clients, serving = at._app.clients, at.core.serving
    while clients.requests.total or clients.bodies.total or serving._clients or serving.waiting:
        await asyncio.sleep(0.01)
    assert (serving.waiting_bytes, sum(serving._asking.values())) == (0, 0)


@click.command()
@options
@click.option("--seed", type=int, help="Default: another each time.")
def main(seconds: float, least: int, seed: int | None) -> None:
    """Fuzz the door of agents that serve."""
    amount = Amount(seconds, least)
    tell(amount, judged(lambda *given: asyncio.run(attack(*given)), amount, seed))


if __name__ == "__main__":
    main()
