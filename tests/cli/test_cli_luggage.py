"""`--file` and `--package`, as typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from docking.cli.luggage import DataFile, DataFileType
from tests.cli.shell import Shell

AGENT = """
import portcall
import bisect
portcall.go("beta")
with open("/agent/prices.json") as file:
    found = str(bisect.bisect([1, 3], 2)) + file.read()
print(portcall.here(), found)
portcall.report(portcall.here(), found)
"""
LUGGAGE = ["--package", "bisect", "--file", "shop.json=prices.json"]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "shop.json").write_text("{}")
    return Shell(tmp_path)


def test_what_is_launched_has_them_at_another_station(shell: Shell) -> None:
    shell("key", "new", "me")
    with shell.station("alpha") as url, shell.station("beta", "--peer", url):
        while len(shell.json("stations", "--wait", "0.2")) < 2:
            pass
        shell("launch", "agent.py", "--via", "beta", "--from", "alpha", *LUGGAGE)
        while shell.json("where", "agent")["standing"] != "finished":
            pass
        (result,) = shell.json("results", "agent")
        assert (result["station"], result["key"], result["value"]) == ("beta", "beta", "1{}")


def test_an_image_keeps_them(shell: Shell) -> None:
    shell("pack", "agent.py", *LUGGAGE)
    assert shell("run", "agent.agent").startswith("beta 1{}\n")
    files = [file["path"] for file in shell.json("inspect", "agent.agent")["files"]]
    assert files == ["/agent/agent.py", "/agent/prices.json", "/lib/bisect.py", "/lib/portcall.py"]
    assert "                  /agent/prices.json, 2 B\n" in shell("inspect", "agent.agent")
    assert "packed already" in shell("run", "agent.agent", *LUGGAGE, code=1)


@pytest.mark.parametrize("name", ["pack", "run", "launch"])
def test_mistakes(shell: Shell, name: str) -> None:
    (shell.folder / "other.json").write_text("{}")
    assert "agent.py, line 3: MicroPython has no module bisect" in shell(name, "agent.py", code=1)
    assert "there is no file nowhere.json" in shell(name, "agent.py", "--file", "nowhere.json", code=1)
    assert "two files are called x" in shell(
        name, "agent.py", "--file", "shop.json=x", "--file", "other.json=x", code=2
    )
    assert "build of CPython cannot be read: py.wasm" in shell(name, "agent.py", "--python", "py.wasm", code=1)
    assert "neither HOST nor HOST=GUEST" in shell(name, "agent.py", "--file", "shop.json=", code=2)


def test_an_image_is_not_written_over_what_goes_along(shell: Shell) -> None:
    assert "goes along: write to another file" in shell("pack", "agent.py", *LUGGAGE, "-o", "shop.json", code=1)
    assert (shell.folder / "shop.json").read_text() == "{}"


def test_how_a_file_is_written() -> None:
    kind = DataFileType()
    assert kind.convert("a/prices.json", None, None) == DataFile(Path("a/prices.json"), "prices.json")
    assert kind.convert("a=b/prices.json=/data/x", None, None) == DataFile(Path("a=b/prices.json"), "/data/x")
