"""Who gets into the console, and who does not: hostile pages, guessers, names that point here from elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from attrs import evolve

from docking.console import access
from docking.console.access import Access, Denied
from docking.console.app import MAX_BODY_BYTES
from docking.console.settings import Settings
from docking.errors import StationError
from tests.console.browsing import TOKEN, served
from tests.station.harbour import begin, harbour, program, run

WAITS = program("(drop (call $sleep (i32.const 600000)))")
API = ("overview", "agents", "events", f"agents/{'a' * 52}", f"agents/{'a' * 52}/journey", f"agents/{'a' * 52}/stack")


def client(url: str, **headers: str) -> httpx.AsyncClient:
    """A browser on the console's own page, as far as its headers go."""
    return httpx.AsyncClient(base_url=url, headers={"Origin": url, **headers}, trust_env=False)


@contextlib.asynccontextmanager
async def entered(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """One that has shown the token."""
    async with client(url) as inside:
        answer = await inside.post("/api/enter", json={"token": TOKEN})
        assert answer.status_code == 200
        yield inside


@run
async def test_without_the_token_there_is_a_page_that_says_nothing() -> None:
    async with harbour("secretive") as (station,), served(station) as (_, url), client(url) as outside:
        for path in ("/", "/static/app.js", "/static/style.css", "/static/icon.svg"):
            answer = await outside.get(path)
            assert answer.status_code == 200
            for secret in ("secretive", station.key.text, TOKEN):
                assert secret not in answer.text
        for path in API:
            answer = await outside.get(f"/api/{path}")
            assert answer.status_code == 401
            assert set(answer.json()) == {"error"}
        for path in (f"agents/{'a' * 52}/order", f"agents/{'a' * 52}/move", "leave", "overview"):
            assert (await outside.post(f"/api/{path}", json={"what": "dispose"})).status_code == 401


@run
async def test_the_token_becomes_a_cookie_that_scripts_and_other_pages_do_not_have() -> None:
    async with harbour("alpha") as (station,), served(station) as (console, url), client(url) as browser:
        assert console.link(url) == f"{url}/#token={TOKEN}"
        answer = await browser.post("/api/enter", json={"token": TOKEN})
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert "Secure" not in cookie  # of a page without TLS, it would not be kept
        seen = (await browser.get("/api/overview")).json()
        assert [each["name"] for each in seen["stations"]] == ["alpha"]
        assert (await browser.post("/api/leave", json={})).status_code == 200
        assert (await browser.get("/api/overview")).status_code == 401
        browser.cookies.set(cookie.partition("=")[0], "guessed")
        assert (await browser.get("/api/overview")).status_code == 401


@run
async def test_guessing_is_bounded() -> None:
    async with harbour("alpha") as (station,), served(station) as (_, url), entered(url) as inside:
        async with client(url) as guesser:
            codes = [
                (await guesser.post("/api/enter", json={"token": f"guess {n}"})).status_code
                for n in range(access.ADDRESS_FAILURES)
            ]
            assert set(codes) == {401}
            answer = await guesser.post("/api/enter", json={"token": TOKEN})
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 60
        assert (await inside.get("/api/overview")).status_code == 200  # who is inside stays inside


def test_guessers_at_many_addresses_are_bounded_together_and_may_try_again_later() -> None:
    now = 0.0
    door = evolve(Access.of(TOKEN, (), None), now=lambda: now)
    for number in range(access.ALL_FAILURES):
        with pytest.raises(Denied) as denied:
            door.enter({"client": (f"10.0.{number}.1", 1)}, "wrong")
        assert denied.value.status == 401
    with pytest.raises(Denied) as denied:
        door.enter({"client": ("10.1.0.1", 1)}, TOKEN)
    assert denied.value.status == 429
    now = access.FAILURES_S + 1
    assert door.enter({"client": ("10.1.0.1", 1)}, TOKEN)
    for wrong in (None, 5, [TOKEN], "", TOKEN + " ", TOKEN.upper(), "\ud800"):
        with pytest.raises(Denied):
            door.enter({"client": ("10.2.0.1", 1)}, wrong)


def test_sessions_are_bounded_and_end() -> None:
    now = 0.0
    door = evolve(Access.of(TOKEN, (), None), now=lambda: now)
    cookies = [door.enter({}, TOKEN).partition(b";")[0] for _ in range(access.MAX_SESSIONS + 1)]
    assert not door.lets_in({}, {b"cookie": cookies[0]})
    assert door.lets_in({}, {b"cookie": b"a=b; " + cookies[-1]})
    now = access.SESSION_S + 1
    assert not door.lets_in({}, {b"cookie": cookies[-1]})


@run
async def test_names_that_point_here_from_elsewhere_are_refused() -> None:
    """DNS rebinding: a page of evil.example whose name suddenly has this address would be of the same origin."""
    async with harbour("alpha") as (station,), served(station, hosts=["Console.Example"]) as (_, url):
        port = url.rpartition(":")[2]
        bad = (
            "evil.example",
            f"evil.example:{port}",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "",
            "a:b:c",
            "x" * 999,
        )
        good = ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", "[::1]:80", "192.168.1.7", "console.example.:80")
        async with entered(url) as inside:
            for host in bad:
                for path in ("/", "/static/app.js", "/api/overview"):
                    answer = await inside.get(path, headers={"Host": host})
                    assert answer.status_code in (400, 421), host
                    assert "alpha" not in answer.text
            for host in good:
                answer = await inside.get("/", headers={"Host": host, "Origin": f"http://{host}"})
                assert answer.status_code == 200, host


@run
async def test_other_pages_in_the_same_browser_can_do_nothing() -> None:
    async with harbour("alpha") as (station,), served(station) as (_, url), entered(url) as inside:
        agent = await begin(station, WAITS)
        path = f"/api/agents/{agent.id}/order"
        port = url.rpartition(":")[2]
        pages: list[dict[str, str]] = [
            {"Origin": "http://evil.example"},
            {"Origin": "null"},  # a sandboxed page, as those that agents serve
            {"Origin": f"http://localhost:{port}"},
            {"Origin": "http://127.0.0.1:1"},
            {"Origin": url, "Sec-Fetch-Site": "cross-site"},
            {"Origin": url, "Sec-Fetch-Site": "same-site"},
        ]
        for headers in pages:
            assert (await inside.post(path, json={"what": "dispose"}, headers=headers)).status_code == 403, headers
        request = inside.build_request("POST", path, json={"what": "dispose"})
        del request.headers["origin"]
        assert (await inside.send(request)).status_code == 403
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            answer = await inside.post(path, content=b'{"what":"dispose"}', headers={"Content-Type": kind})
            assert answer.status_code == 415  # a form of another page could send these
        read = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        for path in ("/api/overview", "/api/events", "/static/app.js"):
            assert (await inside.get(path, headers=read)).status_code == 403
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert (await inside.get("/", headers=link)).status_code == 200
        assert (await inside.get("/api/overview", headers=link)).status_code == 403
        for headers in ({}, {"Access-Control-Request-Method": "POST"}):
            answer = await inside.options("/api/overview", headers=headers)
            assert answer.status_code == 405
            assert not any(name.startswith("access-control") for name in answer.headers)
        assert agent.standing in ("ready", "waiting")


@run
async def test_every_answer_keeps_scripts_and_frames_out() -> None:
    async with harbour("alpha") as (station,), served(station) as (_, url), entered(url) as inside:
        for path in ("/", "/static/app.js", "/api/overview", "/api/none", "/none", "/api/agents?limit=x&offset=-1"):
            answer = await inside.get(path)
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'")
            assert "unsafe" not in policy
            assert "http" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["referrer-policy"] == "no-referrer"
            if path.startswith("/api"):
                assert answer.headers["cache-control"] == "no-store"


@run
async def test_only_the_files_of_the_page_are_served() -> None:
    async with harbour("alpha") as (station,), served(station) as (_, url):
        host, port = url.removeprefix("http://").split(":")
        for path in (
            "/static/../app.py",
            "/static/%2e%2e/app.py",
            "/static/..%2fapp.py",
            "/static//etc/passwd",
            "/static/",
            "/static/index.html/",
            "/index.html",
            "/static/app.js%00",
            "//evil.example/",
            "/api",
        ):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
            status = int((await reader.readline()).split()[1])
            writer.close()
            assert status in (400, 401, 404), path


@run
async def test_bodies_are_small_json() -> None:
    async with harbour("alpha") as (station,), served(station) as (_, url), client(url) as outside:
        kind = {"Content-Type": "application/json"}

        async def code(content: Any, **headers: str) -> int:
            return (await outside.post("/api/enter", content=content, headers={**kind, **headers})).status_code

        async def pieces() -> Any:
            yield b"{}"

        assert await code(b"{" * (MAX_BODY_BYTES + 1)) == 413
        assert await code(b"[" * MAX_BODY_BYTES) == 400
        assert await code(b"[]") == 400
        assert await code(b"\xff\xfe") == 400
        assert await code(b"") == 400
        assert await code(pieces()) == 411
        assert await code(b'{"token": {"token": []}}') == 401


@pytest.mark.parametrize("token", ["short", "x" * 201, "with a new\nline in it", "é" * 20])
def test_tokens_that_are_none(token: str) -> None:
    with pytest.raises(StationError, match="16 to 200"):
        Settings(token=token)


def test_a_token_is_made_where_none_is_given_and_is_not_shown() -> None:
    one, other = Settings(), Settings()
    assert one.token != other.token
    assert len(one.token) == 32
    assert one.token not in repr(one)
