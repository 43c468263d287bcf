"""Clients that close their connections, that are slow, and that are many: their places are given back."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from agents.waits import Accept
from docking import Station
from docking.errors import StationError
from docking.residents.berth import Standing
from tests.bench.live_requests import service
from tests.patience import PATIENCE
from tests.serve.fuzz import begun, nothing_left, said
from tests.station.harbour import harbour, run

# Accepts a request and answers none.
SILENT = """(module
  (import "portcall" "accept" (func $accept (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (loop $next (drop (call $accept (i32.const 1024) (i32.const 32768) (i32.const -1))) (br $next))
    (i32.const 0)))"""
# Waits for a request, for so many milliseconds, and then ends.
PATIENT = """(module
  (import "portcall" "accept" (func $accept (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (call $accept (i32.const 1024) (i32.const 32768) (i32.const 3600000))))"""
PATH = b"/portcall/1/agents/%s/"
LAST = b"Connection: close\r\n\r\n"


async def connected(at: Station, data: bytes) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", at.port)
    writer.write(data)
    return writer


async def honest(at: Station) -> int | None:
    """The status with which an honest client is answered."""
    answer = await said(at.port or 0, b"GET " + PATH % b"counts" + b" HTTP/1.1\r\n" + LAST, PATIENCE)
    return None if answer is None else answer.status


@run
async def test_clients_that_leave_give_their_places_back() -> None:
    async with harbour("alpha") as (alpha,):
        await begun(alpha, service(1), "counts")
        await begun(alpha, SILENT, "silent")
        serving = alpha.core.serving
        request = b"GET " + PATH % b"silent" + b" HTTP/1.1\r\nPrefer: wait=60\r\n\r\n"
        # More than there are places for one agent: those beyond are refused.
        made = [await connected(alpha, request) for _ in range(300)]
        while sum(serving._asking.values()) < 256:
            await asyncio.sleep(0.005)
        full = await said(alpha.port or 0, request, PATIENCE)
        assert full is not None
        assert (full.status, full.getheader("retry-after")) == (503, "1")
        assert await honest(alpha) == 200  # other agents' clients are answered
        for writer in made:
            writer.close()
        await nothing_left(alpha)
        assert alpha._app is not None
        assert alpha._app.clients.answered[499] == 256
        (door,) = serving.doors.values()
        assert not door.waiting
        assert await honest(alpha) == 200


@run
async def test_a_request_whose_client_has_left_is_not_given_to_the_agent() -> None:
    async with harbour("alpha") as (alpha,):
        await begun(alpha, service(1), "counts")
        (berth,) = alpha.core.here.berths.values()
        while not isinstance(berth.wait, Accept):
            await asyncio.sleep(0.005)
        alpha.agent("counts").sleep()
        while berth.standing is not Standing.ASLEEP:
            await asyncio.sleep(0.005)
        asleep = await said(alpha.port or 0, b"GET " + PATH % b"counts" + b" HTTP/1.1\r\n" + LAST, PATIENCE)
        assert asleep is not None
        assert asleep.status == 503
        berth.standing = Standing.LEAVING  # requests wait at the door
        gone = await connected(alpha, b"GET " + PATH % b"counts" + b" HTTP/1.1\r\n" + LAST)
        while not alpha.core.serving.waiting:
            await asyncio.sleep(0.005)
        gone.close()
        await nothing_left(alpha)
        berth.standing = Standing.ASLEEP
        alpha.agent("counts").wake()
        assert await honest(alpha) == 200
        assert alpha.core.serving.counts["accepted"] == 1


@pytest.mark.parametrize("length", [b"content-length: 1000", b"transfer-encoding: chunked"])
@run
async def test_slow_bodies(length: bytes) -> None:
    async with harbour("alpha") as (alpha,):
        await begun(alpha, service(1), "counts")
        head = b"POST " + PATH % b"counts" + b" HTTP/1.1\r\nPrefer: wait=1\r\n" + length + b"\r\n\r\n1\r\nx"
        answer = await said(alpha.port or 0, head, PATIENCE)
        assert answer is not None
        assert answer.status == 408
        left = await connected(alpha, head.replace(b"wait=1", b"wait=60"))
        assert alpha._app is not None
        while not alpha._app.clients.requests.total:
            await asyncio.sleep(0.005)
        left.close()
        await nothing_left(alpha)
        assert alpha.core.serving.counts["accepted"] == 0
        assert await honest(alpha) == 200


@run
async def test_a_failed_move_does_not_begin_a_wait_anew() -> None:
    async with harbour("alpha", "beta") as (alpha, _):
        await begun(alpha, PATIENT, "patient")
        (berth,) = alpha.core.here.berths.values()
        while not isinstance(berth.wait, Accept) or not berth.until:
            await asyncio.sleep(0.005)
        until = berth.until
        await asyncio.sleep(0.05)
        with contextlib.suppress(StationError):
            await alpha.agent("patient").move("beta", precopy=False)
            pytest.fail("its itinerary does not lead there")
        while berth.standing is not Standing.WAITING:
            await asyncio.sleep(0.005)
        assert isinstance(berth.wait, Accept)
        assert abs(berth.until - until) <= 2
