"""What happens to an agent at real stations is told to it, in every language: by exports, or by shims of scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.errors import ToolchainMissing
from agents.image import AgentImage
from agents.sdk.sources import load_image, user_cache
from docking import Station
from tests.station.harbour import OWNER, Watch, harbour, run

from .languages import missing

pytestmark = pytest.mark.sweep

EVENTS = Path(__file__).resolve().parent / "events"
LANGUAGES = sorted(path.name for path in EVENTS.glob("events.*"))
SEEN = (
    "departing@home arrived@beta sleeping@beta woken@beta message@beta cloned@beta "  # and then it was called home
    "retracted@home"
)


@pytest.mark.parametrize("name", LANGUAGES)
def test_agents_of_every_language_are_told(name: str) -> None:
    try:
        image = load_image(EVENTS / name, cache=user_cache())
    except ToolchainMissing as reason:
        missing(reason)
        raise

    @run
    async def journey() -> None:
        async with harbour("home", "beta") as (home, beta):
            assert await seen(home, beta, image) == SEEN

    journey()


async def seen(home: Station, beta: Station, image: AgentImage) -> str:
    """What an agent was told that goes to beta, is forked there, and is called home."""
    watch = Watch(beta)
    agent = await home.launch(image, via=["beta"], owner=OWNER)
    await watch.until("log")
    agent.retract()
    report = await agent.wait()
    assert report.exit_code == 0
    return next(result.text for result in report.results if result.key == "seen")
