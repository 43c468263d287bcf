"""Stations on hosts of their own: they find each other over mDNS, and a cable is cut in the middle of a handoff.

The network is made of namespaces (`hosts`), the stations are the processes of `tests.bench.place`, the agent is the one
of the crash tests: it checks its memory at each stop, and reports each step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import define, field

from tests.bench.place import Steered
from tests.crash.stations import HOPS, NAMES, Pair
from tests.netns import hosts
from tests.patience import PATIENCE

WHY_NOT = hosts.missing()
pytestmark = [pytest.mark.sweep, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "it can")]
LIMIT = PATIENCE


def until(what: Callable[[], bool], name: str) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + LIMIT
    while not what():
        assert time.monotonic() < deadline, f"{name}: not within {LIMIT:.0f} s"
        time.sleep(0.02)


@define(eq=False)
class Apart(Pair):
    """Two stations on two hosts; nobody tells them of each other."""

    network: hosts.Network = field(kw_only=True)

    def start(self, *names: str) -> None:
        for name in names:
            options = ["--home", str(self.folder / name), "--hasty", "--patience", "3", "--threads", "2"]
            options += ["--host", "0.0.0.0", "--mdns"]
            self.stations[name] = Steered.start(name, self.owner, *options, within=self.network.within(name))
        for name in names:
            self.stations[name].await_ready()


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    with hosts.network(*NAMES) as network:
        pair = Apart(tmp_path_factory.mktemp("apart"), network=network)
        try:
            pair.start(*NAMES)
            until(lambda: pair.ask("alpha", "peers") == ["beta"] and pair.ask("beta", "peers") == ["alpha"], "mDNS")
            yield pair
        finally:
            pair.end()


def test_hosts_are_apart_when_cut(apart: Apart) -> None:
    assert apart.network.reaches("alpha", "beta")
    apart.network.cut("beta")
    assert not apart.network.reaches("alpha", "beta")
    apart.network.heal("beta")
    until(lambda: apart.network.reaches("beta", "alpha"), "healing")


def test_an_agent_travels_between_stations_that_found_each_other(apart: Apart) -> None:
    assert "10.213.0." in apart.stations["beta"].url
    apart.case([])  # raises `Broken` unless there is one agent, whole, and each step once


@pytest.mark.parametrize(
    ("station", "place", "alive"),
    [
        ("alpha", "OFFER.before-send", {"alpha"}),  # the offer is lost: the agent stays
        ("beta", "OFFER.answered", {"alpha"}),  # the receipt is lost: nothing was decided, the agent stays
        ("alpha", "COMMIT.before-send", set()),  # the commit is lost: decided, and held until it comes
        # It came: only the confirmation is lost. The agent may already be on its way back, and held there.
        ("beta", "COMMIT.received", None),
        ("beta", "COMMIT.answered", None),
    ],
)
def test_a_partition_in_the_middle_of_a_handoff(
    apart: Apart, tmp_path: Path, station: str, place: str, alive: set[str] | None
) -> None:
    gate, source = tmp_path / "gate", apart.stations["alpha"]
    apart.stations[station].ask("arm", place=place, gate=str(gate))
    with ThreadPoolExecutor(1) as aside:  # a station that stands at the gate answers nobody
        launched = aside.submit(apart.launch)
        until(lambda: Path(f"{gate}.reached").exists(), f"{place} at {station}")
        apart.network.cut("beta")
        Path(f"{gate}.open").touch()
        agent = launched.result(LIMIT)
    try:
        # Long enough for all that the stations try meanwhile: an offer is given up after 3 s.
        seen = [observe(apart, agent) for _ in range(20) if time.sleep(0.2) is None]
        assert max(len(each) for each in seen) <= 1, "two agents"
        if alive is not None:
            assert seen[-1] == alive, seen
    finally:
        apart.network.heal("beta")
    deadline = time.monotonic() + LIMIT
    until(lambda: apart.settled(agent), "the journey after the healing")
    assert [(name, row[2]) for name, rows in apart.places().items() for row in rows] == [("alpha", HOPS)]
    apart.judge(agent, deadline)
    assert source.ask("stamps")["in_doubt"] == apart.stations["beta"].ask("stamps")["in_doubt"] == 0
    for name in NAMES:
        apart.stations[name].ask("arm", place=None)


def observe(apart: Apart, agent: str) -> set[str]:
    """The stations where the agent lives: it runs or waits there, or its departure can still be given up."""
    return {
        name
        for name, rows in apart.places().items()
        for row in rows
        if row[0] == agent and not apart.stations[name].ask("departed", agent=agent)
    }
