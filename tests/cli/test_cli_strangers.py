"""Commands beside several stations, as somebody meets them who did not read ahead."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.station.harbour import program, station

PORTCALL = [sys.executable, "-m", "docking.cli"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where stations note that they run."""
    monkeypatch.setenv("PORTCALL_RUNNING", str(tmp_path / "running"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@contextlib.contextmanager
def stations(place: Path, *names: str) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for number, name in enumerate(names):
            made = station(name, place / f"{number}", control=True, dev=True)
            stack.enter_context(made.in_thread())
        yield


def said(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PORTCALL, *words], capture_output=True, text=True, timeout=60, check=False)


def test_ctrl_c_ends_a_question_to_several_stations(place: Path) -> None:
    with stations(place, "alpha", "beta"):
        asking = subprocess.Popen(
            [*PORTCALL, "stations", "--wait", "50"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        time.sleep(1.5)  # nothing says when it asks; sooner, it is the interpreter that is interrupted
        began = time.monotonic()
        asking.send_signal(signal.SIGINT)
        _, errors = asking.communicate(timeout=40)
        assert asking.returncode == 130
        assert "interrupted" in errors
        assert time.monotonic() - began < 20


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
        end = time.monotonic() + 20
        while (results := json.loads(said("results", "ten", "--json").stdout)) == []:
            assert time.monotonic() < end
        assert results[0]["hex"] == "0a000000"
        assert said("results", "ten").stdout.splitlines()[1].split() == ["0", "alpha", "n", r"\n\x00\x00\x00"]
