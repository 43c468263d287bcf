"""The application mobility service of real stations, with real agents."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import docking
import docking.mec
from docking import Policy, Station
from docking.errors import StationError
from docking.handle import Agent
from docking.mec.platform import MoveFailed, Question
from docking.mec.stations import StationPlatform
from docking.residents.berth import Standing
from tests.mec.edge import (
    ADJACENT,
    ALL,
    DEVICE,
    MOVES,
    PLACES,
    SERVICES,
    SUBSCRIPTIONS,
    Subscriber,
    conforms,
    problem,
    registration,
    subscription,
)
from tests.served import Served
from tests.station.harbour import OWNER, begin, harbour, program, run, settled, station

WAITS = program("(drop (call $recv (i32.const 300) (i32.const 100) (i32.const -1)))", "beta")
# Answers `yes MOVE`, with the identifier that stands at this place of the question.
AT = len('{"mec": "move", "move": "')
AGREES = program(
    f"""(drop (call $recv (i32.const 300) (i32.const 200) (i32.const -1)))
    (memory.copy (i32.const 1104) (i32.const {300 + AT}) (i32.const 32))
    (drop (call $call (s 0) (i32.const 1100) (i32.const 36) (i32.const 600) (i32.const 100)))
    (drop (call $recv (i32.const 300) (i32.const 100) (i32.const -1)))""",
    "mec.move|yes ",
)


@contextlib.asynccontextmanager
async def served(app: Any) -> Any:
    async with (
        Served(app) as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False, verify=False, timeout=60) as client,
    ):
        yield client


async def resting(at: Station, wat: str, *via: str) -> Agent:
    agent = await begin(at, wat, *via)
    await settled(at, agent, Standing.WAITING)
    return agent


@run
async def test_agents_are_instances_and_stations_are_neighbours() -> None:
    async with harbour("alpha", "beta") as (alpha, beta):
        agent = await resting(alpha, WAITS)
        async with docking.mec.app(alpha) as amsi, served(amsi) as client:
            assert repr(amsi) == "<MobilityService of alpha>"
            for name in (agent.id, agent.label, agent.id[:20], "stranger"):
                assert (await client.post(SERVICES, json=registration(name))).status_code == 201
            rows = (await client.get(ADJACENT)).json()
            assert {row["appInstanceId"] for row in rows} == {agent.id}
            assert [row["mecHostInformation"] for row in rows] == [
                {"hostName": "beta", "hostId": {"stationKey": beta.key.id}}
            ]
            address = {"host": "127.0.0.1", "port": beta.port}
            assert rows[0]["appInstanceCommLink"] == [{"ipAddresses": [address]}]
            conforms("AdjacentAppInstanceInfo", rows, many=True)
            problem(await client.post(MOVES, json={"appInstanceId": agent.id[:20], "to": "beta"}), 404)


@run
async def test_an_agent_is_asked_and_answers() -> None:
    async with harbour("alpha") as (alpha,):
        platform = StationPlatform(alpha)
        platform.open()
        agent = await resting(alpha, AGREES)
        assert await platform.ask(agent.id, Question("0123456789abcdef" * 2, "beta"))
        platform.close()
        assert "mec.move" not in alpha.core.services.names


@run
async def test_an_agent_that_does_not_answer_is_not_moved() -> None:
    async with harbour("alpha", "beta") as (alpha, _):
        agent = await resting(alpha, WAITS)
        settings = docking.mec.Settings(confirm_s=0.05)
        async with docking.mec.app(alpha, settings) as amsi, served(amsi) as client:
            await client.post(SERVICES, json=registration(agent.id, 2))
            move = (await client.post(MOVES, json={"appInstanceId": agent.id, "to": "beta"})).json()
            while (shown := (await client.get(f"{MOVES}/{move['moveId']}")).json())["state"] == "ASKING":
                await asyncio.sleep(0.01)
            assert shown["state"] == "DECLINED"
        assert agent.where() == "alpha"


async def told(subscriber: Subscriber, number: int) -> list[Any]:
    return [(await subscriber.got.get())["mobilityStatus"] for _ in range(number)]


async def over(client: httpx.AsyncClient, move: dict[str, Any]) -> dict[str, Any]:
    while (shown := (await client.get(f"{MOVES}/{move['moveId']}")).json())["state"] in ("ASKING", "TRIGGERED"):
        await asyncio.sleep(0.01)
    return dict(shown)


@pytest.mark.parametrize(("wat", "level"), [(WAITS, 3), (AGREES, 2)])
def test_an_agent_is_moved(wat: str, level: int) -> None:
    @run
    async def main() -> None:
        subscriber = Subscriber()
        async with harbour("alpha", "beta") as (alpha, beta), Served(subscriber.app()) as listening:
            agent = await resting(alpha, wat, "beta")
            async with docking.mec.app(alpha) as amsi, served(amsi) as client:
                made = (await client.post(SERVICES, json=registration(agent.id, level))).json()
                await client.post(SUBSCRIPTIONS, json=subscription(listening.url))
                move = (await client.post(MOVES, json={"appInstanceId": agent.label, "to": "beta"})).json()
                assert await told(subscriber, 2) == ALL[:2]
                done = await over(client, move)
                assert done["state"] == "COMPLETED"
                assert done["downtimeMs"] > 0
                await settled(beta, agent, Standing.WAITING)
                assert agent.where() == "beta"
                shown = (await client.get(f"{SERVICES}/{made['appMobilityServiceId']}")).json()
                (device,) = shown["deviceInformation"]
                assert device["contextTransferState"] == "USER_CONTEXT_TRANSFER_COMPLETED"
                # It is not here any more.
                problem(await client.post(MOVES, json={"appInstanceId": agent.id, "to": "beta"}), 404)

    main()


@run
async def test_an_agent_follows_its_device_from_station_to_station() -> None:
    async with harbour("alpha", "beta", "gamma") as stations, contextlib.AsyncExitStack() as stack:
        alpha, beta, gamma = stations
        agent = await resting(alpha, WAITS, "beta", "gamma")
        clients = {}
        for each in stations:
            amsi = await stack.enter_async_context(docking.mec.app(each))
            clients[each.name] = await stack.enter_async_context(served(amsi))
            # Registered at each platform: it need not be there yet.
            await clients[each.name].post(SERVICES, json=registration(agent.id, 3))
        for here, there in ((alpha, beta), (beta, gamma)):
            answer = await clients[here.name].put(PLACES, json={"associateId": DEVICE, "station": there.name})
            (move,) = answer.json()["moves"]
            assert (await over(clients[here.name], move))["state"] == "COMPLETED"
            await settled(there, agent, Standing.WAITING)


@run
async def test_where_its_itinerary_does_not_lead_it_is_not_moved() -> None:
    subscriber = Subscriber()
    async with harbour("alpha", "beta") as (alpha, _), Served(subscriber.app()) as listening:
        agent = await resting(alpha, WAITS)
        with pytest.raises(MoveFailed):
            await StationPlatform(alpha).move(agent.id, "nowhere")
        async with docking.mec.app(alpha) as amsi, served(amsi) as client:
            await client.post(SERVICES, json=registration(agent.id, 3))
            await client.post(SUBSCRIPTIONS, json=subscription(listening.url))
            move = (await client.post(MOVES, json={"appInstanceId": agent.id, "to": "beta"})).json()
            failed = await over(client, move)
            assert failed["state"] == "FAILED"
            assert failed["detail"]
            assert await told(subscriber, 2) == [ALL[0], ALL[2]]
        await settled(alpha, agent, Standing.WAITING)
        assert agent.where() == "alpha"


@run
async def test_mounted_beside_the_station_in_an_application(tmp_path: Path) -> None:
    edge = station("edge", tmp_path / "edge")
    async with edge:
        async with docking.mec.app(edge) as amsi:
            app = Starlette(routes=[Mount("/mec", amsi), Mount("/dock", edge.asgi())])
            async with served(app) as client:
                made = await client.post(f"/mec{SERVICES}/", json=registration())
                assert made.headers["location"].startswith(str(client.base_url.join(f"/mec{SERVICES}/")))
                assert (await client.get(made.headers["location"])).json() == made.json()
                missing = await client.get("/mec/amsi/v1/nothing")
                problem(missing, 404)
                assert missing.json()["instance"] == "/mec/amsi/v1/nothing"
        async with docking.mec.app(edge) as amsi, served(amsi) as client:  # from its file
            assert (await client.get(SERVICES)).json() == [made.json()]
        assert (tmp_path / "edge" / "mec.json").is_file()


@run
async def test_it_begins_with_the_first_request_where_nobody_begins_it() -> None:
    async with harbour("alpha") as (alpha,):
        amsi = docking.mec.app(alpha, docking.mec.Settings(root="https://mec.example/edge/"))
        async with served(Starlette(routes=[Mount("/", amsi)])) as client:
            made = await client.post(SERVICES, json=registration())
        assert made.headers["location"].startswith("https://mec.example/edge/amsi/v1/app_mobility_services/")
        await amsi.close()
        await amsi.close()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.startswith("docking.mec.service"):
            raise ModuleNotFoundError("No module named 'httpx'", name="httpx")
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(StationError, match=r"httpx is not installed: pip install 'portcall\[mec\]'"):
        docking.mec.app(Station("alpha", policy=Policy(owners=[OWNER.public])))


@run
async def test_a_label_that_two_agents_have_names_neither() -> None:
    async with harbour("alpha") as (alpha,):
        platform = StationPlatform(alpha)
        first = await resting(alpha, WAITS)
        assert platform.instances([first.label, "x", first.id])[first.label].id == first.id
        second = await resting(alpha, WAITS)
        assert second.label == first.label
        assert list(platform.instances([first.label, first.id])) == [first.id]


@run
async def test_changes_that_come_together_are_one_and_end_with_the_station() -> None:
    async with harbour("alpha") as (alpha,):
        changes = StationPlatform(alpha).changes()
        first = asyncio.get_running_loop().create_task(anext(changes))
        await asyncio.sleep(0)
        for _ in range(100):
            alpha.core.here.tell("peer")
        await first
        second = asyncio.get_running_loop().create_task(anext(changes))
        await asyncio.sleep(0)
        assert not second.done()
    with pytest.raises(StopAsyncIteration):
        await second
