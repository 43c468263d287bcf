"""Two agents at real stations, in every language: they find, ask, publish, meet, move, and take an answer elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.errors import ToolchainMissing
from agents.sdk.sources import load_image, user_cache
from docking.testing import Stations
from tests.patience import PATIENCE

from .languages import missing

pytestmark = pytest.mark.sweep

TALK = Path(__file__).resolve().parent / "talk"
LANGUAGES = sorted(path.name for path in TALK.glob("talk.*"))


@pytest.mark.parametrize("name", LANGUAGES)
def test_agents_of_every_language_talk_at_real_stations(name: str) -> None:
    try:
        image = load_image(TALK / name, cache=user_cache())
    except ToolchainMissing as reason:
        missing(reason)
        raise
    with Stations() as stations:
        stations("home", "beta")
        report = stations.run(image, via="(beta|home)*4", timeout=PATIENCE)
    assert report.exit_code == 0, report
    assert {result.key: (result.text, result.station) for result in report.results} == {
        "heard": ("nuts|sale about news|I am here", "beta"),
        "told": ("home|price=12|nuts: 12|from beta|23", "beta"),
    }
