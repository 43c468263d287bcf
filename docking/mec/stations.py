"""A station as the platform of application mobility: agents are the application instances.

Invariant: nothing here moves an agent by other means than the station's own: whether it may go there is decided by its
passport and by the policies of both stations, and the handoff is that of every hop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Collection
from urllib.parse import urlsplit

from attrs import define, field

from agents.credentials.keys import bytes_of, text_of
from agents.errors import CredentialError
from docking.errors import ServiceFailed, StationError
from docking.events import Event, Subscription
from docking.letters.orders import SendOutcome
from docking.mec.platform import Instance, Moved, MoveFailed, Neighbour, Question
from docking.residents.berth import Berth
from docking.residents.options import OnTimeout
from docking.residents.services import Visitor
from docking.station import Station

# The service by which an agent answers a question: `yes MOVE` or `no MOVE`.
ANSWERS = "mec.move"
MAX_NEIGHBOURS = 256
# Seconds within which events count as having come together.
SETTLE_S = 0.05
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

    def instances(self, names: Collection[str]) -> dict[str, Instance]:
        """The agents that are here, of those with these ids or labels. A label that two have names neither."""
        berths = self.station.core.here.berths
        found: dict[str, Berth] = {}
        labels: dict[str, list[Berth]] = {}
        for name in names:
            with contextlib.suppress(CredentialError):
                if (berth := berths.get(bytes_of(name))) is not None:
                    found[name] = berth
                    continue
            labels[name] = []
        for berth in berths.values() if labels else ():
            if berth.label in labels:
                labels[berth.label].append(berth)
        found |= {name: few[0] for name, few in labels.items() if len(few) == 1}
        return {name: _instance(berth) for name, berth in found.items()}

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
        """After events that may change neighbours or instances; once for those that come together."""
        events, changed = self.station.core.here.events, asyncio.Event()

        def note(event: Event) -> bool:
            if event.kind in _CHANGES:
                changed.set()
            return False  # nothing is queued

        subscription = events.subscribe(note)
        ended = asyncio.get_running_loop().create_task(_end_of(subscription))
        try:
            while not ended.done():
                waiting = asyncio.get_running_loop().create_task(changed.wait())
                await asyncio.wait({ended, waiting}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if changed.is_set():
                    changed.clear()
                    yield
                    await asyncio.sleep(SETTLE_S)
        finally:
            events.unsubscribe(subscription)
            ended.cancel()

    def open(self) -> None:
        """Offer agents the service by which they answer."""
        self.station.offer(ANSWERS, self.answered)

    def close(self) -> None:
        """Offer it no more."""
        self.station.withdraw(ANSWERS)


async def _end_of(subscription: Subscription) -> None:
    async for _ in subscription:
        pass


def _instance(berth: Berth) -> Instance:
    return Instance(text_of(berth.agent), berth.label, text_of(berth.image.digest))


def _endpoint(url: str) -> tuple[str, int] | None:
    parts = urlsplit(url)
    return None if not parts.hostname else (parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
