"""A few whole stations killed; `python -m tests.crash.stations --cases 300` for hundreds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, and kills with SIGKILL")
def test_stations_are_killed_and_exactly_one_agent_lives(capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "tests.crash.stations", "--cases", "4", "--seed", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    with capsys.disabled():
        print("\n" + done.stdout.strip())
    journeys, _, kills = map(int, re.findall(r"\d+", done.stdout)[:3])
    assert (journeys, kills >= 3) == (4, True)
