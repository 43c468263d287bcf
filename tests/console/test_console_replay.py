"""Journeys that are gone through again in the console."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from docking import Station
from docking.console.rewinds import MAX_OPEN
from docking.handle import Agent
from docking.residents.berth import Standing
from tests.console.browsing import chromium, look, served
from tests.console.scenes import commuter, launched, price, survey_image
from tests.console.test_console_access import entered
from tests.station.harbour import harbour, run, settled


async def surveyed(alpha: Station, beta: Station, gamma: Station, folder: Path) -> Agent:
    """The survey, recorded, when it waits at its last stop."""
    for each in (alpha, beta, gamma):
        each.offer("price", price)
    agent = await launched(alpha, survey_image(folder), "(beta,gamma,alpha,gamma)", label="survey")
    berth = await settled(gamma, agent, Standing.WAITING)
    while type(berth.wait).__name__ != "Recv":
        berth = await settled(gamma, agent, Standing.WAITING)
        await asyncio.sleep(0.01)
    return agent


@run
async def test_steps_and_what_changed_across_stations(tmp_path: Path) -> None:
    async with harbour("alpha", "beta", "gamma", home=tmp_path, record_mib=64) as stations:
        alpha, beta, gamma = stations
        agent = await surveyed(alpha, beta, gamma, tmp_path)
        async with served(*stations) as (_, url), entered(url) as inside:
            path = f"/api/agents/{agent.id}/replay"
            assert (await inside.get(path, params={"step": "0"})).status_code == 409  # it is not open yet

            async def step(number: int, **more: str) -> dict[str, Any]:
                answer = await inside.get(path, params={"step": str(number), **more})
                assert answer.status_code == 200, answer.text
                found: dict[str, Any] = answer.json()
                return found

            first = await step(0, again="1")
            assert (first["index"], first["station"], first["line"]) == (0, "alpha", "launched at alpha")
            assert [each["station"] for each in first["stays"]][:4] == ["alpha", "beta", "gamma", "alpha"]
            lines = [(await step(number))["line"] for number in range(first["steps"])]
            called = next(n for n, line in enumerate(lines) if line.startswith("call(") and "pears" in line)
            there = await step(called)
            assert there["station"] == "beta"
            frame = next(each for each in there["stack"]["frames"] if each["function"] == "survey")
            assert {"name": "place", "value": "'beta'"} in frame["variables"]
            assert frame["file"] in there["sources"]
            after = await step(called + 1)
            assert after["changes"]["memory_bytes"] > 0
            # Back again, it is as it was.
            assert (await step(called))["stack"] == there["stack"]
            assert (await step(10**8))["index"] == first["steps"] - 1


@run
async def test_what_was_not_recorded_is_said_and_few_are_open(tmp_path: Path) -> None:
    async with harbour("alpha", home=tmp_path) as (alpha,), served(alpha) as (_, url), entered(url) as inside:
        agent = await launched(alpha, commuter(60_000))
        answer = await inside.get(f"/api/agents/{agent.id}/replay?again=1")
        assert answer.status_code == 409
        assert "--record" in answer.json()["error"]
    async with harbour("alpha", home=tmp_path / "more", record_mib=16) as (alpha,), served(alpha) as (console, url):
        async with entered(url) as inside:
            for _ in range(MAX_OPEN + 2):
                agent = await launched(alpha, commuter(60_000))
                await settled(alpha, agent, Standing.WAITING)
                answer = await inside.get(f"/api/agents/{agent.id}/replay?again=1")
                assert answer.status_code == 200, answer.text
            assert len(console._answers.rewinds._open) == MAX_OPEN
            answers = await asyncio.gather(*(inside.get(f"/api/agents/{agent.id}/replay?again=1") for _ in range(12)))
            assert {each.status_code for each in answers} == {200, 503}
        console.close()
        assert not console._answers.rewinds._open


@run
async def test_back_and_forth_in_a_browser_by_keys(tmp_path: Path) -> None:
    async with (
        chromium() as browser,
        harbour("alpha", "beta", "gamma", home=tmp_path, record_mib=64) as stations,
        served(*stations) as (_, url),
    ):
        agent = await surveyed(stations[0], stations[1], stations[2], tmp_path)
        async with look(browser, url) as seen:
            page = seen.page
            await page.wait_for_selector(".station")
            await page.goto(f"{url}/#/agent/{agent.id}")
            await page.click("[data-replay=open]")
            await page.wait_for_selector(".step:has-text('Step 1 of') >> text=at alpha")
            await page.focus("[data-replay=on]")
            await page.keyboard.press("n")
            await page.wait_for_selector(".step:has-text('Step 2 of')")
            await page.keyboard.press("p")
            await page.wait_for_selector(".step:has-text('Step 1 of')")
            await page.click("[data-replay=hop]")
            await page.wait_for_selector(".step:has-text('at beta')")
            for _ in range(6):
                before = await page.inner_text(".step")
                await page.click("[data-replay=on]")
                await page.wait_for_selector(f".step:not(:has-text('{before.split(' of')[0]} of'))")
            await page.wait_for_selector(".part-replay .frames details[open]")
            await page.wait_for_selector(".part-replay .changes")
            await page.mouse.move(0, 0)
            await page.evaluate("document.querySelector('[data-part=replay]').scrollIntoView()")
            await seen.picture("replay")
            await page.click("[data-replay=last]")
            await page.wait_for_selector(".step:has-text('at gamma')")
            assert seen.errors == []
