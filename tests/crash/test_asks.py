"""Short runs of `tests.crash.asks`; longer ones are commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.asks import asks


@pytest.mark.parametrize("kills", [0, 2])
def test_an_agent_that_never_rests_answers_each_question_once_and_in_order(tmp_path: Path, kills: int) -> None:
    found = asks(tmp_path, count=120, askers=2, kills=kills, seed=3)
    assert found["hops"] > 16
