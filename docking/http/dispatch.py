"""Requests of peers, once they are decrypted: counted, limited, and passed to the station through `PeerRequests`.

Not here: the transports, HTTP (`app`) and channels (`channel_server`). Both call this module, so one set of limits
covers both. Invariants: every request that is read holds a slot and releases it; only this module maps an error of the
station to what the peer sees.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from attrs import define, field, frozen

from agents import canonical
from agents.canonical import Buffer
from agents.credentials.keys import PublicKey
from agents.errors import CredentialError, NotCanonical
from docking.errors import LocalProtocolError, MalformedMessage, RemoteProtocolError
from docking.handoff import codec
from docking.handoff.messages import Message
from docking.live.wire import MAX_SESSION_MESSAGE_BYTES

_log = logging.getLogger(__name__)
# The kinds of request. The index is the request's number in a channel: the order never changes.
REQUEST_KINDS = ("handoff", "letter", "hello", "session", "serve", "recordings")
# Bytes. A letter is one message of an agent (1 MiB), or the end of a journey: its trail and its results.
MAX_LETTER_BYTES = 16 << 20
MAX_HELLO_BYTES = 64 << 10
MAX_SERVE_BYTES = (1 << 20) + 4096
MAX_RECORDINGS_BYTES = 8 << 10
# Bytes. Up to this size, only the number of requests limits bodies.
SMALL_BODY_BYTES = 1 << 20
# Decoding time grows with the number of items; the largest letter has 1,600.
_BOUNDS = canonical.DecodeBounds(max_bytes=MAX_LETTER_BYTES, max_depth=8, max_items=4096)
_SESSION_BOUNDS = canonical.DecodeBounds(max_bytes=MAX_SESSION_MESSAGE_BYTES, max_depth=3, max_items=128)


@frozen
class ServerLimits:
    """What all peers together may use of this station. `codec`: sizes of handoff messages; times in seconds.

    `requests`: concurrent requests, at most `per_peer` of them for one key; `body_bytes`: announced bytes of large
    bodies in progress; `min_bytes_per_s`: a slower sender is disconnected, once `patience_s` has passed.
    """

    codec: codec.MessageLimits = codec.DEFAULT_LIMITS
    requests: int = 512
    per_peer: int = 64
    body_bytes: int = 1 << 30
    patience_s: float = 10.0
    min_bytes_per_s: int = 64 << 10


class PeerRequests(Protocol):
    """How the station handles requests. Only the sender is authenticated; nothing else has been checked."""

    @property
    def name(self) -> str:
        """The station's name."""

    async def handoff(self, sender: PublicKey, message: Message) -> Message | None:
        """Handle a message of a handoff; returns the answer, or None."""

    async def letter(self, sender: PublicKey, value: object) -> object:
        """Handle a letter (decoded CBOR); returns the answer, in the same form."""

    async def session(self, sender: PublicKey, value: object) -> object:
        """Handle a request of a live move (decoded CBOR); returns the answer, in the same form."""

    async def serve(self, sender: PublicKey, value: object) -> object:
        """Handle a request for an agent, or the answer to one (decoded CBOR); returns the answer."""

    async def recordings(self, sender: PublicKey, value: object) -> object:
        """Handle an owner's request for recordings (decoded CBOR); returns the answer."""

    async def hello(self, sender: PublicKey, value: object, address: str) -> object:
        """Handle a greeting that came from an address; returns who this station is."""

    def metrics(self) -> str:
        """The station's metrics, in the Prometheus text format."""


class RequestRefused(Exception):
    """A request that is refused. `status`: of HTTP (RFC 9110 section 15).

    For clients of agents, also: `retry_after`: seconds until it may be taken; `location`: where to ask instead.
    """

    def __init__(self, status: int, why: str, retry_after: int = 0, location: str = "") -> None:
        self.status, self.why = status, why
        self.retry_after, self.location = retry_after, location


@define(eq=False, repr=False)
class Shares:
    """How much of a resource is in use: in total, and by each address."""

    total: int = 0
    of: dict[str, int] = field(factory=dict)

    def take(self, address: str, amount: int, most: int) -> bool:
        """Reserve `amount` if it fits; returns whether it did.

        The limit is `most` in total and half of it for one address. A first reservation may exceed it.
        """
        mine = self.of.get(address, 0)
        if amount and ((self.total and self.total + amount > most) or (mine and mine + amount > -(-most // 2))):
            return False
        self.total += amount
        self.of[address] = mine + amount
        return True

    def give(self, address: str, amount: int) -> None:
        """Release it."""
        self.total -= amount
        left = self.of.pop(address, 0) - amount
        if left:
            self.of[address] = left


@define(eq=False, repr=False)
class Dispatcher:
    """The requests of one station's peers."""

    doors: PeerRequests
    limits: ServerLimits = field(factory=ServerLimits)
    requests: Shares = field(factory=Shares)
    bodies: Shares = field(factory=Shares)
    received_bytes: int = 0
    sent_bytes: int = 0
    refused: Counter[int] = field(factory=Counter)
    requests_by_peer: dict[bytes, int] = field(factory=dict)
    """Requests in progress of each peer that has any."""
    _senders: dict[bytes, PublicKey] = field(factory=dict)

    def _take_place(self, address: str) -> None:
        if not self.requests.take(address, 1, self.limits.requests):
            raise RequestRefused(503, "this station answers as many requests as it can")

    @contextlib.contextmanager
    def place(self, address: str, size: int) -> Iterator[None]:
        """A slot and room for a body of `size` bytes, at most half of it for one address. Raises `RequestRefused`."""
        self._take_place(address)
        # Without this bound, unauthenticated senders could make us read gigabytes of bodies.
        large = size if size > SMALL_BODY_BYTES else 0
        try:
            if not self.bodies.take(address, large, self.limits.body_bytes):
                raise RequestRefused(503, "this station reads as many bytes as it can")
            try:
                yield
            finally:
                self.bodies.give(address, large)
        finally:
            self.requests.give(address, 1)

    def begin(self, address: str, sender: PublicKey) -> None:
        """Take a slot for a small request of a proven sender; `end` releases it. Raises `RequestRefused`."""
        self._take_place(address)
        try:
            self.enter(sender)
        except RequestRefused:
            self.requests.give(address, 1)
            raise

    def end(self, address: str, sender: PublicKey) -> None:
        """Release the slot: the request is answered."""
        self.leave(sender)
        self.requests.give(address, 1)

    def enter(self, sender: PublicKey) -> None:
        """Charge the request to `sender`, which has proven its key. Raises `RequestRefused`."""
        now = self.requests_by_peer.get(sender.raw, 0)
        if now >= self.limits.per_peer:
            raise RequestRefused(429, "too many requests of one station at once")
        self.requests_by_peer[sender.raw] = now + 1

    def leave(self, sender: PublicKey) -> None:
        """The sender's request is over."""
        left = self.requests_by_peer.pop(sender.raw, 1) - 1
        if left:
            self.requests_by_peer[sender.raw] = left

    def sender(self, said: bytes) -> PublicKey:
        """The key in a header. Raises `CredentialError`."""
        key = self._senders.get(said)
        if key is None:
            key = PublicKey.from_text(said.decode("ascii", "replace"))
            if len(self._senders) >= 1024:  # bounded: anyone can make up keys
                self._senders.clear()
            self._senders[said] = key
        return key

    async def handoff(self, sender: PublicKey, message: Message) -> list[Buffer] | None:
        """Handle a message of the handoff; returns the encoded answer. Raises what `refusal` understands."""
        answer = await self.doors.handoff(sender, message)
        return None if answer is None else codec.encode_message(answer)

    async def value(self, what: str, sender: PublicKey, body: Buffer, address: str) -> list[Buffer]:
        """Handle a request of another kind; returns the encoded answer. Raises what `refusal` understands."""
        try:
            value = canonical.decode(body, _SESSION_BOUNDS if what == "session" else _BOUNDS)
        except NotCanonical as error:
            raise MalformedMessage(str(error)) from error
        if what == "letter":
            return [canonical.encode(await self.doors.letter(sender, value))]
        if what == "session":
            return [canonical.encode(await self.doors.session(sender, value))]
        if what == "serve":
            return [canonical.encode(await self.doors.serve(sender, value))]
        if what == "recordings":
            return [canonical.encode(await self.doors.recordings(sender, value))]
        return [canonical.encode(await self.doors.hello(sender, value, address))]

    async def whole(self, what: str, sender: PublicKey, body: Buffer, address: str) -> list[Buffer] | None:
        """Handle a request whose body is complete. Raises what `refusal` understands."""
        if what == "handoff":
            return await self.handoff(sender, codec.decode_message(body, self.limits.codec))
        return await self.value(what, sender, body, address)

    def refusal(self, error: Exception) -> RequestRefused:
        """The error that a peer sees when its request failed with `error`. Also counts it."""
        match error:
            case RequestRefused():
                told = error
            case RemoteProtocolError():
                told = RequestRefused(400, str(error))
            case CredentialError():
                told = RequestRefused(403, f"the body cannot be opened: {error.reason}")
            case LocalProtocolError():
                told = RequestRefused(503, str(error))
            case _:
                _log.error("a request failed", exc_info=error)
                return RequestRefused(500, "the station failed to answer")
        self.refused[told.status] += 1
        return told
