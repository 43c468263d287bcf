"""Stations on hosts whose links and addresses are not what they were, or are unusual: they find each other.

As in `test_partition`: network namespaces, real stations with mDNS, nobody tells them of each other.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bench.place import Steered
from tests.netns import hosts
from tests.patience import PATIENCE

WHY_NOT = hosts.missing()
pytestmark = [pytest.mark.sweep, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "it can")]
NAMES = ("alpha", "beta")


def until(what: Callable[[], bool], name: str) -> None:
    """Wait for something that other processes do."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, name
        time.sleep(0.05)


@pytest.fixture
def network() -> Iterator[hosts.Network]:
    with hosts.network(*NAMES) as made:
        yield made


@contextlib.contextmanager
def begun(network: hosts.Network, host: str = "0.0.0.0") -> Iterator[dict[str, Steered]]:
    """A station on each host."""
    owner = secrets.token_bytes(32)
    stations: dict[str, Steered] = {}
    try:
        for name in NAMES:
            options = ["--volatile", "--hasty", "--threads", "2", "--host", host, "--mdns"]
            stations[name] = Steered.start(name, owner, *options, within=network.within(name))
        for each in stations.values():
            each.await_ready()
        yield stations
    finally:
        for each in stations.values():
            each.end()


def met(stations: dict[str, Steered]) -> bool:
    """Whether each has found the other."""
    return all(stations[name].ask("peers") == [other] for name, other in (NAMES, NAMES[::-1]))


def test_a_network_that_comes_late_and_then_changes(network: hosts.Network) -> None:
    for name in NAMES:
        network.link(name, "down")
        network.readdress(name)
    with begun(network) as stations:
        assert not met(stations)
        for number, name in enumerate(NAMES, 1):
            network.readdress(name, f"192.168.77.{number}/24")
            network.link(name, "up")
        until(lambda: met(stations), "the network came late")
        network.readdress("alpha", "192.168.77.9/24")
        until(lambda: "192.168.77.9" in stations["beta"].ask("where", name="alpha")[0], "an address changed")
        for number, name in enumerate(NAMES, 1):
            network.readdress(name, f"10.5.5.{number}/24")
        until(lambda: "10.5.5.1" in stations["beta"].ask("where", name="alpha")[0], "the network changed")
        until(lambda: "10.5.5.2" in stations["alpha"].ask("where", name="beta")[0], "the network changed")


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="no IPv6")
def test_a_link_without_ipv4(network: hosts.Network) -> None:
    for number, name in enumerate(NAMES, 1):
        network.readdress(name, f"2001:db8::{number}/64")
    with begun(network, "::") as stations:
        until(lambda: met(stations), "IPv6 alone")
        assert stations["beta"].ask("where", name="alpha")[0].startswith("http://[2001:db8::1]:")


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="no IPv6")
def test_a_link_whose_addresses_are_of_that_link_only(network: hosts.Network) -> None:
    """No router, no DHCP: fe80::, which means something on one link only."""
    for name in NAMES:
        network.readdress(name)
    with begun(network, "::") as stations:
        until(lambda: met(stations), "addresses of the link")
        until(lambda: "%eth0]:" in "".join(stations["beta"].ask("where", name="alpha")[:1]), "the address of the link")


def test_a_host_with_more_addresses_than_are_told(network: hosts.Network) -> None:
    """Those of container networks stand before the one that leads here, and lead nowhere from here."""
    for number in range(9):
        for name in NAMES:
            network.bridge(name, f"br{number}", f"172.{16 + number}.{NAMES.index(name)}.1/16")
    with begun(network) as stations:
        until(lambda: met(stations), "many addresses")
        assert stations["beta"].ask("where", name="alpha")[0].startswith("http://10.213.0.1:")
        assert stations["alpha"].ask("where", name="beta")[0].startswith("http://10.213.0.2:")


def test_a_station_that_is_killed_and_one_that_ends(network: hosts.Network) -> None:
    """The second says goodbye; of the first nothing is known but that it is not heard any more."""
    with begun(network) as stations:
        until(lambda: met(stations), "they meet")
        stations["beta"].end()
        until(lambda: stations["alpha"].ask("peers") == [], "a goodbye")
