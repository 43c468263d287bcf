"""A few stations killed while an agent is moved; `python -m tests.crash.moves --cases 200` for hundreds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, and kills with SIGKILL")
def test_stations_are_killed_while_an_agent_is_moved_and_exactly_one_lives() -> None:
    command = [sys.executable, "-m", "tests.crash.moves", "--cases", "3", "--seed", "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    journeys, _, kills = map(int, re.findall(r"\d+", done.stdout)[:3])
    assert (journeys, kills >= 2) == (3, True)
