"""Clients of an agent that serves: what reaches it, what comes back, and what the station answers itself."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import unquote

import pytest

from docking import Permit, Policy
from docking.launching import DEFAULT_PERMIT
from docking.residents.berth import Standing
from tests.station.harbour import OWNER, harbour, run, settled

from .servers import COUNTER, Client, ask, launch


@run
async def test_a_request_reaches_the_agent_and_its_answer_the_client() -> None:
    async with harbour("alpha") as (alpha,):
        agent = await launch(alpha, COUNTER)
        sent = {
            "X-One": "1",
            "x-two": " two ",
            "Connection": "keep-alive, x-gone",
            "X-Gone": "1",
            "Portcall-Request": "no",
        }
        got = await ask(alpha, "/a%20b//c?d=e%2F&f", "POST", "hello", headers=sent)
        assert got.status == 200
        assert got.headers["content-type"] == "application/json"
        told = got.json
        assert [told[name] for name in ("count", "at", "method", "path", "query", "body")] == [
            1, "alpha", "POST", "/a%20b//c", "d=e%2F&f", "hello",
        ]  # fmt: skip
        assert told["headers"]["x-one"] == "1"
        assert told["headers"]["x-two"] == "two"
        assert told["headers"]["content-length"] == "5"
        by_id = await ask(alpha, "", agent=agent.id)
        assert (by_id.json["path"], by_id.json["method"]) == ("/", "GET")


@run
async def test_many_clients_at_once_are_answered_once_each() -> None:
    async with harbour("alpha") as (alpha,):
        await launch(alpha, COUNTER)
        clients = [Client(alpha) for _ in range(8)]
        answers = await asyncio.gather(
            *(client.ask(f"/{i}", "POST", f"{k}.{i}") for k, client in enumerate(clients) for i in [0])
        )
        for _ in range(5):
            answers += await asyncio.gather(*(client.ask("/", "POST", f"{k}") for k, client in enumerate(clients)))
        assert {answer.status for answer in answers} == {200}
        assert sorted(answer.json["count"] for answer in answers) == list(range(1, 49))
        for client in clients:
            client.close()


@run
async def test_what_the_handler_raises_is_an_answer_too() -> None:
    async with harbour("alpha") as (alpha,):
        agent = await launch(alpha, COUNTER)
        got = await ask(alpha, "/fail")
        assert (got.status, got.body) == (500, b"the agent failed to answer")
        assert (await ask(alpha, "/")).status == 200
        assert any("as asked" in line for line in agent.logs())


@run
async def test_an_agent_that_does_not_answer_in_time() -> None:
    async with harbour("alpha") as (alpha,):
        await launch(alpha, COUNTER)
        late = await ask(alpha, "/slow?0.5", headers={"Prefer": "wait=0"})
        never = await ask(alpha, "/never", headers={"Prefer": "respond-async, wait=1"})
        assert (late.status, never.status) == (504, 504)
        assert never.headers["content-type"] == "application/problem+json"
        assert never.json == {"title": "Gateway Timeout", "status": 504, "detail": "the agent has not answered in time"}
        assert (await ask(alpha, "/")).status == 200


@run
async def test_an_agent_that_ends_with_requests() -> None:
    async with harbour("alpha") as (alpha,):
        await launch(alpha, COUNTER)
        slow = asyncio.create_task(ask(alpha, "/slow?0.3"))
        while not alpha.core.serving.counts["accepted"]:
            await asyncio.sleep(0.01)
        end = asyncio.create_task(ask(alpha, "/end"))
        while not alpha.core.serving.waiting:
            await asyncio.sleep(0.01)
        waits = asyncio.create_task(ask(alpha, "/"))
        assert ((await slow).status, (await end).status, (await waits).status) == (200, 502, 410)
        assert (await ask(alpha, "/")).status == 410
        assert not alpha.core.serving.doors
        assert alpha.core.serving.waiting == alpha.core.serving.waiting_bytes == 0


@run
async def test_who_cannot_be_asked() -> None:
    policy = Policy(owners=[OWNER.public])
    async with harbour("alpha", policy=policy) as (alpha,):
        nobody = await ask(alpha, "/", agent="nobody")
        assert (nobody.status, nobody.json["title"]) == (404, "Not Found")
        await launch(alpha, COUNTER, label="mute", permit=Permit(DEFAULT_PERMIT.budget, ["host:send"]))
        assert (await ask(alpha, "/", agent="mute")).status == 403
        for _ in range(2):
            await launch(alpha, COUNTER, label="twin")
        assert (await ask(alpha, "/", agent="twin")).status == 409
        agent = await launch(alpha, COUNTER, label="tired")
        assert (await ask(alpha, "/", agent="tired")).status == 200
        agent.sleep()
        await settled(alpha, agent, Standing.ASLEEP)
        asleep = await ask(alpha, "/", agent="tired")
        assert (asleep.status, asleep.headers["retry-after"]) == (503, "60")
        agent.wake()
        assert (await ask(alpha, "/", agent="tired")).json["count"] == 2


@run
async def test_an_agent_that_moves_while_it_is_asked() -> None:
    async with harbour("alpha", "beta") as (alpha, beta):
        agent = await launch(alpha, COUNTER, "beta", "alpha", "beta")
        assert (await ask(alpha, "/")).json["at"] == "alpha"
        moved = await ask(alpha, "/go/beta")
        assert (moved.status, moved.body) == (200, b"beta")
        assert (await ask(beta, "/")).json["at"] == "beta"
        assert (await ask(alpha, "/")).json == {**(await ask(alpha, "/")).json, "count": 3}
        assert agent.where() == "beta"


@pytest.mark.parametrize(("root", "path"), [("", "/a%20b"), ("/our/book", "/our/book/a%20b"), ("/our/book", "/a%20b")])
@run
async def test_an_agent_where_an_application_mounts_it(root: str, path: str) -> None:
    async with harbour("alpha") as (alpha,):
        agent = await launch(alpha, COUNTER)
        scope = {
            "type": "http",
            "method": "POST",
            "root_path": root,
            "path": unquote(path),
            "query_string": b"c=d",
            "raw_path": path.encode(),
            "headers": [(b"content-length", b"5")],
            "client": ("127.0.0.1", 1),
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"hello", "more_body": False}

        async def send(event: Any) -> None:
            sent.append(event)

        await alpha.asgi(agent=agent.id)(scope, receive, send)
        assert sent[0]["status"] == 200
        told = json.loads(sent[1]["body"])
        assert [told[name] for name in ("path", "query", "body")] == ["/a%20b", "c=d", "hello"]
