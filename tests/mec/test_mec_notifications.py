"""Notifications: retries, bounds, callbacks that are not called, WebSockets, tests and expiries."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import threading
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from docking.errors import ConfigError
from docking.mec.callbacks import BadCallback, CallbackRules, Caller, DeliveryFailed, target_of
from docking.mec.platform import Neighbour
from docking.mec.settings import Settings
from tests.mec.edge import MOVES, SERVICES, SUBSCRIPTIONS, Edge, edge, problem, subscription
from tests.station.harbour import run

QUICK = Settings(retry_s=0.01, attempts=40)


async def move(e: Edge) -> None:
    answer = await e.client.post(MOVES, json={"appInstanceId": "a1", "to": "beta"})
    await e.settled(answer.json()["moveId"])


@run
async def test_a_notification_is_sent_again_and_the_next_waits() -> None:
    async with edge(QUICK) as e:
        await e.register()
        await e.subscribe()
        e.subscriber.status = 503
        await move(e)
        got = [await e.subscriber.got.get(), await e.subscriber.got.get()]
        assert [each["mobilityStatus"] for each in got] == [
            "INTERHOST_MOVEOUT_TRIGGERED",
            "INTERHOST_MOVEOUT_COMPLETED",
        ]
        assert len(e.subscriber.seen) == 3
        while e.service.notifier.delivered < 2:
            await asyncio.sleep(0.005)
        assert e.service.notifier.failed == 0


@run
async def test_a_redirect_is_not_followed_and_a_notification_is_given_up() -> None:
    async with edge(Settings(retry_s=0.01, attempts=1)) as e:
        await e.register()
        await e.subscribe()
        e.subscriber.status = 307
        await move(e)
        await e.subscriber.got.get()
        while e.service.notifier.failed < 1:
            await asyncio.sleep(0.005)
        assert len(e.subscriber.seen) == 2


@run
async def test_a_queue_is_bounded_and_loses_the_oldest() -> None:
    async with edge(Settings(queue=3, retry_s=0.01, attempts=1000)) as e:
        await e.register()
        where = await e.subscribe(requestTestNotification=True)
        await e.subscriber.got.get()
        record = e.service._book.subscriptions.find(where["_links"]["self"]["href"].rpartition("/")[2])
        for number in range(10):
            e.service.notifier.tell(record, {"number": number})
        assert e.service.notifier.dropped == 7
        assert [(await e.subscriber.got.get())["number"] for _ in range(3)] == [7, 8, 9]


@run
async def test_an_unsubscribed_client_is_told_nothing_more() -> None:
    async with edge(Settings(retry_s=0.05, attempts=1000)) as e:
        made = await e.subscribe(requestTestNotification=True)
        await e.subscriber.got.get()
        href = made["_links"]["self"]["href"]
        record = e.service._book.subscriptions.find(href.rpartition("/")[2])
        for number in range(10):
            e.service.notifier.tell(record, {"number": number})
        assert (await e.client.delete(href)).status_code == 204
        seen = len(e.subscriber.seen)
        other = await e.subscribe(requestTestNotification=True)
        while (await e.subscriber.got.get()).get("notificationType") != "TestNotification":
            pass
        assert len(e.subscriber.seen) <= seen + 2
        assert other != made


@run
async def test_a_test_notification() -> None:
    async with edge(QUICK) as e:
        made = await e.subscribe(requestTestNotification=True)
        assert await e.subscriber.got.get() == {
            "notificationType": "TestNotification",
            "_links": {"subscription": made["_links"]["self"]},
        }
        assert made["requestTestNotification"] is True
        href = made["_links"]["self"]["href"]
        await e.client.put(href, json=subscription(e.subscriber.url, requestTestNotification=True))
        assert (await e.subscriber.got.get())["notificationType"] == "TestNotification"


@run
async def test_neighbours_are_told_at_once_and_when_they_change() -> None:
    async with edge(QUICK) as e:
        await e.register()
        body = {
            "subscriptionType": "AdjacentAppInfoSubscription",
            "callbackReference": f"{e.subscriber.url}/near",
            "filterCriteria": {"appInstanceId": "a1"},
        }
        made = (await e.client.post(SUBSCRIPTIONS, json=body)).json()
        other = body | {"callbackReference": f"{e.subscriber.url}/other", "filterCriteria": {"appInstanceId": "a2"}}
        await e.client.post(SUBSCRIPTIONS, json=other)
        first = await e.subscriber.got.get()
        assert first["notificationType"] == "AdjacentAppInfoNotification"
        assert first["adjacentAppInfo"] == [
            {"appInstanceId": "a1", "commInterface": [{"ipAddresses": [{"host": host, "port": 7707}]}]}
            for host in ("127.0.0.2", "127.0.0.3")
        ]
        assert first["_links"] == {"subscription": made["_links"]["self"]}
        e.platform.near.append(Neighbour("key-d", "delta", (("127.0.0.4", 7707),)))
        e.platform.changed.put_nowait(None)
        e.platform.changed.put_nowait(None)  # nothing has changed since
        assert len((await e.subscriber.got.get())["adjacentAppInfo"]) == 3
        assert {path for path, *_ in e.subscriber.seen} == {"/near"}


class Clock:
    """A clock that the test moves on."""

    def __init__(self) -> None:
        self.at = 1_800_000_000_000

    def __call__(self) -> int:
        return self.at


@run
async def test_a_subscription_expires_and_its_subscriber_is_told_before() -> None:
    clock = Clock()
    async with edge(QUICK, now=clock) as e:
        deadline = {"seconds": clock.at // 1000 + 100, "nanoSeconds": 0}
        made = await e.subscribe(expiryDeadline=deadline)
        href = made["_links"]["self"]["href"]
        clock.at += 39_000
        e.service._look()
        assert (await e.client.get(href)).status_code == 200
        assert e.subscriber.seen == []
        clock.at += 1_000
        e.service._look()
        told = await e.subscriber.got.get()
        assert told["notificationType"] == "ExpiryNotification"
        assert told["expiryDeadline"] == deadline
        assert told["_links"] == {"subscription": {"href": href}, "self": {"href": href}}
        # Its subscriber wants it longer.
        later = {"seconds": deadline["seconds"] + 100, "nanoSeconds": 5}
        body = subscription(e.subscriber.url, expiryDeadline=later)
        assert (await e.client.put(href, json=body)).json()["expiryDeadline"] == later
        clock.at += 100_000
        e.service._look()
        assert (await e.subscriber.got.get())["expiryDeadline"] == later
        assert (await e.client.get(href)).status_code == 200
        clock.at += 100_000
        e.service._look()
        while (await e.client.get(href)).status_code == 200:
            await asyncio.sleep(0.005)
        problem(await e.client.get(href), 404)
        assert len(e.subscriber.seen) == 2


@run
async def test_a_deadline_that_has_passed_is_a_minute_and_is_told_at_once() -> None:
    clock = Clock()
    async with edge(QUICK, now=clock) as e:
        made = await e.subscribe(expiryDeadline={"seconds": 1_577_836_800, "nanoSeconds": 0})
        assert made["expiryDeadline"] == {"seconds": clock.at // 1000 + 60, "nanoSeconds": 0}
        assert (await e.subscriber.got.get())["expiryDeadline"] == made["expiryDeadline"]
        assert (await e.client.get(made["_links"]["self"]["href"])).status_code == 200


@run
async def test_a_registration_expires() -> None:
    clock = Clock()
    async with edge(now=clock) as e:
        for seconds in (0, 10, 20):
            await e.register(expiryTime=seconds)
        await e.register()
        for passed, left in ((9_999, 4), (1, 3), (9_999, 3), (1, 2), (1_000_000_000, 2)):
            clock.at += passed
            e.service._look()
            while len(found := (await e.client.get(SERVICES)).json()) > left:
                await asyncio.sleep(0.005)
            assert len(found) == left


@run
async def test_a_deadline_of_real_time_is_kept() -> None:
    async with edge(QUICK) as e:
        await e.register(expiryTime=1)
        while (await e.client.get(SERVICES)).json():
            await asyncio.sleep(0.02)


# Callbacks that are not called


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.2:80/",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://0.0.0.0:80/",
        "http://[::]/",
        "http://[::1]:80/",
        "http://[::ffff:169.254.169.254]/",
        "http://224.0.0.1/",
        "http://2130706434/",
        "http://0x7f000002/",
    ],
)
def test_by_default_only_the_requester_is_called_back(uri: str) -> None:
    @run
    async def main() -> None:
        async with edge() as e:
            problem(await e.client.post(SUBSCRIPTIONS, json=subscription("", callbackReference=uri)), 422)
            assert (await e.client.get(SUBSCRIPTIONS)).json()["subscription"] == []

    main()


@run
async def test_a_name_that_is_not_found_is_tried_again_and_given_up() -> None:
    async with edge(Settings(attempts=2, retry_s=0.01)) as e:
        body = subscription("http://does-not-exist.invalid", requestTestNotification=True)
        assert (await e.client.post(SUBSCRIPTIONS, json=body)).status_code == 201
        while not e.service.notifier.failed:
            await asyncio.sleep(0.005)


@run
async def test_behind_a_proxy_the_requester_is_not_known() -> None:
    async with edge() as e:
        for name in ("x-forwarded-for", "forwarded", "via", "x-real-ip"):
            refused = await e.client.post(
                SUBSCRIPTIONS, json=subscription(e.subscriber.url), headers={name: "127.0.0.1"}
            )
            problem(refused, 422)


@run
async def test_a_name_of_the_requester_is_called_by_the_address_that_was_checked() -> None:
    async with edge(Settings(callbacks=["localhost"], retry_s=0.01)) as e:
        port = e.subscriber.url.rpartition(":")[2]
        body = subscription(f"http://localhost:{port}", requestTestNotification=True)
        assert (await e.client.post(SUBSCRIPTIONS, json=body)).status_code == 201
        await e.subscriber.got.get()
        assert e.subscriber.seen == [("/told", "application/json", f"localhost:{port}")]
        problem(await e.client.post(SUBSCRIPTIONS, json=subscription(e.subscriber.url)), 422)


def test_rules() -> None:
    def allows(rules: list[str], uri: str, address: str, requester: str = "") -> bool:
        return CallbackRules.of(rules).allows(target_of(uri), ipaddress.ip_address(address), requester)

    assert allows([], "http://x/", "192.0.2.1", "192.0.2.1")
    assert not allows([], "http://x/", "192.0.2.1", "192.0.2.2")
    assert not allows([], "http://x/", "192.0.2.1", "")
    assert not allows(["0.0.0.0/0"], "http://x/", "0.0.0.0")
    assert not allows(["0.0.0.0/0"], "http://x/", "224.0.0.1")
    assert allows(["192.0.2.0/24"], "http://x/", "192.0.2.1")
    assert not allows(["192.0.2.0/24"], "http://192.0.2.1.example/", "198.51.100.1")
    assert allows(["app.example"], "http://APP.example/", "198.51.100.1")
    assert not allows(["app.example"], "http://evil.app.example/", "198.51.100.1")
    assert allows(["*.example"], "http://a.b.example:99/", "198.51.100.1")
    assert not allows(["*.example"], "http://example/", "198.51.100.1")
    assert not allows(["*.example"], "http://badexample/", "198.51.100.1")
    assert allows(["[2001:db8::1]"], "http://x/", "2001:db8::1")
    for wrong in ("", "*", "*.", "http://x/", "a b", "10.0.0.0/99", "."):
        with pytest.raises(ConfigError):
            CallbackRules.of([wrong])


@pytest.mark.parametrize(
    "uri", ["", "x", "//h/", "http://", "http://a b/", "http://[::1", "http://h:0x1/", "http://h/#f"]
)
def test_what_is_no_callback(uri: str) -> None:
    with pytest.raises(BadCallback):
        target_of(uri)


@run
async def test_a_subscriber_that_never_answers_holds_up_nobody() -> None:
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with edge(Settings(callback_s=0.05, retry_s=0.01, attempts=2)) as e:
        await e.subscribe(callbackReference=f"http://127.0.0.1:{port}/", requestTestNotification=True)
        await e.subscribe(requestTestNotification=True)
        await e.subscriber.got.get()
        while not e.service.notifier.failed:
            await asyncio.sleep(0.005)
    silent.close()


# WebSockets


WEBSOCKET = {"requestWebsocketUri": True}


def frame(text: str | bytes) -> tuple[int, dict[str, Any]]:
    """The number and the body of a notification over a WebSocket."""
    assert isinstance(text, str)
    head, _, body = text.partition("\r\n\r\n")
    sequence, kind, length = head.split("\r\n")
    assert kind == "Content-Type: application/json"
    assert length == f"Content-Length: {len(body.encode())}"
    return int(sequence.removeprefix("3GPP-WS-Notif-Seq: ")), json.loads(body)


async def acknowledged(socket: ClientConnection, status: str = "204 No Content") -> dict[str, Any]:
    number, body = frame(await socket.recv())
    await socket.send(f"3GPP-WS-Notif-Seq: {number}\r\n{status}\r\n\r\n")
    return body


@run
async def test_notifications_over_a_websocket() -> None:
    async with edge(QUICK) as e:
        await e.register()
        body = {k: v for k, v in subscription("", websockNotifConfig=WEBSOCKET).items() if k != "callbackReference"}
        made = (await e.client.post(SUBSCRIPTIONS, json=body)).json()
        uri = made["websockNotifConfig"]["websocketUri"]
        assert uri == "ws" + made["_links"]["self"]["href"].removeprefix("http") + "/websocket"
        assert made["websockNotifConfig"]["requestWebsocketUri"] is True
        await move(e)  # what is told before it is open waits
        async with connect(uri, proxy=None) as socket:
            assert (await acknowledged(socket, "500 Oops"))["mobilityStatus"] == "INTERHOST_MOVEOUT_TRIGGERED"
            assert (await acknowledged(socket))["mobilityStatus"] == "INTERHOST_MOVEOUT_TRIGGERED"
            assert (await acknowledged(socket))["mobilityStatus"] == "INTERHOST_MOVEOUT_COMPLETED"
        assert e.subscriber.seen == []
        async with connect(uri, proxy=None) as first, connect(uri, proxy=None) as second:
            await first.wait_closed()  # the later one is used
            await e.client.put(made["_links"]["self"]["href"], json=body | {"requestTestNotification": True})
            assert (await acknowledged(second))["notificationType"] == "TestNotification"
            await e.client.delete(made["_links"]["self"]["href"])
            await second.wait_closed()
        with pytest.raises(InvalidStatus):
            await connect(uri, proxy=None)


@run
async def test_a_closed_websocket_falls_back_to_the_callback() -> None:
    async with edge(QUICK) as e:
        await e.register()
        made = await e.subscribe(websockNotifConfig=WEBSOCKET)
        async with connect(made["websockNotifConfig"]["websocketUri"], proxy=None) as socket:
            await socket.send("nonsense")
            await socket.send(b"\x00")
        await move(e)
        assert (await e.subscriber.got.get())["mobilityStatus"] == "INTERHOST_MOVEOUT_TRIGGERED"


@run
async def test_a_websocket_needs_the_token_and_a_subscription_that_wants_one() -> None:
    async with edge(Settings(tokens=["one", "two"]), headers={"authorization": "Bearer one"}) as e:
        made = await e.subscribe(websockNotifConfig=WEBSOCKET)
        uri = made["websockNotifConfig"]["websocketUri"]
        plain = await e.subscribe()
        other = "ws" + plain["_links"]["self"]["href"].removeprefix("http") + "/websocket"
        for where, token in ((uri, None), (uri, "Bearer two"), (other, "Bearer one")):
            with pytest.raises(InvalidStatus):
                await connect(where, proxy=None, additional_headers={"Authorization": token} if token else None)
        async with connect(uri, proxy=None, additional_headers={"Authorization": "Bearer one"}):
            pass


@run
async def test_a_service_that_closes_leaves_nothing_behind() -> None:
    async with edge(Settings(retry_s=10, attempts=5)) as e:
        before = asyncio.all_tasks()
        made = await e.subscribe(websockNotifConfig=WEBSOCKET)
        async with connect(made["websockNotifConfig"]["websocketUri"], proxy=None) as socket:
            await e.client.put(
                made["_links"]["self"]["href"],
                json=subscription(e.subscriber.url, websockNotifConfig=WEBSOCKET, requestTestNotification=True),
            )
            await socket.recv()
            await e.service.close()
            await socket.wait_closed()
        left = {task for task in asyncio.all_tasks() - before if not task.done()}
        names = [str(getattr(task.get_coro(), "__qualname__", "")) for task in left]
        assert not [name for name in names if "Notifier" in name or "Mobility" in name], names


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1/", "https://127.0.0.1:1/"])
def test_what_a_first_request_loads_is_loaded_in_a_thread(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    client, context = httpx.AsyncClient, httpx.create_ssl_context

    def noted(function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            made.append(threading.get_ident())
            return function(*args, **options)

        return call

    monkeypatch.setattr(httpx, "AsyncClient", noted(client))
    monkeypatch.setattr(httpx, "create_ssl_context", noted(context))

    @run
    async def main() -> None:
        caller = Caller(CallbackRules.of(["127.0.0.1"]), 20)
        with pytest.raises(DeliveryFailed):
            await caller.post(uri, b"{}", "127.0.0.1")
        await caller.close()

    main()
    assert len(made) == (2 if uri.startswith("https") else 1)
    assert threading.get_ident() not in made
