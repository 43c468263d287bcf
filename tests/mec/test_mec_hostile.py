"""Generated requests, most of them wrong: each is answered as the official description allows, and changes no more."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from docking.mec.filters import ADJACENT, SERVICES, view
from docking.mec.models import REGISTRATION, SUBSCRIPTION, parsed
from docking.mec.problems import Problem
from docking.mec.service import MobilityService
from docking.mec.settings import Settings
from tests.mec.edge import ALL, DEVICE, conforms, played

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TEXT = st.text(max_size=300) | st.sampled_from(["a1", "mine", "x y", "\x00", "é" * 64])


def sometimes(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly right, sometimes anything."""
    return st.one_of(good, good, good, JSON)


def some(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """An object with some of these, and with something else."""
    return st.fixed_dictionaries({}, optional={key: sometimes(value) for key, value in fields.items()})


ASSOCIATE = some({"type": st.sampled_from(["UE_IPv4_ADDRESS", "GTP_TEID", 1, 4, 5, "MAC"]), "value": TEXT}) | st.just(
    DEVICE
)
CONSUMER = some({"appInstanceId": TEXT, "mepId": TEXT})
REGISTRATIONS = some(
    {
        "appMobilityServiceId": TEXT,
        "serviceConsumerId": CONSUMER | st.just({"appInstanceId": "a1"}),
        "deviceInformation": st.lists(
            some(
                {
                    "associateId": ASSOCIATE,
                    "appMobilityServiceLevel": st.sampled_from(["APP_MOBILITY_NOT_ALLOWED", 2, 3, 0]),
                    "contextTransferState": st.sampled_from(["NOT_TRANSFERRED", 1, 2]),
                    "serviceConsumerId": CONSUMER,
                }
            ),
            max_size=3,
        ),
        "expiryTime": st.integers(-1, 2**33),
    }
)
STAMP = some({"seconds": st.integers(-1, 2**33), "nanoSeconds": st.integers(-1, 2**33)})
SUBSCRIPTIONS = some(
    {
        "subscriptionType": st.sampled_from(["MobilityProcedureSubscription", "AdjacentAppInfoSubscription", "X"]),
        "callbackReference": st.sampled_from(["http://127.0.0.1:9/", "http://[::1", "gopher://x", "http://10.0.0.1/"])
        | TEXT,
        "filterCriteria": some(
            {
                "appInstanceId": TEXT,
                "associateId": st.lists(ASSOCIATE, max_size=3),
                "mobilityStatus": st.lists(st.sampled_from([*ALL, 1, 2, 3, 4]), max_size=4),
            }
        ),
        "expiryDeadline": STAMP,
        "requestTestNotification": st.just(False),
        "websockNotifConfig": some({"requestWebsocketUri": st.booleans(), "websocketUri": TEXT}),
        "_links": some({"self": some({"href": TEXT})}),
    }
)


async def ask(app: MobilityService, method: str, path: str, body: bytes, query: bytes = b"") -> tuple[int, Any]:
    """One request, without a network in between: the server's part is tested elsewhere."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(b"host", b"edge"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    body = b"".join(each.get("body", b"") for each in sent[1:])
    return sent[0]["status"], json.loads(body) if body else None


async def checked(kind: str, path: str, values: list[Any]) -> None:
    app = MobilityService(played("a1"), Settings(services=5, subscriptions=5, attempts=1))
    try:
        made: list[Any] = []
        for value in values:
            body = json.dumps(value).encode()
            status, answer = await ask(app, "POST", path, body)
            if status == 201:
                schema = answer.get("subscriptionType", kind)
                conforms(schema, answer)
                made.append(answer)
                ident = answer.get("appMobilityServiceId") or answer["_links"]["self"]["href"].rpartition("/")[2]
                assert (await ask(app, "GET", f"{path}/{ident}", b"")) == (200, answer)
                again, replaced = await ask(app, "PUT", f"{path}/{ident}", json.dumps(answer).encode())
                assert again == 200
                conforms(schema, replaced)
                made[-1] = replaced
            else:
                assert status in (400, 409, 422, 429)
                conforms("ProblemDetails", answer)
                assert answer["status"] == status
        status, listed = await ask(app, "GET", path, b"")
        assert status == 200
        if kind == "RegistrationInfo":
            assert listed == made
            conforms(kind, listed, many=True)
        else:
            assert len(listed["subscription"]) == len(made)
            conforms("SubscriptionLinkList", listed)
    finally:
        await app.close()


@given(st.lists(REGISTRATIONS, max_size=8))
def test_registrations(values: list[Any]) -> None:
    asyncio.run(checked("RegistrationInfo", "/amsi/v1/app_mobility_services", values))


@given(st.lists(SUBSCRIPTIONS, max_size=8))
def test_subscriptions(values: list[Any]) -> None:
    asyncio.run(checked("SubscriptionLinkList", "/amsi/v1/subscriptions", values))


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_bodies_that_are_anything(body: bytes) -> None:
    for adapter in (REGISTRATION, SUBSCRIPTION):
        try:
            parsed(adapter, body)
        except Problem as error:
            assert error.status == 400
            assert len(error.detail) < 2000


WORDS = st.sampled_from(
    [
        "eq",
        "neq",
        "in",
        "gt",
        "cont",
        "appInstanceId",
        "expiryTime",
        "serviceConsumerId/mepId",
        "'a''b'",
        "1",
        ",",
        "(",
        ")",
        ";",
    ]
)


@given(
    st.lists(WORDS | st.text(max_size=3), max_size=12),
    st.sampled_from(["filter", "fields", "exclude_fields", "filter(eq"]),
)
def test_filters_that_are_anything(words: list[str], name: str) -> None:
    item = {"appMobilityServiceId": "s", "expiryTime": 5, "serviceConsumerId": {"mepId": "m"}, "deviceInformation": []}
    for text in ("".join(words), f"({','.join(words)})"):
        for shape in (SERVICES, ADJACENT):
            try:
                found = view([(name, text)], shape).of([item])
            except Problem as error:
                assert error.status == 400
            else:
                assert len(found) <= 1


@given(st.sampled_from(["eq", "in"]), st.text(max_size=20))
def test_a_quoted_value_is_found(operator: str, value: str) -> None:
    quoted = value.replace("'", "''")
    item = {"appMobilityServiceId": value}
    assert view([("filter", f"({operator},appMobilityServiceId,'{quoted}')")], SERVICES).of([item]) == [item]
    assert view([("filter", f"(n{operator},appMobilityServiceId,'{quoted}')")], SERVICES).of([item]) == []
