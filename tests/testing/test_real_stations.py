"""`docking.testing.Stations`: real stations for tests of agents."""

from __future__ import annotations

from pathlib import Path

import pytest

import docking
from docking.errors import AgentEnded, StationError
from docking.testing import Stations
from tests.patience import PATIENCE
from tests.station.harbour import packed, program
from tests.testing.test_play import STOCK, script


def test_a_journey(tmp_path: Path) -> None:
    script(tmp_path, STOCK)
    with Stations(tmp_path) as stations:
        alpha, beta = stations("alpha", "beta", services={"stock.count@beta": "12"})
        assert (alpha.name, beta.name) == ("alpha", "beta")
        alpha.offer("stock.count", lambda request, visitor: str(visitor.hop))
        report = stations.run("script.py", via="beta,alpha", timeout=PATIENCE)
        assert [(result.key, result.text, result.station) for result in report.results] == [("total", "14", "alpha")]
        assert [stay.station for stay in report.trail] == ["alpha", "beta", "alpha"]
        assert stations.run("script.py", at="beta", via=["alpha"], timeout=PATIENCE).trail[0].station == "beta"


def test_a_station_that_is_down_and_comes_back(tmp_path: Path) -> None:
    script(tmp_path, STOCK)
    with Stations(tmp_path) as stations:
        stations("alpha", "beta", services={"stock.count": "1"})
        stations.stop("beta")
        launched = stations.launch("script.py", via="beta")
        launched.wait(PATIENCE)
        assert launched.logs() == [
            "go('next') was refused: " + launched.logs()[0].partition("refused: ")[2],
            "error 23",
        ]
        stations.start("beta")
        assert [result.text for result in stations.run("script.py", via="beta", timeout=PATIENCE).results] == ["1"]
        with pytest.raises(KeyError):
            stations["gamma"]


def test_agents_that_are_kept(tmp_path: Path) -> None:
    sleeper = packed(program("(drop (call $go (s 0))) (drop (call $sleep (i32.const 1000000)))", "beta"))
    with Stations() as stations:
        stations("alpha", "beta", home=tmp_path)
        agent = stations.launch(sleeper, via="beta")
        while agent.where() != "beta":
            pass
        stations.stop("beta")
        beta = stations.start("beta")
        assert beta.agent(agent.id).where() == "beta"
    assert (tmp_path / "beta" / "station.db").exists()


def test_what_goes_wrong_is_said(tmp_path: Path) -> None:
    with Stations() as stations:
        stations("alpha")
        with pytest.raises(StationError, match="there is a station 'alpha' already"):
            stations("alpha")
        with pytest.raises(AgentEnded, match="unreachable"):
            stations.run(packed('(module (func (export "_start") unreachable))'), timeout=PATIENCE)
        with pytest.raises(StationError, match=r"has not ended in 0 s: it is at alpha"):
            stations.run(packed(program("(drop (call $sleep (i32.const 1000000)))")), timeout=0)


def test_options_are_those_of_stations() -> None:
    with Stations() as stations:
        (alpha,) = stations("alpha", policy=docking.Policy())
        with pytest.raises(Exception, match="owner"):
            stations.launch(packed(program("")), at="alpha")
        assert alpha.station.policy.owners == ()
