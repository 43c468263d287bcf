"""A station as the platform of application mobility: agents are the application instances.

Invariant: nothing here moves an agent by other means than the station's own: whether it may go there is decided by its
passport and by the policies of both stations, and the handoff is that of every hop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from attrs import define, field

from agents.credentials.keys import text_of
from docking.errors import ServiceFailed, StationError, UnknownAgent
from docking.letters.orders import SendOutcome
from docking.mec.platform import Instance, Moved, MoveFailed, Neighbour, Question
from docking.residents.options import OnTimeout
from docking.residents.services import Visitor
from docking.station import Station

# The service by which an agent answers a question: `yes MOVE` or `no MOVE`.
ANSWERS = "mec.move"
MAX_NEIGHBOURS = 256
# Events after which neighbours or instances may be others.
_CHANGES = ("peer", "launched", "arrived", "resumed", "left", "finished", "stopped", "disposed", "cloned")


@define(eq=False, repr=False)
class StationPlatform:
    """A running station. `downtime_ms`, `timeout_s`, `on_timeout`: of moves, see `docking.Agent.move`."""

    station: Station
    _downtime_ms: float = 20.0
    _timeout_s: float = 60.0
    _on_timeout: OnTimeout = "cancel"
    _questions: dict[tuple[str, str], asyncio.Future[bool]] = field(factory=dict)

    @property
    def name(self) -> str:
        """The station's name."""
        return self.station.name

    def instance(self, ident: str) -> Instance | None:
        """The agent with this id or label, if it is here."""
        core = self.station.core
        try:
            key = core.queries.find_agent(ident)
        except UnknownAgent:
            return None
        berth = core.here.berths.get(key)
        if berth is None or ident not in (text_of(key), berth.label):  # the beginning of an id is none
            return None
        return Instance(text_of(key), berth.label, text_of(berth.credentials.passport.body.image))

    def neighbours(self) -> list[Neighbour]:
        """The stations that have proven their keys and answer."""
        found = []
        for peer in self.station.introductions.peers.all()[:MAX_NEIGHBOURS]:
            if peer.proven:
                endpoints = (_endpoint(url) for url in peer.addresses)
                found.append(Neighbour(peer.key.id, peer.name, tuple(each for each in endpoints if each is not None)))
        return found

    async def ask(self, instance: str, question: Question) -> bool:
        """Send the agent a message, `{"mec": "move", "move": ..., "to": ...}`; it answers by the service `mec.move`."""
        key = (instance, question.move)
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._questions[key] = answer
        try:
            body = json.dumps({"mec": "move", "move": question.move, "to": question.to})
            if self.station.agent(instance).send(body) is not SendOutcome.DELIVERED:
                return False
            return bool(await answer)
        finally:
            self._questions.pop(key, None)

    async def answered(self, request: bytes, visitor: Visitor) -> bytes:
        """The service by which agents answer."""
        word, _, move = request.decode("ascii", "replace").strip().partition(" ")
        if word not in ("yes", "no"):
            raise ServiceFailed("write `yes MOVE` or `no MOVE`")
        answer = self._questions.get((visitor.agent, move))
        if answer is None or answer.done():
            raise ServiceFailed("no such question waits for your answer")
        answer.set_result(word == "yes")
        return b"ok"

    async def move(self, instance: str, to: str) -> Moved:
        """Move the agent while it runs, as an operator does. Raises `MoveFailed`."""
        try:
            took = await self.station.agent(instance).move(
                to, downtime_ms=self._downtime_ms, timeout_s=self._timeout_s, on_timeout=self._on_timeout
            )
        except StationError as error:
            raise MoveFailed(str(error)) from error
        return Moved(took.rounds, took.sent_bytes, took.downtime_ms, took.total_s)

    async def changes(self) -> AsyncIterator[None]:
        """After each event that may change neighbours or instances."""
        events = self.station.core.here.events
        subscription = events.subscribe(lambda event: event.kind in _CHANGES)
        try:
            async for _ in subscription:
                yield
        finally:
            events.unsubscribe(subscription)

    def open(self) -> None:
        """Offer agents the service by which they answer."""
        self.station.offer(ANSWERS, self.answered)

    def close(self) -> None:
        """Offer it no more."""
        self.station.withdraw(ANSWERS)


def _endpoint(url: str) -> tuple[str, int] | None:
    parts = urlsplit(url)
    return None if not parts.hostname else (parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
