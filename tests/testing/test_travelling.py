"""Stations that are played and come back, and forks there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from docking import SecretKey
from docking.itinerary import Itinerary, Roam, Seq, Stop, Way, written
from docking.testing import play
from tests.patience import PATIENCE


def test_a_played_station_that_comes_back_is_waited_for(tmp_path: Path) -> None:
    source = tmp_path / "patient.py"
    source.write_text(
        "import portcall\nportcall.go('beta', wait=60)\nprint(portcall.here())\n"
        "try:\n    portcall.go('gamma', wait=5)\nexcept OSError as error:\n    print(error.errno)\n"
    )
    trial = play(source, via="beta,gamma", down={"beta": 30.0, "gamma": None})
    assert (trial.output, trial.visited) == ("beta\n23\n", ("home", "beta"))
    assert "the agent waits for it" in trial.errors


def test_forks_are_played(tmp_path: Path) -> None:
    source = tmp_path / "forks.py"
    source.write_text(
        "import portcall\nnumber, ids = portcall.fork(3)\nprint(number, len(ids))\n"
        "try:\n    portcall.fork(100)\nexcept OSError as error:\n    print(error.errno)\n"
    )
    trial = play(source)
    assert [trial.output, *(each.output for each in trial.clones)] == [
        "0 3\n28\n",
        "1 0\n28\n",
        "2 0\n28\n",
        "3 0\n28\n",
    ]


def test_a_tour_calls_its_task_at_each_stop_that_is_there(tmp_path: Path) -> None:
    source = tmp_path / "tour.py"
    source.write_text(
        "import portcall\nseen = []\n"
        "portcall.tour({'': lambda: seen.append(portcall.here()), 'delta': lambda: print(seen)})\n"
    )
    trial = play(source, via="alpha,beta?,(gamma|delta)*2", down=["beta", "gamma"])
    assert trial.output == "['alpha']\n"
    assert trial.visited == ("home", "alpha", "delta")


def test_parts_for_free_roaming_are_ways_too() -> None:
    key = SecretKey(bytes(32)).public
    roaming = Itinerary(Seq((Stop(key), Roam(5, certified_by=key))))
    assert written(roaming, lambda _: "alpha", lambda _: "K") == "alpha,any@K*5?"
    assert Itinerary(Roam()) == Way.read("roam").draft


def test_a_parent_waits_for_what_its_clones_have_found(tmp_path: Path) -> None:
    source = tmp_path / "search.py"
    source.write_text(
        "import portcall\nparent = portcall.me()\nids = portcall.spread(['alpha', 'beta', 'gamma'])\n"
        "if ids is None:\n    portcall.send(parent, 'found at ' + portcall.here())\n    raise SystemExit\n"
        "portcall.send(parent, 'to itself')\n"
        "print(sorted(portcall.join(ids).values()))\n"
        "print(portcall.recv(), portcall.sender() == parent)\n"
        "print(portcall.join(ids, 0.1))\n"
    )
    trial = play(source)
    assert trial.output == ("[b'found at alpha', b'found at beta', b'found at gamma']\nb'to itself' True\n{}\n"), (
        trial.errors
    )


@pytest.mark.parametrize("name", ["salesman", "grep"])
def test_the_examples_by_their_own_tests(name: str) -> None:
    folder = Path(__file__).resolve().parents[2] / "examples" / name
    assert len((folder / f"{name}.py").read_text().splitlines()) < 100
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout
