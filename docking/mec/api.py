"""The resources: what each method does. Paths, statuses and headers are those of GS MEC 021 and MEC 009.

    {apiRoot}/amsi/v1/app_mobility_services                        GET, POST
    {apiRoot}/amsi/v1/app_mobility_services/{id}                   GET, PUT, DELETE
    {apiRoot}/amsi/v1/app_mobility_services/{id}/deregister_task   POST (2.1.1), /deregisterTask (3.1.1)
    {apiRoot}/amsi/v1/subscriptions                                GET, POST
    {apiRoot}/amsi/v1/subscriptions/{id}                           GET, PUT, DELETE
    {apiRoot}/amsi/v1/subscriptions/{id}/websocket                 the websocketUri of that subscription
    {apiRoot}/amsi/v1/queries/adjacent_app_instances               GET

and ours, which MEC leaves open:

    {apiRoot}/portcall-mec/v1/moves                                GET, POST
    {apiRoot}/portcall-mec/v1/moves/{id}                           GET
    {apiRoot}/portcall-mec/v1/moves/{id}/answer                    POST
    {apiRoot}/portcall-mec/v1/places                               GET, PUT
    {apiRoot}/portcall-mec/v1/places/{type}/{value}                DELETE

Invariants: whether a resource is there is decided before its body is read, so that 404 comes before 400; nothing is
changed by a request that is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from attrs import define
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from docking.aio.failures import log_error
from docking.errors import StationError, StoreError
from docking.mec.book import Book, Service, Subscribed, etag
from docking.mec.callbacks import BadCallback, CallbackRefused, CallbackRules, DeliveryFailed, target_of
from docking.mec.filters import ADJACENT, SERVICES, view
from docking.mec.mobility import Mobility, subscription_link
from docking.mec.models import (
    KIND_NUMBERS,
    KIND_WORDS,
    REGISTRATION,
    SUBSCRIPTION,
    AnySubscription,
    AssociateId,
    Model,
    RegistrationInfo,
    Text,
    TimeStamp,
    parsed,
)
from docking.mec.notifier import Notifier
from docking.mec.problems import Problem, bad_request, unprocessable
from docking.mec.requests import (
    AMSI,
    OWN,
    Doors,
    answer,
    body_of,
    check_accept,
    check_match,
    no_parameters,
    nothing,
    parameters_of,
    problem,
    requester_of,
    root_of,
)

# Answers that would be longer are refused (MEC 009: the client is to filter).
MAX_ROWS = 5000
# A deadline that has passed already is set this far ahead.
SHORTEST_S = 60
# WebSocket: the subscription is not there, or may not be seen.
REFUSED = 4404

Endpoint = Callable[[Request], Awaitable[Response]]


class NewMove(Model):
    """A request to move an instance."""

    appInstanceId: Text
    to: Text


class Agreement(Model):
    """The answer to a question."""

    agreed: bool


class Place(Model):
    """Where a device is."""

    associateId: AssociateId
    station: Text


NEW_MOVE: TypeAdapter[NewMove] = TypeAdapter(NewMove)
AGREEMENT: TypeAdapter[Agreement] = TypeAdapter(Agreement)
PLACE: TypeAdapter[Place] = TypeAdapter(Place)


@define(eq=False, repr=False)
class Api:
    """The resources. `root`: where clients reach them, if that is configured; `changed()`: an expiry may be sooner
    now.
    """

    _book: Book
    _doors: Doors
    _rules: CallbackRules
    _notifier: Notifier
    _mobility: Mobility
    _now: Callable[[], int]
    _root: str | None
    _changed: Callable[[], None]

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        services, subscriptions = f"{AMSI}/app_mobility_services", f"{AMSI}/subscriptions"
        found: list[BaseRoute] = []
        resources: dict[str, dict[str, Endpoint]] = {
            services: {"GET": self.list_services, "POST": self.register},
            f"{services}/{{id}}": {
                "GET": self.show_service,
                "PUT": self.replace_service,
                "DELETE": self.deregister,
            },
            f"{services}/{{id}}/deregister_task": {"POST": self.deregister},
            f"{services}/{{id}}/deregisterTask": {"POST": self.deregister},
            subscriptions: {"GET": self.list_subscriptions, "POST": self.subscribe},
            f"{subscriptions}/{{id}}": {
                "GET": self.show_subscription,
                "PUT": self.replace_subscription,
                "DELETE": self.unsubscribe,
            },
            f"{AMSI}/queries/adjacent_app_instances": {"GET": self.list_adjacent},
            f"{OWN}/moves": {"GET": self.list_moves, "POST": self.move},
            f"{OWN}/moves/{{id}}": {"GET": self.show_move},
            f"{OWN}/moves/{{id}}/answer": {"POST": self.answer_move},
            f"{OWN}/places": {"GET": self.list_places, "PUT": self.place},
            f"{OWN}/places/{{type}}/{{value}}": {"DELETE": self.forget_place},
        }
        for path, methods in resources.items():
            found.append(Route(path, _by_method(methods), methods=list(methods)))
        found.append(WebSocketRoute(f"{subscriptions}/{{id}}/websocket", self.websocket))
        return found

    # Application mobility services

    async def list_services(self, request: Request) -> Response:
        """GET app_mobility_services."""
        owner = self._doors.client(request)
        check_accept(request)
        wanted = view(parameters_of(request), SERVICES)
        return answer(_bounded(wanted.of([each.value() for each in self._book.services.all(owner)])))

    async def register(self, request: Request) -> Response:
        """POST app_mobility_services.

        The specification has clients leave out `appMobilityServiceId` here; the conformance tests give it, and want it
        kept. So it is taken if it is given, and well formed, and not in use.
        """
        self._doors.client(request)
        check_accept(request)
        no_parameters(request)
        info: RegistrationInfo = parsed(REGISTRATION, await body_of(request))
        ident = info.appMobilityServiceId or self._book.services.new_id()
        service = self._service(ident, info, self._doors.owner(request), self._book.next_made())
        await self._book.services.add(service)
        self._changed()
        self._mobility.review()
        location = f"{root_of(request, self._root)}/app_mobility_services/{ident}"
        return answer(service.value(), 201, {"Location": location, "ETag": etag(service.value())})

    def _service(self, ident: str, info: RegistrationInfo, owner: str, made: int) -> Service:
        """A registration that begins, or begins anew, now."""
        expires = self._now() + info.expiryTime * 1000 if info.expiryTime else 0
        return Service(ident, info.model_copy(update={"appMobilityServiceId": ident}), owner, expires, made)

    async def show_service(self, request: Request) -> Response:
        """GET of one."""
        found = self._book.services.find(request.path_params["id"], self._doors.client(request))
        check_accept(request)
        no_parameters(request)
        return answer(found.value(), headers={"ETag": etag(found.value())})

    async def replace_service(self, request: Request) -> Response:
        """PUT of one. The path says which: an identifier in the body changes nothing."""
        old = self._book.services.find(request.path_params["id"], self._doors.client(request))
        check_accept(request)
        no_parameters(request)
        info: RegistrationInfo = parsed(REGISTRATION, await body_of(request))
        # It may be another, or gone, since the body was awaited.
        old = self._book.services.find(old.id)
        check_match(request, etag(old.value()))
        service = self._service(old.id, info, old.owner, old.made)
        await self._book.services.replace(service)
        self._changed()
        self._mobility.review()
        return answer(service.value(), headers={"ETag": etag(service.value())})

    async def deregister(self, request: Request) -> Response:
        """DELETE of one, and the deregister task."""
        found = self._book.services.find(request.path_params["id"], self._doors.client(request))
        no_parameters(request)
        check_match(request, etag(found.value()))
        await self._book.services.remove(found.id)
        return nothing()

    # Subscriptions

    async def list_subscriptions(self, request: Request) -> Response:
        """GET subscriptions. The links stand where version 2.1.1 has them, and where later ones do."""
        owner = self._doors.client(request)
        check_accept(request)
        kind = None
        for name, value in parameters_of(request):
            if name != "subscriptionType" or kind is not None:
                raise bad_request("the only query parameter is subscriptionType, given once")
            kind = KIND_WORDS.get(value)
            if kind is None:
                raise bad_request("subscriptionType is mobility_proc or adj_app_info")
        root = root_of(request, self._root)
        links = [
            {
                "href": f"{root}/subscriptions/{each.id}",
                "subscriptionType": KIND_NUMBERS[each.body.subscriptionType],
            }
            for each in self._book.subscriptions.all(owner)
            if kind in (None, each.body.subscriptionType)
        ]
        own = {"self": {"href": f"{root}/subscriptions"}, "subscription": _bounded(links)}
        return answer({"_links": own, "subscription": links})

    async def subscribe(self, request: Request) -> Response:
        """POST subscriptions."""
        self._doors.client(request)
        check_accept(request)
        no_parameters(request)
        body: AnySubscription = parsed(SUBSCRIPTION, await body_of(request))
        ident = self._book.subscriptions.new_id()
        made, owner = self._book.next_made(), self._doors.owner(request)
        record = await self._subscribed(request, ident, body, owner, made)
        await self._book.subscriptions.add(record)
        self._begun(record)
        value = _shown(record)
        return answer(value, 201, {"Location": value["_links"]["self"]["href"], "ETag": etag(value)})

    async def _subscribed(
        self, request: Request, ident: str, body: AnySubscription, owner: str, made: int
    ) -> Subscribed:
        """The record of a subscription, with what the platform grants. Raises `Problem` (400, 422)."""
        requester = requester_of(request)
        if body.callbackReference is not None:
            await self._check_callback(body.callbackReference, requester)
        expires, now = 0, self._now()
        if body.expiryDeadline is not None:
            expires = body.expiryDeadline.milliseconds
            if expires <= now:
                expires = now + SHORTEST_S * 1000
                body = body.model_copy(update={"expiryDeadline": TimeStamp.of(expires)})
        root = root_of(request, self._root)
        return Subscribed(ident, body.complete(), owner, root, requester, expires, made)

    async def _check_callback(self, uri: str, requester: str) -> None:
        """Refuse what will never be called. A name that is not found now may be later: each attempt looks again."""
        try:
            await self._rules.addresses(target_of(uri), requester)
        except BadCallback as error:
            raise bad_request(f"callbackReference: {error}") from None
        except CallbackRefused as error:
            raise unprocessable(str(error)) from None
        except DeliveryFailed:
            return

    def _begun(self, record: Subscribed) -> None:
        """What follows when a subscription is new, or another."""
        if record.body.requestTestNotification:
            test = {"notificationType": "TestNotification", "_links": subscription_link(record)}
            self._notifier.tell(record, test)
        self._mobility.tell_adjacent(record)
        self._changed()

    async def show_subscription(self, request: Request) -> Response:
        """GET of one."""
        found = self._book.subscriptions.find(request.path_params["id"], self._doors.client(request))
        check_accept(request)
        no_parameters(request)
        value = _shown(found)
        return answer(value, headers={"ETag": etag(value)})

    async def replace_subscription(self, request: Request) -> Response:
        """PUT of one."""
        old = self._book.subscriptions.find(request.path_params["id"], self._doors.client(request))
        check_accept(request)
        no_parameters(request)
        body: AnySubscription = parsed(SUBSCRIPTION, await body_of(request))
        if body.subscriptionType != old.body.subscriptionType:
            raise unprocessable("the type of a subscription does not change: make another subscription")
        record = await self._subscribed(request, old.id, body, old.owner, old.made)
        # It may be another, or gone, since the body was awaited.
        old = self._book.subscriptions.find(old.id)
        check_match(request, etag(_shown(old)))
        await self._book.subscriptions.replace(record)
        self._begun(record)
        value = _shown(record)
        return answer(value, headers={"ETag": etag(value)})

    async def unsubscribe(self, request: Request) -> Response:
        """DELETE of one."""
        found = self._book.subscriptions.find(request.path_params["id"], self._doors.client(request))
        no_parameters(request)
        check_match(request, etag(_shown(found)))
        await self._book.subscriptions.remove(found.id)
        self._notifier.forget(found.id)
        return nothing()

    async def websocket(self, socket: WebSocket) -> None:
        """The WebSocket of a subscription: notifications one way, answers the other."""
        try:
            found = self._book.subscriptions.find(socket.path_params["id"], self._doors.client(socket))
        except Problem:
            await socket.close(REFUSED)
            return
        if not found.body.wants_websocket:
            await socket.close(REFUSED)
            return
        await socket.accept()
        await self._notifier.serve(found.id, _Wire(socket))

    # Adjacent instances

    async def list_adjacent(self, request: Request) -> Response:
        """GET queries/adjacent_app_instances."""
        self._doors.client(request)
        check_accept(request)
        wanted = view(parameters_of(request), ADJACENT)
        return answer(_bounded(wanted.of(self._mobility.adjacent())))

    # Ours

    async def list_moves(self, request: Request) -> Response:
        """GET moves."""
        self._doors.operator(request)
        check_accept(request)
        no_parameters(request)
        return answer([each.value() for each in self._mobility.moves()])

    async def move(self, request: Request) -> Response:
        """POST moves: 202, for it takes its time."""
        self._doors.operator(request)
        check_accept(request)
        no_parameters(request)
        wanted: NewMove = parsed(NEW_MOVE, await body_of(request))
        begun = self._mobility.begin(wanted.appInstanceId, wanted.to)
        root = root_of(request, self._root).removesuffix(AMSI)
        return answer(begun.value(), 202, {"Location": f"{root}{OWN}/moves/{begun.id}"})

    async def show_move(self, request: Request) -> Response:
        """GET of one move."""
        self._doors.operator(request)
        found = self._mobility.find(request.path_params["id"])
        check_accept(request)
        no_parameters(request)
        return answer(found.value())

    async def answer_move(self, request: Request) -> Response:
        """POST answer: for an instance that is asked and cannot answer itself."""
        self._doors.operator(request)
        found = self._mobility.find(request.path_params["id"])
        no_parameters(request)
        agreed: Agreement = parsed(AGREEMENT, await body_of(request))
        self._mobility.answer(found, agreed.agreed)
        return nothing()

    async def list_places(self, request: Request) -> Response:
        """GET places."""
        self._doors.operator(request)
        check_accept(request)
        no_parameters(request)
        return answer(_bounded(self._mobility.places()))

    async def place(self, request: Request) -> Response:
        """PUT places: one device is near a station."""
        self._doors.operator(request)
        check_accept(request)
        no_parameters(request)
        place: Place = parsed(PLACE, await body_of(request))
        return answer({"moves": [each.value() for each in self._mobility.place(place.associateId, place.station)]})

    async def forget_place(self, request: Request) -> Response:
        """DELETE of the place of one device."""
        self._doors.operator(request)
        no_parameters(request)
        given: dict[str, Any] = {"type": request.path_params["type"], "value": request.path_params["value"]}
        if given["type"].isdecimal() and len(given["type"]) == 1:
            given["type"] = int(given["type"])
        try:
            device = AssociateId.model_validate(given)
        except ValueError:
            raise bad_request("the path is places/TYPE/VALUE of an AssociateId") from None
        self._mobility.forget_place(device)
        return nothing()


@define(eq=False, repr=False)
class _Wire:
    """A WebSocket of this framework."""

    _socket: WebSocket

    async def send(self, text: str) -> None:
        """See `notifier.Wire`."""
        try:
            await self._socket.send_text(text)
        except (WebSocketDisconnect, RuntimeError, OSError):
            raise DeliveryFailed("the WebSocket is closed") from None

    async def receive(self) -> str:
        """See `notifier.Wire`."""
        try:
            return await self._socket.receive_text()
        except (WebSocketDisconnect, RuntimeError, KeyError, OSError):
            raise DeliveryFailed("the WebSocket is closed") from None

    async def close(self) -> None:
        """See `notifier.Wire`."""
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):
            await self._socket.close()


def _shown(record: Subscribed) -> dict[str, Any]:
    """A subscription as it is told to its client: with its own link, and the WebSocket that it asked for."""
    href = f"{record.root}/subscriptions/{record.id}"
    value = {"_links": {"self": {"href": href}}} | {k: v for k, v in record.value().items() if k != "_links"}
    if record.body.wants_websocket:
        uri = f"ws{href.removeprefix('http')}/websocket"
        value["websockNotifConfig"] = value["websockNotifConfig"] | {"websocketUri": uri}
    return value


def _bounded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(rows) > MAX_ROWS:
        raise bad_request(f"the answer has more than {MAX_ROWS} items: ask for fewer, with a filter")
    return rows


def _by_method(methods: Mapping[str, Endpoint]) -> Endpoint:
    """An endpoint that answers every error with problem details."""

    async def endpoint(request: Request) -> Response:
        method = methods.get("GET" if request.method == "HEAD" else request.method)
        assert method is not None
        try:
            return await method(request)
        except Problem as error:
            return problem(request, error)
        except StoreError as error:
            log_error("the application mobility service cannot keep what it was told", error)
            return problem(request, Problem(503, "this cannot be kept now: try again", {"Retry-After": "10"}))
        except StationError:
            return problem(request, Problem(503, "the station is not running", {"Retry-After": "10"}))
        except ClientDisconnect:
            return problem(request, bad_request("the request was broken off"))
        except Exception as error:
            log_error("the application mobility service failed", error)
            return problem(request, Problem(500, "this request failed here"))

    return endpoint


async def as_problem(request: Request, error: Exception) -> Response:
    """What the router refuses: no such path, or no such method there."""
    assert isinstance(error, HTTPException)
    sentences = {404: "there is no such resource", 405: "this resource does not have this method"}
    detail = sentences.get(error.status_code, "this request is refused")
    return problem(request, Problem(error.status_code, detail, error.headers))
