"""`portcall station --console`: its options, and the console that it serves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import httpx
import pytest

from docking.cli.console import ConsoleOptions, own_keys
from docking.errors import StationError
from docking.trust.identity import Protection, create_key
from tests.station.harbour import harbour, run, station

TOKEN = "a-token-from-a-file"


@pytest.mark.parametrize(
    "given", [{"console_port": 0}, {"console_host": "::1"}, {"console_names": ("x",)}, {"console_token": Path("x")}]
)
def test_options_that_need_another_one(given: dict[str, object]) -> None:
    none = {
        "console": False,
        "console_port": None,
        "console_host": None,
        "console_names": (),
        "console_token": None,
    }
    ConsoleOptions.of(none)
    with pytest.raises(click.UsageError, match="need --console"):
        ConsoleOptions.of(none | given)
    ConsoleOptions.of(none | given | {"console": True})


def test_what_is_wrong_is_told_before_anything_starts(tmp_path: Path) -> None:
    made = [station("alpha")]
    (tmp_path / "short").write_text("short\n")
    with pytest.raises(StationError, match="16 to 200"):
        ConsoleOptions(True, 0, None, (), tmp_path / "short").prepare(made)
    with pytest.raises(StationError, match="--console-host"):
        ConsoleOptions(True, 0, "192.0.2.1", (), None).prepare(made)


@run
async def test_it_prints_a_link_and_serves_until_it_is_cancelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    async with harbour("alpha") as (alpha,):
        serve = ConsoleOptions(True, 0, None, (), tmp_path / "token").prepare([alpha])
        task = asyncio.get_running_loop().create_task(serve())
        said = ""
        while "console: " not in said:
            await asyncio.sleep(0.005)
            said += capsys.readouterr().err
        link = said.split()[-1]
        url, _, token = link.partition("/#token=")
        assert url.startswith("http://127.0.0.1:")
        assert token == TOKEN
        async with httpx.AsyncClient(base_url=url, headers={"Origin": url}, trust_env=False) as browser:
            assert (await browser.post("/api/enter", json={"token": token})).status_code == 200
            assert (await browser.get("/api/overview")).json()["stations"][0]["name"] == "alpha"
            async with browser.stream("GET", "/api/events") as stream:
                # An open stream does not hold the station up when it ends.
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await stream.aclose()
        async with httpx.AsyncClient(base_url=url, trust_env=False) as browser:
            with pytest.raises(httpx.ConnectError):
                await browser.get("/")
        await ConsoleOptions(False, None, None, (), None).prepare([alpha])()


@run
async def test_who_opens_it_to_others_is_told_what_that_means(capsys: pytest.CaptureFixture[str]) -> None:
    async with harbour("alpha") as (alpha,):
        task = asyncio.get_running_loop().create_task(ConsoleOptions(True, 0, "0.0.0.0", (), None).prepare([alpha])())
        said = ""
        while "not encrypted" not in said:
            await asyncio.sleep(0.005)
            said += capsys.readouterr().err
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_keys_that_open_results_need_no_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTCALL_KEYS", str(tmp_path))
    assert own_keys() == []
    made = create_key(tmp_path / "me.key", "me", bytes(32))
    protection = Protection("secret", bytes(40), 1, 8192)
    create_key(tmp_path / "other.key", "other", bytes(31) + b"x", protection)
    assert [key.public for key in own_keys()] == [made.public]
    (tmp_path / "me.key").chmod(0o644)
    assert own_keys() == []
