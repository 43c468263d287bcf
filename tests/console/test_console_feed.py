"""What happens, sent to many browsers, to slow ones, and to those of an attacker."""

from __future__ import annotations

import asyncio
import contextlib
import json

from docking.console.feed import MAX_EVENTS, MAX_READERS, MAX_WAITING, SYNC, Feed, Reader, Watched
from docking.console.server import MAX_ADDRESS_CONNECTIONS
from docking.errors import StationError
from docking.events import MAX_BACKLOG, Event, Events
from tests.console.browsing import served
from tests.console.test_console_access import entered
from tests.station.harbour import harbour, journey, program, run

HOPS = program("(drop (call $go (s 0))) (drop (call $go (s 1)))", "beta|alpha")


async def told(reader: Reader) -> dict[str, object]:
    """The next events that a reader is told."""
    while True:
        message = await reader.next()
        assert message is not None
        for each in message.split(b"\n\n"):
            if each.startswith(b"data: "):
                found: dict[str, object] = json.loads(each.removeprefix(b"data: "))
                return found


@run
async def test_nothing_is_subscribed_while_nobody_looks() -> None:
    events = Events()
    looked = Feed([Watched("alpha", lambda: events)])
    assert not events._listeners
    one, other = looked.join(), looked.join()
    assert one is not None
    assert other is not None
    while not events._listeners:
        await asyncio.sleep(0)
    assert len(events._listeners) == 1
    events.tell(Event(1, "left", "a" * 52, "label", "beta"))
    for reader in (one, other):
        assert await told(reader) == {
            "events": [
                {
                    "station": "alpha",
                    "time": 1,
                    "kind": "left",
                    "agent": "a" * 52,
                    "label": "label",
                    "place": "beta",
                    "text": "",
                }
            ],
            "lost": 0,
        }
    looked.close()
    while events._listeners:
        await asyncio.sleep(0.01)
    assert await one.next() is None


@run
async def test_a_flood_is_cut_and_said_to_be() -> None:
    events = Events()
    looked = Feed([Watched("alpha", lambda: events)])
    reader = looked.join()
    assert reader is not None
    while not events._listeners:
        await asyncio.sleep(0)
    for number in range(MAX_BACKLOG + 500):
        events.tell(Event(number, "log", "a" * 52, "x" * 64, "", "<script>" * 1000))
    found = await told(reader)
    shown = found["events"]
    assert isinstance(shown, list)
    assert len(shown) == MAX_EVENTS
    assert found["lost"] == MAX_BACKLOG + 500 - MAX_EVENTS
    assert len(json.dumps(found)) < 100_000
    looked.close()


def test_a_slow_reader_loses_what_waits_and_looks_again() -> None:
    reader = Reader()
    for number in range(MAX_WAITING):
        reader.put(b"data: %d\n\n" % number)
    assert len(reader._waiting) == MAX_WAITING
    reader.put(b"data: more\n\n")
    assert list(reader._waiting) == [SYNC]


@run
async def test_a_station_that_stops_and_starts_is_heard_again() -> None:
    lives: list[Events] = []

    def events() -> Events:
        if not lives:
            raise StationError("the station is not running")
        return lives[-1]

    looked = Feed([Watched("alpha", events)])
    reader = looked.join()
    assert reader is not None
    assert await reader.next() == SYNC
    for _ in range(2):
        lives.append(Events())
        assert SYNC in (await reader.next() or b"")
        lives[-1].tell(Event(1, "launched", "a" * 52))
        assert (await told(reader))["lost"] == 0
        lives[-1].close()
        del lives[-1]
        assert SYNC in (await reader.next() or b"")
    looked.close()


@run
async def test_a_thousand_streams_hold_nobody_up() -> None:
    async with harbour("alpha", "beta") as (alpha, beta), served(alpha, beta) as (console, url), entered(url) as inside:
        cookie = "; ".join(f"{name}={value}" for name, value in inside.cookies.items())
        host, port = url.removeprefix("http://").split(":")
        ask = f"GET /api/events HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookie}\r\n\r\n".encode()
        opened = []
        answers = {"200": 0, "503": 0}
        for _ in range(1000):
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(host, int(port))
                opened.append(writer)
                writer.write(ask)
                line = await reader.readline()
                if line:
                    answers[line.split()[1].decode()] += 1
                # What is open is never read again: these are slow readers too.
        assert answers["200"] == MAX_READERS
        assert answers["503"] == 1000 - MAX_READERS
        assert len(console.feed.readers) == MAX_READERS < MAX_ADDRESS_CONNECTIONS
        # The stations work on, and who is inside still sees.
        report = await journey(alpha, HOPS, "beta", "alpha")
        assert [stay.station for stay in report.trail] == ["alpha", "beta", "alpha"]
        assert (await inside.get("/api/overview")).status_code == 200
        for writer in opened:
            writer.transport.abort()
        while console.feed.readers:
            await asyncio.sleep(0.01)
        async with inside.stream("GET", "/api/events") as stream:
            assert stream.headers["content-type"] == "text/event-stream"
            async for line in stream.aiter_lines():
                assert line == "event: sync"
                break
