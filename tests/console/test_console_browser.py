"""The console in a real Chromium."""

from __future__ import annotations

from pathlib import Path

from tests.console.browsing import PHONE, chromium, look, served
from tests.console.scenes import busy
from tests.station.harbour import harbour, run


@run
async def test_stations_agents_and_a_journey_are_shown(tmp_path: Path) -> None:
    async with (
        chromium() as browser,
        harbour("alpha", "beta", "gamma", home=tmp_path) as (alpha, beta, gamma),
        served(alpha, beta, gamma) as (_console, url),
    ):
        survey = await busy(alpha, beta, gamma, tmp_path)
        for name, options in {
            "map": {},
            "map-dark": {"color_scheme": "dark"},
            "map-phone": {"viewport": PHONE, "device_scale_factor": 2},
        }.items():
            async with look(browser, url, **options) as seen:
                await seen.page.wait_for_selector(".station")
                await seen.page.wait_for_selector(".feed li[data-kind=left]")
                assert "token" not in seen.page.url
                await seen.picture(name, whole="phone" in name)
                await seen.page.click("nav a[data-view=agents]")
                await seen.page.wait_for_selector(".row .name")
                await seen.picture(name.replace("map", "agents"))
                await seen.page.goto(f"{url}/#/agent/{survey.id}")
                await seen.page.wait_for_selector(".frames details[open] .source")
                await seen.page.wait_for_selector(".verdict.holds")
                await seen.picture(name.replace("map", "agent"), whole=True)
                assert not seen.errors
