"""Ctrl-C at any moment: commands end in one line, and an agent that can be suspended is suspended."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from docking.control.requests import Requests
from tests.cli.shell import stations, typed
from tests.patience import PATIENCE
from tests.programs import ROOT

PORTCALL = [sys.executable, "-m", "docking.cli"]

ENDLESS = """(module
  (import "portcall" "log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "run") (drop (call $log (i32.const 2) (i32.const 0) (i32.const 0))) (loop $again (br $again))))"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("polls", ["none", "loops"])
@pytest.mark.parametrize("signals", [1, 2])
def test_an_endless_loop_ends_with_ctrl_c(polls: str, signals: int, tmp_path: Path) -> None:
    """Also where nothing polls; and where a snapshot is asked for, at the second Ctrl-C."""
    source, image = tmp_path / "endless.wat", tmp_path / "endless.agent"
    source.write_text(ENDLESS)
    subprocess.run(typed("pack", source, "--polls", polls, "-o", image), check=True, capture_output=True, cwd=ROOT)
    more = ["--suspend-to", tmp_path / "snapshot"] if signals == 2 else []
    # Tests that run in the background of a shell have the signal ignored, and their children too.
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(typed("run", image, *more), stderr=subprocess.PIPE, text=True, cwd=ROOT, **heard) as process:  # type: ignore[call-overload]
        assert process.stderr is not None
        assert process.stderr.readline() == "info: \n"  # it runs
        until = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < until:  # the first may come before the loop
            process.send_signal(signal.SIGINT)
            try:
                process.wait(0.5 if polls == "none" or signals == 1 else 20)  # one that suspends may take its time
            except subprocess.TimeoutExpired:
                continue
        ended = process.poll() is not None
        process.kill()
        rest = process.stderr.read()
        assert ended, rest
        suspended = signals == 2 and polls == "loops"
        assert process.wait() == (0 if suspended else 130), rest
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
        typed(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        if not any(re.search(sign, said) for said in process.stdout):
            pytest.fail(f"it ended before that: {process.stderr.read()}")
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    assert said.split("\n") in (["", "portcall: interrupted", ""], [""])  # the second: it was over already
    assert process.returncode == (130 if said else 0)
    assert session(process) == []
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_a_question_to_several_stations(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    async def never(self: Requests, wait: int = 0) -> AsyncIterator[tuple[str, None]]:
        asked.set()
        await asyncio.Event().wait()
        yield ("end", None)

    monkeypatch.setattr(Requests, "do_stations", never)
    with stations(place, "alpha", "beta"):
        asking = subprocess.Popen(
            [*PORTCALL, "stations", "--wait", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert asked.wait(PATIENCE)  # sooner, it is the interpreter that is interrupted
        asking.send_signal(signal.SIGINT)
        _, errors = asking.communicate(timeout=PATIENCE)
        assert asking.returncode == 130
        assert "interrupted" in errors


PRESSED_EARLY = """
import os, signal, sys
from docking.cli import interrupts, main
interrupts.hold()
os.kill(os.getpid(), signal.SIGINT)
sys.argv = ["portcall", *sys.argv[1:]]
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_while_a_command_is_imported_is_heard_when_it_begins(tmp_path: Path) -> None:
    source = tmp_path / "endless.wat"
    source.write_text(ENDLESS)
    image = tmp_path / "endless.agent"
    subprocess.run(typed("pack", source, "--polls", "loops", "-o", image), check=True, capture_output=True, cwd=ROOT)
    default = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}

    def early(*words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PRESSED_EARLY, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, **default)  # type: ignore[call-overload, no-any-return]

    for words in (["run", image], ["stations", "--wait", "60"], ["key", "list"]):
        ended = early(*words)
        assert (ended.returncode, ended.stderr.strip()) == (130, "portcall: interrupted")
    ended = early("run", image, "--suspend-to", tmp_path / "half")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "half").exists()
