"""Opening connections, and writing to one that may be closed already: the same under every event loop.

asyncio drops what is written to a closed transport, and warns after a few writes; uvloop drops it for a moment and then
raises a RuntimeError, which no code for connections expects (docs/adr/two-event-loops). Both resolve names in small
thread pools, for which the process waits when it ends, and a name whose servers do not answer takes half a minute.
Here, names are resolved in separate threads. Invariant: a failed connection raises `OSError`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from docking.aio.threads import Daemons, NoThread
from docking.aio.timeouts import within

P = TypeVar("P", bound=asyncio.BaseProtocol)
# Concurrent name lookups.
LOOKUP_LIMIT = 16
_lookups = Daemons(LOOKUP_LIMIT, "portcall-lookup")


async def connect(
    make: Callable[[], P], host: str, port: int, seconds: float, context: ssl.SSLContext | None = None
) -> P:
    """Connect to a host within `seconds`; returns the protocol. `context`: for TLS.

    Raises `OSError`, also for a name that cannot be one, and `asyncio.TimeoutError`.
    """
    try:
        _, protocol = await within(seconds, _connected(make, host, port, context), _drop)
    except (ValueError, RuntimeError) as error:  # an impossible name; or closed before it was established
        raise ConnectionError(str(error)) from error
    return protocol


async def _connected(
    make: Callable[[], P], host: str, port: int, context: ssl.SSLContext | None
) -> tuple[asyncio.BaseTransport, P]:
    problem: OSError = ConnectionError(f"{host[:100]} has no address")
    loop = asyncio.get_running_loop()
    name = host if context is not None else None
    for address in await _addresses(host, port):
        try:
            return await loop.create_connection(make, address, port, ssl=context, server_hostname=name)
        except OSError as error:
            problem = error
    raise problem


async def _addresses(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, without duplicates; an address stands for itself."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    else:
        return [host]
    try:
        found: Any = await _lookups.run(socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM)
    except NoThread:
        raise ConnectionError("too many names are being looked up") from None
    return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))


def _drop(connected: tuple[asyncio.BaseTransport, object]) -> None:
    """Close a connection that nobody takes any more."""
    cast(asyncio.Transport, connected[0]).abort()  # other loops have their own transport classes


def write_pieces(transport: asyncio.WriteTransport, pieces: Sequence[bytes]) -> None:
    """Write `pieces` in order. Raises `ConnectionResetError` if the connection is closed."""
    if transport.is_closing():
        raise ConnectionResetError("the connection was closed")
    try:
        # Python 3.12 has more work with `writelines`.
        transport.write(pieces[0]) if len(pieces) == 1 else transport.writelines(pieces)
    except RuntimeError as error:  # closed, but does not say so
        raise ConnectionResetError(f"the connection was closed: {error}") from error
