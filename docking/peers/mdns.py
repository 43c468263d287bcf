"""mDNS: announces this station, and browses for others. Announcements are hints, and never trusted.

    _portcall._tcp.local.   TXT  v=1  name=alpha  key=ed25519:...  path=/dock  services=a,b,c

python-zeroconf implements the protocol; this module and `docking.peers.introductions` add what it leaves out
(docs/adr/zeroconf-and-what-it-leaves-out.md). Records are bounded, and believed only after the station has proven its
key in a sealed exchange. Invariants: nothing waits for an announcement; a station that stops withdraws its records; one
that is killed does not, so announcements do not show who is present.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from attrs import define, field, frozen
from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from agents.credentials.keys import PublicKey
from agents.errors import CredentialError
from docking.aio.failures import describe_error
from docking.aio.timeouts import ended, within
from docking.errors import StationError
from docking.peers import dotted_labels
from docking.peers.directory import MAX_PEER_ADDRESSES, SERVICE, Sighting, clean_services, source_of
from docking.peers.links import EVERYWHERE, Link, links, own_addresses

_log = logging.getLogger(__name__)
TXT_VERSION = b"1"
# Seconds for which others may cache a record. They cache the PTR record of a service for longer.
TTL_S = 60
# Milliseconds to wait for the details of a record.
DETAILS_TIMEOUT_MS = 3000
# Records being resolved at once, and records waiting for that: bounds the cost of a flood of invented names.
MAX_RESOLVING, MAX_WAITING = 32, 4096
MAX_SERVICES_TEXT = 200
# Addresses in an announcement. Receivers use MAX_PEER_ADDRESSES of them, those in their own networks first.
MAX_ANNOUNCED = 32
# Links that are served with IPv4: Linux's limit of groups for one socket (net.ipv4.igmp_max_memberships).
MAX_LINKS = 20
# Characters of the path where a station is mounted.
MAX_PATH = 64
# Seconds for each step of closing.
CLOSE_STEP_TIMEOUT_S = 1.0


@frozen
class Spot:
    """Where a station can be reached: its port, the path where it is mounted, the address that it listens on."""

    port: int
    path: str
    host: str


@define(eq=False, repr=False)
class _Open:
    """The sockets for one set of links."""

    zeroconf: AsyncZeroconf
    browser: AsyncServiceBrowser
    said: AsyncServiceInfo | None = None


@define(eq=False, repr=False)
class Mdns:
    """Announces and browses.

    `spot()`: where the station is now, None to announce nothing; `services()`: what it offers; `sighted(sighting)` and
    `lost(source)` are called in the event loop.
    """

    name: str
    key: PublicKey
    spot: Callable[[], Spot | None]
    services: Callable[[], Sequence[str]]
    sighted: Callable[[Sighting], None]
    lost: Callable[[str], None]
    _links: tuple[Link, ...] = ()
    _open: _Open | None = None
    _problem: str = ""
    _tasks: set[asyncio.Future[Any]] = field(factory=set)
    _leaving: set[asyncio.Future[Any]] = field(factory=set)
    _speaking: asyncio.Lock = field(factory=asyncio.Lock)
    _looks: asyncio.Semaphore = field(factory=lambda: asyncio.Semaphore(MAX_RESOLVING))
    _waiting: set[str] = field(factory=set)

    def start(self, seen: Sequence[Link] | None = None) -> None:
        """Start announcing and browsing. `seen`: the links. Raises `StationError` where there is no multicast."""
        problem = self._follow(links() if seen is None else seen)
        if self._open is None:
            raise StationError(
                f"mDNS cannot be used here ({self._problem or 'no network'}): give --no-mdns, and peers with --peer URL"
            ) from problem

    # Links

    def follow(self, seen: Sequence[Link]) -> None:
        """Use these links from now on. Known stations stay known."""
        self._follow(seen)

    def _follow(self, seen: Sequence[Link]) -> Exception | None:
        now = self._wanted(seen)
        if now == self._links and self._open is not None:
            return None
        self._links = now
        try:
            opened = self._opened(now)
        except (OSError, RuntimeError) as error:  # RuntimeError: a link went away meanwhile
            problem = str(getattr(error, "strerror", None) or error)
            if problem != self._problem:
                _log.info("mDNS cannot be used: %s", problem)
            self._problem = problem
            self._leave()
            return error
        self._leave()
        self._open, self._problem = opened, "" if opened is not None else "no network"
        self.update()
        return None

    def _wanted(self, seen: Sequence[Link]) -> tuple[Link, ...]:
        """The links to serve: loopback alone for a station that listens only there."""
        spot = self.spot()
        if spot is not None and spot.host not in EVERYWHERE and _loopback(spot.host):
            return tuple(link for link in seen if link.loopback)
        return tuple(seen)

    def _opened(self, seen: Sequence[Link]) -> _Open | None:
        """Sockets on these links. Raises `OSError`, `RuntimeError`."""
        by_v4, by_v6 = interfaces(seen)
        choices = [(by_v4 + by_v6, IPVersion.All if by_v4 else IPVersion.V6Only)] if by_v6 else []
        choices += [(by_v4, IPVersion.V4Only)] if by_v4 else []
        problem: OSError | None = None
        for chosen, version in choices:
            try:
                zeroconf = AsyncZeroconf(interfaces=chosen, ip_version=version)
            except OSError as error:  # a kernel without IPv6
                problem = problem or error
                continue
            _keep(self._tasks, _translated(zeroconf.zeroconf))
            return _Open(zeroconf, AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[self._changed]))
        if problem is not None:
            raise problem
        return None

    def _leave(self) -> None:
        """Close the sockets without a goodbye: the station is still there."""
        if self._open is None:
            return
        left, self._open = self._open, None
        registry = left.zeroconf.zeroconf.registry
        registry.async_remove(registry.async_get_service_infos())
        _keep(self._leaving, _closed(left))

    # Announcing

    def update(self) -> None:
        """Announce again: the station's services or its address have changed."""
        if self._open is not None:
            _keep(self._tasks, self._update(self._open))

    def announcement(self) -> AsyncServiceInfo | None:
        """This station's announcement; None to announce nothing."""
        spot = self.spot()
        if spot is None:
            return None
        addresses = own_addresses(spot.host, self._links)
        if spot.host == "::":
            local = [each for link in self._links for each in link.addresses if _link_local(each)]
            addresses = [each for each in addresses if not (local and _loopback(each))] + local
        services = ",".join(self.services()).encode()
        if len(services) > MAX_SERVICES_TEXT:
            services = services[:MAX_SERVICES_TEXT].rpartition(b",")[0]
        return AsyncServiceInfo(
            SERVICE,
            source_of(self.name, self.key),
            port=spot.port,
            properties={
                b"v": TXT_VERSION,
                b"name": self.name.encode(),
                b"key": self.key.text.encode(),
                b"path": spot.path.encode(),
                b"services": services,
            },
            server=f"{self.key.id}.local.",
            parsed_addresses=list(dict.fromkeys(addresses))[:MAX_ANNOUNCED],
            host_ttl=TTL_S,
            other_ttl=TTL_S,
        )

    async def _update(self, where: _Open) -> None:
        try:
            await self._say(where)
        except ZeroconfError:
            if where is self._open:  # otherwise the links have changed: the new ones announce it
                raise

    async def _say(self, where: _Open) -> None:
        async with self._speaking:
            if where is not self._open:
                return
            zeroconf, said, now = where.zeroconf, where.said, self.announcement()
            repeated: Awaitable[Any] | None = None
            if now is None and said is not None:
                repeated = await zeroconf.async_unregister_service(said)
            elif now is not None and said is None:
                # The name contains the key's id, so a conflict is with our own earlier process: no need to negotiate.
                repeated = await zeroconf.async_register_service(now, cooperating_responders=True)
            elif now is not None:
                repeated = await zeroconf.async_update_service(now)
            where.said = now
        if repeated is not None:
            await repeated

    # Browsing

    def _changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if self._open is None or zeroconf is not self._open.zeroconf.zeroconf:
            return
        if state_change is ServiceStateChange.Removed:
            self.lost(name)
        elif name not in self._waiting and len(self._waiting) < MAX_WAITING:
            self._waiting.add(name)
            _keep(self._tasks, self._look(zeroconf, name))

    async def _look(self, zeroconf: Zeroconf, name: str) -> None:
        async with self._looks:
            self._waiting.discard(name)
            try:
                info = AsyncServiceInfo(SERVICE, name)
                found = await info.async_request(zeroconf, DETAILS_TIMEOUT_MS)
            except ZeroconfError as error:  # an invalid name, or the links have changed meanwhile
                _log.debug("mDNS: %s", error)
                return
        sighting = sighting_of(name, info, self._links) if found else None
        if sighting is not None and sighting.key != self.key:
            self.sighted(sighting)

    async def close(self) -> None:
        """Withdraw the announcement, and stop browsing."""
        await ended(self._tasks, CLOSE_STEP_TIMEOUT_S)
        if self._open is not None:
            # Sends the goodbye at once; the rest of closing has no deadline of its own.
            await _soon(self._open.zeroconf.async_unregister_all_services())
            self._leave()
        for each in tuple(self._leaving):
            await _soon(_until(each))


def _keep(tasks: set[asyncio.Future[Any]], work: Coroutine[Any, Any, None]) -> None:
    def over(task: asyncio.Future[Any]) -> None:
        tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("mDNS: %s", describe_error(error))

    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(over)


async def _translated(zeroconf: Zeroconf) -> None:
    with contextlib.suppress(ZeroconfError):  # closed before it was open
        await dotted_labels.translate(zeroconf)


async def _until(task: asyncio.Future[Any]) -> None:
    await asyncio.wait({task})


async def _closed(left: _Open) -> None:
    await left.browser.async_cancel()
    await left.zeroconf.async_close()


async def _soon(closing: Coroutine[Any, Any, None]) -> None:
    try:
        await within(CLOSE_STEP_TIMEOUT_S, closing)
    except asyncio.TimeoutError:
        _log.info("mDNS: closing takes longer than %g s, and is not waited for", CLOSE_STEP_TIMEOUT_S)
    except Exception as error:
        _log.warning("mDNS: %s", describe_error(error))


def interfaces(seen: Sequence[Link]) -> tuple[list[str | int], list[str | int]]:
    """The links as arguments for python-zeroconf: addresses for IPv4; addresses or interface indices for IPv6.

    One of each per link, since a second would only join the same group again. Link-local addresses where there are
    some: a receiver knows on which link such a packet arrived, and so where the other announced addresses are.
    """
    by_v4, by_v6 = list[str | int](), list[str | int]()
    local = [each for link in seen for each in link.addresses if _link_local(each)]
    for link in sorted(seen, key=lambda link: not (link.up or link.loopback)):
        if link.ipv4 is not None and len(by_v4) < MAX_LINKS:
            by_v4.append(link.ipv4)
        if link.ipv6 and not link.loopback:
            # An address that is on two links is ambiguous.
            own = (each for each in link.addresses if _link_local(each) and local.count(each) == 1)
            by_v6.append(next(own, link.index))
    return by_v4, by_v6


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _link_local(text: str) -> bool:
    return ":" in text and ipaddress.ip_address(text).is_link_local


async def look_around(seconds: float) -> list[Sighting]:
    """The stations announced on the network, found without being a station. Unproven. Raises `StationError`."""
    seen: dict[str, Sighting] = {}

    def sighted(sighting: Sighting) -> None:
        seen[sighting.source] = sighting

    def lost(source: str) -> None:
        seen.pop(source, None)

    browser = Mdns("", PublicKey(bytes(32)), lambda: None, lambda: (), sighted, lost)
    try:
        browser.start()
        await asyncio.sleep(seconds)
    finally:
        await browser.close()
    return sorted(seen.values(), key=lambda sighting: sighting.name)


def sighting_of(source: str, info: AsyncServiceInfo, seen: Sequence[Link] = ()) -> Sighting | None:
    """A record as a sighting, if it can be a station's. `seen`: our links; addresses in their networks come first."""
    said = info.properties
    try:
        if said.get(b"v") != TXT_VERSION or not info.port:
            return None
        name = (said.get(b"name") or b"").decode("ascii")
        key = PublicKey.from_text((said.get(b"key") or b"").decode("ascii"))
        path = (said.get(b"path") or b"").decode("ascii")[:MAX_PATH].rstrip("/")
        services = clean_services((said.get(b"services") or b"").decode("ascii").split(","))
    except (UnicodeDecodeError, CredentialError):
        return None
    if not path.isprintable() or any(c in path for c in " ?#") or (path and not path.startswith("/")):
        return None
    urls = [f"http://{host}:{info.port}{path}" for host in _hosts(info.parsed_scoped_addresses(), seen)]
    return Sighting(source, name, key, tuple(dict.fromkeys(urls))[:MAX_PEER_ADDRESSES], services) if urls else None


def _hosts(addresses: Sequence[str], seen: Sequence[Link]) -> list[str]:
    """Addresses in the form that URLs use: first those in our networks, and those that need no link."""
    found, names = [], {str(link.index): link.name for link in seen}
    for text in addresses[:MAX_ANNOUNCED]:
        address = ipaddress.ip_address(text)
        local = address.version == 6 and address.is_link_local
        if not _is_somebodys(address) or (local and "%" not in text):
            continue
        near = any(link.leads_to(address) for link in seen)
        plain, _, scope = text.partition("%")
        host = plain if address.version == 4 else f"[{plain}%{names.get(scope, scope)}]" if local else f"[{plain}]"
        found.append((local, not near, address.version, host))
    return [host for *_, host in sorted(found, key=lambda each: each[:3])]


def _is_somebodys(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether the address can belong to one machine: a whole group would receive a request to a multicast address."""
    return not (address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255")


def has_multicast() -> bool:
    """Whether this machine allows programs to join the mDNS group at all."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        group = socket.inet_aton("224.0.0.251") + socket.inet_aton("127.0.0.1")
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        return True
    return False
