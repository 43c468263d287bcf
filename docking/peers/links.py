"""The links of this machine: its network interfaces, their current addresses, and the routes to others.

Invariant: nothing is cached, since addresses come and go while a station runs.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import struct
import sys
from collections.abc import Iterable, Sequence

import ifaddr
from attrs import field, frozen

from agents.brief import brief

EVERYWHERE = ("", "0.0.0.0", "::")
# Links to consider: a machine with many containers has one for each of their networks.
MAX_LINKS = 64
# Addresses reserved for documentation (RFC 5737, RFC 3849): the route to them is the default route.
_FAR = ("192.0.2.1", "2001:db8::1")


@frozen
class Link:
    """An interface with addresses.

    `up`: enabled, and with a carrier; `networks`: those of its addresses, such as `10.0.0.0/24`.
    """

    index: int
    name: str
    addresses: tuple[str, ...] = field(repr=brief)
    up: bool = True
    networks: tuple[str, ...] = field(default=(), repr=brief)

    @property
    def loopback(self) -> bool:
        """Whether it is the loopback interface."""
        return all(ipaddress.ip_address(each).is_loopback for each in self.addresses)

    @property
    def ipv4(self) -> str | None:
        """Its first IPv4 address."""
        return next((each for each in self.addresses if ":" not in each), None)

    @property
    def ipv6(self) -> bool:
        """Whether it has an IPv6 address, and so a link-local one (RFC 4291 section 2.8)."""
        return any(":" in each for each in self.addresses)

    def leads_to(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        """Whether the address is in a network of this link."""
        return any(address in ipaddress.ip_network(each) for each in self.networks)


def links() -> tuple[Link, ...]:
    """The current links of this machine, loopback last."""
    found = []
    for adapter in ifaddr.get_adapters():
        if adapter.index is None:
            continue
        own = {each.ip if isinstance(each.ip, str) else each.ip[0]: each.network_prefix for each in adapter.ips}
        addresses = tuple(each for each in own if ":" not in each or _is_ready(each, adapter.index))
        if addresses:
            networks = tuple(str(ipaddress.ip_network(f"{each}/{own[each]}", strict=False)) for each in addresses)
            found.append(Link(adapter.index, adapter.name, addresses, _is_up(adapter.name), networks))
    return tuple(sorted(found, key=lambda link: (link.loopback, not link.up, link.index))[:MAX_LINKS])


def _is_ready(address: str, index: int) -> bool:
    """Whether the address can be used: an IPv6 address cannot until duplicate address detection has finished."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0, 0, index if ipaddress.ip_address(address).is_link_local else 0))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True


def _is_up(name: str) -> bool:
    if not sys.platform.startswith("linux"):
        return True  # there, interfaces that are down have no addresses, or nothing can be sent
    import fcntl

    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        asked = fcntl.ioctl(sock, 0x8913, struct.pack("16sH14x", name.encode()[:15], 0))  # SIOCGIFFLAGS
        flags: int = struct.unpack_from("16xH", asked)[0]
        return flags & 0x41 == 0x41  # IFF_UP, IFF_RUNNING
    return False


def own_addresses(host: str, seen: Sequence[Link] | None = None) -> list[str]:
    """The addresses at which a server that listens at `host` can be reached, the most useful first.

    `seen`: the links; None looks them up. Link-local addresses are left out.
    """
    if host not in EVERYWHERE:
        return [host]
    found = []
    for link in links() if seen is None else seen:
        for each in link.addresses:
            address = ipaddress.ip_address(each)
            if not address.is_loopback and (address.version == 4 or (host == "::" and not address.is_link_local)):
                found.append(each)
    first = [way for far in _FAR if (way := way_to(far)) in found]
    return list(dict.fromkeys([*first, *found])) or ["127.0.0.1"]


def way_to(host: str) -> str | None:
    """The source address that this machine would use for packets to `host`. Nothing is sent."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(socket.getaddrinfo(host, 9, family, flags=socket.AI_NUMERICHOST)[0][4])
            return str(sock.getsockname()[0]).partition("%")[0]
    except (ValueError, OSError):
        return None


def towards(own: Iterable[str], hosts: Iterable[str]) -> list[str]:
    """Own addresses, first the source addresses of packets to `hosts`: the peers there can reach us at these."""
    addresses = list(own)
    ways = [way for host in hosts if (way := way_to(host)) in addresses]
    return list(dict.fromkeys([*ways, *addresses]))
