"""The resources of the application mobility service over HTTP: methods, statuses, headers, and the official schemas."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from docking.errors import StoreUnusable
from docking.mec import book
from docking.mec.service import MobilityService
from docking.mec.settings import Settings
from tests.mec.edge import (
    ADJACENT,
    DEVICE,
    MOVES,
    PLACES,
    SERVICES,
    SUBSCRIPTIONS,
    conforms,
    edge,
    need_official,
    played,
    problem,
    registration,
    subscription,
)
from tests.station.harbour import run


@run
async def test_a_registration_from_its_beginning_to_its_end() -> None:
    async with edge() as e:
        made = await e.client.post(SERVICES, json=registration(expiryTime=0))
        value = made.json()
        ident = value["appMobilityServiceId"]
        assert made.status_code == 201
        assert made.headers["content-type"] == "application/json"
        assert made.headers["location"] == f"{e.url}{SERVICES}/{ident}"
        assert value["serviceConsumerId"] == {"appInstanceId": "a1"}
        assert value["deviceInformation"][0]["associateId"] == DEVICE
        assert value["expiryTime"] == 0
        conforms("RegistrationInfo", value)

        shown = await e.client.get(made.headers["location"])
        assert (shown.status_code, shown.json()) == (200, value)
        assert shown.headers["etag"] == made.headers["etag"]
        listed = await e.client.get(SERVICES)
        assert (listed.status_code, listed.json()) == (200, [value])
        conforms("RegistrationInfo", listed.json(), many=True)

        other = registration("a2", 1, appMobilityServiceId="another")
        put = await e.client.put(f"{SERVICES}/{ident}", json=other)
        assert put.status_code == 200
        assert put.json()["appMobilityServiceId"] == ident
        assert put.json()["serviceConsumerId"] == {"appInstanceId": "a2"}
        assert put.headers["etag"] != made.headers["etag"]
        conforms("RegistrationInfo", put.json())

        gone = await e.client.delete(f"{SERVICES}/{ident}")
        assert (gone.status_code, gone.content) == (204, b"")
        problem(await e.client.get(f"{SERVICES}/{ident}"), 404)
        problem(await e.client.delete(f"{SERVICES}/{ident}"), 404)
        assert (await e.client.get(SERVICES)).json() == []


@pytest.mark.parametrize("task", ["deregister_task", "deregisterTask"])
def test_the_deregister_task_in_both_spellings(task: str) -> None:
    @run
    async def main() -> None:
        async with edge() as e:
            ident = (await e.register())["appMobilityServiceId"]
            answer = await e.client.post(f"{SERVICES}/{ident}/{task}")
            assert (answer.status_code, answer.content) == (204, b"")
            problem(await e.client.post(f"{SERVICES}/{ident}/{task}"), 404)
            problem(await e.client.get(f"{SERVICES}/{ident}/{task}"), 405)

    main()


@run
async def test_a_client_may_name_its_registration() -> None:
    async with edge() as e:
        assert (await e.register(appMobilityServiceId="mine-1"))["appMobilityServiceId"] == "mine-1"
        problem(await e.client.post(SERVICES, json=registration(appMobilityServiceId="mine-1")), 409)
        for ident in ("", "a b", "../x", "x" * 65, "ä", 5):
            problem(await e.client.post(SERVICES, json=registration(appMobilityServiceId=ident)), 400)


@run
async def test_enumerations_by_number_as_by_name() -> None:
    async with edge() as e:
        device = {
            "associateId": {"type": 1, "value": "10.0.0.1"},
            "appMobilityServiceLevel": 3,
            "contextTransferState": 0,
        }
        body = {"serviceConsumerId": {"appInstanceId": "a1"}, "deviceInformation": [device]}
        value = (await e.client.post(SERVICES, json=body)).json()
        assert {key: value["deviceInformation"][0][key] for key in device} == device


BAD_REGISTRATIONS: list[Any] = [
    {},
    [],
    "text",
    {"serviceConsumerId": {}},
    {"serviceConsumerId": "a1"},
    {"serviceConsumerId": {"appInstanceId": ""}},
    {"serviceConsumerId": {"appInstanceId": 5}},
    {"serviceConsumerId": {"appInstanceId": "x" * 257}},
    {"serviceConsumerId": {"appInstanceId": "a\nb"}},
    registration(expiryTime=-1),
    registration(expiryTime=2**32),
    registration(expiryTime="5"),
    registration(expiryTime=1.5),
    registration(expiryTime=True),
    registration(deviceInformation={}),
    registration(deviceInformation=[{}]),
    registration(deviceInformation=[{"associateId": {"type": "MAC", "value": "x"}}]),
    registration(deviceInformation=[{"associateId": {"type": True, "value": "x"}}]),
    registration(deviceInformation=[{"associateId": {"type": 5, "value": "x"}}]),
    registration(deviceInformation=[{"associateId": DEVICE}] * 65),
    registration(deviceInformation=[{"associateId": DEVICE, "appMobilityServiceLevel": "ALWAYS"}]),
]


@run
async def test_a_registration_that_is_none_is_refused() -> None:
    async with edge() as e:
        ident = (await e.register())["appMobilityServiceId"]
        before = (await e.client.get(SERVICES)).json()
        for body in BAD_REGISTRATIONS:
            problem(await e.client.post(SERVICES, json=body), 400)
            problem(await e.client.put(f"{SERVICES}/{ident}", json=body), 400)
            problem(await e.client.put(f"{SERVICES}/none", json=body), 404)
        assert (await e.client.get(SERVICES)).json() == before


@run
async def test_bodies_that_are_not_json_or_too_large_or_of_another_type() -> None:
    async with edge() as e:
        kind = {"content-type": "application/json"}
        for body in (
            b"",
            b"{",
            b"RegistrationInfo",
            b"[" * 60_000,
            b'{"a":NaN}',
            b"\xff\xfe",
            b'"\\ud800"',
            b"1" * 9000,
        ):
            problem(await e.client.post(SERVICES, content=body, headers=kind), 400)
        large = b'{"serviceConsumerId":{"appInstanceId":"a"},"x":"' + b"x" * 70_000 + b'"}'
        problem(await e.client.post(SERVICES, content=large, headers=kind), 413)

        async def parts() -> Any:
            for _ in range(80):
                yield b" " * 1000

        problem(await e.client.post(SERVICES, content=parts(), headers=kind), 413)
        problem(await e.client.post(SERVICES, content=b"{}", headers={"content-type": "text/plain"}), 415)
        problem(await e.client.post(SUBSCRIPTIONS, content=b"{}"), 415)
        utf8 = {"content-type": "application/json; charset=utf-8"}
        assert (await e.client.post(SERVICES, json=registration(), headers=utf8)).status_code == 201


@run
async def test_only_json_is_answered() -> None:
    async with edge() as e:
        for accept in ("text/html", "application/json;q=0", "application/xml, text/*"):
            problem(await e.client.get(SERVICES, headers={"accept": accept}), 406)
        for accept in ("application/json", "*/*", "text/html, application/json;q=0.1", "application/*"):
            assert (await e.client.get(SERVICES, headers={"accept": accept})).status_code == 200


@run
async def test_what_is_not_there() -> None:
    async with edge() as e:
        for path in (
            "/",
            "/amsi/v1",
            "/amsi/v2/subscriptions",
            "/amsi/v1/queries",
            f"{SERVICES}/a/b",
            "/amsi/v1/x%00y",
        ):
            problem(await e.client.get(path), 404)
        refused = await e.client.patch(SERVICES, json={})
        problem(refused, 405)
        assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
        problem(await e.client.delete(SUBSCRIPTIONS), 405)


@run
async def test_filters_and_selectors() -> None:
    async with edge() as e:
        for number in range(3):
            await e.register(f"a{number}", appMobilityServiceId=f"s{number}", expiryTime=100 * (number + 1))

        async def found(query: str) -> list[str]:
            answer = await e.client.get(f"{SERVICES}?{query}")
            assert answer.status_code == 200, answer.text
            return [each["appMobilityServiceId"] for each in answer.json()]

        assert await found("filter=(eq,appMobilityServiceId,s1)") == ["s1"]
        assert await found("filter=(neq,appMobilityServiceId,s1)") == ["s0", "s2"]
        assert await found("filter=(in,serviceConsumerId/appInstanceId,a0,a2)") == ["s0", "s2"]
        assert await found("filter=(eq,serviceConsumerId,a2)") == ["s2"]
        assert await found("filter=(nin,serviceConsumerId/appInstanceId,a0,a2)") == ["s1"]
        assert await found("filter=(gt,expiryTime,100)") == ["s1", "s2"]
        assert await found("filter=(gte,expiryTime,100);(lt,expiryTime,300)") == ["s0", "s1"]
        assert await found("filter=(lte,expiryTime,1e2)") == ["s0"]
        assert await found("filter=(cont,deviceInformation/associateId/value,10.100)") == ["s0", "s1", "s2"]
        assert await found("filter=(ncont,deviceInformation/associateId/value,'10.100')") == []
        assert await found("filter=(eq,appMobilityServiceId,'it''s')") == []
        assert await found("filter(eq,appMobilityServiceId,s0)") == ["s0"]
        assert await found("filter(eq,appMobilityServiceId,s0)&filter=(eq,appMobilityServiceId,s1)") == []

        for query, left_out in {
            "exclude_fields=serviceConsumerId": {"serviceConsumerId"},
            "exclude_fields=deviceInformation,serviceConsumerId": {"serviceConsumerId", "deviceInformation"},
            "exclude_default": {"deviceInformation"},
            "fields=deviceInformation": set(),
            "all_fields": set(),
        }.items():
            for each in (await e.client.get(f"{SERVICES}?{query}")).json():
                assert {"appMobilityServiceId", "serviceConsumerId", "deviceInformation", "expiryTime"} - set(
                    each
                ) == left_out

        for query in (
            "appMobilityService=s1",
            "filter=(appMobilityServiceId,eq,s1)",
            "filter=(eq,appMobilityServiceId)",
            "filter=(eq,nothing,1)",
            "filter=(is,appMobilityServiceId,1)",
            "filter=(eq,appMobilityServiceId,s1",
            "filter=(eq,appMobilityServiceId,s1)(eq,appMobilityServiceId,s1)",
            "filter=(eq,appMobilityServiceId,s1);",
            "filter=(eq,appMobilityServiceId,s1,s2)",
            "filter=",
            "filter=" + ";".join(["(eq,appMobilityServiceId,s1)"] * 17),
            "fields=nothing",
            "all_fields&fields=deviceInformation",
            "all_fields&all_fields",
            "filter=(eq,appMobilityServiceId," + "x" * 9000 + ")",
        ):
            problem(await e.client.get(f"{SERVICES}?{query}"), 400)


@run
async def test_a_subscription_from_its_beginning_to_its_end() -> None:
    async with edge() as e:
        criteria = {"appInstanceId": "a1", "associateId": [DEVICE]}
        body = subscription(e.subscriber.url, filterCriteria=criteria)
        made = await e.client.post(SUBSCRIPTIONS, json=body)
        value = made.json()
        href = value["_links"]["self"]["href"]
        assert made.status_code == 201
        assert made.headers["location"] == href
        assert href.startswith(f"{e.url}{SUBSCRIPTIONS}/")
        # The default of the specification.
        assert value["filterCriteria"] == criteria | {"mobilityStatus": ["INTERHOST_MOVEOUT_TRIGGERED"]}
        assert value["callbackReference"] == body["callbackReference"]
        conforms("MobilityProcedureSubscription", value)
        shown = await e.client.get(href)
        assert (shown.json(), shown.headers["etag"]) == (value, made.headers["etag"])

        adjacent = {
            "subscriptionType": "AdjacentAppInfoSubscription",
            "callbackReference": f"{e.subscriber.url}/near",
            "filterCriteria": {"appInstanceId": "a1"},
            "expiryDeadline": {"seconds": 4_000_000_000, "nanoSeconds": 0},
        }
        other = (await e.client.post(SUBSCRIPTIONS, json=adjacent)).json()
        conforms("AdjacentAppInfoSubscription", other)
        assert {key: other[key] for key in adjacent} == adjacent

        links = [
            {"href": href, "subscriptionType": 1},
            {"href": other["_links"]["self"]["href"], "subscriptionType": 2},
        ]
        for query, wanted in {
            "": links,
            "?subscriptionType=mobility_proc": links[:1],
            "?subscriptionType=adj_app_info": links[1:],
            "?subscriptionType=AdjacentAppInfoSubscription": links[1:],
        }.items():
            for path in (SUBSCRIPTIONS, f"{SUBSCRIPTIONS}/"):
                listed = (await e.client.get(path + query)).json()
                assert listed["subscription"] == listed["_links"]["subscription"] == wanted
                assert listed["_links"]["self"]["href"] == e.url + SUBSCRIPTIONS
                conforms("SubscriptionLinkList", listed)
        for query in ("subscriptionTyp=mobility_proc", "subscriptionType=all", "subscriptionType="):
            problem(await e.client.get(f"{SUBSCRIPTIONS}?{query}"), 400)

        put = await e.client.put(href, json=body | {"filterCriteria": {"mobilityStatus": [2, 3]}})
        assert (put.status_code, put.json()["filterCriteria"]) == (200, {"mobilityStatus": [2, 3]})
        problem(await e.client.put(href, json=adjacent), 422)
        problem(await e.client.put(href, json={}), 400)
        problem(await e.client.put(f"{e.url}{SUBSCRIPTIONS}/none", json=body), 404)
        assert (await e.client.delete(href)).status_code == 204
        problem(await e.client.delete(href), 404)
        problem(await e.client.get(href), 404)


BAD_SUBSCRIPTIONS: list[dict[str, Any]] = [
    {"subscriptionType": "Other"},
    {"subscriptionType": None},
    {"callbackReference": None},
    {"callbackReference": "not a uri"},
    {"callbackReference": "ftp://127.0.0.1/x"},
    {"callbackReference": "http://user:secret@127.0.0.1/"},
    {"callbackReference": "http:///x"},
    {"callbackReference": "http://127.0.0.1:99999/"},
    {"callbackReference": "file:///etc/passwd"},
    {"callbackReference": "http://127.0.0.1/" + "x" * 3000},
    {"filterCriteria": None},
    {"filterCriteria": []},
    {"filterCriteria": {"mobilityStatus": ["DONE"]}},
    {"filterCriteria": {"mobilityStatus": [0]}},
    {"filterCriteria": {"associateId": [DEVICE] * 65}},
    {"expiryDeadline": 5},
    {"expiryDeadline": {"seconds": -1, "nanoSeconds": 0}},
    {"expiryDeadline": {"seconds": 1}},
    {"requestTestNotification": "yes"},
    {"websockNotifConfig": {"requestWebsocketUri": 1}},
]


@run
async def test_a_subscription_that_is_none_is_refused() -> None:
    async with edge() as e:
        for change in BAD_SUBSCRIPTIONS:
            body = {k: v for k, v in subscription(e.subscriber.url, **change).items() if v is not None}
            problem(await e.client.post(SUBSCRIPTIONS, json=body), 400)
        assert (await e.client.get(SUBSCRIPTIONS)).json()["subscription"] == []


@run
async def test_a_resource_that_changed_meanwhile() -> None:
    async with edge() as e:
        made = await e.client.post(SERVICES, json=registration())
        where, tag = made.headers["location"], made.headers["etag"]
        problem(await e.client.put(where, json=registration("a2"), headers={"if-match": '"other"'}), 412)
        assert (await e.client.put(where, json=registration("a2"), headers={"if-match": tag})).status_code == 200
        problem(await e.client.delete(where, headers={"if-match": tag}), 412)
        assert (await e.client.delete(where, headers={"if-match": '"other", *'})).status_code == 412
        assert (await e.client.delete(where, headers={"if-match": "*"})).status_code == 204
        made = await e.client.post(SUBSCRIPTIONS, json=subscription(e.subscriber.url))
        where, tag = made.headers["location"], made.headers["etag"]
        problem(await e.client.put(where, json=subscription(e.subscriber.url), headers={"if-match": '"x"'}), 412)
        answer = await e.client.put(where, json=subscription(e.subscriber.url), headers={"if-match": tag})
        assert answer.status_code == 200


@run
async def test_adjacent_instances() -> None:
    async with edge(platform=played("a1", "a2")) as e:
        assert (await e.client.get(ADJACENT)).json() == []
        await e.register("a1")
        await e.register("elsewhere")
        rows = (await e.client.get(ADJACENT)).json()
        assert [row["mecHostInformation"]["hostName"] for row in rows] == ["beta", "gamma"]
        assert rows[0]["appInstanceCommLink"] == [{"ipAddresses": [{"host": "127.0.0.2", "port": 7707}]}]
        assert {row["appInstanceId"] for row in rows} == {"a1"}
        conforms("AdjacentAppInstanceInfo", rows, many=True)
        only = (await e.client.get(f"{ADJACENT}?filter=(eq,mecHostInformation/hostName,gamma)")).json()
        assert only == rows[1:]
        assert (await e.client.get(f"{ADJACENT}?filter(eq,appInstanceId,a1)&filter(eq,appDId,x)")).json() == []
        problem(await e.client.get(f"{ADJACENT}?filter=(appInstanceId,eq,a1)"), 400)


@run
async def test_bounds_on_numbers() -> None:
    async with edge(Settings(services=2, subscriptions=1)) as e:
        await e.register()
        await e.register()
        refused = await e.client.post(SERVICES, json=registration())
        problem(refused, 429)
        assert int(refused.headers["retry-after"]) > 0
        await e.subscribe()
        problem(await e.client.post(SUBSCRIPTIONS, json=subscription(e.subscriber.url)), 429)


@run
async def test_tokens() -> None:
    settings = Settings(tokens=["one", "two"], operators=["boss"])
    async with edge(settings, headers={"authorization": "Bearer one"}) as e:
        made = await e.client.post(SERVICES, json=registration())
        assert made.status_code == 201
        where = made.headers["location"]
        for token in ("Bearer three", "Bearer", "Basic one", ""):
            refused = await e.client.get(SERVICES, headers={"authorization": token})
            problem(refused, 401)
            assert refused.headers["www-authenticate"].startswith("Bearer")
        async with httpx.AsyncClient(base_url=e.url, trust_env=False, verify=False) as nobody:
            for path in (SERVICES, SUBSCRIPTIONS, ADJACENT, MOVES, PLACES, where):
                problem(await nobody.get(path), 401)
            problem(await nobody.post(SERVICES, json=registration()), 401)
        other = {"authorization": "bearer two"}
        assert (await e.client.get(SERVICES, headers=other)).json() == []
        problem(await e.client.get(where, headers=other), 404)
        problem(await e.client.delete(where, headers=other), 404)
        problem(await e.client.put(where, json=registration(), headers=other), 404)
        assert len((await e.client.get(SERVICES, headers={"authorization": "one"})).json()) == 1
        problem(await e.client.get(MOVES), 403)
        boss = {"authorization": "Bearer boss"}
        assert (await e.client.get(MOVES, headers=boss)).json() == []
        assert len((await e.client.get(SERVICES, headers=boss)).json()) == 1
        assert "boss" not in repr(settings)


@run
async def test_what_is_registered_outlasts_a_restart(tmp_path: Path) -> None:
    settings = Settings(file=tmp_path / "home" / "mec.json")
    async with edge(settings) as e:
        services = [await e.register(f"a{number}", expiryTime=1000) for number in range(3)]
        await e.client.delete(f"{SERVICES}/{services[1]['appMobilityServiceId']}")
        kept = await e.subscribe(expiryDeadline={"seconds": 4_000_000_000, "nanoSeconds": 0})
        root = e.url
    assert settings.file is not None
    assert settings.file.stat().st_mode & 0o77 == 0
    async with edge(settings) as e:
        assert (await e.client.get(SERVICES)).json() == [services[0], services[2]]
        shown = await e.client.get(f"{SUBSCRIPTIONS}/{kept['_links']['self']['href'].rpartition('/')[2]}")
        assert shown.json() == kept
        assert kept["_links"]["self"]["href"].startswith(root)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"format":"portcall-mec/1"}', b'{"format":"portcall-mec/2"}', b"[" * 99_999]
)
def test_a_damaged_file_is_an_error_and_is_kept(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mec.json"
    path.write_bytes(data)
    with pytest.raises(StoreUnusable, match="move it away"):
        MobilityService(played(), Settings(file=path))
    assert path.read_bytes() == data


@run
async def test_what_cannot_be_kept_is_not_done(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    async with edge(Settings(file=folder / "mec.json")) as e:
        ident = (await e.register())["appMobilityServiceId"]
        (folder / "mec.json").unlink()
        folder.rmdir()
        folder.write_bytes(b"a file where the folder was")
        problem(await e.client.post(SERVICES, json=registration("a2")), 503)
        problem(await e.client.delete(f"{SERVICES}/{ident}"), 503)
        problem(await e.client.put(f"{SERVICES}/{ident}", json=registration("a3")), 503)
        assert [each["serviceConsumerId"] for each in (await e.client.get(SERVICES)).json()] == [
            {"appInstanceId": "a1"}
        ]
        folder.unlink()
        await e.register("a4")
        assert len((await e.client.get(SERVICES)).json()) == 2


@run
async def test_many_at_once_are_kept_together(tmp_path: Path) -> None:
    settings = Settings(file=tmp_path / "mec.json")
    async with edge(settings) as e:
        await asyncio.gather(*(e.register(f"a{number}") for number in range(40)))
    async with edge(settings) as e:
        assert len((await e.client.get(SERVICES)).json()) == 40


def test_every_operation_of_the_official_description_is_there() -> None:
    document = need_official()

    @run
    async def main() -> None:
        async with edge() as e:
            service = (await e.register())["appMobilityServiceId"]
            subscribed = (await e.subscribe())["_links"]["self"]["href"].rpartition("/")[2]
            for path, operations in document["paths"].items():
                where = path.replace("{appMobilityServiceId}", service).replace("{subscriptionId}", subscribed)
                for method, operation in operations.items():
                    if method in ("parameters", "delete"):
                        continue
                    body = None
                    if "requestBody" in operation:
                        body = registration() if "mobility" in path else subscription(e.subscriber.url)
                    answer = await e.client.request(method, f"/amsi/v1{where}", json=body)
                    said = operation["responses"].get(str(answer.status_code))
                    assert said is not None, f"{method} {path}: {answer.status_code}"
                    assert answer.is_success, f"{method} {path}: {answer.text}"
                    if method == "post" and path.endswith("task"):
                        service = (await e.register(appMobilityServiceId=service))["appMobilityServiceId"]

    main()


def test_what_is_kept_is_bounded_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "MAX_KEPT_BYTES", 2000)

    @run
    async def main() -> None:
        async with edge() as e:
            large = registration(deviceInformation=[{"associateId": DEVICE}] * 15)
            made = await e.client.post(SERVICES, json=large)
            assert made.status_code == 201
            problem(await e.client.post(SERVICES, json=large), 429)
            problem(await e.client.post(SUBSCRIPTIONS, json=subscription(e.subscriber.url + "/x" * 600)), 429)
            more = registration(deviceInformation=[{"associateId": DEVICE}] * 60)
            problem(await e.client.put(made.headers["location"], json=more), 429)
            assert (await e.client.put(made.headers["location"], json=registration())).status_code == 200
            assert (await e.client.post(SERVICES, json=registration())).status_code == 201

    main()
