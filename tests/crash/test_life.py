"""A few families between stations that are killed or cut off; `python -m tests.crash.life --cases 300` for hundreds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.failpoints import ANY_SEND
from tests.crash.life import CUT, LOSE, Life
from tests.crash.stations import NAMES
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, and kills with SIGKILL")


def test_stations_are_killed_and_each_member_of_a_family_comes_home_once() -> None:
    command = [sys.executable, "-m", "tests.crash.life", "--cases", "4", "--seed", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert int(re.findall(r"\d+", done.stdout)[0]) == 4


def test_letters_that_are_lost_or_said_twice_and_a_partition_change_nothing(tmp_path: Path) -> None:
    made = Life(tmp_path)
    try:
        made.start(*NAMES)
        for _ in range(20):  # who answers may stand beside who asked: then nothing is sent
            reached = made.case([])
            if reached["alpha"].get("TALK.before-send", 0) >= 2:
                break
        assert reached["alpha"]["TALK.before-send"] >= 2, reached
        assert {place for [(_, place, _)] in made.every(reached)} >= {LOSE + "TALK.after-send", CUT + ANY_SEND}
        for place in (LOSE + "TALK.before-send", LOSE + "TALK.after-send", CUT + ANY_SEND):
            made.case([("alpha", place, 2), ("beta", place, 1)])
    finally:
        made.end()
    assert not made.kills
