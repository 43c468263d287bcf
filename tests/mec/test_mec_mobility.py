"""Moves of application instances: levels, statuses, what registrations say afterwards, and the policy `follow`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from docking.mec import mobility
from docking.mec.platform import Instance, Neighbour
from docking.mec.settings import Settings
from tests.mec.edge import ALL, DEVICE, MOVES, PLACES, SERVICES, Edge, edge, played, problem
from tests.station.harbour import run

OTHER = {"type": "UE_IPV6_ADDRESS", "value": "2001:db8::1"}


async def begin(e: Edge, instance: str = "a1", to: str = "beta") -> dict[str, Any]:
    answer = await e.client.post(MOVES, json={"appInstanceId": instance, "to": to})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"{e.url}{MOVES}/{answer.json()['moveId']}"
    return dict(answer.json())


async def statuses(e: Edge, number: int) -> list[Any]:
    return [(await e.subscriber.got.get())["mobilityStatus"] for _ in range(number)]


@run
async def test_level_3_is_moved_transparently() -> None:
    async with edge() as e:
        made = await e.register(level=3)
        subscribed = await e.subscribe()
        e.platform.outcome = asyncio.get_running_loop().create_future()
        move = await begin(e)
        first = await e.subscriber.got.get()
        assert first["notificationType"] == "MobilityProcedureNotification"
        assert first["mobilityStatus"] == "INTERHOST_MOVEOUT_TRIGGERED"
        assert first["associateId"] == [DEVICE]
        assert first["targetAppInfo"] == {
            "appInstanceId": "a1",
            "commInterface": {"ipAddresses": [{"host": "127.0.0.2", "port": 7707}]},
        }
        assert first["_links"] == {"subscription": subscribed["_links"]["self"]}
        assert set(first["timeStamp"]) == {"seconds", "nanoSeconds"}
        assert e.subscriber.seen[0][:2] == ("/told", "application/json")
        assert (await e.client.get(f"{MOVES}/{move['moveId']}")).json()["state"] == "TRIGGERED"
        problem(await e.client.post(MOVES, json={"appInstanceId": "a1", "to": "gamma"}), 409, "already")
        e.platform.outcome.set_result("")
        assert await statuses(e, 1) == ["INTERHOST_MOVEOUT_COMPLETED"]
        over = await e.settled(move["moveId"])
        assert over["state"] == "COMPLETED"
        assert {key: over[key] for key in ("rounds", "sentBytes", "downtimeMs", "totalMs")} == {
            "rounds": 3,
            "sentBytes": 1 << 20,
            "downtimeMs": 12.5,
            "totalMs": 250.0,
        }
        assert e.platform.moved == [("a1", "beta")]
        assert e.platform.asked == []
        shown = (await e.client.get(f"{SERVICES}/{made['appMobilityServiceId']}")).json()
        assert shown["deviceInformation"][0]["contextTransferState"] == "USER_CONTEXT_TRANSFER_COMPLETED"
        problem(await e.client.post(MOVES, json={"appInstanceId": "a1", "to": "beta"}), 404)


@run
async def test_a_cancelled_move_is_told_as_status_3() -> None:
    async with edge() as e:
        made = await e.register()
        await e.subscribe(filterCriteria={"mobilityStatus": [1, 2, 3]})
        e.platform.outcome = asyncio.get_running_loop().create_future()
        e.platform.outcome.set_result("it is full there")
        move = await begin(e)
        assert await statuses(e, 2) == [1, 3]
        over = await e.settled(move["moveId"])
        assert (over["state"], over["detail"]) == ("FAILED", "it is full there")
        shown = (await e.client.get(f"{SERVICES}/{made['appMobilityServiceId']}")).json()
        assert shown["deviceInformation"][0]["contextTransferState"] == "NOT_TRANSFERRED"
        # It is here, and may be moved again.
        e.platform.outcome = None
        await e.settled((await begin(e))["moveId"])
        assert e.platform.moved == [("a1", "beta")]


@run
async def test_level_1_pins_and_the_lowest_level_holds() -> None:
    async with edge() as e:
        problem(await e.client.post(MOVES, json={"appInstanceId": "a1", "to": "beta"}), 409, "registered")
        await e.register(level=3)
        await e.register(level=1)
        problem(await e.client.post(MOVES, json={"appInstanceId": "a1", "to": "beta"}), 403, "pinned")
        problem(await e.client.post(MOVES, json={"appInstanceId": "a2", "to": "beta"}), 404)
        assert (await e.client.get(MOVES)).json() == []


@run
async def test_where_it_cannot_be_moved_to() -> None:
    async with edge() as e:
        await e.register()
        problem(await e.client.post(MOVES, json={"appInstanceId": "a1", "to": "nowhere"}), 422)
        problem(await e.client.post(MOVES, json={"appInstanceId": "a1", "to": "alpha"}), 409)
        e.platform.near.append(Neighbour("key-x", "beta", ()))
        problem(await e.client.post(MOVES, json={"appInstanceId": "a1", "to": "beta"}), 422, "several")
        problem(await e.client.post(MOVES, json={"appInstanceId": "a1"}), 400)
        problem(await e.client.post(MOVES, json={"appInstanceId": "a1", "to": 5}), 400)
        problem(await e.client.get(f"{MOVES}/none"), 404)


@run
async def test_level_2_is_asked() -> None:
    async with edge(Settings(confirm_s=0.05, retry_s=0.05)) as e:
        await e.register(level=2)
        await e.subscribe()
        for agrees in (False, None):  # it says no; it says nothing
            e.platform.agrees = agrees
            over = await e.settled((await begin(e))["moveId"])
            assert over["state"] == "DECLINED"
        assert e.platform.moved == []
        e.platform.agrees = True
        move = await begin(e)
        assert (await e.settled(move["moveId"]))["state"] == "COMPLETED"
        assert [each.to for each in e.platform.asked] == ["beta"] * 3
        assert e.platform.asked[-1].move == move["moveId"]
        # Of those that were declined nothing was triggered, so nothing is told.
        assert await statuses(e, 2) == ALL[:2]
        assert e.subscriber.got.empty()


@run
async def test_whoever_operates_an_instance_may_answer_for_it() -> None:
    async with edge() as e:
        await e.register(level=None)  # nothing is said: it is asked
        e.platform.agrees = None
        for agreed, state in ((False, "DECLINED"), (True, "COMPLETED")):
            move = await begin(e)
            while (await e.client.get(f"{MOVES}/{move['moveId']}")).json()[
                "state"
            ] == "ASKING" and not e.platform.asked:
                await asyncio.sleep(0.005)
            answer = await e.client.post(f"{MOVES}/{move['moveId']}/answer", json={"agreed": agreed})
            assert answer.status_code == 204
            assert (await e.settled(move["moveId"]))["state"] == state
            problem(await e.client.post(f"{MOVES}/{move['moveId']}/answer", json={"agreed": True}), 409)
            problem(await e.client.post(f"{MOVES}/none/answer", json={"agreed": True}), 404)


@run
async def test_an_instance_that_is_pinned_while_it_thinks_stays() -> None:
    async with edge() as e:
        made = await e.register(level=2)
        e.platform.agrees = None
        move = await begin(e)
        where = f"{SERVICES}/{made['appMobilityServiceId']}"
        made["deviceInformation"][0]["appMobilityServiceLevel"] = "APP_MOBILITY_NOT_ALLOWED"
        assert (await e.client.put(where, json=made)).status_code == 200
        while not e.platform.asked:
            await asyncio.sleep(0.005)
        await e.client.post(f"{MOVES}/{move['moveId']}/answer", json={"agreed": True})
        assert (await e.settled(move["moveId"]))["state"] == "DECLINED"
        assert e.platform.moved == []


@run
async def test_who_is_told() -> None:
    async with edge() as e:
        await e.register()
        url = e.subscriber.url
        for path, criteria in {
            "instance": {"appInstanceId": "a1", "mobilityStatus": [1]},
            "another": {"appInstanceId": "a2", "mobilityStatus": [1]},
            "device": {"associateId": [OTHER, {"type": 1, "value": DEVICE["value"]}], "mobilityStatus": [1]},
            "stranger": {"associateId": [OTHER], "mobilityStatus": [1]},
            "default": {},
            "failed": {"mobilityStatus": [3]},
            "last": {"mobilityStatus": [2]},
        }.items():
            await e.subscribe(callbackReference=f"{url}/{path}", filterCriteria=criteria)
        await e.settled((await begin(e))["moveId"])
        await statuses(e, 4)
        assert {path for path, *_ in e.subscriber.seen} == {"/instance", "/device", "/default", "/last"}
        assert e.subscriber.got.empty()


@run
async def test_an_instance_follows_its_device() -> None:
    async with edge() as e:
        await e.register()

        async def near(station: str) -> list[Any]:
            answer = await e.client.put(PLACES, json={"associateId": DEVICE, "station": station})
            assert answer.status_code == 200, answer.text
            return list(answer.json()["moves"])

        assert await near("alpha") == []
        assert await near("unknown") == []
        assert (await e.client.get(PLACES)).json() == [{"associateId": DEVICE, "station": "unknown"}]
        (move,) = await near("gamma")
        assert (move["appInstanceId"], move["to"]) == ("a1", "gamma")
        await e.settled(move["moveId"])
        assert e.platform.moved == [("a1", "gamma")]
        gone = f"{PLACES}/{DEVICE['type']}/{DEVICE['value']}"
        assert (await e.client.delete(gone)).status_code == 204
        problem(await e.client.delete(gone), 404)
        problem(await e.client.delete(f"{PLACES}/what/x"), 400)
        assert (await e.client.get(PLACES)).json() == []


@run
async def test_it_follows_when_it_registers_and_when_the_station_is_met_later() -> None:
    platform = played()
    async with edge(platform=platform) as e:
        await e.client.put(PLACES, json={"associateId": DEVICE, "station": "delta"})
        platform.here["a1"] = Instance("a1", "one", "image")
        await e.register()
        assert (await e.client.get(MOVES)).json() == []
        platform.near.append(Neighbour("key-d", "delta", (("127.0.0.4", 7707),)))
        platform.changed.put_nowait(None)
        while not platform.moved:
            await asyncio.sleep(0.005)
        assert platform.moved == [("a1", "delta")]


@run
async def test_a_move_that_failed_is_not_tried_again_and_again() -> None:
    async with edge() as e:
        await e.register()
        e.platform.outcome = asyncio.get_running_loop().create_future()
        e.platform.outcome.set_result("no")
        (move,) = (await e.client.put(PLACES, json={"associateId": DEVICE, "station": "beta"})).json()["moves"]
        await e.settled(move["moveId"])
        for _ in range(5):
            e.platform.changed.put_nowait(None)
        while not e.platform.changed.empty():
            await asyncio.sleep(0.005)
        assert len((await e.client.get(MOVES)).json()) == 1
        # A new word about the device is a new reason.
        assert (await e.client.put(PLACES, json={"associateId": DEVICE, "station": "beta"})).json()["moves"]


@run
async def test_a_move_that_failed_is_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mobility, "RETRY_S", 0.05)
    async with edge() as e:
        await e.register()
        e.platform.outcome = asyncio.get_running_loop().create_future()
        e.platform.outcome.set_result("no")
        (move,) = (await e.client.put(PLACES, json={"associateId": DEVICE, "station": "beta"})).json()["moves"]
        await e.settled(move["moveId"])
        e.platform.outcome = None
        while not e.platform.moved:
            await asyncio.sleep(0.005)
        assert e.platform.moved == [("a1", "beta")]


@run
async def test_a_move_that_fails_always_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mobility, "RETRY_S", 0.001)
    monkeypatch.setattr(mobility, "MAX_RETRIES", 3)
    async with edge() as e:
        await e.register()
        e.platform.outcome = asyncio.get_running_loop().create_future()
        e.platform.outcome.set_result("no")
        await e.client.put(PLACES, json={"associateId": DEVICE, "station": "beta"})
        while [m["state"] for m in (await e.client.get(MOVES)).json()] != ["FAILED"] * 3:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        assert len((await e.client.get(MOVES)).json()) == 3


@run
async def test_following_can_be_turned_off() -> None:
    async with edge(Settings(follow=False)) as e:
        await e.register()
        answer = await e.client.put(PLACES, json={"associateId": DEVICE, "station": "beta"})
        assert answer.json() == {"moves": []}


def test_moves_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mobility, "MAX_MOVES", 5)
    monkeypatch.setattr(mobility, "MAX_UNDER_WAY", 2)
    names = [f"a{number}" for number in range(8)]

    @run
    async def main() -> None:
        async with edge(platform=played(*names)) as e:
            for name in names:
                await e.register(name)
            for name in names[:6]:
                await e.settled((await begin(e, name))["moveId"])
            listed = (await e.client.get(MOVES)).json()
            assert [each["appInstanceId"] for each in listed] == names[1:6]
            e.platform.outcome = asyncio.get_running_loop().create_future()
            await begin(e, names[6])
            await begin(e, names[7])
            e.platform.here["a1"] = Instance("a1", "a1", "image")
            problem(await e.client.post(MOVES, json={"appInstanceId": "a1", "to": "beta"}), 429)
            e.platform.outcome.set_result("")

    main()
