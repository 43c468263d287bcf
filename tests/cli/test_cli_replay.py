"""`portcall replay`, as typed: from stations, from a file, step by step."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.cli.shell import Shell, typed

AGENT = """
import portcall
for place in ["beta", "home"]:
    portcall.go(place)
    print("at", place)
    portcall.report("place", place)
"""


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, Path]:
    """The file of a journey, written by the command."""
    shell = Shell(tmp_path_factory.mktemp("s"))
    (shell.folder / "agent.py").write_text(AGENT)
    shell("key", "new", "me")
    with shell.station("alpha", "--record", "8") as url, shell.station("beta", "--record", "8", "--peer", url):
        while {row["name"] for row in shell.json("stations", "--wait", "0.2")} != {"alpha", "beta"}:
            pass
        shell("launch", "agent.py", "--via", "beta", "--from", "alpha")
        shell("logs", "agent", "--follow")
        said = shell("replay", "agent", "--list")
        assert [line.split(",")[0] for line in said.splitlines() if "visit" in line] == ["alpha", "beta", "alpha"]
        assert "  go('beta')" in said
        assert "report('place', <4 bytes>)" in said
        checked = shell("replay", "agent", "--check")
        assert checked.count("ok  what it did follows from what it was told") == 3
        shell("replay", "agent", "--export", "trip.journey")
        assert "no key" in shell("replay", "agent", "--owner", "nobody", code=1)
    path = shell.folder / "trip.journey"
    assert oct(path.stat().st_mode)[-3:] == "600"
    return shell, path


def test_without_stations(journey: tuple[Shell, Path]) -> None:
    shell, path = journey
    whole = shell.json("replay", str(path))
    names = [step["name"] for step in whole["steps"]]
    assert names[0] == "launched"
    assert names[-1] == "finished"
    assert [stay["missing"] for stay in whole["stays"]] == ["", "", ""]
    index = next(step["index"] for step in whole["steps"] if "at beta" in step["args"])
    shown = shell.json("replay", str(path), "--step", str(index))
    (frame,) = shown["state"]["stack"]["frames"]
    assert {"name": "place", "value": "'beta'"} in frame["variables"]
    assert shown["changes"]["memory_bytes"] > 0
    assert len(shell.json("replay", str(path), "--clocks")["steps"]) > len(names)
    assert [row["wrong"] for row in shell.json("replay", str(path), "--check")] == ["", "", ""]
    assert "there is no step 5000" in shell("replay", str(path), "--step", "5000", code=1)
    assert "launched at alpha" in shell("replay", str(path))  # no terminal: a list


def test_in_a_terminal(journey: tuple[Shell, Path]) -> None:
    shell, path = journey
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        typed("replay", path), stdin=theirs, stdout=theirs, stderr=theirs, env=shell.environment, cwd=shell.folder
    )
    os.close(theirs)
    os.write(ours, b"n\np\nlast\ngoto 2\nhop 1\ngoto 9999\nlist\nwhat\nfirst\nq\n")
    said = b""
    try:
        while piece := os.read(ours, 4096):
            said += piece
    except OSError:  # its end has been closed
        pass
    assert process.wait(60) == 0
    os.close(ours)
    text = said.decode()
    assert text.count("launched at alpha") >= 3
    assert "finished()" in text
    assert "arrived at beta" in text
    assert "n next, p previous" in text


def test_files_that_are_none(journey: tuple[Shell, Path]) -> None:
    shell, path = journey
    for data in (b"", b"\x00asm", path.read_bytes()[:-7], path.read_bytes()[:200]):
        (shell.folder / "bad").write_bytes(data)
        said = shell("replay", "bad", code=1)
        assert said.startswith("portcall: bad: ")
        assert said.count("\n") == 1
