"""A task at each stop, typed at stations that are processes of their own, one of which is killed."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.shell import Shell, typed
from tests.patience import PATIENCE
from tests.station.harbour import program

COUNT = """(global.set $count (i32.add (global.get $count) (i32.const 1)))
    (call $tell_here) (call $tell (i32.const 110) (global.get $count))"""
AGENT = f"""{program("unreachable")[:-1]}
    (func (export "count") {COUNT})
    (func (export "ask") {COUNT} (drop (call $recv (i32.const 300) (i32.const 64) (i32.const -1))) {COUNT}))"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    (tmp_path / "agent.wat").write_text(AGENT)
    made("key", "new", "me")
    return made


@contextlib.contextmanager
def killed(shell: Shell, name: str, *options: str) -> Iterator[str]:
    """A station that is killed at the end of the block; gives its URL."""
    where = ["--home", shell.folder / name, "--port", "0", "--host", "127.0.0.1", "--no-mdns"]
    process = subprocess.Popen(
        typed("station", "--name", name, *where, *options),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=shell.environment,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        yield next(line for line in process.stderr if line.startswith(f"station {name} ")).split()[3].rstrip(",")
    finally:
        process.kill()
        process.wait(PATIENCE)
        process.stderr.close()


def know(shell: Shell, at: str, *names: str) -> None:
    while not set(names) <= {row["name"] for row in shell.json("stations", "--station", at) if row["proven"]}:
        pass


def standing(shell: Shell, at: str, wanted: str) -> None:
    rows: list[str] = []
    while wanted not in rows:
        rows = [row["standing"] for row in shell.json("agents", "--station", at)["agents"] if row["station"] == at]


def told(shell: Shell) -> list[str]:
    return [row["value"] for row in shell.json("results", "agent") if row["key"] == "h"]


def test_tasks_typed_at_stations_one_of_which_is_killed_between_and_during_them(shell: Shell) -> None:
    way = "beta:count,gamma:ask,beta:count"
    with shell.station("alpha") as url:
        with shell.station("gamma", "--peer", url):
            know(shell, "alpha", "gamma")
        with killed(shell, "beta", "--peer", url):
            know(shell, "alpha", "beta", "gamma")
            assert "exports no function 'cuont'" in shell(
                "launch", "agent.wat", "--via", "beta:cuont", "--from", "alpha", code=1
            )
            (shell.folder / "script.py").write_text("def count():\n    pass\n")
            refused = shell("launch", "script.py", "--via", "beta:count", "--from", "alpha", code=1)
            assert refused.startswith("portcall: no-tasks: ")
            assert "portcall.tour(FUNCTION)" in refused
            launched = shell.json("launch", "agent.wat", "--via", way, "--from", "alpha")
            assert launched["way"]["sequence"][0] == {"station": "beta", "task": "count"}
            standing(shell, "beta", "waiting")  # its task is done, and gamma is not there
        with shell.station("beta", "--peer", url) as beta:
            peers = ("--peer", url, "--peer", beta)
            with killed(shell, "gamma", *peers):
                standing(shell, "gamma", "waiting")  # in the middle of its task
            with shell.station("gamma", *peers):
                shell("send", "agent", "go on")
                while shell.json("where", "agent")["standing"] != "finished":
                    pass
        assert told(shell) == ["beta", "gamma", "gamma", "beta"]
        assert shell.json("trail", "agent")["itinerary"] == way
