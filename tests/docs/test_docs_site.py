"""The documentation as a reader sees it: built once, and looked at in a real Chromium."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.console.browsing import PHONE, WIDE, chromium, needs_browser
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
DRAWINGS = sorted((DOCS / "assets").glob("*.svg"))
# One of each kind: prose, sessions, tables, drawings, the generated ones.
LOOKED_AT = (
    "index",
    "changelog",
    "how-to/docker",
    "how-to/workers",
    "lessons/index",
    "lessons/station",
    "reference/api-docking",
    "reference/commands",
    "reference/handoff",
    "topics/attacks",
    "topics/handoff",
    "topics/others",
    "topics/performance",
    "tutorial/first-agent",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocstrings", reason="the documentation is built by what the dependency group `docs` names")
    needs_browser()
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_pages_fit_and_buttons_copy_what_is_typed(site: Path) -> None:
    asyncio.run(_look(site))


async def _look(site: Path) -> None:
    async with chromium() as browser:
        for size in (WIDE, PHONE):
            page = await browser.new_page(viewport=size)
            for name in LOOKED_AT:
                await page.goto((site / f"{name}.html").as_uri())
                wide = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
                assert wide <= 0, f"{name} is {wide} pixels wider than a window of {size['width']}"
            await page.close()
        page = await browser.new_page(viewport=WIDE)
        await page.goto((site / "lessons" / "exercises.html").as_uri())
        buttons = page.locator(".highlight:has(.gp) [data-clipboard-target]")
        await buttons.first.click()
        assert await buttons.first.get_attribute("data-clipboard-text") == "portcall lesson check 1 mine.py\n"
        source = page.locator(".highlight:not(:has(.gp)) [data-clipboard-target]").first
        await source.click()
        assert await source.get_attribute("data-clipboard-text") is None  # all of a program is copied
        titles = await page.locator(".md-nav--primary .md-nav__link").all_inner_texts()
        assert "Write an agent in C or Zig" in titles


def test_the_navigation_has_titles(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    shown = re.findall(r'<span class="md-ellipsis">\s*(.*?)\s*</span>', text, re.DOTALL)
    assert "Act 1: a frozen loop" in shown
    assert not [title for title in shown if re.match(r"Agent in [a-z]", title)]


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_a_drawing_is_of_the_colour_around_it_and_fits(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.get("viewBox")
    assert root.get("width") is None  # as wide as there is room
    assert root.get("fill") == "currentColor"
    assert "prefers-color-scheme: dark" in text  # where it stands alone
    (title,) = root.findall("{http://www.w3.org/2000/svg}title")
    assert title.text
    assert root.get("aria-labelledby") == title.get("id")
    assert not re.search(r'(?:fill|stroke)="(?:black|white|#000|#fff)', text)


def test_every_drawing_is_on_a_page() -> None:
    shown = {
        name for page in DOCS.rglob("*.md") for name in re.findall(r"<!-- drawing: ([\w-]+) -->", page.read_text())
    }
    assert shown == {path.stem for path in DRAWINGS}
    assert "docs/assets/three-stations.svg" in (ROOT / "README.md").read_text(encoding="utf-8")
