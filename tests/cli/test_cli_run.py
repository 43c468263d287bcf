"""`portcall pack`, `run` and `inspect`, together, as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from docking.cli.main import portcall
from tests.programs import ROOT

HELLO = ROOT / "examples" / "hello" / "hello.wat"
GREETINGS = "".join(f"info: hello from {place}\n" for place in ("here", "alpha", "beta", "gamma"))
COUNT = """
(module
  (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (func $turn (param $n i32) (drop (call $sleep (local.get $n))))
  (func (export "run") (param $times i32) (result i32)
    (local $n i32)
    (loop $again
      (call $turn (local.get $n))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (local.get $times))))
    (i32.mul (local.get $n) (i32.const 7))))
"""


def invoke(*words: object, code: int = 0, **options: Any) -> Result:
    """A command in this process; its exit code is `code`."""
    result = CliRunner().invoke(portcall, [str(word) for word in words], **options)
    shown = f"{words}\n{result.output}{result.exception!r}"
    assert result.exit_code == code, shown
    return result


def command(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    line = [sys.executable, "-m", "docking.cli", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, **options)


@pytest.fixture
def count(tmp_path: Path) -> Path:
    source = tmp_path / "count.wat"
    source.write_text(COUNT)
    return source


def test_an_agent_goes_from_place_to_place() -> None:
    assert invoke("run", HELLO).stderr == GREETINGS


@pytest.mark.parametrize("every", [1, 2, 3])
def test_hopping_changes_nothing(every: int) -> None:
    lines = invoke("run", "--hop-every", every, HELLO).stderr.splitlines(keepends=True)
    assert "".join(lines[:-1]) == GREETINGS
    assert lines[-1].startswith(f"portcall: {9 // every} hops, snapshots of ")


def test_no_more_hops_than_asked_for() -> None:
    assert "portcall: 2 hops, " in invoke("run", "--hop-every", 1, "--hops", 2, HELLO).stderr


def test_numbers_in_and_out(count: Path) -> None:
    assert invoke("run", count, 3).stdout == "21\n"
    assert invoke("run", "--hop-every", 1, count, 3).stdout == "21\n"


@pytest.mark.parametrize("words", [["x"], [], ["1", "2"], ["1.5"]])
def test_wrong_arguments_are_wrong_use(count: Path, words: list[str]) -> None:
    assert "Usage: " in invoke("run", count, *words, code=2).stderr


def test_pack_then_run_the_image(count: Path, tmp_path: Path) -> None:
    image = tmp_path / "other.name"
    printed = invoke("pack", count, "-o", image).stdout
    described = json.loads(invoke("inspect", image, "--json").stdout)
    assert printed.startswith(f"{image}: ")
    assert described["kind"] == "image"
    assert described["name"] == "count"
    assert described["entry"] == "run"
    assert described["imports"] == ["portcall.sleep"]
    assert described["suspension"] == {"functions": 2, "calls": 2, "polls": 1}
    assert invoke("run", image, 2).stdout == "14\n"


def test_the_same_source_gives_the_same_image(count: Path, tmp_path: Path) -> None:
    invoke("pack", count)
    kept = count.with_suffix(".agent").read_bytes()
    run = command("pack", count, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "another cache")})
    assert run.returncode == 0, run.stderr
    assert count.with_suffix(".agent").read_bytes() == kept


def test_a_frozen_stack_can_be_read_and_goes_on(count: Path, tmp_path: Path) -> None:
    frozen = tmp_path / "frozen"
    # In each turn: the poll, the call before it is made, its wait. So the sixth is the second turn's wait.
    invoke("run", "--suspend-to", frozen, "--hop-every", 6, count, 5)
    invoke("pack", count)
    image = count.with_suffix(".agent")
    described = json.loads(invoke("inspect", frozen, "--image", image, "--json").stdout)
    inner, outer = described["stack"]
    assert (inner["function"], inner["calls"]) == ("turn", "portcall.sleep")
    assert outer["calls"] == "turn"
    values = {value["what"]: value["value"] for value in outer["values"]}
    assert values["times"] == 5
    assert values["n"] == 1
    assert described["waits"] == {"in": "portcall.sleep", "arguments": [1], "for": "sleep", "with": [1000000]}
    text = invoke("inspect", frozen, "--image", image).stdout
    assert "stack, innermost first (2 frames)" in text
    assert "turn, site 1: calls portcall.sleep" in text
    assert invoke("run", image, "--resume-from", frozen).stdout == "35\n"
    assert invoke("inspect", frozen).stdout.count("function") == 2


def test_a_program_that_ends_before_it_is_suspended(count: Path, tmp_path: Path) -> None:
    done = invoke("run", "--suspend-to", tmp_path / "frozen", "--hop-every", 1000, count, 5)
    assert done.stdout == "35\n"
    assert done.stderr == f"portcall: it ended before it was suspended: {tmp_path / 'frozen'} is not written\n"
    assert not (tmp_path / "frozen").exists()


def test_a_snapshot_of_another_image_is_refused(count: Path, tmp_path: Path) -> None:
    frozen = tmp_path / "frozen"
    invoke("run", "--suspend-to", frozen, "--hop-every", 2, count, 5)
    result = command("run", HELLO, "--resume-from", frozen)
    assert result.returncode == 1
    assert result.stderr == "portcall: the snapshot belongs to another image\n"


def test_ctrl_c_suspends(tmp_path: Path) -> None:
    source, frozen = tmp_path / "long.wat", tmp_path / "frozen"
    source.write_text(
        '(module (import "portcall" "log" (func $log (param i32 i32 i32) (result i32)))'
        ' (memory (export "memory") 1) (data (i32.const 0) "begun")'
        ' (func (export "run") (param $n i64) (result i64) (local $i i64)'
        " (drop (call $log (i32.const 2) (i32.const 0) (i32.const 5)))"
        " (loop $again (local.set $i (i64.add (local.get $i) (i64.const 1)))"
        " (br_if $again (i64.lt_u (local.get $i) (local.get $n)))) (local.get $i)))"
    )
    turns = 20_000_000_000
    line = [sys.executable, "-m", "docking.cli", "run", str(source), str(turns), "--suspend-to", str(frozen)]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "info: begun\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith("portcall: suspended; its snapshot is in ")
        assert process.wait(30) == 0
    invoke("pack", source)
    described = json.loads(invoke("inspect", frozen, "--image", source.with_suffix(".agent"), "--json").stdout)
    (frame,) = described["stack"]
    values = {value["what"]: value["value"] for value in frame["values"]}
    assert frame["kind"] == "poll"
    assert values["n"] == turns
    assert 0 <= values["i"] < turns


def test_endings_that_are_not_the_agents_own(tmp_path: Path) -> None:
    endless, trap = tmp_path / "endless.wat", tmp_path / "trap.wat"
    endless.write_text('(module (func (export "run") (loop $again (br $again))))')
    trap.write_text('(module (func (export "run") unreachable))')
    began = time.monotonic()
    result = command("run", endless, "--cpu", "0.2")
    assert result.returncode == 125
    assert result.stderr.startswith("portcall: the agent was stopped (cpu): ")
    assert time.monotonic() - began < 30
    result = command("run", trap)
    assert result.returncode == 125
    assert result.stderr.startswith("portcall: the agent trapped (unreachable): ")


MISTAKES = {
    "a file that is not there": (["run", "nowhere.wat"], 1, "there is no file nowhere.wat"),
    "a file of no known kind": (["run", "notes.txt"], 1, "neither an image nor a source that is known"),
    "text that is not a module": (["pack", "wrong.wat"], 1, "the text is not a module"),
    "an engine that is not known": (["run", "count.wat", "--engine", "v8"], 1, "there is no engine 'v8'"),
    "an export that is not there": (["pack", "count.wat", "--entry", "walk"], 1, "no function 'walk'"),
    "a file that is no image": (["inspect", "notes.txt"], 1, "this is no image, snapshot, capsule"),
    "a folder that is not there": (
        ["run", "count.wat", "--dir", "nowhere::/x"],
        2,
        "invalid value for --dir: nowhere::/x: ",
    ),
    "a variable without a value": (["run", "count.py", "--env", "A"], 2, "--env A: not NAME=VALUE"),
}


@pytest.mark.parametrize(("words", "code", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_end_in_a_sentence(words: list[str], code: int, sentence: str, count: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("buy milk\n")
    (tmp_path / "wrong.wat").write_text("(module (func (export")
    (tmp_path / "count.py").write_text("print(1)\n")
    result = command(*words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert result.returncode == code, result
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
