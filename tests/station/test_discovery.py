"""mDNS on the loopback interface: stations find each other, and records that lie lead nowhere."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from zeroconf.asyncio import AsyncServiceInfo

from agents.credentials.keys import SecretKey
from docking import Policy, Station
from docking.discovery import TTL, TYPE, Discovery, has_multicast, look_around, own_addresses, sighting_of
from docking.peers import Sighting
from tests.station.harbour import OWNER, TIMING, Watch, journey, places, program, run

pytestmark = pytest.mark.skipif(not has_multicast(), reason="no multicast on this machine")
KEY = SecretKey(bytes(31) + b"k").public


@contextlib.asynccontextmanager
async def seen(*names: str) -> AsyncIterator[list[Station]]:
    """Stations that announce themselves on the loopback interface only."""
    async with contextlib.AsyncExitStack() as stack:
        stations = []
        for name in names:
            made = Station(name, policy=Policy(owners=[OWNER.public]), host="127.0.0.1", timing=TIMING)
            stations.append(await stack.enter_async_context(made))
        yield stations


@run
async def test_stations_find_each_other_and_miss_each_other() -> None:
    async with seen("mdns-one", "mdns-two") as (one, two):
        watch = Watch(one)
        assert await one.contacts.find("mdns-two", (), 20) == two.key
        assert await two.contacts.find("mdns-one", (), 20) == one.key
        report = await journey(one, program("(drop (call $go (s 0))) (call $tell_here)", "mdns-two"), "mdns-two")
        assert places(report) == ["mdns-two"]
        await two.close()
        await watch.until("peer", lambda event: event.text == "is not seen any more")
        assert [peer.name for peer in one.contacts.peers.all()] == []


@run
async def test_looking_around_without_a_station() -> None:
    async with seen("mdns-one") as (one,):
        found = [each for each in await look_around(3.0) if each.key == one.key]
        assert [(each.name, each.addresses) for each in found] == [("mdns-one", (one.url,))]


@run
async def test_services_that_come_later_are_told() -> None:
    async with seen("mdns-one", "mdns-two") as (one, two):
        await one.contacts.find("mdns-two", (), 20)
        watch = Watch(one)
        two.offer("oracle", lambda request: b"")
        await watch.until("peer", lambda event: event.text == "oracle")
        assert one.office._lookup("oracle") == ("mdns-two",)


@run
async def test_a_spoofed_record_does_not_get_the_name() -> None:
    """Somebody announces the name of a station with another key, at an address where nobody has that key."""
    async with seen("mdns-one", "mdns-two") as (one, two):
        await one.contacts.find("mdns-two", (), 20)
        liar = Sighting(f"liar.{TYPE}", "mdns-two", KEY, (two.url,))
        one.contacts.sighted(liar)
        assert await one.contacts.greet(KEY) is None
        assert await one.contacts.find("mdns-two") == two.key


@run
async def test_a_flood_of_records_is_bounded() -> None:
    async with seen("mdns-one") as (one,):
        peers = one.contacts.peers
        for number in range(5000):
            key = SecretKey(number.to_bytes(32, "big")).public
            peers.sight(Sighting(str(number), f"n{number}", key, ("http://127.0.0.1:1",)))
        assert len(peers.all()) == 4096


def record(port: int = 1, **changes: Any) -> AsyncServiceInfo:
    said = {"v": "1", "name": "beta", "key": KEY.text, "path": "/dock", "services": "a,b"} | changes
    fields = {name.encode(): value.encode() for name, value in said.items() if value is not None}
    return AsyncServiceInfo(TYPE, f"x.{TYPE}", port=port, properties=fields, parsed_addresses=["127.0.0.1", "::1"])


def test_what_a_record_says() -> None:
    sighting = sighting_of("x", record())
    assert sighting == Sighting("x", "beta", KEY, ("http://127.0.0.1:1/dock", "http://[::1]:1/dock"), ("a", "b"))


def test_addresses_that_are_nobodys_are_left_out() -> None:
    said = {b"v": b"1", b"name": b"beta", b"key": KEY.text.encode()}
    addresses = ["224.0.0.251", "0.0.0.0", "255.255.255.255", "ff02::fb", "::", "10.0.0.1"]
    info = AsyncServiceInfo(TYPE, f"x.{TYPE}", port=9, properties=said, parsed_addresses=addresses)
    sighting = sighting_of("x", info)
    assert sighting is not None
    assert sighting.addresses == ("http://10.0.0.1:9",)
    assert sighting_of("x", record(port=0)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"v": "2"},
        {"v": None},
        {"key": "ed25519:x"},
        {"key": None},
        {"name": "ä"},
        {"path": "no-slash"},
        {"path": "/x?y"},
        {"path": "/\x1b"},
    ],
)
def test_records_that_are_none(changes: dict[str, Any]) -> None:
    assert sighting_of("x", record(**changes)) is None


def test_what_is_announced_fits_and_expires() -> None:
    services = [f"service-number-{n}" for n in range(100)]
    ours = Discovery("beta", KEY, 7, "", ["127.0.0.1"], lambda: services, print, print)._record()
    assert len(ours.text) < 400
    assert (ours.host_ttl, ours.other_ttl) == (TTL, TTL)
    sighting = sighting_of("x", ours)
    assert sighting is not None
    assert set(sighting.services) < set(services)


def test_addresses_of_this_machine() -> None:
    assert own_addresses("127.0.0.1") == ["127.0.0.1"]
    assert own_addresses("0.0.0.0")
