"""A short run of `tests.crash.crowd`; longer ones are commands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.crash.crowd import crowd

pytestmark = pytest.mark.sweep


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and exit codes are those of POSIX")
def test_a_crowd_between_stations_that_die_comes_home_once_and_whole(tmp_path: Path) -> None:
    made = crowd(tmp_path, seconds=0, agents=3, seed=1, kills=2)
    assert len(made.agents) == 3
    assert made.kills >= 2
