"""An agent that serves and moves while clients ask: nothing is lost, nothing is done or answered twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from docking.residents import serving
from tests.station.harbour import harbour, meet, run, station

from .servers import COUNTER, Client, ask, keep_asking, launch


@run
async def test_clients_that_ask_while_the_agent_goes_back_and_forth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PASS_ON_S", 3600.0)
    async with harbour("alpha", "beta") as (alpha, beta):
        await launch(alpha, COUNTER, *["beta", "alpha"] * 5)
        for to in ("beta", "alpha"):  # beta has not heard of it before
            assert (await ask(alpha, f"/go/{to}")).status == 200
        over = asyncio.Event()
        clients = [asyncio.create_task(keep_asking(at, f"{at.name}{i}", over)) for at in (alpha, beta) for i in (0, 1)]
        await asyncio.sleep(0)
        for _ in range(4):
            for to in ("beta", "alpha"):
                moved = await ask(alpha, f"/go/{to}")
                assert (moved.status, moved.body.decode()) == (200, to)
                begun = [at.core.serving.counts["accepted"] for at in (alpha, beta)]
                while [at.core.serving.counts["accepted"] for at in (alpha, beta)] == begun:
                    await asyncio.sleep(0.001)
        over.set()
        sent = [token for tokens in await asyncio.gather(*clients) for token in tokens]
        done = (await ask(alpha, "/tokens")).json
        assert sorted(done) == sorted(sent)
        assert len(set(done)) == len(done)


@run
async def test_after_a_while_clients_are_sent_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with harbour("alpha", "beta") as (alpha, beta):
        await launch(alpha, COUNTER, "beta", label="a service")
        assert (await ask(alpha, "/go/beta", agent="a service")).status == 200
        monkeypatch.setattr(serving, "PASS_ON_S", 0.0)
        told = await ask(alpha, "/x%20y?z=1", "POST", "body", agent="a service")
        assert told.status == 307
        assert told.headers["location"] == f"{beta.url}/portcall/1/agents/a%20service/x%20y?z=1"
        passed = await ask(alpha, "/", headers={"Portcall-Forward": "always"}, agent="a service")
        assert (passed.status, passed.json["at"]) == (200, "beta")


@run
async def test_an_answer_finds_its_way_over_several_hops() -> None:
    source = """
import portcall

def handler(request):
    for station in ("beta", "gamma"):
        portcall.go(station)
    return "from " + portcall.here()

portcall.serve(handler)
"""
    async with harbour("alpha", "beta", "gamma") as (alpha, _, gamma):
        await launch(alpha, source, "beta", "gamma")
        # Gamma cannot reach alpha itself: the answer goes the way back.
        gamma.core.here.peers.works(alpha.key, "http://127.0.0.1:1")
        answer = await ask(alpha, "/")
        assert (answer.status, answer.body) == (200, b"from gamma")


@run
async def test_a_move_that_fails_loses_no_request() -> None:
    async with harbour("alpha") as (alpha,):
        await launch(alpha, COUNTER)
        client = Client(alpha)
        refused = asyncio.create_task(client.ask("/go/nowhere"))
        while not alpha.core.serving.counts["accepted"]:
            await asyncio.sleep(0.005)
        others = [asyncio.create_task(ask(alpha, "/", "POST", str(i))) for i in range(4)]
        assert (await refused).status == 500
        assert sorted(each.json["count"] for each in await asyncio.gather(*others)) == [1, 2, 3, 4]
        client.close()


@run
async def test_a_request_that_comes_twice_is_done_once() -> None:
    async with harbour("alpha", "beta") as (alpha, beta):
        agent = await launch(beta, COUNTER)
        message = b"POST / HTTP/1.1\r\nportcall-request: %s\r\n\r\nonce"
        ident = alpha.core.serving.new_ident()
        value = ["request", ident, agent.key, message % ident.encode(), 5000, 1]
        for _ in range(3):
            assert await alpha.introductions.serve(beta.key, value) == ["taken"]
        while not alpha.core.serving.counts["late"]:  # nobody waits for the answer
            await asyncio.sleep(0.005)
        assert (await ask(beta, "/tokens")).json == ["once"]


@run
async def test_a_station_that_starts_again_knows_where_the_agent_went(tmp_path: Path) -> None:
    async with harbour("alpha", "beta", home=tmp_path) as (alpha, beta):
        await launch(alpha, COUNTER, "beta")
        assert (await ask(alpha, "/go/beta")).status == 200
        await alpha.close()
        again = station("alpha", tmp_path / "alpha")
        async with again:
            await meet(again, beta)
            told = await ask(again, "/")
            assert told.status == 307
            assert told.headers["location"].startswith(beta.url)
