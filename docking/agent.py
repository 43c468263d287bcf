"""An agent as its owner or its station's program sees it: a handle, wherever the agent is.

Not the agent, and not its berth: it holds an id, and asks. Invariant: what `results` gives was verified against the
trail that was signed, and opened with the owner's key.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from attrs import define, frozen

from agents.capsule import Capsule, Trust, VerifiedCapsule
from agents.credentials.keys import SecretKey, text_of
from agents.credentials.passport import verify_passport
from agents.credentials.visits import Visit
from docking.errors import AgentEnded, StationError, StoreError, UnknownAgent
from docking.events import Event
from docking.register import DISPOSED, FINISHED, STOPPED, open_reports

if TYPE_CHECKING:
    from docking.station import Office

_LAST = ("home", "stopped", "disposed")


@frozen
class Stay:
    """One visit of a verified trail. Times: ms; `station`: its name here, or the id of its key; `cpu`: us."""

    index: int
    station: str
    arrived: int
    departed: int
    to: str
    cpu: int
    memory: int
    carried: int
    results: int


@frozen
class Result:
    """What the agent reported. `time`: ms; `station`: where."""

    key: str
    value: bytes
    station: str
    visit: int
    time: int

    @property
    def text(self) -> str:
        """The value as text."""
        return self.value.decode("utf-8", "replace")


@frozen
class Report:
    """How a journey ended: `exit_code`, what was reported, where it was."""

    exit_code: int
    results: tuple[Result, ...]
    trail: tuple[Stay, ...]


def audited(capsule: Capsule, office: Office) -> VerifiedCapsule:
    """The capsule, verified as it was when its passport was valid. Raises `CredentialError`."""
    body = verify_passport(capsule.passport).body
    # A clock here may have been set back since the launch.
    return capsule.verify(Trust(), max(body.not_before, min(office.clocks.now(), body.expires)))


def stays(capsule: Capsule, office: Office) -> tuple[Stay, ...]:
    """The visits of a capsule's trail, verified. Raises `CredentialError` if anything does not hold."""
    verified = audited(capsule, office)
    label = office.peers.label
    found = []
    counted = 0
    for signed in verified.followed.visits:
        visit: Visit = signed.body
        found.append(
            Stay(
                visit.index,
                label(visit.station),
                visit.arrived,
                visit.departed,
                "" if visit.next is None else label(visit.next),
                visit.used.cpu,
                visit.used.memory,
                visit.used.carried,
                visit.results.count - counted,
            )
        )
        counted = visit.results.count
    return tuple(found)


@define(eq=False)
class Agent:
    """A handle on one agent. `owner`: opens its results, if it is known here."""

    _office: Office
    key: bytes
    _owner: SecretKey | None = None

    @property
    def id(self) -> str:
        """The agent's id as text."""
        return text_of(self.key)

    @property
    def label(self) -> str:
        """What people call it."""
        berth = self._office.steering.berth_of(self.key)
        if berth is not None:
            return berth.label
        journey = self._office.register.get(self.key)
        return "" if journey is None else journey.label

    @property
    def standing(self) -> str:
        """What it does, as far as this station knows."""
        berth = self._office.berths.get(self.key)
        if berth is not None:
            return berth.standing.value
        journey = self._office.register.get(self.key)
        return "elsewhere" if journey is None else journey.standing

    def where(self) -> str:
        """The station where it is, as far as this station knows. Raises `UnknownAgent`."""
        if self.key in self._office.berths:
            return self._office.name
        journey = self._office.register.get(self.key)
        if journey is not None and journey.standing in (FINISHED, DISPOSED):
            return self._office.peers.label(journey.place)
        to = self._office.letters.where(self.key)
        if to is None:
            raise UnknownAgent(f"nothing is known of {self.id}")
        return self._office.peers.label(to)

    async def events(self) -> AsyncIterator[Event]:
        """What happens to it from now on, as this station learns of it; ends when its journey does."""
        name = self.id  # once: of many agents that are waited for, each is asked about each event
        subscription = self._office.events.subscribe(lambda event: event.agent == name)
        try:
            if self._over():
                return
            async for event in subscription:
                yield event
                if event.kind in _LAST:
                    return
        finally:
            self._office.events.unsubscribe(subscription)

    def _over(self) -> bool:
        journey = self._office.register.get(self.key)
        return journey is not None and journey.standing in (FINISHED, DISPOSED, STOPPED)

    async def wait(self, timeout: float | None = None) -> Report:
        """Until its journey is over and home knows. Only at its home.

        Raises `AgentEnded` if it was stopped or disposed of, `StationError` if the station stops before that,
        `asyncio.TimeoutError`.
        """
        if self._office.register.get(self.key) is None:
            raise StationError("an agent is waited for at its home")
        await asyncio.wait_for(self._until_over(), timeout)
        journey = self._office.register.get(self.key)
        assert journey is not None
        if journey.standing != FINISHED:
            raise AgentEnded(f"the agent was {journey.standing} at {self.where()}: {journey.text}")
        code, capsule = int(journey.text), self.capsule()
        # Thousands of signatures, perhaps: not on the event loop.
        return await asyncio.get_running_loop().run_in_executor(
            None, lambda: Report(code, tuple(self._opened(capsule)), stays(capsule, self._office))
        )

    async def _until_over(self) -> None:
        if self._over():
            return
        name = self.id
        # Not woken by all that happens to it on its way: each would be a step of the loop that it runs in too.
        last = self._office.events.subscribe(
            lambda event: event.agent == name and (event.kind in _LAST or event.kind == "told")
        )
        try:
            async for event in last:
                # A stop elsewhere is told by a word; what follows from it is written when this is.
                if event.kind == "told":
                    with contextlib.suppress(StoreError):
                        await self._office.journal.write([], True)
                if event.kind in _LAST or self._over():
                    return
        finally:
            self._office.events.unsubscribe(last)
        raise StationError(f"the station {self._office.name} stopped before the agent's journey was over")

    def capsule(self) -> Capsule:
        """Trail and results as far as they are here, without image and state. Raises `UnknownAgent`."""
        return self._office.steering.capsule_of(self.key)

    def trail(self) -> tuple[Stay, ...]:
        """Its finished visits, verified. Raises `CredentialError` if anything does not hold."""
        return stays(self.capsule(), self._office)

    def results(self) -> list[Result]:
        """What it reported, verified and opened. Raises `StationError` without the owner's key."""
        return self._opened(self.capsule())

    def _opened(self, capsule: Capsule) -> list[Result]:
        if self._owner is None:
            raise StationError("the results are sealed to the agent's owner: give the owner's key")
        audited(capsule, self._office)
        label = self._office.peers.label
        return [
            Result(report.key, report.value, label(report.entry.station), report.entry.index, report.entry.time)
            for report in open_reports(capsule, self._owner.box())
        ]

    def logs(self) -> list[str]:
        """What it printed and logged at this station, the latest lines."""
        berth = self._office.steering.berth_of(self.key)
        return [] if berth is None else [line.text for line in list(berth.lines)]

    def retract(self) -> str:
        """Call it home; it goes on there."""
        return self._office.steering.order(self.key, "retract")

    def dispose(self) -> str:
        """End it."""
        return self._office.steering.order(self.key, "dispose")

    def sleep(self) -> str:
        """Have it stand still until it is woken."""
        return self._office.steering.order(self.key, "sleep")

    def wake(self) -> str:
        """Let it go on."""
        return self._office.steering.order(self.key, "wake")

    def clone(self) -> str:
        """Make a second one of it."""
        return self._office.steering.order(self.key, "clone")

    def send(self, body: bytes | str) -> str:
        """Send it a message."""
        return self._office.letters.send_from_station(self.key, body.encode() if isinstance(body, str) else body)
