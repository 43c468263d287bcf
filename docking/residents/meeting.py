"""Agents that meet: who is here, and which agents offer a service while they are here.

An offer is a part of the agent's stay, and ends with it. Who looks for agents everywhere asks the stations that are
present, at that moment: one that is down, or an agent that has left, is not found. Invariants: an agent is shown, and
sees others, only where its permit covers `host:meet`; what is found is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from attrs import define

from agents.credentials.envelope import identify
from agents.credentials.fields import array, text
from agents.credentials.keys import PublicKey, text_of
from agents.credentials.passport import MAX_LABEL_BYTES
from agents.errors import CallFailed, MalformedCredential
from agents.hostcalls import EHOSTUNREACH, EINVAL, ENOSPC
from agents.waits import MAX_ATTRIBUTES_BYTES, MAX_HOST_BYTES, MAX_SERVICE_BYTES, Event, Failed, Find, Reply
from docking.aio.timeouts import within
from docking.errors import CarrierError, StationError
from docking.letters.outbox import LetterAnswer, LetterKind, Outbox
from docking.residents.berth import EPERM, Berth, Standing
from docking.residents.post import MAX_ASKED, Post
from docking.residents.residents import Residents
from docking.residents.services import check_service_name

PERMISSION = "host:meet"
# Offers of one agent; agents that are found here, and from one other station.
MAX_OFFERS, MAX_FOUND, MAX_FROM_ONE = 16, 256, 64
# How long other stations may take to answer, seconds.
FIND_S = 2.0
_SHOWN = (Standing.READY, Standing.WAITING)
Row = tuple[str, str, str, str]
"""Of an agent that was found: id, station, label, and the attributes of its offer."""


@define(eq=False, repr=False)
class Meeting:
    """The agents at one station, for each other."""

    _here: Residents
    _outbox: Outbox
    _post: Post
    _go_on: Callable[[Berth, Event | None], None]

    def offer(self, berth: Berth, service: str, attributes: str | None) -> None:
        """From a worker: an agent offers a service while it is here; None withdraws it. Raises `CallFailed`."""
        _may(berth)
        try:
            check_service_name(service)
        except StationError as error:
            raise CallFailed(EINVAL, str(error)) from error
        offers = {name: said for name, said in berth.offers.items() if name != service}
        if attributes is not None:
            if len(offers) >= MAX_OFFERS:
                raise CallFailed(ENOSPC, f"an agent offers at most {MAX_OFFERS} services")
            offers[service] = attributes
        berth.offers = offers  # the event loop may be reading the one before

    def check_here(self, to: str) -> None:
        """From a worker: raises `CallFailed` unless the agent `to` is here, and is shown."""
        for berth in tuple(self._here.berths.values()):
            if to in (text_of(berth.agent), berth.label) and self._shown(berth):
                return
        raise CallFailed(EHOSTUNREACH, f"{to[:64]!r} is not here")

    @staticmethod
    def _shown(berth: Berth) -> bool:
        return berth.standing in _SHOWN and berth.grant.allows(PERMISSION)

    def rows(self, service: str, label: str) -> list[Row]:
        """The agents here that offer a service (empty: any or none) and have a label (empty: any)."""
        found: list[Row] = []
        for berth in self._here.berths.values():
            if not self._shown(berth) or label not in ("", berth.label) or len(found) == MAX_FOUND:
                continue
            if not service or service in berth.offers:
                found.append((text_of(berth.agent), self._here.name, berth.label, berth.offers.get(service, "")))
        return found

    async def find(self, berth: Berth, wait: Find) -> None:
        """An agent here looks for others."""
        try:
            _may(berth)
            mine = text_of(berth.agent)
            found = await self.look(wait.service, wait.label, bool(wait.everywhere))
            lines = ["\t".join(row) for row in found if row[0] != mine]
            event: Event = Reply("\n".join(lines).encode())
        except CallFailed as error:
            event = Failed(error.errno, error.reason)
        if not self._here.closing and berth.wait is wait and berth.standing is Standing.WAITING:
            self._go_on(berth, event)

    async def look(self, service: str, label: str, everywhere: bool) -> list[Row]:
        """The agents here, and, if `everywhere`, at the other stations that are present and answer."""
        found = self.rows(service, label)
        if everywhere:
            asked = self._post.neighbours()[:MAX_ASKED]
            for rows in await asyncio.gather(*(self._ask(key, service, label) for key in asked)):
                found += rows
        return found[:MAX_FOUND]

    async def _ask(self, key: PublicKey, service: str, label: str) -> list[Row]:
        name = self._here.peers.label(key)
        ident = identify("find", self._here.clocks.random(16))
        try:
            answer = await within(FIND_S, self._outbox.hand_over(key, LetterKind.FIND, ident, [service, label]))
            if len(answer) != 2 or answer[0] != LetterAnswer.TAKEN.value:
                return []
            rows = [array(row, "agent", 3) for row in array(answer[1], "agents", MAX_FROM_ONE)]
            return [
                (
                    text(agent, "agent", MAX_HOST_BYTES),
                    name,
                    said if said == "" else text(said, "label", MAX_LABEL_BYTES),
                    more if more == "" else text(more, "attributes", MAX_ATTRIBUTES_BYTES),
                )
                for agent, said, more in rows
            ]
        except (CarrierError, asyncio.TimeoutError, MalformedCredential, ValueError):
            return []

    def receive(self, content: object) -> list[object]:
        """Another station looks for agents. Raises `MalformedCredential`, ValueError."""
        service, label = array(content, "question", 2)
        service = service if service == "" else text(service, "service", MAX_SERVICE_BYTES)
        label = label if label == "" else text(label, "label", MAX_LABEL_BYTES)
        rows = [[agent, said, more] for agent, _, said, more in self.rows(service, label)]
        return [LetterAnswer.TAKEN.value, rows[:MAX_FROM_ONE]]


def _may(berth: Berth) -> None:
    if not berth.grant.allows(PERMISSION):
        raise CallFailed(EPERM, f"the agent's permit here does not cover {PERMISSION}")
