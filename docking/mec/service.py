"""The application mobility service, put together: an ASGI application with a life of its own.

Invariants: it begins with its server's lifespan, with `async with`, or with the first request; when it is closed
nothing of it runs any more. Whoever made its platform ends it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from attrs import evolve
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from docking.aio.failures import log_error, log_failure
from docking.aio.timeouts import ended, within
from docking.errors import StoreError
from docking.http.agent_requests import Receive, Scope, Send
from docking.mec.api import Api, as_problem
from docking.mec.book import Book
from docking.mec.callbacks import CallbackRules, Caller
from docking.mec.mobility import Mobility, subscription_link
from docking.mec.models import TimeStamp
from docking.mec.notifier import Notifier
from docking.mec.platform import Platform
from docking.mec.problems import Problem
from docking.mec.requests import Doors
from docking.mec.settings import Settings
from docking.mec.stations import StationPlatform

# The longest time without a look at what expires.
LOOK_S = 60.0


def wall_clock() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class MobilityService:
    """The application mobility service of ETSI GS MEC 021 for a platform, as an ASGI application.

        async with docking.Station(...) as station, docking.mec.app(station) as amsi:
            ...

    platform: where the application instances run; `docking.mec.app` makes it of a station
    settings: what its operator decides
    now: milliseconds since 1970
    """

    def __init__(self, platform: Platform, settings: Settings, now: Callable[[], int] = wall_clock) -> None:
        self._platform, self._settings, self._now = platform, settings, now
        self._book = Book.open(settings.file, settings.services, settings.subscriptions)
        rules = CallbackRules.of(settings.callbacks)
        caller = Caller(rules, settings.callback_s)
        self.notifier = Notifier(caller, settings.queue, settings.attempts, settings.retry_s)
        """What is on its way to subscribers, with counts."""
        self._mobility = Mobility(platform, self._book, self.notifier, now, settings.follow, settings.confirm_s)
        doors = Doors(settings.tokens, settings.operators)
        api = Api(self._book, doors, rules, self.notifier, self._mobility, now, settings.root, self._look)
        self._routed = Starlette(routes=api.routes(), exception_handlers={HTTPException: as_problem})
        self._routed.router.redirect_slashes = False
        self._due: asyncio.Event | None = None
        self._expiring: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<MobilityService of {self._platform.name}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI: a lifespan is its own; other scopes are requests, and begin it if nothing has yet."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        self.start()
        path = scope["path"]
        if path.endswith("/") and path != "/":
            scope = {**scope, "path": path[:-1]}
        await self._routed(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    def start(self) -> None:
        """Begin; nothing happens if it has begun."""
        if self._expiring is not None:
            return
        self._due = asyncio.Event()
        if isinstance(self._platform, StationPlatform):
            self._platform.open()
        self._mobility.start()
        self._expiring = asyncio.get_running_loop().create_task(self._expire())
        self._expiring.add_done_callback(log_failure)

    async def close(self) -> None:
        """End; notifications that were not delivered are lost."""
        expiring, self._expiring = self._expiring, None
        if expiring is None:
            return
        if isinstance(self._platform, StationPlatform):
            self._platform.close()
        await ended([expiring])
        await self._mobility.close()
        await self.notifier.close()

    async def __aenter__(self) -> MobilityService:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Expiry

    def _look(self) -> None:
        if self._due is not None:
            self._due.set()

    async def _expire(self) -> None:
        assert self._due is not None
        await self.notifier.prepare()
        while True:
            self._due.clear()
            try:
                await self._end_what_is_due()
            except StoreError as error:
                log_error("what has expired cannot be removed", error)
            wait = max(0.0, min(LOOK_S, (self._next() - self._now()) / 1000))
            try:
                await within(wait + 0.001, self._due.wait())
            except asyncio.TimeoutError:
                continue

    def _next(self) -> float:
        """When something is due next, ms since 1970."""
        times = [each.expires for each in self._book.services.all() if each.expires]
        for each in self._book.subscriptions.all():
            if each.expires:
                times.append(each.expires if each.told else each.expires - self._notice)
        return min(times, default=float("inf"))

    @property
    def _notice(self) -> int:
        return int(self._settings.notice_s * 1000)

    async def _end_what_is_due(self) -> None:
        """Remove what has expired; tell subscribers whose subscriptions soon will."""
        now = self._now()
        for service in self._book.services.all():
            if service.expires and service.expires <= now:
                await self._removed(self._book.services, service.id)
        for each in self._book.subscriptions.all():
            if not each.expires:
                continue
            if not each.told and each.expires - self._notice <= now:
                try:
                    await self._book.subscriptions.replace(evolve(each, told=True))
                except Problem:  # gone meanwhile
                    continue
                href = f"{each.root}/subscriptions/{each.id}"
                self.notifier.tell(
                    each,
                    {
                        "notificationType": "ExpiryNotification",
                        "timeStamp": TimeStamp.of(now).json_value(),
                        "expiryDeadline": (each.body.expiryDeadline or TimeStamp.of(each.expires)).json_value(),
                        # `self` is where version 2.1.1 has it.
                        "_links": subscription_link(each) | {"self": {"href": href}},
                    },
                )
            if each.expires <= now:
                await self._removed(self._book.subscriptions, each.id)

    @staticmethod
    async def _removed(table: Any, ident: str) -> None:
        try:
            await table.remove(ident)
        except Problem:  # gone meanwhile
            return
