"""An application mobility service under a real server, a subscriber that listens, and the official description.

The platform is played: what moves agents is tested where that is (`tests/mec/test_mec_station.py` has real stations).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml
from attrs import define, field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from docking.mec.platform import Instance, Moved, MoveFailed, Neighbour, Question
from docking.mec.service import MobilityService, wall_clock
from docking.mec.settings import Settings
from tests.served import Served

ROOT = Path(__file__).resolve().parents[2]
DEVICE = {"type": "UE_IPv4_ADDRESS", "value": "10.100.0.1"}
SERVICES, SUBSCRIPTIONS = "/amsi/v1/app_mobility_services", "/amsi/v1/subscriptions"
ADJACENT, MOVES, PLACES = (
    "/amsi/v1/queries/adjacent_app_instances",
    "/portcall-mec/v1/moves",
    "/portcall-mec/v1/places",
)


@define(eq=False)
class Played:
    """A platform whose moves end when and how the test says."""

    name: str = "alpha"
    here: dict[str, Instance] = field(factory=dict)
    near: list[Neighbour] = field(factory=list)
    moved: list[tuple[str, str]] = field(factory=list)
    asked: list[Question] = field(factory=list)
    agrees: bool | None = True
    outcome: asyncio.Future[str] | None = None
    changed: asyncio.Queue[None] = field(factory=asyncio.Queue)

    def instances(self, names: Collection[str]) -> dict[str, Instance]:
        return {name: self.here[name] for name in names if name in self.here}

    def neighbours(self) -> list[Neighbour]:
        return list(self.near)

    async def ask(self, instance: str, question: Question) -> bool:
        self.asked.append(question)
        if self.agrees is None:
            await asyncio.Event().wait()
        return bool(self.agrees)

    async def move(self, instance: str, to: str) -> Moved:
        if self.outcome is not None and (why := await self.outcome):
            raise MoveFailed(why)
        self.moved.append((instance, next(each.name for each in self.near if each.id == to)))
        self.here.pop(instance, None)
        return Moved(3, 1 << 20, 12.5, 0.25)

    async def changes(self) -> AsyncIterator[None]:
        while True:
            await self.changed.get()
            yield


def played(*instances: str) -> Played:
    """A platform with these instances and two neighbours."""
    here = {each: Instance(each, f"label of {each}", f"image of {each}") for each in instances}
    near = [Neighbour("key-b", "beta", (("127.0.0.2", 7707),)), Neighbour("key-g", "gamma", (("127.0.0.3", 7707),))]
    return Played(here=here, near=near)


@define(eq=False)
class Subscriber:
    """A server that takes notifications. `status`: what it answers next."""

    url: str = ""
    status: int = 204
    got: asyncio.Queue[dict[str, Any]] = field(factory=asyncio.Queue)
    seen: list[tuple[str, str, str]] = field(factory=list)

    async def take(self, request: Request) -> Response:
        self.seen.append((request.url.path, request.headers["content-type"], request.headers["host"]))
        value = await request.json()
        if self.status < 300:
            self.got.put_nowait(value)
        status, self.status = self.status, 204
        return Response(status_code=status)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self.take, methods=["POST"])])


@define(eq=False)
class Edge:
    """All of them together."""

    service: MobilityService
    platform: Played
    subscriber: Subscriber
    client: httpx.AsyncClient
    url: str

    async def register(self, instance: str = "a1", level: Any = 3, **more: Any) -> dict[str, Any]:
        """Register an instance with one device."""
        answer = await self.client.post(SERVICES, json=registration(instance, level, **more))
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def subscribe(self, **more: Any) -> dict[str, Any]:
        """Subscribe the subscriber to all moves."""
        answer = await self.client.post(SUBSCRIPTIONS, json=subscription(self.subscriber.url, **more))
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def settled(self, ident: str) -> dict[str, Any]:
        """A move, once it is over."""
        while True:
            value = (await self.client.get(f"{MOVES}/{ident}")).json()
            if value["state"] not in ("ASKING", "TRIGGERED"):
                return dict(value)
            await asyncio.sleep(0.01)


def registration(instance: str = "a1", level: Any = 3, **more: Any) -> dict[str, Any]:
    """The body of a registration."""
    names = ("", "APP_MOBILITY_NOT_ALLOWED", "APP_MOBILITY_WITH_CONFIRMATION", "APP_MOBILITY_WITHOUT_CONFIRMATION")
    device = {"associateId": DEVICE, "contextTransferState": "NOT_TRANSFERRED"}
    if level is not None:
        device["appMobilityServiceLevel"] = names[level]
    return {"serviceConsumerId": {"appInstanceId": instance}, "deviceInformation": [device]} | more


ALL = ["INTERHOST_MOVEOUT_TRIGGERED", "INTERHOST_MOVEOUT_COMPLETED", "INTERHOST_MOVEOUT_FAILED"]


def subscription(url: str, **more: Any) -> dict[str, Any]:
    """The body of a subscription to all moves."""
    return {
        "subscriptionType": "MobilityProcedureSubscription",
        "callbackReference": f"{url}/told",
        "filterCriteria": {"mobilityStatus": ALL},
    } | more


@contextlib.asynccontextmanager
async def edge(
    settings: Settings | None = None,
    platform: Played | None = None,
    headers: dict[str, str] | None = None,
    now: Callable[[], int] = wall_clock,
) -> AsyncIterator[Edge]:
    """A service, a subscriber, and a client."""
    platform = platform or played("a1")
    subscriber = Subscriber()
    service = MobilityService(platform, settings or Settings(retry_s=0.05), now)
    async with contextlib.AsyncExitStack() as stack:
        listening = await stack.enter_async_context(Served(subscriber.app()))
        subscriber.url = listening.url
        served = await stack.enter_async_context(Served(service))
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=served.url, headers=headers, trust_env=False, verify=False, timeout=60)
        )
        yield Edge(service, platform, subscriber, client, served.url)


def problem(answer: httpx.Response, status: int, detail: str = "") -> None:
    """An answer is problem details with this status, and a sentence that contains `detail`."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    value = answer.json()
    assert value["status"] == status
    assert detail in value["detail"]
    conforms("ProblemDetails", value)


@functools.cache
def official() -> dict[str, Any] | None:
    """ETSI's OpenAPI description of 2.1.1: in `PORTCALL_MEC`, or beside the repository; None where it is absent."""
    named = os.environ.get("PORTCALL_MEC")
    folder = Path(named) if named else ROOT.parent / "shared" / "testdata" / "mec"
    path = folder / "mec021-2.1.1.yaml"
    return dict(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.is_file() else None


def conforms(schema: str, value: object, many: bool = False) -> None:
    """A value is what the official description calls `schema`; not looked at where that is absent."""
    document = official()
    if document is None:
        return
    for each in value if many and isinstance(value, list) else [value]:
        _validator(schema).validate(each)


@functools.cache
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    document = official()
    assert document is not None
    return jsonschema.Draft202012Validator(
        {"components": document["components"], "$ref": f"#/components/schemas/{schema}"}
    )


def need_official() -> dict[str, Any]:
    """The official description; the test is skipped where it is absent."""
    document = official()
    if document is None:
        pytest.skip("no folder with ETSI's OpenAPI description: set PORTCALL_MEC")
    return document
