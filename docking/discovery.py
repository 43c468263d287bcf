"""mDNS: announces this station, and browses for others. Hints about where to knock, never trust.

    _portcall._tcp.local.   TXT  v=1  name=alpha  key=ed25519:...  path=/dock  services=a,b,c

What a record says is bounded, and believed only after the station proved its key over a sealed exchange. Invariants:
announcing takes a second or so, and nobody waits for it; a station that ends takes its record back, one that dies is
forgotten when its record expires (`TTL`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from zeroconf import InterfaceChoice, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from agents.credentials.keys import PublicKey
from agents.errors import CredentialError
from docking.errors import StationError
from docking.peers import MAX_ADDRESSES, Sighting, clean_services

_log = logging.getLogger(__name__)
TYPE = "_portcall._tcp.local."
VERSION = b"1"
# Seconds after which a record that is not refreshed is gone: a dead station disappears.
TTL = 60
# Milliseconds to ask for the details of a record.
DETAILS = 3000
# Records looked into at once: a flood of invented names costs no more than this.
LOOKS = 32
MAX_TXT = 200


@define(eq=False)
class Discovery:
    """Announces and browses. `sighted(sighting)`, `lost(source)` are told in the event loop."""

    name: str
    key: PublicKey
    port: int
    path: str
    addresses: Sequence[str]
    services: Callable[[], Sequence[str]]
    sighted: Callable[[Sighting], None]
    lost: Callable[[str], None]
    _zeroconf: AsyncZeroconf | None = None
    _browser: AsyncServiceBrowser | None = None
    _info: AsyncServiceInfo | None = None
    _tasks: set[asyncio.Task[Any]] = field(factory=set)
    _looks: asyncio.Semaphore = field(factory=lambda: asyncio.Semaphore(LOOKS))

    async def start(self) -> None:
        """Begin to announce and to browse. Raises `StationError` where there is no multicast."""
        await self.browse()
        self._info = self._record()
        self._start(self._announce())

    async def browse(self) -> None:
        """Begin to browse only. Raises `StationError` where there is no multicast."""
        loopback = all(ipaddress.ip_address(each).is_loopback for each in self.addresses)
        interfaces: Any = list(self.addresses) if loopback else InterfaceChoice.All
        try:
            self._zeroconf = AsyncZeroconf(interfaces=interfaces)
            await self._zeroconf.zeroconf.async_wait_for_start()
        except OSError as error:
            raise StationError(
                f"mDNS cannot be used here ({error.strerror or error}): give --no-mdns, and peers with --peer URL"
            ) from error
        self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, TYPE, handlers=[self._changed])

    def _record(self) -> AsyncServiceInfo:
        services = ",".join(self.services()).encode()
        if len(services) > MAX_TXT:
            services = services[:MAX_TXT].rpartition(b",")[0]
        return AsyncServiceInfo(
            TYPE,
            f"{self.name} {self.key.id[:8]}.{TYPE}",
            port=self.port,
            properties={
                b"v": VERSION,
                b"name": self.name.encode(),
                b"key": self.key.text.encode(),
                b"path": self.path.encode(),
                b"services": services,
            },
            server=f"{self.key.id}.local.",
            parsed_addresses=list(self.addresses)[:MAX_ADDRESSES],
            host_ttl=TTL,
            other_ttl=TTL,
        )

    async def _announce(self) -> None:
        assert self._zeroconf is not None
        assert self._info is not None
        # The name holds the key's id, so a conflict is our own earlier life: there is nothing to negotiate.
        await self._zeroconf.async_register_service(self._info, cooperating_responders=True)

    def update(self) -> None:
        """What this station offers has changed."""
        if self._zeroconf is not None and self._info is not None:
            self._info = self._record()
            self._start(self._zeroconf.async_update_service(self._info))

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.warning("mDNS: %s", task.exception())

    def _changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed:
            self.lost(name)
        else:
            self._start(self._look(name))

    async def _look(self, name: str) -> None:
        assert self._zeroconf is not None
        async with self._looks:
            info = AsyncServiceInfo(TYPE, name)
            if not await info.async_request(self._zeroconf.zeroconf, DETAILS):
                return
            sighting = sighting_of(name, info)
        if sighting is not None and sighting.key != self.key:
            self.sighted(sighting)

    async def close(self) -> None:
        """Take the announcement back, and stop browsing."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._zeroconf is None:
            return
        if self._browser is not None:
            await self._browser.async_cancel()
        with contextlib.suppress(Exception):
            # Says goodbye at once; the rest of closing has no deadline of its own.
            await asyncio.wait_for(self._zeroconf.async_unregister_all_services(), 2)
        await self._zeroconf.async_close()


async def look_around(seconds: float) -> list[Sighting]:
    """Who announces itself on the network, without being a station. What is said is unproven. Raises `StationError`."""
    seen: dict[str, Sighting] = {}
    nobody = PublicKey(bytes(32))

    def lost(source: str) -> None:
        seen.pop(source, None)

    found = []
    for host in ("0.0.0.0", "127.0.0.1"):
        # Stations that listen on the loopback interface only announce themselves there.
        one = Discovery("", nobody, 0, "", own_addresses(host), lambda: (), lambda s: seen.update({s.source: s}), lost)
        found.append(one)
    try:
        for one in found:
            await one.browse()
        await asyncio.sleep(seconds)
    finally:
        for one in found:
            await one.close()
    return sorted(seen.values(), key=lambda sighting: sighting.name)


def sighting_of(source: str, info: AsyncServiceInfo) -> Sighting | None:
    """What a record says, if it can be a station's."""
    said = info.properties
    try:
        if said.get(b"v") != VERSION or not info.port:
            return None
        name = (said.get(b"name") or b"").decode("ascii")
        key = PublicKey.from_text((said.get(b"key") or b"").decode("ascii"))
        path = (said.get(b"path") or b"").decode("ascii")[:64]
        services = clean_services((said.get(b"services") or b"").decode("ascii").split(","))
    except (UnicodeDecodeError, CredentialError):
        return None
    if not path.isprintable() or any(c in path for c in " ?#") or (path and not path.startswith("/")):
        return None
    urls = []
    for text in info.parsed_scoped_addresses()[:MAX_ADDRESSES]:
        if not _is_somebodys(text):
            continue
        host = f"[{text}]" if ":" in text else text
        urls.append(f"http://{host}:{info.port}{path}")
    return Sighting(source, name, key, tuple(urls), services)


def _is_somebodys(text: str) -> bool:
    """Whether one machine can have this address: a knock at a group would be heard by all of it."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return not (address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255")


def own_addresses(host: str) -> list[str]:
    """The addresses at which a server that listens at `host` can be reached."""
    import ifaddr

    if host not in ("", "0.0.0.0", "::"):
        return [host]
    found: list[str] = []
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            text = each.ip if isinstance(each.ip, str) else each.ip[0]
            address = ipaddress.ip_address(text)
            if address.is_loopback or (address.version == 6 and (host != "::" or address.is_link_local)):
                continue
            found.append(text)
    return found[:MAX_ADDRESSES] or ["127.0.0.1"]


def has_multicast() -> bool:
    """Whether this machine lets a program join the group of mDNS at all."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        group = socket.inet_aton("224.0.0.251") + socket.inet_aton("127.0.0.1")
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        return True
    return False
