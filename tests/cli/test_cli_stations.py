"""The commands about stations and agents, as typed: two stations as processes, and everything asked of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

AGENT = """
import portcall
portcall.go("beta")
print("at", portcall.here())
portcall.report("place", portcall.here())
print("heard", portcall.recv().decode(), "from", portcall.sender())
portcall.go("home")
print("home again")
"""


class Shell:
    """A user with a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: os.environ[name] for name in ("PATH", "XDG_CACHE_HOME", "HOME") if name in os.environ}
        cache = {"XDG_CACHE_HOME": kept.get("XDG_CACHE_HOME", str(Path(kept.get("HOME", "/")) / ".cache"))}
        paths = {"PORTCALL_KEYS": str(folder / "keys"), "PORTCALL_RUNNING": str(folder / "running")}
        root = str(Path(__file__).resolve().parents[2])
        self.environment = {**kept, **cache, **paths, "PYTHONPATH": root, "HOME": str(folder)}

    def __call__(self, *words: str, code: int = 0, timeout: float = 60) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "docking.cli", *words],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.folder,
            timeout=timeout,
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))

    @contextlib.contextmanager
    def station(self, name: str, *options: str) -> Iterator[str]:
        """A station while the block runs; gives its URL."""
        command = [sys.executable, "-m", "docking.cli", "station", "--name", name, "--home", str(self.folder / name)]
        command += ["--port", "0", "--host", "127.0.0.1", "--no-mdns", *options]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=self.environment
        )
        assert process.stderr is not None
        try:
            said = ""
            for line in process.stderr:
                said += line
                if line.startswith("station "):
                    break
            assert said.splitlines()[-1].startswith(f"station {name} at http"), said
            yield said.splitlines()[-1].split()[3].rstrip(",")
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
            assert process.wait(30) == 0, rest
            process.stderr.close()
            assert "go on when this station starts again" in rest


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
        followed = shell("logs", agent, "--follow", timeout=30).splitlines()  # ends, since the journey is over
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
        shell("clone", "nap")
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
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == -signal.SIGTERM
        assert time.monotonic() - began < 3
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
