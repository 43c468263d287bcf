"""Commands where the surroundings are not as they should be: interrupts, full disks, closed streams, odd names."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.programs import ROOT

ENDLESS = """(module
  (import "portcall" "log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "run") (drop (call $log (i32.const 2) (i32.const 0) (i32.const 0))) (loop $again (br $again))))"""
PRINTS = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\\08\\00\\00\\00\\06\\00\\00\\00hello\\0a")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))))"""


def line(*words: object) -> list[str]:
    return [sys.executable, "-m", "docking.cli", *(os.fsdecode(w) if isinstance(w, bytes) else str(w) for w in words)]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("polls", ["none", "loops"])
@pytest.mark.parametrize("signals", [1, 2])
def test_an_endless_loop_ends_with_ctrl_c(polls: str, signals: int, tmp_path: Path) -> None:
    """Also where nothing polls; and where a snapshot is asked for, at the second Ctrl-C."""
    source, image = tmp_path / "endless.wat", tmp_path / "endless.agent"
    source.write_text(ENDLESS)
    subprocess.run(line("pack", source, "--polls", polls, "-o", image), check=True, capture_output=True, cwd=ROOT)
    more = ["--suspend-to", tmp_path / "snapshot"] if signals == 2 else []
    # Tests that run in the background of a shell have the signal ignored, and their children too.
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(line("run", image, *more), stderr=subprocess.PIPE, text=True, cwd=ROOT, **heard) as process:  # type: ignore[call-overload]
        assert process.stderr is not None
        assert process.stderr.readline() == "info: \n"  # it runs
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:  # the first may come before the loop
            process.send_signal(signal.SIGINT)
            try:
                process.wait(0.5)
            except subprocess.TimeoutExpired:
                continue
        ended = process.poll() is not None
        process.kill()
        rest = process.stderr.read()
        assert ended, rest
        suspended = signals == 2 and polls == "loops"
        assert process.wait(1) == (0 if suspended else 130), rest
        assert "Traceback" not in rest
        assert "ignored" not in rest
        assert (tmp_path / "snapshot").exists() == suspended


def session(process: subprocess.Popen[str]) -> list[str]:
    """The processes that live in the session which `process` began."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, its_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == process.pid and state != "Z":
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has just ended
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("words", "sign"),
    [
        (["demo"], "Three stations start"),
        (["demo"], "found each other|were told of each other"),
        (["demo"], "begins its journey"),
        (["demo"], "What it reported"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_nothing_is_left_behind_by_ctrl_c(words: list[str], sign: str, tmp_path: Path) -> None:
    """At any moment, as a terminal sends it: to all processes. They end, and their files are gone."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        line(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        if not any(re.search(sign, said) for said in process.stdout):
            pytest.fail(f"it ended before that: {process.stderr.read()}")
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert said.split("\n") in (["", "portcall: interrupted", ""], [""])  # the second: it was over already
    assert process.returncode == (130 if said else 0)
    assert session(process) == []
    assert list(tmp_path.iterdir()) == []


def test_demonstrations_at_the_same_time(tmp_path: Path) -> None:
    """As in a class, on one machine: stations of the same names are on the network, and each keeps to its own.

    In a folder whose path is too long for a socket and has other letters than English ones, too.
    """
    folder = tmp_path / ("käsekuchen " * 8)
    folder.mkdir()
    started = [
        subprocess.Popen(
            line("demo"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
            env={**os.environ, "TMPDIR": str(each)},
        )
        for each in (tmp_path, folder)
    ]  # fmt: skip
    for process in started:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert "ok  the route is the one that the owner signed, to its end\n" in said
    assert list(tmp_path.iterdir()) == [folder]
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
def test_a_full_disk_and_a_closed_output(tmp_path: Path) -> None:
    source = tmp_path / "prints.wat"
    source.write_text(PRINTS)
    for words in (["run", source], ["inspect", "--help"], ["--help"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(line(*words), stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
        assert (done.returncode, done.stderr) == (1, "portcall: input or output: No space left on device\n")
    shell = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *line("run", source)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (shell.returncode, shell.stderr) == (0, "")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="file names of any bytes")
def test_names_and_arguments_of_any_bytes(tmp_path: Path) -> None:
    source = os.path.join(os.fsencode(tmp_path), b"odd \xff.wat")
    Path(os.fsdecode(source)).write_text(PRINTS)
    for words in (
        ["run", source, "--env", b"A=\xff", "--", b"\xfe"],
        ["pack", source, "-o", tmp_path / "odd.agent"],
        ["inspect", tmp_path / "odd.agent"],
    ):
        done = subprocess.run(line(*words), capture_output=True, cwd=ROOT, check=False)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr


MISUSES = {
    "no number of seconds": (["run", "prints.wat", "--cpu", "nan"], 2, "is no time"),
    "endless seconds": (["run", "prints.wat", "--cpu", "inf"], 2, "is no time"),
    "more memory than there is": (["run", "prints.wat", "--memory", "99999999999999"], 2, "not in the range"),
    "a file without an end": (["inspect", "/dev/zero"], 1, "/dev/zero is larger than 64 MiB"),
    "a source without an end": (["pack", "/dev/zero"], 1, "/dev/zero is larger than 64 MiB"),
    "a Python that is not there": (["pack", "a.py", "--python", "gone"], 1, "cannot be read: gone"),
}


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="POSIX")
@pytest.mark.parametrize(("words", "code", "sentence"), MISUSES.values(), ids=MISUSES)
def test_misuses_end_in_a_sentence(words: list[str], code: int, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "prints.wat").write_text(PRINTS)
    (tmp_path / "a.py").write_text("print(1)\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line(*words), capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_exceptions_and_odd_floats_on_a_frozen_stack_are_shown(tmp_path: Path) -> None:
    source, frozen = tmp_path / "holds.wat", tmp_path / "frozen"
    source.write_text("""(module
      (import "portcall" "go" (func $go (param i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 0) "beta") (tag $e (param i32))
      (global $odd (mut f64) (f64.const nan))
      (func (export "run") (local $caught exnref) (local $float f64)
        (local.set $float (f64.const nan))
        (block $handler (result i32 exnref)
          (try_table (catch_ref $e $handler) (throw $e (i32.const 77)))
          (unreachable))
        (local.set $caught) (drop) (drop (call $go (i32.const 0) (i32.const 4)))
        (global.set $odd (local.get $float))
        (throw_ref (local.get $caught))))""")
    for words in (["pack", source], ["run", source, "--suspend-to", frozen]):
        subprocess.run(line(*words), check=True, capture_output=True, cwd=ROOT)
    asked = line("inspect", frozen, "--image", source.with_suffix(".agent"), "--json")
    done = subprocess.run(asked, capture_output=True, cwd=ROOT, check=True)
    described = json.loads(done.stdout, parse_constant=pytest.fail)  # NaN is a constant of Python's, not of JSON's
    (frame,) = described["stack"]
    assert [value["type"] for value in frame["values"]] == ["f64", "exnref"]
    assert frame["values"][0]["value"] == described["globals"][0]["value"] == "nan"
