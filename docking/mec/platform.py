"""What the application mobility service needs of the place where application instances run: `Platform`.

An application instance is an agent, a MEC platform a station; `docking.mec.stations` is the real one. Narrow on
purpose: the service neither knows how agents move nor what they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Protocol

from attrs import field, frozen

from agents.brief import brief
from docking.errors import DockingError


class MoveFailed(DockingError):
    """A move was cancelled or refused: the instance is where it was, and goes on there."""


@frozen
class Instance:
    """An application instance that is here. `descriptor`: identifies the application that it is an instance of."""

    id: str
    label: str
    descriptor: str


@frozen
class Neighbour:
    """A platform that instances may move to. `id`: its key as text; `endpoints`: host and port, the best first."""

    id: str
    name: str
    endpoints: tuple[tuple[str, int], ...] = field(repr=brief)


@frozen
class Question:
    """What an instance with level 2 is asked. `move`: identifies the move; `to`: the name of the platform."""

    move: str
    to: str


@frozen
class Moved:
    """What a move took. `downtime_ms`: how long the instance stood still."""

    rounds: int
    sent_bytes: int
    downtime_ms: float
    total_s: float


class Platform(Protocol):
    """Where application instances run. Instances and platforms are named by their ids."""

    @property
    def name(self) -> str:
        """What the platform is called."""

    def instances(self, names: Collection[str]) -> Mapping[str, Instance]:
        """The instances that are here, of those with these ids or labels: by the name that was asked for."""

    def neighbours(self) -> Sequence[Neighbour]:
        """The platforms that are known now, without this one, in a steady order."""

    async def ask(self, instance: str, question: Question) -> bool:
        """Ask an instance whether it may be moved; True for yes. May never return: the caller bounds the time."""

    async def move(self, instance: str, to: str) -> Moved:
        """Move an instance to the neighbour with this id. Returns when it belongs there.

        Raises `MoveFailed` if it stays. Cancelled, it gives up a move that can still be given up.
        """

    def changes(self) -> AsyncIterator[None]:
        """Yields when the neighbours or the instances may have changed; ends with the platform."""
