"""A few kills in the middle of upgrades; `python -m tests.crash.upgrades --cases 100` for all places."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, and kills with SIGKILL")
def test_an_agent_has_the_old_code_or_the_new_one(capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "tests.crash.upgrades", "--cases", "6", "--seed", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    with capsys.disabled():
        print("\n" + done.stdout.strip())
    cases, kills = map(int, re.findall(r"\d+", done.stdout)[:2])
    assert (cases, kills >= 4) == (6, True)
