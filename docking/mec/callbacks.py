"""Whom this platform may call back, and the request that does it.

A callback's URI comes from a client, who could have this machine talk to whatever it reaches: metadata services,
consoles on the loopback interface (server-side request forgery). So the operator names whom it may call; where none
are named, only the address that the subscription's request came from, which can do nothing new thereby (ADR
callbacks-to-whom-they-come-from). Invariants: a name is resolved once, its addresses are checked, and the connection
goes to the address that was checked; redirects are not followed, proxies and `.netrc` not consulted; the body of the
answer is not read; every step has a bound in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import TypeAlias
from urllib.parse import urlsplit

import httpx
from attrs import define, field, frozen

from agents.brief import brief
from docking.aio.failures import reason
from docking.aio.threads import in_thread
from docking.aio.timeouts import within
from docking.errors import ConfigError, DockingError

RESOLVED_S = 3.0
MAX_RULES = 256
MAX_ADDRESSES = 8

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")
Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
Range: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"


class BadCallback(DockingError):
    """A callback's URI is none that can ever be used."""


class CallbackRefused(DockingError):
    """A callback's URI is well formed, and this platform does not call there."""


class DeliveryFailed(DockingError):
    """A notification was not delivered, and may be tried again."""


@frozen
class Target:
    """A callback's URI, taken apart. `secure`: over TLS."""

    uri: str
    host: str
    port: int
    secure: bool


def target_of(uri: str) -> Target:
    """Take a callback's URI apart. Raises `BadCallback`."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname or "", parts.port
        url = httpx.URL(uri)
    except (ValueError, httpx.InvalidURL):
        raise BadCallback("it is not a URI") from None
    if parts.scheme not in ("http", "https"):
        raise BadCallback("its scheme is neither http nor https")
    if not _HOST.fullmatch(host) or not url.host:
        raise BadCallback("it names no host")
    if "@" in parts.netloc or parts.fragment:
        raise BadCallback("it has a user name or a fragment")
    secure = parts.scheme == "https"
    return Target(uri, host.lower(), port if port is not None else 443 if secure else 80, secure)


@frozen
class CallbackRules:
    """Whom this platform may call back.

    `names`: hosts, and domains that begin with a dot; `ranges`: of addresses; both empty: the requester's own address.
    """

    names: frozenset[str] = field(repr=brief)
    ranges: tuple[Range, ...] = field(repr=brief)

    @classmethod
    def of(cls, rules: Sequence[str]) -> CallbackRules:
        """Read hosts (`app.example`), domains (`*.example`), addresses and ranges (`10.0.0.0/8`). Raises
        `ConfigError`.
        """
        if len(rules) > MAX_RULES:
            raise ConfigError(f"callbacks: at most {MAX_RULES} rules")
        names, ranges = set(), []
        for rule in rules:
            try:
                ranges.append(ipaddress.ip_network(rule.strip("[]")))
                continue
            except ValueError:
                name = rule[1:] if rule.startswith("*.") else rule
            if not name.strip(".") or not all(each.isalnum() or each in "-._" for each in name):
                raise ConfigError(f"callbacks: {rule[:80]!r} is no host, *.domain, address or range of addresses")
            names.add(name.lower())
        return cls(frozenset(names), tuple(ranges))

    def allows(self, target: Target, address: Address, requester: str) -> bool:
        """Whether a target at this address may be called for who asked from `requester`."""
        if address.is_multicast or address.is_unspecified:
            return False
        if not self.names and not self.ranges:
            return _address(requester) == address
        host = target.host
        parents = (host[at:] for at, each in enumerate(host) if each == ".")
        return (
            host in self.names or any(each in self.names for each in parents) or any(address in r for r in self.ranges)
        )

    async def addresses(self, target: Target, requester: str) -> list[Address]:
        """The addresses of a target that may be called. Raises `CallbackRefused`, `DeliveryFailed`."""
        try:
            loop = asyncio.get_running_loop()
            found = await within(RESOLVED_S, loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError, asyncio.TimeoutError):
            raise DeliveryFailed("the host of callbackReference is not found") from None
        known = [each for _, _, _, _, where in found if (each := _address(str(where[0]))) is not None]
        allowed = [each for each in dict.fromkeys(known) if self.allows(target, each, requester)]
        if not allowed:
            raise CallbackRefused(
                "this platform does not call the host of callbackReference: "
                + (
                    "its operator has not allowed it"
                    if self.names or self.ranges
                    else "it is not the address that the request came from, and its operator has allowed no others"
                )
            )
        return allowed[:MAX_ADDRESSES]


def _address(text: str) -> Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


@define(eq=False, repr=False)
class Caller:
    """Makes the requests. `timeout_s`: of one, with everything in it."""

    rules: CallbackRules
    timeout_s: float
    _clients: dict[bool, httpx.AsyncClient] = field(factory=dict)
    """Whether for TLS, and the client for it."""

    async def post(self, uri: str, body: bytes, requester: str) -> None:
        """Send JSON to a callback. Raises `DeliveryFailed`, `CallbackRefused`, `BadCallback`."""
        try:
            await within(self.timeout_s, self._post(target_of(uri), body, requester))
        except asyncio.TimeoutError:
            raise DeliveryFailed(f"no answer within {self.timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise DeliveryFailed(reason(error)[:200]) from None

    async def _post(self, target: Target, body: bytes, requester: str) -> None:
        address = (await self.rules.addresses(target, requester))[0]
        url = httpx.URL(target.uri)
        client = await self._opened(target.secure)
        request = client.build_request(
            "POST",
            url.copy_with(host=str(address)),
            content=body,
            headers={"Host": url.netloc.decode("ascii"), "Content-Type": "application/json"},
            extensions={"sni_hostname": target.host} if target.secure else None,
        )
        answer = await client.send(request, stream=True)
        try:
            if not answer.is_success:
                raise DeliveryFailed(f"the answer was {answer.status_code}")
        finally:
            await answer.aclose()

    async def prepare(self) -> None:
        """Load what the first request would load: it comes while an agent is moved, and its clients would wait."""
        await self._opened(False)

    async def _opened(self, secure: bool) -> httpx.AsyncClient:
        if secure not in self._clients:
            # The system's certificates, and modules: a tenth of a second, for which the station would stand still.
            made = await in_thread(self._made, secure)
            self._clients.setdefault(secure, made)  # another call may have been faster
        return self._clients[secure]

    def _made(self, secure: bool) -> httpx.AsyncClient:
        with contextlib.suppress(ImportError):  # what httpx would import with its first connection
            importlib.import_module("anyio._backends._asyncio")
        verify = httpx.create_ssl_context(trust_env=False) if secure else False
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=0)
        return httpx.AsyncClient(
            verify=verify, trust_env=False, follow_redirects=False, timeout=self.timeout_s, limits=limits
        )

    async def close(self) -> None:
        """Close what is open."""
        clients = list(self._clients.values())
        self._clients.clear()
        for client in clients:
            await client.aclose()
