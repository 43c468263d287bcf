"""Requests to peers, readable by the peer alone: over a channel where there is one, otherwise by HTTP.

Small requests go over channels (`channel_client`), large ones and those to stations without channels by HTTP
(`connection_pool`), each sealed (`sealing`). Invariants: a request that certainly did not reach the peer raises
`PeerUnreachable`, one that may have reached it `NoAnswer`; every answer was made by the peer's key, for this request.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from attrs import define, field

from agents import canonical
from agents.canonical import Buffer
from agents.credentials.keys import PublicKey, public_key
from agents.errors import CredentialError, NotCanonical
from docking.aio.failures import describe_error
from docking.errors import CarrierError, MalformedMessage, NoAnswer, PeerUnreachable
from docking.handoff import codec
from docking.handoff.messages import Message
from docking.http.app import FROM_HEADER, SALT_HEADER
from docking.http.channel import MAX_REQUEST_BODY_BYTES
from docking.http.channel_client import ChannelPool
from docking.http.connection_pool import ConnectionPool
from docking.http.dispatch import REQUEST_KINDS
from docking.http.sealing import MAX_ANSWER_BYTES, SALT_BYTES, SharedKeys, open_answer, seal_request

_log = logging.getLogger(__name__)
_HELLO_BOUNDS = canonical.DecodeBounds(max_bytes=MAX_ANSWER_BYTES, max_depth=6, max_items=20_000)


@define(eq=False, repr=False)
class Client:
    """Sends requests to peers.

    `addresses(key)`: URLs of a peer, best first; `met(key, url)` is called when a URL has worked; `posts`, `calls`: its
    connections by HTTP, and its channels.
    """

    secrets: SharedKeys
    _random: Callable[[int], bytes]
    _addresses: Callable[[PublicKey], Sequence[str]]
    _met: Callable[[PublicKey, str], None]
    posts: ConnectionPool = field(factory=ConnectionPool)
    calls: ChannelPool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.calls = ChannelPool(self.secrets, self._random)

    @property
    def sent_bytes(self) -> int:
        """Bytes of all requests sent."""
        return self.posts.sent_bytes + self.calls.sent_bytes

    @property
    def received_bytes(self) -> int:
        """Bytes of all answers received."""
        return self.posts.received_bytes + self.calls.received_bytes

    async def exchange(self, peer: bytes, message: Message) -> Message | None:
        """See `docking.courier.Carrier`."""
        answer = await self.ask(public_key(peer), "handoff", codec.encode_message(message))
        if answer is None:
            return None
        try:
            return codec.decode_message(answer)
        except MalformedMessage as error:
            raise NoAnswer(f"the answer is malformed: {error}") from error

    async def letter(self, peer: PublicKey, value: object) -> object:
        """Deliver a letter; returns the answer. Raises `CarrierError`."""
        return await self._value(peer, "letter", value)

    async def session(self, peer: PublicKey, request: Sequence[Buffer]) -> object:
        """Deliver a request of a live move, encoded in pieces; returns the answer. Raises `CarrierError`."""
        return await self._asked(peer, "session", request)

    async def serve(self, peer: PublicKey, value: object) -> object:
        """Pass on a request of a client, or the answer to one; returns the answer. Raises `CarrierError`."""
        return await self._value(peer, "serve", value)

    async def recordings(self, peer: PublicKey, value: object) -> object:
        """Ask for recordings, in the name of an owner; returns the answer. Raises `CarrierError`."""
        return await self._value(peer, "recordings", value)

    async def hello(self, peer: PublicKey, value: object) -> object:
        """Greet a station; returns what it says about itself. Raises `CarrierError`."""
        return await self._value(peer, "hello", value)

    async def _value(self, peer: PublicKey, what: str, value: object) -> object:
        return await self._asked(peer, what, [canonical.encode(value)])

    async def _asked(self, peer: PublicKey, what: str, bodies: Sequence[Buffer]) -> object:
        answer = await self.ask(peer, what, bodies)
        try:
            return canonical.decode(answer or b"", _HELLO_BOUNDS)
        except NotCanonical as error:
            raise NoAnswer(f"the answer is malformed: {error}") from error

    async def who(self, url: str) -> tuple[str, PublicKey]:
        """The name and the key claimed at `url`. Proves nothing. Raises `CarrierError`."""
        try:
            status, body = await self.posts.send(url, "station", b"GET", b"", lambda: iter(()), 0)
        except CarrierError:
            raise
        except Exception as error:
            raise _surprise(url, error) from error
        try:
            value = json.loads(body) if status == 200 and len(body) < 4096 else None
            return str(value["name"]), PublicKey.from_text(str(value["key"]))  # type: ignore[index]
        except (ValueError, TypeError, KeyError, CredentialError):
            raise NoAnswer(f"there is no station at {url}") from None

    def close(self) -> None:
        """Close all connections."""
        self.posts.close()
        self.calls.close()

    def renew(self) -> None:
        """Discard all open connections: the network has changed."""
        self.posts.renew()
        self.calls.renew()

    # Making a request

    async def ask(self, peer: PublicKey, what: str, bodies: Sequence[Buffer]) -> bytes | None:
        """The answer to a request of the kind `what`, one of `REQUEST_KINDS`; None if it has no body.

        Raises `PeerUnreachable`, `NoAnswer`.
        """
        addresses = self._addresses(peer)
        if not addresses:
            raise PeerUnreachable(f"no address of the station {peer} is known")
        problem: CarrierError | None = None
        for url in addresses:
            try:
                answer = await self._called(peer, url, what, bodies)
                status, body = answer or await self._posted(peer, url, what, bodies)
            except PeerUnreachable as error:
                problem = problem or error
                continue
            except Exception as error:
                problem = error if isinstance(error, CarrierError) else _surprise(url, error)
                continue
            self._met(peer, url)
            return body if status == 200 else None
        assert problem is not None
        raise problem

    async def _called(self, peer: PublicKey, url: str, what: str, bodies: Sequence[Buffer]) -> tuple[int, bytes] | None:
        """Ask over a channel; returns the answer, or None if there is no channel and nothing was sent."""
        place = _place(url)
        if place is None or sum(map(len, bodies)) > MAX_REQUEST_BODY_BYTES:
            return None
        answer = await self.calls.ask(peer, *place, REQUEST_KINDS.index(what), bodies)
        if answer is not None:
            _check(url, *answer)
        return answer

    async def _posted(self, peer: PublicKey, url: str, what: str, bodies: Sequence[Buffer]) -> tuple[int, bytes]:
        """Ask by HTTP; returns the answer."""
        try:
            now = asyncio.get_running_loop().time()
            ephemeral, salt = self.secrets.ephemeral(peer, self._random, now), self._random(SALT_BYTES)
            length, pieces, mark = seal_request(self.secrets, peer, what, bodies, ephemeral, salt)
        except CredentialError as error:
            raise PeerUnreachable(f"the key of the station cannot be used: {error.reason}") from error
        salted = salt.hex().encode()
        extra = b"%s: %s\r\n%s: %s\r\ncontent-length: %d\r\n" % (
            FROM_HEADER,
            self.secrets.name,
            SALT_HEADER,
            salted,
            length,
        )
        status, body = await self.posts.send(url, what, b"POST", extra, pieces, length)
        _check(url, status, body)
        if status == 204:
            return status, b""
        try:
            return status, open_answer(self.secrets, peer, mark, body)
        except CredentialError as error:
            raise NoAnswer(f"another station answers at {url}: {error.reason}") from error


def _surprise(url: str, error: Exception) -> NoAnswer:
    """Turns any error of a connection into a `CarrierError`, which all callers expect and retry."""
    _log.warning("%s: %s", url, describe_error(error))
    return NoAnswer(f"{url}: {error!r:.200}")


@functools.lru_cache(maxsize=1024)
def _place(url: str) -> tuple[str, int] | None:
    """Host and port to try a channel at; None behind a proxy, or inside another application."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.path.strip("/"):
        return None
    return parts.hostname or "", parts.port or 80


def _check(url: str, status: int, body: bytes) -> None:
    """Raises `NoAnswer` for an error status.

    An HTTP status is not sealed, so anyone on the path may have sent it: nothing may be concluded from it, nor from the
    same status in a channel.
    """
    if status not in (200, 204):
        raise NoAnswer(f"{url} answered {status}: {body[:200].decode('utf-8', 'replace')!r}")
