"""top-up and renew, typed at stations that are processes of their own; and one of them is killed in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.shell import Shell

THINKER = """
import portcall
total = 0
for number in range(2_000_000):
    total += number
portcall.report("place", portcall.here())
"""
TRAVELLER = """
import portcall
portcall.go("beta")
while portcall.recv() != b"go":
    pass
for place in ["alpha", "beta", "alpha"]:
    portcall.go(place)
portcall.report("place", portcall.here())
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    (made.folder / "thinker.py").write_text(THINKER)
    (made.folder / "traveller.py").write_text(TRAVELLER)
    made("key", "new", "me")
    return made


def until(shell: Shell, agent: str, *standings: str) -> None:
    while shell.json("where", agent)["standing"] not in standings:
        pass


def test_an_agent_that_stopped_for_its_budget_is_topped_up_after_a_restart(shell: Shell) -> None:
    (shell.folder / "first.py").write_text("import portcall\n")
    with shell.station("alpha"):
        shell("launch", "first.py")  # its code is that of the next one, which has no time to compile it
        until(shell, "first", "finished")
        shell("launch", "thinker.py", "--permit", "cpu=60ms")
        until(shell, "thinker", "stopped")
        (row,) = [each for each in shell.json("agents")["agents"] if each["label"] == "thinker"]
        assert "portcall top-up" in row["text"]
        assert "say of what" in shell("top-up", "thinker", code=2)
        assert "write a number" in shell("top-up", "thinker", "--cpu", "much", code=1)
    with shell.station("alpha"):
        assert shell.json("where", "thinker")["standing"] == "stopped"
        shell("key", "new", "other")
        assert "signed by the agent's owner" in shell("top-up", "thinker", "--cpu", "1s", "--owner", "other", code=1)
        done = shell.json("top-up", "thinker", "--cpu", "28s")
        assert (done["agent"], done["label"], done["done"]) == (row["agent"], "thinker", "obeyed")
        until(shell, "thinker", "finished")
        (result,) = shell.json("results", "thinker", "--owner", "me")
        assert result["value"] == "alpha"
        assert len(shell.json("trail", "thinker")) > 0


def test_hops_and_time_follow_an_agent_to_another_station(shell: Shell) -> None:
    with shell.station("alpha") as url, shell.station("beta", "--peer", url):
        while len(shell.json("stations", "--wait", "0.2")) < 2:
            pass
        way = "beta,alpha,beta,alpha"
        shell("launch", "traveller.py", "--via", way, "--hops", "1", "--hours", "1", "--from", "alpha")
        while not shell("where", "traveller").startswith("beta  (waiting)"):
            pass
        # Beta is of this user too: asked directly, or by way of the home.
        assert "done" in shell("top-up", "traveller", "--hops", "2")
        assert "sent after it" in shell("top-up", "traveller", "--hops", "1", "--station", "alpha")
        assert "say for how long" in shell("renew", "traveller", code=2)
        assert "sent after it" in shell("renew", "traveller", "--hours", "48", "--station", "alpha")
        log = ""
        while "4 hops" not in log and ("2 hops" not in log or "1 hops" not in log or "lease" not in log):
            log = shell("logs", "traveller", "--station", "beta")
        shell("send", "traveller", "go")
        until(shell, "traveller", "finished")
        trail = shell.json("trail", "traveller")
        visits = trail["visits"] if isinstance(trail, dict) else trail
        assert len(visits) == 5
