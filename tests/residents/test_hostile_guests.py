"""Guests that want more than there is, at a real station: it goes on, answers at once, and its memory stays flat."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.patience import PATIENCE
from tests.programs import ROOT, STACKS, STRICT_C, ToolMissing, compile_c

HOSTILE = ROOT / "tests" / "wasi" / "guests" / "hostile.c"
ENOSPC = 51
# What stops `hostile.c`, in its own words.
SAID = [
    "bytes: 16777216, No space left on device",
    "far: -1, No space left on device",
    "sparse: -1, No space left on device",
    "files: 5000, No space left on device",
    "descriptors: 252, No file descriptors available",
    "long name: -1, Filename too long",
    "no text: -1, Illegal byte sequence",
    "loop: -1, Symbolic link loop",
    "out: -1, Operation not permitted",
    "above: -1, Operation not permitted",
]
MIB = 1 << 10  # KiB


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What `hostile_station` tells: name -> exit code, peak memory (KiB), longest silence (ms), first and last lines
    of the log."""
    arguments = []
    try:
        module = tmp_path_factory.mktemp("hostile") / "hostile.wasm"
        module.write_bytes(compile_c([HOSTILE], ("-target", "wasm32-wasi", *STRICT_C, *STACKS)))
        arguments = [str(module)]
    except ToolMissing:
        pass  # the floods need no compiler
    command = [sys.executable, "-m", "tests.residents.hostile_station", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("what", ["newlines", "one line", "no text"])
@pytest.mark.parametrize("fd", [1, 2])
def test_floods_of_output_end_when_their_room_is_used_up(visits: dict[str, list[Any]], what: str, fd: int) -> None:
    code, _, _, lines = visits[f"{what} to {fd}"]
    assert code == ENOSPC
    assert {"newlines": "", "one line": "x" * 200, "no text": "\N{REPLACEMENT CHARACTER}" * 200}[what] in lines


def test_everything_else_is_an_error_number(visits: dict[str, list[Any]]) -> None:
    if "everything, turn 0" not in visits:
        pytest.skip("ziglang is not installed (pip install ziglang)")
    for turn in range(4):
        code, _, _, lines = visits[f"everything, turn {turn}"]
        assert code == 42
        assert lines[: len(SAID)] == SAID


def test_memory_stays_flat(visits: dict[str, list[Any]]) -> None:
    calm = visits["calm"][1]
    peaks = [peak for _, peak, _, _ in visits.values()]
    # A guest's own memory of 16 MiB, its luggage of as much, one write of as much, and what is copied of them.
    assert max(peaks) - calm < 160 * MIB, peaks
    if "everything, turn 0" in visits:
        # Three more guests like it leave nothing: allocators keep some, but not 16 MiB for each.
        assert visits["everything, turn 3"][1] - visits["everything, turn 0"][1] < 64 * MIB, peaks


def test_the_station_goes_on(visits: dict[str, list[Any]]) -> None:
    """Nothing that one guest does keeps the others waiting: its calls are short, or leave the interpreter."""
    silences = {name: silence for name, (_, _, silence, _) in visits.items()}
    assert max(silences.values()) < 1500, silences
