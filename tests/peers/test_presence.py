"""Who is there: stations that are quiet are greeted, and those that do not answer are not listed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agents.credentials.keys import PublicKey
from docking.errors import PeerUnreachable
from docking.peers import introductions as module
from docking.peers.directory import Peer, PeerDirectory, Sighting
from docking.peers.introductions import Introductions
from tests.credentials.journeys import public
from tests.station.harbour import run

BETA = public("beta")
URL = "http://10.0.0.2:7707"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks for quiet stations follow each other at once; `Network` says how much time has passed for them."""
    monkeypatch.setattr(module, "WATCH", 0.001)


class Network:
    """A station's peers, and one of them on a wire. `greeted`: how often it was."""

    def __init__(self) -> None:
        self.now, self.greeted, self.answers, self.name = 1_000_000, 0, True, "beta"
        self.told: list[bool] = []
        self.peers = PeerDirectory(public("home"), "home", lambda: self.now, lambda pins: None)
        self.introductions = Introductions(self.peers, changed=self._changed)
        self.introductions.wire = self  # type: ignore[assignment]

    def _changed(self, peer: Peer, here: bool) -> None:
        self.told.append(here)

    async def hello(self, peer: PublicKey, value: Any) -> Any:
        self.greeted += 1
        if not self.answers:
            raise PeerUnreachable("no")
        self.introductions.works(peer, URL)
        return [1, self.name, [URL], []]

    def sight(self) -> None:
        self.introductions.sighted(Sighting("record", self.name, BETA, (URL,)))

    def greets(self) -> None:
        self.introductions.introduced(BETA, [1, "beta", [URL], []])

    @property
    def listed(self) -> bool:
        return bool(self.peers.all())

    async def until(self, wanted: Callable[[], bool], passing: int = 0) -> None:
        """Wait, while `passing` milliseconds pass with each step."""
        while not wanted():
            self.now += passing
            await asyncio.sleep(0.001)


def watched(main: Callable[[Network], Any]) -> Callable[[], None]:
    """A test with a network whose station has met beta, and looks after it."""

    @run
    async def test() -> None:
        network = Network()
        network.sight()
        await network.until(lambda: network.told == [True])
        watching = asyncio.get_running_loop().create_task(network.introductions.watch())
        try:
            await main(network)
        finally:
            watching.cancel()

    test.__name__ = main.__name__
    return test


@watched
async def test_who_answers_stays(network: Network) -> None:
    await network.until(lambda: network.greeted >= 5, passing=5_000)
    assert network.listed
    assert network.told == [True]


@watched
async def test_who_dies_is_gone_after_two_greetings_though_it_is_still_announced(network: Network) -> None:
    before, network.answers = network.greeted, False
    await network.until(lambda: not network.listed, passing=1_000)
    assert network.greeted == before + 2
    assert network.told == [True, False]
    assert network.peers.addresses(BETA) == (URL,)  # for the handoffs that wait for it


@watched
async def test_who_was_gone_is_there_when_it_greets_or_answers(network: Network) -> None:
    network.answers = False
    await network.until(lambda: not network.listed, passing=1_000)
    network.greets()
    assert network.listed
    await network.until(lambda: not network.listed, passing=1_000)
    network.sight()
    assert not network.listed  # anybody can announce it
    network.answers = True
    network.sight()
    await network.until(lambda: network.listed)
    assert network.told == [True, False] * 2 + [True]


@watched
async def test_who_greets_between_two_misses_stays(network: Network) -> None:
    network.answers = False
    for _ in range(3):
        missed = network.greeted + 1
        await network.until(lambda missed=missed: network.greeted == missed, passing=1_000)
        network.greets()
        assert network.listed
    assert network.told == [True]


@watched
async def test_a_clock_that_is_set_back_hides_nobody(network: Network) -> None:
    network.now -= 500_000
    await network.until(lambda: network.greeted >= 3, passing=5_000)
    assert network.listed
    network.now -= 500_000
    network.answers = False
    await network.until(lambda: not network.listed)


@watched
async def test_a_goodbye_is_believed_at_once_and_an_answer_under_way_is_not(network: Network) -> None:
    network.introductions.lost("record")
    network.introductions.works(BETA, URL)
    assert not network.listed
    await network.until(lambda: network.listed, passing=5_000)  # it is there all the same


@pytest.mark.parametrize("again", [True, False])
def test_a_card_that_comes_after_the_goodbye(again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The station has begun again, or the card was under way when it ended."""
    monkeypatch.setattr(module, "PARTING", 0.01)

    @watched
    async def test(network: Network) -> None:
        before, network.answers = network.greeted, again
        network.introductions.lost("record")
        network.greets()
        await network.until(lambda: network.greeted == before + 1)
        await network.until(lambda: network.listed is again)
        assert network.told == ([True, False, True] if again else [True, False, True, False])

    test()


@run
async def test_who_was_announced_and_never_answered_is_not_listed() -> None:
    network = Network()
    network.answers = False
    network.sight()
    watching = asyncio.get_running_loop().create_task(network.introductions.watch())
    assert network.listed
    await network.until(lambda: not network.listed, passing=1_000)
    network.introductions.lost("record")
    assert network.peers.get(BETA) is None
    watching.cancel()


@run
async def test_whose_name_is_not_believed_is_there_all_the_same() -> None:
    network = Network()
    network.peers.met(public("other"), "beta", [])
    network.sight()
    watching = asyncio.get_running_loop().create_task(network.introductions.watch())
    await network.until(lambda: network.greeted >= 5, passing=5_000)
    assert network.peers.get(BETA) in network.peers.all()
    assert "beta" in network.peers.refused
    watching.cancel()
