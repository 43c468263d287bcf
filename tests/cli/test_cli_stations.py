"""The commands about stations and agents, as typed: two stations as processes, and everything asked of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.shell import Shell, stations
from tests.patience import PATIENCE
from tests.station.harbour import program

PORTCALL = [sys.executable, "-m", "docking.cli"]

AGENT = """
import portcall
portcall.go("beta")
print("at", portcall.here())
portcall.report("place", portcall.here())
print("heard", portcall.recv().decode(), "from", portcall.sender())
portcall.go("home")
print("home again")
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    # Short: the path of a Unix socket has a place of 100 bytes.
    return Shell(tmp_path)


def test_a_journey_by_commands(shell: Shell) -> None:
    (shell.folder / "agent.py").write_text(AGENT)
    shell("key", "new", "me")
    with shell.station("alpha") as url, shell.station("beta", "--peer", url):
        seen = shell.json("stations", "--wait", "1")
        while {row["name"] for row in seen} != {"alpha", "beta"}:
            seen = shell.json("stations", "--wait", "0.2")
        assert all(row["proven"] for row in seen)
        assert "agent has begun at alpha" in shell("launch", "agent.py", "--via", "beta", "--from", "alpha")
        while not (where := shell("where", "agent")).startswith("beta  (waiting)"):
            assert where
        (row,) = shell.json("agents")["agents"]
        assert (row["label"], row["station"], row["standing"], row["text"]) == ("agent", "beta", "waiting", "recv")
        agent = row["agent"]
        assert "delivered" in shell("send", agent[:10], "hello")
        while shell.json("where", "agent")["standing"] != "finished":
            pass
        text = shell("trail", "agent", "--verify", "-o", "trip.capsule")
        assert [line.split()[:2] for line in text.splitlines()[1:4]] == [["0", "alpha"], ["1", "beta"], ["2", "alpha"]]
        assert text.count("holds") == 6
        assert shell.json("results", "agent")[0] | {"time": 0} == {
            "visit": 1,
            "station": "beta",
            "time": 0,
            "key": "place",
            "value": "beta",
            "hex": "62657461",
        }
        said = [row["text"] for row in shell.json("logs", agent)]
        assert said == ["at beta", "heard hello from beta", "home again"]
        followed = shell("logs", agent, "--follow", timeout=PATIENCE).splitlines()  # ends, since the journey is over
        assert [line.split(maxsplit=2)[2] for line in followed] == said
    assert "holds" in shell("verify", "trip.capsule")


def test_two_agents_of_one_name(shell: Shell) -> None:
    """Also where another station has seen only one of them."""
    (shell.folder / "nap.py").write_text(
        'import portcall\nportcall.go("beta")\nprint("been at beta")\nportcall.go("home")\nportcall.recv()\n'
    )
    with shell.station("alpha") as url, shell.station("beta", "--peer", url):
        while not all(row["proven"] for row in shell.json("stations")) or len(shell.json("stations")) < 2:
            pass
        agent = json.loads(shell("launch", "nap.py", "--via", "beta", "--from", "alpha", "--json"))["agent"]
        while (row := shell.json("where", "nap"))["standing"] != "waiting" or row["station"] != "alpha":
            pass
        assert shell.json("logs", "nap")[0]["text"] == "been at beta"
        made = shell("clone", "nap")
        listed = {row["agent"][:12] for row in shell.json("agents")["agents"]} - {agent[:12]}
        assert made.startswith(f"clone {agent[:12]}: done, as ")
        assert made.split()[-1] in listed
        assert shell.json("logs", "nap")[0]["text"] == "been at beta"  # the clone is called nap.1
        again = json.loads(shell("launch", "nap.py", "--via", "beta", "--from", "alpha", "--json"))["agent"]
        while (row := shell.json("where", again[:12]))["standing"] != "waiting" or row["station"] != "alpha":
            pass
        for command in ("retract", "logs", "results"):
            said = shell(command, "nap", code=1)
            assert "2 agents are called 'nap': name the one you mean by its id" in said
            assert agent[:12] in said
        assert shell.json("logs", agent[:12])[0]["text"] == "been at beta"
        shell("dispose", agent[:12])


def test_the_same_script_again(shell: Shell) -> None:
    """As somebody does who writes it: the name means the one that travels, else the one that ended last."""
    script = shell.folder / "trip.py"
    with shell.station("alpha"):
        for number in range(3):
            script.write_text(f"import portcall\nprint('try', {number})\nportcall.report('try', {number})\n")
            shell("launch", "trip.py")
            shell("logs", "trip", "--follow")
            assert [row["text"] for row in shell.json("logs", "trip")] == [f"try {number}"]
            assert shell.json("results", "trip")[0]["value"] == str(number)
        script.write_text("import portcall\nprint('waits')\nportcall.recv()\n")
        first = shell.json("launch", "trip.py")["agent"]
        shell("launch", "trip.py")
        assert "2 agents are called 'trip'" in shell("logs", "trip", code=1)
        shell("dispose", first)
        while shell.json("where", first)["standing"] != "disposed":
            pass
        assert "done" in shell("dispose", "trip")


def test_what_an_agent_is_doing(shell: Shell) -> None:
    script = "import portcall\ndef count(start):\n    total = start\n    while True:\n        total += 1\ncount(7)\n"
    (shell.folder / "loop.py").write_text(script)
    with shell.station("alpha"):
        agent = json.loads(shell("launch", "loop.py", "--json"))["agent"]
        found = shell.json("agents", "--stack", "loop")
        while found["stack"]["frames"][0]["function"] != "count" or found["stack"]["note"]:
            found = shell.json("agents", "--stack", "loop")
        assert (found["agent"], found["station"], found["standing"]) == (agent, "alpha", "ready")
        count, module = found["stack"]["frames"]
        assert count["file"] == module["file"] == "/agent/loop.py"
        assert count["line"] in (4, 5)
        assert [variable["name"] for variable in count["variables"]] == ["start", "total"]
        assert module["line"] == 6
        text = shell("agents", "--stack", "loop")
        assert text.startswith(
            f"{agent[:12]} at alpha: ready\n\nPython stack, innermost first (2 frames)\n  0  count at "
        )
        assert "\n       start  7\n" in text
        assert "done" in shell("dispose", "loop")
        while shell.json("where", agent)["standing"] != "disposed":
            pass
        assert "journey is over (disposed)" in shell("agents", "--stack", agent, code=1)


def test_orders_by_commands(shell: Shell) -> None:
    (shell.folder / "loop.py").write_text("n = 0\nwhile True:\n    n += 1\n")
    with shell.station("alpha"):
        long = shell.folder / ("\u00f6" * 40 + "\n.py")
        long.write_text("")
        assert json.loads(shell("launch", long.name, "--json"))["label"] == "\u00f6" * 32
        assert json.loads(shell("launch", long.name, "--label", "a\nb", "--json"))["label"] == "a?b"
        agent = json.loads(shell("launch", "loop.py", "--json", "--", "--an-argument"))["agent"]
        assert "done" in shell("sleep", agent)
        while shell.json("where", agent)["standing"] != "asleep":
            pass
        assert "done" in shell("wake", agent)
        assert "done" in shell("dispose", agent)
        while shell.json("where", agent)["standing"] != "disposed":
            pass
        assert "journey is over" in shell("retract", agent, code=1)
        assert "nobody takes the message: the agent is disposed" in shell("send", agent, "hello", code=1)
    with shell.station("alpha"):
        assert shell.json("where", agent)["standing"] == "disposed"


def test_what_newcomers_get_wrong(shell: Shell) -> None:
    (shell.folder / "agent.py").write_text(AGENT)
    assert "portcall station --name NAME --home DIR" in shell("agents", code=1)
    assert "portcall station --name alpha" in shell("where", "x", "--station", "alpha", code=1)
    with shell.station("alpha"):
        assert "no station 'beta' is known here" in shell("launch", "agent.py", "--via", "beta", code=1)
        assert "no agent 'agent'" in shell("trail", "agent", code=1)
        assert "portcall key new you" in shell("launch", "agent.py", "--owner", "you", code=1)
        assert "cpu: write a number" in shell("launch", "agent.py", "--permit", "cpu=lots", code=1)
        with shell.station("gamma"):
            assert "several stations run here" in shell("launch", "agent.py", code=1)
    again = shell("station", "--name", "Alpha!", "--home", "x", code=1)
    assert "is not a name" in again


def test_a_new_owner_is_let_in_by_a_policy(shell: Shell) -> None:
    (shell.folder / "agent.py").write_text("print('hello')\n")
    policy = shell.folder / "policy.toml"
    policy.write_text("[limits]\nmemory = '64MiB'\n")
    with shell.station("alpha", "--policy", str(policy)):
        assert "owner-unknown" in shell("launch", "agent.py", code=1)
    public = shell.json("key", "show", "me")["public"]
    policy.write_text(f'[[owner]]\nkey = "{public}"\ncapabilities = ["service:*"]\n')
    with shell.station("alpha", "--policy", str(policy)):
        assert "has begun" in shell("launch", "agent.py")


def test_whoever_asks_twice_does_not_wait(shell: Shell) -> None:
    """An agent that cannot be interrupted would be waited for; a second signal ends the station, nothing is lost."""
    (shell.folder / "spin.wat").write_text(
        '(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))'
    )
    shell("key", "new", "me")
    image = shell.folder / "spin.agent"
    shell("pack", str(shell.folder / "spin.wat"), "-o", str(image), "--polls", "none")
    command = [sys.executable, "-m", "docking.cli", "station", "--name", "alpha", "--home", str(shell.folder / "alpha")]
    command += ["--port", "0", "--host", "127.0.0.1", "--no-mdns"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=shell.environment
    ) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("station alpha"):
            assert process.poll() is None
        shell("launch", str(image), "--permit", "cpu=1h")
        while shell.json("agents")["agents"][0]["standing"] != "ready":
            pass
        process.send_signal(signal.SIGTERM)
        while "stopping" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)  # else it would end by itself, with 0
        assert process.wait(PATIENCE) == -signal.SIGTERM
    with shell.station("alpha"):
        assert [row["label"] for row in shell.json("agents")["agents"]] == ["spin"]


def test_a_peer_that_does_not_answer_is_told_until_it_does(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell("key", "new", "me")
    with shell.station("alpha", "--peer", "http://127.0.0.1:1"):
        while "--peer http://127.0.0.1:1: " not in (said := shell("stations")):
            time.sleep(0.1)
        assert "no other station was seen" in said
        assert "It is tried again" in said
        (row,) = [row for row in shell.json("stations") if "refused" in row]
        assert row["name"] == "http://127.0.0.1:1"
    with shell.station("beta") as url, shell.station("gamma", "--peer", url):
        while "gamma" not in shell("stations"):
            time.sleep(0.1)
        assert "--peer" not in shell("stations")


def test_logs_of_an_agent_that_has_said_nothing(shell: Shell) -> None:
    (shell.folder / "agent.py").write_text("import portcall\nportcall.recv()\n")
    shell("key", "new", "me")
    with shell.station("alpha") as url, shell.station("beta", "--peer", url):
        for home in ("alpha", "beta"):
            shell("launch", "agent.py", "--from", home, "--label", f"quiet-{home}")
            assert shell("logs", f"quiet-{home}") == ""
        assert "no agent 'nobody' is known" in shell("logs", "nobody", code=1)


def said(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PORTCALL, *words], capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_two_stations_of_one_name_are_told_apart_by_their_homes(place: Path) -> None:
    with stations(place, "twin", "twin"):
        (place / "a.wat").write_text(program(""))
        answer = said("launch", str(place / "a.wat"), "--from", "twin")
        assert answer.returncode == 1
        homes = f"{place / '0'}, {place / '1'}"
        assert "several stations called twin run here: name one by its home" in answer.stderr
        assert homes in answer.stderr or ", ".join(reversed(homes.split(", "))) in answer.stderr
        assert said("agents", "--station", str(place / "1")).returncode == 0


def test_results_that_are_bytes_can_be_read(place: Path) -> None:
    (place / "ten.wat").write_text(program("(call $tell (i32.const 110) (i32.const 10))"))
    assert said("key", "new", "me").returncode == 0
    with stations(place, "alpha"):
        assert said("launch", str(place / "ten.wat"), "--owner", "me").returncode == 0
        while (results := json.loads(said("results", "ten", "--json").stdout)) == []:
            pass
        assert results[0]["hex"] == "0a000000"
        assert said("results", "ten").stdout.splitlines()[1].split() == ["0", "alpha", "n", r"\n\x00\x00\x00"]
