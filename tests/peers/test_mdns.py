"""mDNS on the loopback interface: stations find each other, and records that lie lead nowhere."""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from attrs import evolve
from zeroconf.asyncio import AsyncServiceInfo

from agents.credentials.keys import SecretKey
from docking import Policy, Station
from docking.peers.directory import MAX_PEER_ADDRESSES, SERVICE, Sighting, source_of, url_of
from docking.peers.links import Link, links, own_addresses
from docking.peers.mdns import MAX_LINKS, Mdns, Spot, has_multicast, interfaces, look_around, sighting_of
from tests.station.harbour import OWNER, TIMING, Watch, journey, places, program, run

pytestmark = pytest.mark.skipif(not has_multicast(), reason="no multicast on this machine")
KEY = SecretKey(bytes(31) + b"k").public
# Others on this machine may run the same tests, and all hear each other.
ONE, TWO, THREE = (f"mdns-{word}-{secrets.token_hex(4)}" for word in ("one", "two", "three"))


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
    async with seen(ONE, TWO) as (one, two):
        watch = Watch(one)
        assert await one.introductions.find(TWO, (), 20) == two.key
        assert await two.introductions.find(ONE, (), 20) == one.key
        report = await journey(one, program("(drop (call $go (s 0))) (call $tell_here)", TWO), TWO)
        assert places(report) == [TWO]
        await two.close()
        await watch.until("peer", lambda event: event.place == TWO and event.text == "is not seen any more")
        assert TWO not in {peer.name for peer in one.introductions.peers.all()}


@run
async def test_looking_around_without_a_station() -> None:
    async with seen(ONE) as (one,):
        found = [each for each in await look_around(3.0) if each.key == one.key]
        assert [(each.name, each.addresses) for each in found] == [(ONE, (one.url,))]


@run
async def test_services_that_come_later_are_told() -> None:
    async with seen(ONE, TWO) as (one, two):
        await one.introductions.find(TWO, (), 20)
        watch = Watch(one)
        two.offer("oracle", lambda request: b"")
        await watch.until("peer", lambda event: event.place == TWO and event.text == "oracle")
        assert [peer.name for peer in one.core.here.peers.offering("oracle")] == [TWO]


@run
async def test_nobody_is_forgotten_and_who_comes_new_is_found_when_the_links_change() -> None:
    async with seen(ONE, TWO) as (one, two):
        await one.introductions.find(TWO, (), 20)
        await two.introductions.find(ONE, (), 20)
        told = Watch(two)
        announcer = one.announcer
        lo = next(link for link in links() if link.loopback)
        announcer.follow([evolve(lo, addresses=(*lo.addresses, "127.0.0.2"))])
        assert not one.core.here.peers.missed()
        async with seen(THREE) as (three,):
            assert await one.introductions.find(THREE, (), 20) == three.key
            assert await three.introductions.find(ONE, (), 20) == one.key
            await told.until("peer", lambda event: event.place == THREE)
        assert not [event for event in told.seen if event.place == ONE and "not seen" in event.text]  # no goodbye
        assert {ONE} <= {peer.name for peer in two.introductions.peers.all()}
        assert {TWO} <= {peer.name for peer in one.introductions.peers.all()}


@run
async def test_no_link_is_no_end() -> None:
    async with seen(ONE, TWO) as (one, two):
        announcer = one.announcer
        announcer.follow([])
        announcer.follow(links())
        assert await two.introductions.find(ONE, (), 20) == one.key
        assert await one.introductions.find(TWO, (), 20) == two.key


@run
async def test_a_spoofed_record_does_not_get_the_name() -> None:
    """Somebody announces the name of a station with another key, at an address where nobody has that key."""
    async with seen(ONE, TWO) as (one, two):
        await one.introductions.find(TWO, (), 20)
        liar = Sighting("liar", TWO, KEY, (two.url,))
        one.introductions.sighted(liar)
        assert await one.introductions.greet(KEY) is None
        assert await one.introductions.find(TWO) == two.key


@run
async def test_a_flood_of_records_is_bounded() -> None:
    async with seen(ONE) as (one,):
        peers = one.introductions.peers
        for number in range(5000):
            key = SecretKey(number.to_bytes(32, "big")).public
            peers.sight(Sighting(str(number), f"n{number}", key, ("http://127.0.0.1:1",)))
        assert len(peers.all()) == 4096


def found(port: int = 1, addresses: Sequence[str] = ("127.0.0.1", "::1"), **changes: Any) -> AsyncServiceInfo:
    said = {"v": "1", "name": "beta", "key": KEY.text, "path": "/dock", "services": "a,b"} | changes
    fields = {name.encode(): value.encode() for name, value in said.items() if value is not None}
    index = next((int(each.partition("%")[2]) for each in addresses if "%" in each), None)
    plain = [each.partition("%")[0] for each in addresses]
    return AsyncServiceInfo(
        SERVICE,
        f"x.{SERVICE}",
        port,
        properties=fields,
        interface_index=index,
        addresses=[ipaddress.ip_address(each).packed for each in plain],
    )


def test_what_a_record_says() -> None:
    sighting = sighting_of("x", found())
    assert sighting == Sighting("x", "beta", KEY, ("http://127.0.0.1:1/dock", "http://[::1]:1/dock"), ("a", "b"))


def test_addresses_that_need_no_link_come_first_and_others_say_which() -> None:
    sighting = sighting_of("x", found(9, ["fe80::1%2", "2001:db8::1", "10.0.0.1"], path=""))
    assert sighting is not None
    assert sighting.addresses == ("http://10.0.0.1:9", "http://[2001:db8::1]:9", "http://[fe80::1%2]:9")
    named = sighting_of("x", found(9, ["fe80::1%2"], path=""), [Link(2, "eth0", ("fe80::2",))])
    assert named is not None
    assert named.addresses == ("http://[fe80::1%eth0]:9",)
    assert [url_of(each) for each in sighting.addresses + named.addresses] == [*sighting.addresses, *named.addresses]


def test_a_link_local_address_of_an_unknown_link_leads_nowhere() -> None:
    assert sighting_of("x", found(9, ["fe80::1"])) is None


def test_of_many_addresses_those_in_our_networks_are_kept() -> None:
    many = [f"172.{number}.0.1" for number in range(16, 32)]
    link = Link(2, "eth0", ("192.168.77.2",), networks=("192.168.77.0/24",))
    sighting = sighting_of("x", found(9, [*many, "192.168.77.1"], path=""), [link])
    assert sighting is not None
    assert sighting.addresses[0] == "http://192.168.77.1:9"
    assert len(sighting.addresses) == MAX_PEER_ADDRESSES


def test_addresses_that_are_nobodys_are_left_out() -> None:
    addresses = ["224.0.0.251", "0.0.0.0", "255.255.255.255", "ff02::fb", "::", "10.0.0.1"]
    sighting = sighting_of("x", found(9, addresses, path=""))
    assert sighting is not None
    assert sighting.addresses == ("http://10.0.0.1:9",)
    assert sighting_of("x", found(0)) is None
    assert sighting_of("x", found(9, [])) is None


@pytest.mark.parametrize("name", ["a", "pi.lab", "a" * 54, "a" * 55, "a.b" * 21])
def test_a_station_of_any_name_is_one_label(name: str) -> None:
    label, *rest = source_of(name, KEY).split(".")
    assert ".".join(rest) == SERVICE
    assert len(label.encode()) <= 63
    assert label.endswith(f" {KEY.id[:8]}")
    said = quiet(name=name).announcement()
    assert said is not None
    assert (said.name, said.properties[b"name"]) == (source_of(name, KEY), name.encode())


def quiet(name: str = "beta", host: str = "::") -> Mdns:
    return Mdns(name, KEY, lambda: Spot(7707, "/dock", host), lambda: ["a"], lambda sighting: None, lambda source: None)


def test_interfaces_are_named_once_a_link() -> None:
    lo = Link(1, "lo", ("127.0.0.1", "::1"))
    eth = Link(2, "eth0", ("10.0.0.1", "10.0.0.2", "2001:db8::1", "fe80::1"))
    six, twin = Link(3, "eth1", ("2001:db8:1::1", "fe80::2")), Link(4, "eth2", ("fe80::2",))
    assert interfaces([eth, lo]) == (["10.0.0.1", "127.0.0.1"], ["fe80::1"])
    assert interfaces([six]) == ([], ["fe80::2"])
    assert interfaces([six, twin]) == ([], [3, 4])  # one address, two links
    bridges = [Link(number, f"br{number}", (f"172.16.{number}.1",), up=False) for number in range(10, 40)]
    assert interfaces([*bridges, eth, lo])[0][:2] == ["10.0.0.1", "127.0.0.1"]
    assert len(interfaces(bridges)[0]) == MAX_LINKS


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
    assert sighting_of("x", found(**changes)) is None


def test_addresses_of_this_machine() -> None:
    assert own_addresses("127.0.0.1") == ["127.0.0.1"]
    assert own_addresses("0.0.0.0")
