"""A console of real stations under its own server, and a real Chromium that looks at it.

Screenshots are written where `PORTCALL_SCREENSHOTS` says: with it set to `docs/how-to`, the pictures of the
documentation are made again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from docking import Station
from docking.console import Console, Settings
from docking.console.server import serving
from docking.http.server import listen
from tests.patience import PATIENCE
from tests.station.harbour import OWNER

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
TOKEN = "a-token-of-tests-long-enough"
# Of the documentation.
PICTURES = ("map", "map-dark", "agent", "agents-10000", "agents-phone", "replay")
WIDE, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}


def needs_browser() -> Any:
    """The module of Playwright; skips the test where it or Chromium is missing."""
    playwright = pytest.importorskip(
        "playwright.async_api", reason="no playwright: pip install playwright, the console is not tested in a browser"
    )
    if not CHROMIUM:
        pytest.skip("no chromium on the path: .ci/toolchains installs Debian's")
    return playwright


def console_of(stations: Sequence[Station], **settings: Any) -> Console:
    """The console of these stations, that opens with `TOKEN`."""
    shown = [each.shown() for each in stations]
    chosen = Settings(**{"token": TOKEN, "owners": [OWNER], **settings})
    return Console.of([asked for asked, _ in shown], [watched for _, watched in shown], chosen)


@contextlib.asynccontextmanager
async def served(*stations: Station, **settings: Any) -> AsyncIterator[tuple[Console, str]]:
    """A console on a free port of this machine, and its URL."""
    console, sock = console_of(stations, **settings), listen("127.0.0.1", 0)
    async with serving(console, sock):
        yield console, f"http://127.0.0.1:{sock.getsockname()[1]}"


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    """A running Chromium."""
    playwright = needs_browser()
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            await browser.close()


class Looked:
    """A page of a browser, and what went wrong in it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.on("request", lambda request: self.requests.append(request.url))

    async def picture(self, name: str, whole: bool = False) -> bytes:
        """A screenshot; kept where the variable says."""
        data: bytes = await self.page.screenshot(full_page=whole, animations="disabled")
        folder = os.environ.get("PORTCALL_SCREENSHOTS")
        if folder and name in PICTURES:
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / f"console-{name}.png").write_bytes(smaller(data))
        return data


@contextlib.asynccontextmanager
async def look(browser: Any, url: str, token: str = TOKEN, **options: Any) -> AsyncIterator[Looked]:
    """A new window with nothing remembered, at the console."""
    context = await browser.new_context(**{"viewport": WIDE, "color_scheme": "light", **options})
    context.set_default_timeout(PATIENCE * 1000 / 4)
    page = await context.new_page()
    looked = Looked(page)
    await page.goto(f"{url}/#token={token.replace(' ', '%20').replace(',', '%2C')}" if token else url)
    try:
        yield looked
    finally:
        await context.close()


def smaller(data: bytes) -> bytes:
    """A PNG with a palette, where Pillow is there to make it: pictures of the documentation are small."""
    try:
        import io

        from PIL import Image
    except ImportError:
        return data
    out = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").quantize(
        256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    ).save(out, "PNG", optimize=True)
    return out.getvalue()
