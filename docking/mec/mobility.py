"""Moves of application instances, what they mean for registrations, and the policy `follow`.

    level 1   the instance is pinned: it is not moved
    level 2   it is asked, and moved if it agrees in time
    level 3   it is moved, and notices nothing

Status 1 (triggered) is told when the move begins, 2 (completed) when the instance belongs to the other platform, 3
(failed) when a move that was triggered did not take place. Several registrations of one instance: the lowest level
holds. Not here: how instances move (`docking.mec.platform`), and requests (`docking.mec.api`). Invariants: an
instance has one move at a time; status 1 is followed by exactly one of 2 and 3, unless the process ends; moves and
places that are remembered are bounded.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, evolve, field

from docking.aio.failures import log_failure
from docking.aio.timeouts import ended
from docking.errors import StoreError
from docking.mec.book import Book, Service, Subscribed
from docking.mec.models import (
    AdjacentAppInfoSubscription,
    AssociateId,
    Level,
    MobilityProcedureSubscription,
    Status,
    TimeStamp,
    Transfer,
)
from docking.mec.notifier import Notifier
from docking.mec.platform import Moved, MoveFailed, Neighbour, Platform, Question
from docking.mec.problems import Problem, conflict, forbidden, not_found, too_many, unprocessable

_log = logging.getLogger("portcall.mec")
MAX_MOVES, MAX_UNDER_WAY = 256, 64
MAX_PLACES = 10_000
# Seconds until a move that failed is tried again, at first and at most, and how often.
RETRY_S, LONGEST_RETRY_S, MAX_RETRIES = 5.0, 300.0, 10
ASKING, TRIGGERED, COMPLETED, FAILED, DECLINED = "ASKING", "TRIGGERED", "COMPLETED", "FAILED", "DECLINED"
UNDER_WAY = (ASKING, TRIGGERED)


@define(eq=False, repr=False)
class Move:
    """A move of an instance to the platform called `to`, with the id `target`.

    `state`: one of the words above; `why`: why it did not take place; `took`: what it took.
    """

    id: str
    instance: str
    to: str
    target: str
    began: int
    state: str = ASKING
    why: str = ""
    took: Moved | None = None
    answer: asyncio.Future[bool] | None = None

    def value(self) -> dict[str, Any]:
        """As it is told to clients."""
        found: dict[str, Any] = {"moveId": self.id, "appInstanceId": self.instance, "to": self.to, "state": self.state}
        found["began"] = TimeStamp.of(self.began).json_value()
        if self.why:
            found["detail"] = self.why
        if self.took is not None:
            found |= {"rounds": self.took.rounds, "sentBytes": self.took.sent_bytes}
            found |= {"downtimeMs": self.took.downtime_ms, "totalMs": 1000 * self.took.total_s}
        return found


def communication(neighbour: Neighbour) -> dict[str, Any]:
    """Where a platform is reached, as a `CommunicationInterface`."""
    return {"ipAddresses": [{"host": host, "port": port} for host, port in neighbour.endpoints]}


def subscription_link(to: Subscribed) -> dict[str, Any]:
    """The link of a notification to its subscription."""
    return {"subscription": {"href": f"{to.root}/subscriptions/{to.id}"}}


@define(eq=False, repr=False)
class Mobility:
    """Moves, and what is told of them. `now()`: ms since 1970; `confirm_s`: how long an instance may think."""

    _platform: Platform
    _book: Book
    _notifier: Notifier
    _now: Callable[[], int]
    _follow: bool
    _confirm_s: float
    _moves: dict[str, Move] = field(factory=dict)
    _tasks: set[asyncio.Task[None]] = field(factory=set)
    _places: dict[tuple[int, str], tuple[AssociateId, str]] = field(factory=dict)
    _refused: set[tuple[str, str]] = field(factory=set)
    _failed: Counter[tuple[str, str]] = field(factory=Counter)
    """How often an instance could not be moved to a platform, one time after the other."""
    _known: frozenset[str] = frozenset()

    # Moves

    def moves(self) -> list[Move]:
        """Those under way, and the latest that are over."""
        return list(self._moves.values())

    def find(self, ident: str) -> Move:
        """The move with this identifier. Raises `Problem` (404)."""
        found = self._moves.get(ident)
        if found is None:
            raise not_found("there is no such move")
        return found

    def begin(self, instance: str, to: str) -> Move:
        """Begin to move an instance. Raises `Problem`: 403 pinned, 404 not here, 409, 422 no such platform, 429."""
        here = self._platform.instances([instance]).get(instance)
        if here is None:
            raise not_found("no application instance of this name is here")
        services = self._services_of(here.id, here.label)
        if not services:
            raise conflict("no application mobility service is registered for this instance")
        if self.level(services) is Level.APP_MOBILITY_NOT_ALLOWED:
            raise forbidden("the instance is pinned: its mobility level is APP_MOBILITY_NOT_ALLOWED")
        if to == self._platform.name:
            raise conflict("the instance is there already")
        targets = [each for each in self._platform.neighbours() if to in (each.name, each.id)]
        if len(targets) != 1:
            known = "several platforms have" if targets else "no platform has"
            raise unprocessable(f"{known} this name here")
        under_way = [each for each in self._moves.values() if each.state in UNDER_WAY]
        if any(each.instance == here.id for each in under_way):
            raise conflict("the instance is being moved already")
        if len(under_way) >= MAX_UNDER_WAY:
            raise too_many(f"{MAX_UNDER_WAY} moves are under way")
        while len(self._moves) >= MAX_MOVES:
            del self._moves[next(key for key, each in self._moves.items() if each.state not in UNDER_WAY)]
        move = Move(secrets.token_hex(16), here.id, targets[0].name, targets[0].id, self._now())
        self._moves[move.id] = move
        self._run(self._carry_out(move, here.label))
        return move

    def answer(self, move: Move, agreed: bool) -> None:
        """The answer to a question, from whoever operates the instance. Raises `Problem` (409)."""
        if move.state != ASKING or move.answer is None or move.answer.done():
            raise conflict("this move waits for no answer")
        move.answer.set_result(agreed)

    @staticmethod
    def level(services: Iterable[Service]) -> Level:
        """What may be done with an instance for which these are registered."""
        levels = [device.level for service in services for device in service.info.devices]
        return min(levels, default=Level.APP_MOBILITY_WITH_CONFIRMATION)

    def _services_of(self, ident: str, label: str) -> list[Service]:
        return [each for each in self._book.services.all() if each.instance in (ident, label)]

    async def _carry_out(self, move: Move, label: str) -> None:
        services = self._services_of(move.instance, label)
        if self.level(services) is Level.APP_MOBILITY_WITH_CONFIRMATION and not await self._agreed(move):
            self._decline(move, "the instance did not agree")
            return
        # It may have been pinned, or deregistered, while it thought.
        services = self._services_of(move.instance, label)
        if not services or self.level(services) is Level.APP_MOBILITY_NOT_ALLOWED:
            self._decline(move, "the instance is pinned, or not registered any more")
            return
        move.state = TRIGGERED
        target = next((each for each in self._platform.neighbours() if each.id == move.target), None)
        devices = [device.associateId for service in services for device in service.info.devices]
        names = {service.instance for service in services if service.instance} | {move.instance}

        def tell(status: Status) -> None:
            self._tell(status, move, names, devices, target)

        await self._mark(services, Transfer.NOT_TRANSFERRED)
        tell(Status.INTERHOST_MOVEOUT_TRIGGERED)
        try:
            move.took = await self._platform.move(move.instance, move.target)
        except MoveFailed as error:
            move.state, move.why = FAILED, str(error)[:500]
        except Exception as error:
            # Where it is now is not known; what is known is that this did not end well.
            move.state, move.why = FAILED, "the platform failed"
            _log.error("a move of %s to %s failed: %s", move.instance, move.to, error)
        else:
            move.state = COMPLETED
            self._failed.pop((move.instance, move.to), None)
            await self._mark(services, Transfer.USER_CONTEXT_TRANSFER_COMPLETED)
            tell(Status.INTERHOST_MOVEOUT_COMPLETED)
            return
        self._refused.add((move.instance, move.to))
        tell(Status.INTERHOST_MOVEOUT_FAILED)
        if self._follow:
            self._run(self._again((move.instance, move.to)))

    async def _again(self, key: tuple[str, str]) -> None:
        """What failed may work later: the station was busy, or the instance wrote faster than could be sent."""
        self._failed[key] += 1
        await asyncio.sleep(min(RETRY_S * 2 ** (self._failed[key] - 1), LONGEST_RETRY_S))
        if self._failed[key] >= MAX_RETRIES:
            del self._failed[key]  # until there is a new word of the device, or of a neighbour
            return
        self._refused.discard(key)
        self.review()

    def _decline(self, move: Move, why: str) -> None:
        """Nothing was triggered, so nobody is told."""
        move.state, move.why = DECLINED, why
        self._refused.add((move.instance, move.to))

    async def _agreed(self, move: Move) -> bool:
        """Ask the instance; the answer may also come from whoever operates it."""
        move.answer = asyncio.get_running_loop().create_future()
        asked = asyncio.get_running_loop().create_task(self._platform.ask(move.instance, Question(move.id, move.to)))
        try:
            await asyncio.wait({asked, move.answer}, timeout=self._confirm_s, return_when=asyncio.FIRST_COMPLETED)
            if move.answer.done():
                return move.answer.result()
            return asked.done() and asked.exception() is None and asked.result()
        finally:
            move.answer.cancel()
            await ended([asked], 0.1)

    async def _mark(self, services: Iterable[Service], state: Transfer) -> None:
        """The platform moves the state: each registration says whether that is done."""
        for each in services:
            found = self._book.services.get(each.id)
            if found is None or not found.info.devices:
                continue
            devices = [device.transferred(state) for device in found.info.devices]
            info = found.info.model_copy(update={"deviceInformation": devices})
            try:
                await self._book.services.replace(evolve(found, info=info))
            except (StoreError, Problem) as error:
                _log.error("a registration does not say that its context was moved: %s", error)

    # Notifications

    def _tell(
        self, status: Status, move: Move, names: set[str], devices: list[AssociateId], target: Neighbour | None
    ) -> None:
        keys = {each.key for each in devices}
        for to in self._book.subscriptions.all():
            body = to.body
            if not isinstance(body, MobilityProcedureSubscription):
                continue
            wanted = body.filterCriteria
            associates = wanted.associateId or []
            if (
                (wanted.appInstanceId is not None and wanted.appInstanceId not in names)
                or (associates and not keys & {each.key for each in associates})
                or status not in wanted.statuses
            ):
                continue
            numbers = any(isinstance(each, int) for each in wanted.mobilityStatus or ())
            about = [each for each in devices if not associates or each.key in {a.key for a in associates}]
            info: dict[str, Any] = {"appInstanceId": move.instance}
            if target is not None and target.endpoints:
                info["commInterface"] = communication(target)
            self._notifier.tell(
                to,
                {
                    "notificationType": "MobilityProcedureNotification",
                    "timeStamp": TimeStamp.of(self._now()).json_value(),
                    "associateId": [each.json_value() for each in about],
                    "mobilityStatus": int(status) if numbers else status.name,
                    "targetAppInfo": info,
                    "_links": subscription_link(to),
                },
            )

    def adjacent(self) -> list[dict[str, Any]]:
        """The adjacent application instances of those that are registered and here.

        An agent keeps its id when it moves, so what would serve its devices at a neighbour has the same id.
        """
        found = []
        names = dict.fromkeys(each.instance for each in self._book.services.all() if each.instance is not None)
        neighbours = [each for each in self._platform.neighbours() if each.endpoints]
        for instance in dict.fromkeys(self._platform.instances(names).values()):
            for neighbour in neighbours:
                found.append(
                    {
                        "appInstanceId": instance.id,
                        "appDId": instance.descriptor,
                        "registeredInstanceId": instance.id,
                        "appInstanceCommLink": [communication(neighbour)],
                        "mecHostInformation": {
                            "hostName": neighbour.name,
                            "hostId": {"stationKey": neighbour.id},
                        },
                    }
                )
        return found

    def tell_adjacent(self, to: Subscribed | None = None) -> None:
        """Tell subscribers, or one of them, which instances are adjacent now."""
        told = self._book.subscriptions.all() if to is None else [to]
        told = [each for each in told if isinstance(each.body, AdjacentAppInfoSubscription)]
        if not told:
            return
        rows = self.adjacent()
        named = self._platform.instances({name for each in told if (name := each.body.filterCriteria.appInstanceId)})
        for each in told:
            body = each.body
            wanted = body.filterCriteria.appInstanceId
            about = None if wanted is None else named.get(wanted)
            mine = [
                {"appInstanceId": row["appInstanceId"], "commInterface": row["appInstanceCommLink"]}
                for row in rows
                if wanted is None or (about is not None and row["appInstanceId"] == about.id)
            ]
            if mine:
                self._notifier.tell(
                    each,
                    {
                        "notificationType": "AdjacentAppInfoNotification",
                        "timeStamp": TimeStamp.of(self._now()).json_value(),
                        "adjacentAppInfo": mine,
                        "_links": subscription_link(each),
                    },
                )

    # Where devices are

    def places(self) -> list[dict[str, Any]]:
        """Which device is said to be near which platform."""
        return [{"associateId": device.json_value(), "station": place} for device, place in self._places.values()]

    def place(self, device: AssociateId, station: str) -> list[Move]:
        """A device is near a platform; the moves that follow. Raises `Problem` (429)."""
        if device.key not in self._places and len(self._places) >= MAX_PLACES:
            raise too_many(f"{MAX_PLACES} devices are known: no more are taken")
        self._places[device.key] = device, station
        # A new word about the device is a new reason to try.
        services = self._book.services.all()
        names = {
            s.instance for s in services if s.instance and any(d.associateId.key == device.key for d in s.info.devices)
        }
        for found in self._platform.instances(names).values():
            self._refused.discard((found.id, station))
        return self.review()

    def forget_place(self, device: AssociateId) -> None:
        """Nothing is known any more of where a device is. Raises `Problem` (404)."""
        if self._places.pop(device.key, None) is None:
            raise not_found("nothing is known of this device")

    def review(self) -> list[Move]:
        """Begin the moves that follow from where devices are (`follow`)."""
        if not self._follow or not self._places:
            return []
        begun: list[Move] = []
        near: dict[str, str] = {}
        for service in self._book.services.all():
            place = next((p[1] for d in service.info.devices if (p := self._places.get(d.associateId.key))), None)
            if service.instance and place is not None and place != self._platform.name:
                near.setdefault(service.instance, place)
        for name, found in self._platform.instances(near).items():
            place = near[name]
            if (found.id, place) in self._refused:
                continue
            try:
                begun.append(self.begin(found.id, place))
            except Problem as error:
                _log.debug("%s does not follow its device: %s", found.id, error.detail)
        return begun

    # Life

    def start(self) -> None:
        """Watch the platform."""
        self._run(self._watch())

    async def _watch(self) -> None:
        self._known = self._endpoints()
        async for _ in self._platform.changes():
            known = self._endpoints()
            if known != self._known:
                self._known = known
                self._refused.clear()
                self.tell_adjacent()
            self.review()

    def _endpoints(self) -> frozenset[str]:
        return frozenset(f"{each.id} {each.endpoints}" for each in self._platform.neighbours())

    def _run(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_failure)

    async def close(self) -> None:
        """Stop watching, and give up what is under way: the platform brings its own moves to an end."""
        await ended(list(self._tasks))
