"""Ways as typed: launched at real stations, shown back, and what is said where one does not lead."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.shell import Shell, typed
from tests.patience import PATIENCE

pytestmark = pytest.mark.sweep

TOUR = """
import sys
import portcall
for place in sys.argv[1:]:
    try:
        portcall.go(place)
        print("at", portcall.here())
    except OSError:
        print("not", place)
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    (tmp_path / "tour.py").write_text(TOUR)
    made("key", "new", "me")
    return made


@contextlib.contextmanager
def three(shell: Shell) -> Iterator[None]:
    """Stations alpha, beta and gamma, each of which knows the others."""
    with contextlib.ExitStack() as stack:
        urls: list[str] = []
        for name in ("alpha", "beta", "gamma"):
            peers = [word for url in urls for word in ("--peer", url)]
            urls.append(stack.enter_context(shell.station(name, *peers)))
        for name in ("alpha", "beta", "gamma"):
            while len([row for row in shell.json("stations", "--station", name) if row["proven"]]) < 2:
                pass
        yield


def printed(shell: Shell, *words: str) -> tuple[list[str], str]:
    """What a tour prints, without what the station adds; and what was said at its launch."""
    done = subprocess.run(
        typed("launch", "tour.py", "--from", "alpha", *words),
        cwd=shell.folder, env=shell.environment, capture_output=True, text=True, check=True, timeout=PATIENCE,
    )  # fmt: skip
    agent = done.stdout.split()[0]
    shell("logs", agent, "--follow", timeout=PATIENCE)
    lines = [row["text"] for row in shell.json("logs", agent)]
    return [line for line in lines if not line.startswith("budget low: hops: ")], done.stderr


def test_ways_at_stations(shell: Shell) -> None:
    with three(shell):
        said, told = printed(shell, "--", "beta")
        assert "without --via it stays at alpha" in told
        assert "--via roam" in told
        assert said[-1] == "not beta"
        assert "does not lead to 'beta' from here: it is alpha, and ends here" in said[0]
        # What it says to type is what helps.
        allow = shlex.split(said[0].partition("portcall launch ")[2])
        said, told = printed(shell, *allow, "--", "beta")
        assert said == ["at beta"]
        assert "without --via" not in told

        way = "gamma,{alpha,beta},(gamma|alpha?)*2"
        said, _ = printed(shell, "--via", way, "--label", "rounds", "--", "beta", "gamma", "beta", "alpha", "gamma")
        assert [line for line in said if not line.startswith("go(")] == [
            "not beta", "at gamma", "at beta", "at alpha", "at gamma"
        ]  # fmt: skip
        (refused,) = [line for line in said if line.startswith("go(")]
        assert f"does not lead to 'beta' from here: it is {way}, and leads to 'gamma'" in refused
        trail = shell.json("trail", "rounds", "-o", "rounds.capsule")
        assert (trail["itinerary"], trail["way"]["sequence"][0]) == (way, {"station": "gamma"})
        assert f"its way: {way}" in shell("trail", "rounds")
        described = shell.json("inspect", "rounds.capsule")
        assert (described["itinerary"], described["way"]) == (way, trail["way"])
        assert f"itinerary  {way}\n" in shell("inspect", "rounds.capsule")

        said, _ = printed(shell, "--via", "roam", "--hops", "2", "--", "beta", "gamma", "beta")
        assert said[:2] == ["at beta", "at gamma"]
        assert "the passport allows 2" in said[2]
        launched = shell.json("launch", "tour.py", "--from", "alpha", "--via", "beta?")
        assert (launched["itinerary"], launched["way"]) == ("beta?", {"optional": {"station": "beta"}})
    verified = json.loads(shell("verify", "rounds.capsule", "--json"))
    assert verified["way"]["sequence"][1].keys() == {"any_order"}
    assert way not in verified["itinerary"]  # offline, stations are known by their keys


def test_a_stop_that_is_certified_by_a_key_of_the_user(shell: Shell) -> None:
    with shell.station("beta"):
        pass
    lines = (shell.folder / "beta" / "station.key").read_text().splitlines()
    public = next(line.removeprefix("public ") for line in lines if line.startswith("public "))
    (shell.folder / "beta" / "certificates").mkdir()
    shell("key", "certify", public, "--by", "me", "-o", "beta/certificates/me")
    with three(shell):
        said, _ = printed(shell, "--via", "any@me,alpha", "--label", "fleet", "--", "gamma", "beta")
        assert [line for line in said if not line.startswith("go(")] == ["not gamma", "at beta"]
        assert shell.json("trail", "fleet")["way"]["sequence"][0] == {"any": True, "certified_by": "me"}
        assert "there is no key 'you'" in shell("launch", "tour.py", "--via", "any@you", code=1)
