"""Folders and files with any name: not UTF-8, what looks like a URI or an option, blanks, line ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.shell import Shell, typed
from tests.programs import ROOT

pytestmark = pytest.mark.sweep

PRINTS = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\\08\\00\\00\\00\\06\\00\\00\\00hello\\0a")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))))"""

SCRIPT = "print('it is here')\n"
AGENT = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\08\\00\\00\\00\\0b\\00\\00\\00it is here\\0a") (data (i32.const 32) "ab")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))
    (drop (call $report (i32.const 32) (i32.const 1) (i32.const 33) (i32.const 1)))))"""


@pytest.mark.parametrize("name", [b"caf\xe9", b"file:home", b"-50%41?mode=ro #a\nb"], ids=repr)
def test_a_home_and_all_files_with_an_odd_path(tmp_path: Path, name: bytes) -> None:
    folder = tmp_path / os.fsdecode(name)
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system has no such names")
    shell = Shell(folder)
    shell.environment["PYTHONIOENCODING"] = "utf-8:strict"
    odd = os.fsdecode(name)
    (folder / odd).mkdir()
    script, agent, policy = (folder / f"{odd}.{ending}" for ending in ("py", "wat", "toml"))
    script.write_text(SCRIPT)
    agent.write_text(AGENT)
    assert "it is here" in shell("run", str(script))
    shell.environment["XDG_CACHE_HOME"] = str(folder / "cache")  # empty: an interpreter would be compiled anew
    shell("key", "new", "me")
    shown = shell.json("key", "show", "me")
    public = shown["public"]
    assert Path(shown["file"]).is_file()
    policy.write_text(f'[[owner]]\nname = "me"\nkey = "{public}"\n')
    assert "it is here" in shell("run", str(agent), "--dir", f"{folder / odd}::/x")
    shell("pack", str(agent), "-o", str(folder / f"{odd}.agent"))
    assert shell("inspect", str(folder / f"{odd}.agent"))
    with shell.station("alpha", "--policy", str(policy)):
        shell("launch", str(folder / f"{odd}.agent"), "--from", str(folder / "alpha"))
        while shell.json("agents")["agents"][0]["standing"] != "finished":
            pass
        (row,) = shell.json("agents")["agents"]
        shell("trail", row["agent"], "-o", str(folder / f"{odd}.capsule"))
        assert shell.json("results", row["agent"])[0]["value"] == "b"
    assert "holds" in shell("verify", str(folder / f"{odd}.capsule"))


@pytest.mark.parametrize("name", [b"caf\xe9", b"file:home"], ids=repr)
def test_what_is_said_of_an_odd_path(tmp_path: Path, name: bytes) -> None:
    shell = Shell(tmp_path)
    shell.environment["PYTHONIOENCODING"] = "utf-8:strict"
    odd = os.fsdecode(name)
    for words in (["run", odd], ["pack", odd], ["verify", odd], ["inspect", odd], ["launch", odd]):
        said = shell(*words, code=1)
        assert "Traceback" not in said
        assert said.startswith("portcall: ")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="file names of any bytes")
def test_names_and_arguments_of_any_bytes(tmp_path: Path) -> None:
    source = os.path.join(os.fsencode(tmp_path), b"odd \xff.wat")
    Path(os.fsdecode(source)).write_text(PRINTS)
    for words in (
        ["run", source, "--env", b"A=\xff", "--", b"\xfe"],
        ["pack", source, "-o", tmp_path / "odd.agent"],
        ["inspect", tmp_path / "odd.agent"],
    ):
        done = subprocess.run(typed(*words), capture_output=True, cwd=ROOT, check=False)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr
