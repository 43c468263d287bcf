"""The console in a real Chromium."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from agents.canonical import digest
from agents.credentials.keys import text_of
from agents.sdk.sources import load_image
from docking.console import Console, Settings
from docking.console.roster import Asked
from docking.console.server import serving
from docking.control.requests import Requests
from docking.http.server import listen
from docking.launching import Terms
from docking.residents.berth import Standing
from tests.console.browsing import PHONE, TOKEN, WIDE, chromium, look, served
from tests.console.scenes import busy, commuter, launched
from tests.served import Served
from tests.station.harbour import OWNER, harbour, packed, program, run, settled, station

pytestmark = pytest.mark.sweep

HERE = Path(__file__).parent
WAITS = program("(drop (call $sleep (i32.const 600000)))")


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


async def focused(page: Any) -> str:
    """What has the focus, as a screen reader says it."""
    found: str = await page.evaluate(
        "() => { const e = document.activeElement;"
        " return e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent || e.tagName }"
    )
    return found.strip()


async def tab_to(page: Any, wanted: str, most: int = 60) -> None:
    """Press Tab until this has the focus."""
    for _ in range(most):
        if (await focused(page)).startswith(wanted):
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"{wanted!r} is not reached with the keyboard")


@run
async def test_everything_is_reached_with_the_keyboard_and_what_hurts_is_asked_twice() -> None:
    async with chromium() as browser, harbour("alpha", "beta") as (alpha, beta), served(alpha, beta) as (_, url):
        agent = await alpha.launch(packed(WAITS), ["beta"], owner=OWNER, terms=Terms(label="worker"))
        await settled(alpha, agent, Standing.WAITING)
        async with look(browser, url, token="") as seen:
            page, keys = seen.page, seen.page.keyboard
            await page.wait_for_selector("#token")
            await keys.type("not the token")
            await keys.press("Enter")
            await page.wait_for_selector(".problem:not(:empty)")
            assert "not the token" in await page.text_content(".problem")
            await keys.type(TOKEN)
            await keys.press("Enter")
            await page.wait_for_selector(".place")
            await page.reload()
            await page.wait_for_selector(".place")
            await keys.press("Tab")
            assert await focused(page) == "Skip to the content"
            await keys.press("Enter")
            assert await page.evaluate("document.activeElement.id") == "main"
            await tab_to(page, "alpha: 1 agent")
            await keys.press("Enter")
            await page.wait_for_selector(".row .name")
            assert await page.input_value("#station") == "alpha"
            await tab_to(page, "worker")
            await keys.press("Enter")
            await page.wait_for_selector("[data-do=dispose]")
            # Not at once, and not by the key that asked: the answer in focus is no.
            await tab_to(page, "Dispose")
            await keys.press("Enter")
            await page.wait_for_selector("dialog[open]")
            assert await focused(page) == "Not now"
            await keys.press("Enter")
            await page.wait_for_selector("dialog", state="detached")
            assert await focused(page) == "Dispose …"
            await keys.press("Enter")
            await keys.press("Escape")
            await page.wait_for_selector("dialog", state="detached")
            assert agent.standing == "waiting"
            await tab_to(page, "Sleep")
            await keys.press("Enter")
            await page.wait_for_selector(".part-head .pill[data-standing=asleep]")
            assert not await page.query_selector("[data-do=move]")  # it could not go on there
            await tab_to(page, "Wake")
            await keys.press("Enter")
            await page.wait_for_selector("[data-do=move]")
            await tab_to(page, "Move")
            await keys.press("Enter")
            await page.wait_for_selector("dialog[open]")
            await page.select_option("#to", "beta")
            await tab_to(page, "Move")
            await keys.press("Enter")
            await page.wait_for_selector(".part-moving .good")
            await page.wait_for_selector(".part-head .muted:has-text('at beta')")
            await page.evaluate("document.activeElement.blur()")
            await tab_to(page, "Dispose")
            await keys.press("Enter")
            await page.wait_for_selector("dialog[open]")
            await keys.press("Tab")
            await keys.press("Enter")
            await page.wait_for_selector(".part-head .pill[data-standing=disposed]")
            assert not await page.query_selector("[data-do]")
            assert [each for each in seen.errors if "401" not in each] == []


ODD = "<img src=x onerror=alert(1)>"
ODD_WORDS = [ODD, "<script>alert(1)</script>", "\u202egnp.exe", "&lt;b&gt;", "'\"--></style><svg onload=alert(1)>"]


@run
async def test_what_agents_write_is_only_ever_text(tmp_path: Path) -> None:
    source = tmp_path / "odd.py"
    lines = [f"    print({word!r}); portcall.report({word!r}, {word!r})" for word in ODD_WORDS]
    source.write_text(
        f"import portcall\n\ndef {'a' * 200}(evil={ODD!r}):\n" + "\n".join(lines) + "\n    portcall.go('next')\n"
        "    portcall.sleep(600)\n\n" + f"{'a' * 200}()\n",
        encoding="utf-8",
    )
    async with chromium() as browser, harbour("alpha", "beta") as (alpha, beta), served(alpha, beta) as (_, url):
        agent = await alpha.launch(load_image(source), ["beta"], owner=OWNER, terms=Terms(label=ODD))
        await settled(beta, agent, Standing.WAITING)
        agent.send(ODD)
        async with look(browser, url) as seen:
            page = seen.page
            page.on("dialog", lambda dialog: seen.errors.append("a dialog of the agent"))
            await page.wait_for_selector(".station")
            for address in (
                "#/agents",
                f"#/agents?q={quote(ODD)}",
                f"#/agents?station={quote(ODD)}",
                f"#/agent/{agent.id}",
            ):
                await page.goto(f"{url}/{address}")
                await page.wait_for_selector(".row, .frames, .nobody")
            await page.wait_for_selector(".frames details[open]")
            await page.wait_for_selector(".results td")
            shown = await page.inner_text("main")
            for word in (ODD, "<script>alert(1)</script>", "&lt;b&gt;"):
                assert word in shown
            assert "\u202e" not in shown  # turns around what follows: a name could look like another
            assert await page.evaluate("document.querySelectorAll('main script, main img, main style').length") == 0
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert seen.errors == []
            assert all(each.startswith(url + "/") for each in seen.requests)


OTHER_SITE = (HERE / "other_site.js").read_text("utf-8")


@run
async def test_another_site_in_the_same_browser_gets_nothing_and_changes_nothing() -> None:
    evil = b"<!doctype html><title>evil</title><p id=p>evil</p>"

    async def other(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": evil})

    async with (
        chromium() as browser,
        harbour("alpha") as (alpha,),
        served(alpha) as (console, url),
        Served(other, "off") as web,
    ):
        agent = await alpha.launch(packed(WAITS), owner=OWNER)
        await settled(alpha, agent, Standing.WAITING)
        async with look(browser, url) as seen:
            await seen.page.wait_for_selector(".station")
            page = await seen.page.context.new_page()
            for site in (web.url, web.url.replace("127.0.0.1", "localhost")):
                await page.goto(site)
                told = await page.evaluate(
                    OTHER_SITE,
                    [url, agent.id],
                )
                assert told["read"] == told["open"] == "refused"
                assert told["blind"] in (0, "refused")
                assert told["inside"] in ("refused", "")
                assert not told["loaded"]
                assert not told["stream"]
            assert agent.standing == "waiting"
            assert len(console.feed.readers) == 1


NAMELESS = (HERE / "nameless.js").read_text("utf-8")
FAINT = (HERE / "faint.js").read_text("utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["wide", "phone"])
def test_each_view_fits_is_legible_and_has_names_for_screen_readers(scheme: str, size: str, tmp_path: Path) -> None:
    @run
    async def main() -> None:
        options = {"color_scheme": scheme, "viewport": WIDE if size == "wide" else PHONE}
        async with chromium() as browser, harbour("alpha", "beta", "gamma") as stations, served(*stations) as (_, url):
            survey = await busy(stations[0], stations[1], stations[2], tmp_path)
            async with look(browser, url, **options) as seen:
                page = seen.page
                for address, selector in (
                    ("#/", ".feed li[data-kind=left]"),
                    ("#/agents", ".row .name"),
                    ("#/agents?q=nobody", ".nobody"),
                    (f"#/agent/{survey.id}", ".frames details[open]"),
                    (f"#/agent/{'a' * 52}", ".empty"),
                ):
                    await page.goto(f"{url}/{address}")
                    await page.wait_for_selector(selector)
                    assert await page.evaluate("document.documentElement.scrollWidth") <= options["viewport"]["width"]
                    assert await page.evaluate(NAMELESS) == []
                    assert await page.evaluate(FAINT) == []
                    tree = await page.locator("body").aria_snapshot()
                    for landmark in ("banner", "navigation", "main", "status", "heading", "[level=1]"):
                        assert landmark in tree, (address, landmark, tree)
                assert [each for each in seen.errors if "404" not in each] == []

    main()


OVERLAPS = (HERE / "overlaps.js").read_text("utf-8")


@run
async def test_places_do_not_lie_on_each_other_however_many_there_are() -> None:
    down = [station(f"station-{number:02}") for number in range(32)]
    async with chromium() as browser:
        for number in (1, 2, 3, 4, 5, 6, 7, 12, 32):
            async with served(*down[:number]) as (_, url):
                for size in (WIDE, PHONE):
                    async with look(browser, url, viewport=size) as seen:
                        await seen.page.wait_for_selector(f".place >> nth={number - 1}")
                        assert await seen.page.evaluate(OVERLAPS) == []
                        assert await seen.page.evaluate("document.documentElement.scrollWidth") <= size["width"]


KINDS = ("parcel", "letter", "census", "survey", "invoice", "watch", "stock", "weather", "mirror", "courier")


class Crowd(Requests):
    """A station at which there are ten thousand agents more, the first came last."""

    async def do_agents(self) -> AsyncIterator[tuple[str, object]]:
        now = time.time_ns() // 1_000_000
        for number in range(10_000):
            since = now - 1000 * number - 60_000
            label = f"{KINDS[number % 10]}-{number:05}"
            row = {"agent": text_of(digest(label.encode())), "label": label, "station": "alpha", "hop": number * 7 % 13}
            standing = "waiting" if number % 3 == 0 else "asleep"
            yield "item", {**row, "since": since, "standing": standing, "text": "sleep", "here": True}
        async for each in super().do_agents():
            yield each


@run
async def test_ten_thousand_agents_are_searched_and_scrolled_by_a_page_that_holds_few_of_them() -> None:
    async with chromium() as browser, harbour("alpha", "beta") as (alpha, beta):
        asked = Asked("alpha", lambda: Crowd(alpha.controlled(Path())))
        watched = [each.shown()[1] for each in (alpha, beta)]
        console, sock = Console.of([asked, beta.shown()[0]], watched, Settings(token=TOKEN)), listen("127.0.0.1", 0)
        async with serving(console, sock), look(browser, f"http://127.0.0.1:{sock.getsockname()[1]}") as seen:
            page = seen.page
            await page.wait_for_selector(".place[aria-label='alpha: 10,000 agents']")
            assert len(await page.query_selector_all(".dot")) <= 40
            await page.click("nav a[data-view=agents]")
            await page.wait_for_selector(".name:text('parcel-00000')")
            assert "10,000 agents" in await page.inner_text(".sum")
            await seen.picture("agents-10000")
            await page.focus(".row .name")
            await page.keyboard.press("End")
            await page.wait_for_selector(".name:text('courier-09999')")
            assert await focused(page) == "courier-09999"
            await page.keyboard.press("PageUp")
            assert await focused(page) == "courier-09989"
            for place in (0, 200_000, 90_000, 400_000, 1):
                await page.evaluate(f"window.scrollTo(0, {place})")
                await page.wait_for_selector(".ghost", state="detached")
                assert len(await page.query_selector_all(".row")) < 80
            await page.fill("#search", "-0123")
            await page.wait_for_selector(".sum:text-is('10 of 10,000 agents')")
            await page.select_option("#standing", "waiting")
            await page.wait_for_selector(".sum:text-is('4 of 10,000 agents')")
            assert await page.get_attribute(".table", "aria-rowcount") == "5"
            # While agents come and go, the table stays.
            await alpha.launch(packed(WAITS), owner=OWNER, terms=Terms(label="new-0123"))
            await page.wait_for_selector(".sum:text-is('5 of 10,001 agents')")
            assert seen.errors == []


@run
async def test_a_journey_goes_on_while_it_is_looked_at(tmp_path: Path) -> None:
    async with chromium() as browser, harbour("alpha", "beta") as (alpha, beta), served(alpha, beta) as (_, url):
        agent = await launched(alpha, commuter(300), "(beta,alpha)*50", label="commuter")
        async with look(browser, f"{url}") as seen:
            page = seen.page
            await page.wait_for_selector(".flyer", state="attached")
            await page.goto(f"{url}/#/agent/{agent.id}")
            await page.wait_for_selector(".stay-row >> nth=2")
            count = len(await page.query_selector_all(".stay-row"))
            await page.wait_for_selector(f".stay-row >> nth={count + 1}")
            assert "in flight" in await page.inner_text(".stay-row >> nth=1")
            await page.click("summary:has-text('one by one')")
            await page.wait_for_selector("td .verdict.holds >> nth=6")
            assert await page.inner_text(".checks li >> nth=2") == "trail holds"
            assert seen.errors == []


@run
async def test_a_station_that_ends_and_comes_again_is_seen_to(tmp_path: Path) -> None:
    home = station("alpha", tmp_path / "alpha")
    async with chromium() as browser, served(home) as (_, url), look(browser, url) as seen:
        page = seen.page
        await page.wait_for_selector("text=It does not run.")
        for _ in range(2):
            async with home:
                await page.wait_for_selector(".station .meter")
            await page.wait_for_selector("text=It does not run.")
        assert seen.errors == []
