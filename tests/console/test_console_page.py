"""The page as it is in the package: small, complete, and of nowhere else; and mounted in the applications of others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings as django_settings
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from docking.console.files import STATIC, page_files
from tests.console.browsing import PICTURES, TOKEN
from tests.console.test_console_access import client, entered
from tests.served import Served
from tests.station.harbour import run, station

MOST_BYTES = 150_000


def test_the_whole_page_is_small_and_of_nowhere_else() -> None:
    files = page_files()
    assert sum(len(each.body) for each in files.values()) < MOST_BYTES
    assert set(files) == {path.name for path in STATIC.iterdir()}
    for name, each in files.items():
        text = each.body.decode()
        elsewhere = [
            url for url in re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}[^\s\"']*", text) if "w3.org/" not in url
        ]
        assert not elsewhere, name
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            "javascript:",
        ):
            assert word not in text, name


def test_the_page_names_only_files_that_are_there() -> None:
    files = page_files()
    index = files["index.html"].body.decode()
    named = set(re.findall(r"(?:src|href)=\"static/([^\"]+)\"", index))
    assert named <= set(files)
    modules = {name for name in files if name.endswith(".js")}
    assert modules <= named  # fetched at once, not one after the other
    for name in modules:
        for imported in re.findall(r"from \"\./([^\"]+)\"", files[name].body.decode()):
            assert imported in modules, name
    assert "style=" not in index
    assert not re.search(r"\son\w+=|<script>|<style", index)


async def check_mounted(url: str, path: str) -> None:
    """A console that is mounted at a path works there."""
    async with client(url) as browser:
        page = await browser.get(path, follow_redirects=True)
        assert (page.status_code, page.url.path) == (200, f"{path}/")
        assert "Portcall console" in page.text
        assert (await browser.get(f"{path}/static/app.js")).status_code == 200
        assert (await browser.get(f"{path}/api/overview")).status_code == 401
        answer = await browser.post(f"{path}/api/enter", json={"token": TOKEN})
        assert f"Path={path};" in answer.headers["set-cookie"]
        seen = await browser.get(f"{path}/api/overview")
        assert seen.json()["stations"][0]["name"] == "alpha"
        assert (await browser.get(f"{path}/nothing")).status_code == 404


def in_fastapi(console: Any) -> Any:
    app = FastAPI()
    app.mount("/inside/console", console)
    return app


def in_starlette(console: Any) -> Any:
    return Starlette(routes=[Mount("/inside/console", console)])


def in_django(console: Any) -> Any:
    """As in docs/how-to/embed-a-station.md: ASGI applications beside Django's own, by their paths."""
    if not django_settings.configured:
        django_settings.configure(SECRET_KEY="x" * 50, ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
        django.setup()
    from django.core.asgi import get_asgi_application

    own = get_asgi_application()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/inside/console"):
            await console({**scope, "root_path": "/inside/console"}, receive, send)
        else:
            await own(scope, receive, send)

    return app


urlpatterns: list[Any] = []


@pytest.mark.parametrize("mount", [in_fastapi, in_starlette, in_django])
def test_mounted_in_the_application_of_another(mount: Any) -> None:
    @run
    async def main() -> None:
        async with station("alpha") as alpha, Served(mount(alpha.console(token=TOKEN)), "off") as web:
            await check_mounted(web.url, "/inside/console")

    main()


@run
async def test_an_application_may_know_its_operators_itself() -> None:
    def operator(scope: Any) -> bool:
        return (b"x-user", b"ada") in scope["headers"]

    async with (
        station("alpha") as alpha,
        Served(alpha.console(allow=operator), "off") as web,
        client(web.url) as browser,
    ):
        assert (await browser.get("/api/overview")).status_code == 401
        for user, status in (("eve", 401), ("ada", 200)):
            assert (await browser.get("/api/overview", headers={"X-User": user})).status_code == status
        # That somebody is an operator does not make other pages theirs.
        bad = {"X-User": "ada", "Origin": "http://evil.example"}
        assert (await browser.post("/api/leave", json={}, headers=bad)).status_code == 403


@run
async def test_a_console_of_a_station_that_is_started_later() -> None:
    alpha = station("alpha")
    async with Served(alpha.console(token=TOKEN)) as web, entered(web.url) as browser:
        (told,) = (await browser.get("/api/overview")).json()["stations"]
        assert told == {"name": "alpha", "own": True, "present": False}
        async with alpha:
            assert (await browser.get("/api/overview")).json()["stations"][0]["present"]


def test_the_pictures_of_the_documentation_are_small_and_made_by_tests() -> None:
    folder = Path(__file__).parents[2] / "docs" / "how-to"
    shown = set(re.findall(r"console-([\w-]+)\.png", (folder / "watch-in-the-console.md").read_text("utf-8")))
    there = {path.stem.removeprefix("console-"): path.stat().st_size for path in folder.glob("console-*.png")}
    assert shown == set(there) == set(PICTURES)
    assert max(there.values()) < 100_000
