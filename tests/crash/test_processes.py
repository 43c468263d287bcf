"""A few real kills; `python -m tests.crash.processes --runs 200` for hundreds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="waits for its children through pidfds")
def test_real_processes_are_killed_and_the_agent_arrives(capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "tests.crash.processes", "--runs", "8", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    with capsys.disabled():
        print("\n" + done.stdout.strip())
    runs, kills = map(int, re.findall(r"\d+", done.stdout)[:2])
    assert (runs, kills >= 6) == (8, True)
