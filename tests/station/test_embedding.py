"""Stations inside other programs: ASGI applications, plain scripts, several at once; and what they count."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import docking
from docking import Policy, Station
from docking.errors import KeyFileError, StationError, StoreUnusable
from docking.http.server import listen
from tests.patience import PATIENCE
from tests.residents.guests import RESTING
from tests.served import Served
from tests.station.harbour import OWNER, TIMING, harbour, journey, packed, places, program, run, station

GREET = program("(drop (call $go (s 0))) (call $tell_here)", "dock")


@run
async def test_mounted_in_an_application() -> None:
    async def hello(request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    dock = Station("dock", policy=Policy(owners=[OWNER.public]), port=None, mdns=False, timing=TIMING)
    app = Starlette(routes=[Route("/hello", hello), Mount("/dock", dock.asgi())])
    async with Served(app, "on") as served, harbour("home") as (home,):
        dock.url = f"{served.url}/dock"
        async with dock:
            assert dock.port is None
            await home.introductions.call_on(dock.url)
            report = await journey(home, GREET, "dock")
    assert places(report) == ["dock"]


@pytest.mark.parametrize("lifespan", ["on", "off"])
def test_served_by_itself(lifespan: str) -> None:
    """Its life is that of the server; or it begins with the first request, where a server tells nothing."""

    @run
    async def main() -> None:
        dock = Station("dock", policy=Policy(owners=[OWNER.public]), port=None, mdns=False, timing=TIMING)
        async with Served(dock.asgi(), lifespan) as served, harbour("home") as (home,):
            dock.url = served.url
            await home.introductions.call_on(served.url)
            assert places(await journey(home, GREET, "dock")) == ["dock"]
        if lifespan == "on":
            with pytest.raises(StationError, match="not running"):
                _ = dock.core
        else:
            await dock.close()

    main()


def test_in_a_thread_of_a_plain_script() -> None:
    def made(name: str) -> Station:
        return Station(name, policy=Policy(owners=[OWNER.public]), host="127.0.0.1", mdns=False, timing=TIMING)

    with made("home").in_thread() as home, made("dock").in_thread() as dock:

        @dock.service("oracle")
        def oracle(request: bytes) -> bytes:
            return b"yes"

        home.do(home.station.introductions.call_on(dock.url))
        agent = home.launch(packed(GREET), ["dock"], owner=OWNER)
        report = agent.wait(PATIENCE)
        assert places(report) == ["dock"]
        assert agent.where() == "dock"
        assert home.agent(agent.id).standing == "finished"
        assert home.key == home.station.key


def test_in_a_thread_of_a_program_whose_loop_runs() -> None:
    """As in a notebook, whose cells run inside a loop."""

    @run
    async def main() -> None:
        with Station("home", policy=Policy(), host="127.0.0.1", port=0, mdns=False, timing=TIMING).in_thread() as home:
            assert home.url.startswith("http://127.0.0.1:")

    main()


def test_what_cannot_start_leaves_nothing_behind(tmp_path: Path) -> None:
    taken = listen("127.0.0.1", 0)
    port = taken.getsockname()[1]

    @run
    async def main() -> None:
        first = Station("home", tmp_path / "home", host="127.0.0.1", port=port, mdns=False)
        with pytest.raises(StationError, match="--port"):
            await first.start()
        async with station("home", tmp_path / "home") as home:
            with pytest.raises(StoreUnusable, match="running already"):
                await station("home", tmp_path / "home").start()
            with pytest.raises(StationError, match="running already"):
                await home.start()
        with pytest.raises(StationError, match="not running"):
            _ = home.introductions

    main()
    taken.close()


@run
async def test_a_home_has_one_station_at_a_time_also_without_a_store(tmp_path: Path) -> None:
    async with station("home", tmp_path / "home", volatile=True):
        for volatile in (True, False):
            with pytest.raises(StoreUnusable, match="running already"):
                await station("home", tmp_path / "home", volatile=volatile).start()
    async with station("home", tmp_path / "home"):
        pass


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    @run
    async def main() -> None:
        async with station("home", tmp_path / "home") as home:
            key = home.key
        async with station("home", tmp_path / "home") as home:
            assert home.key == key
        (tmp_path / "home" / "station.key").chmod(0o644)
        with pytest.raises(KeyFileError, match="chmod 600"):
            await station("home", tmp_path / "home").start()

    main()


def test_loose_policies_are_said_loudly(caplog: pytest.LogCaptureFixture) -> None:
    @run
    async def main() -> None:
        async with Station("home", dev=True, host="127.0.0.1", mdns=False):
            pass

    with caplog.at_level(logging.WARNING):
        main()
    assert any("ANY owner" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"port": None}, ["another key", "two stations", "its agents end", "home="]),
        ({"port": None, "key": OWNER}, ["its agents end", "home="]),
        ({"port": 0}, []),  # not inside an application: whoever writes it without a home wants none
    ],
)
def test_a_mounted_station_without_a_home_says_what_it_loses(
    options: dict[str, Any], said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    @run
    async def main() -> None:
        async with Station("dock", policy=Policy(), host="127.0.0.1", mdns=False, **options):
            pass

    with caplog.at_level(logging.WARNING):
        main()
    text = "".join(record.message for record in caplog.records)
    assert all(each in text for each in said)
    assert ("another key" in text) == ("another key" in said)
    assert bool(text) == bool(said)


@run
async def test_metrics_are_in_the_format_of_prometheus() -> None:
    async with harbour("home", "dock", show_metrics=True) as (home, dock):
        await journey(home, GREET, "dock")
        text = dock.metrics()
        line = re.compile(r'(# (HELP|TYPE) portcall_[a-z_]+ .+|portcall_[a-z_]+(\{[a-z]+="[^"]+"\})? \d+)\Z')
        assert all(line.match(each) for each in text.splitlines())
        assert 'portcall_events_total{kind="arrived"} 1' in text
        assert "portcall_agents_busy 0" in text
        reader, writer = await asyncio.open_connection("127.0.0.1", dock.port)
        writer.write(b"GET /portcall/1/metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b"portcall_agents_busy" in await reader.read()
        writer.close()


def test_logging_is_structured(caplog: pytest.LogCaptureFixture) -> None:
    @run
    async def main() -> None:
        async with harbour("home", "dock") as (home, _):
            await journey(home, GREET, "dock")

    with caplog.at_level(logging.INFO, "portcall.station"):
        main()
    events = [(r.event, r.station, r.place) for r in caplog.records if hasattr(r, "event")]  # type: ignore[attr-defined]
    assert ("arrived", "dock", "home") in events
    assert ("home", "home", "dock") in events


def test_the_package_is_light_to_import() -> None:
    import subprocess
    import sys

    script = "import sys, docking; print(sorted({'asyncio', 'wasmtime', 'uvicorn', 'attr'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert set(docking.__all__) <= set(dir(docking))


def test_a_thread_that_would_wait_for_itself_says_so_and_one_that_has_ended_too() -> None:
    report = "(drop (call $report (s 0) (i32.const 2000) (call $call (s 0) (s 0) (i32.const 2000) (i32.const 900))))"
    asking = program(report, "begin")
    with station("alpha").in_thread() as running:

        @running.service("begin")
        async def begin_another(request: bytes) -> bytes:
            try:
                running.launch(packed(RESTING), owner=OWNER)
            except StationError as error:
                said = str(error)
            await running.station.launch(packed(RESTING), owner=OWNER)
            return said.encode()

        agent = running.launch(packed(asking), owner=OWNER)
        assert agent.wait(PATIENCE).results[0].text.startswith("this is the station's own thread")
        assert running.call(lambda: len(running.station.core.here.berths)) == 1
    with pytest.raises(StationError, match="alpha has ended"):
        running.launch(packed(RESTING), owner=OWNER)
    with pytest.raises(StationError, match="alpha has ended"):
        agent.where()
