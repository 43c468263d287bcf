"""What peers ask of a station, once it is opened: counted, bounded, and put to the station through its `Doors`.

Not how a request travels: that is HTTP (`app`) or a channel (`called`); both come here, so what is too much is
counted once for both. Invariants: every request that is read has a place, and gives it back; what an error of the
station looks like to a peer is decided here and nowhere else.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

from attrs import define, field, frozen

from agents import canonical
from agents.credentials.keys import PublicKey
from agents.errors import CredentialError, NotCanonical
from docking.errors import LocalProtocolError, MalformedMessage, RemoteProtocolError
from docking.handoff import codec
from docking.handoff.messages import Buffer, Message

_log = logging.getLogger(__name__)
# What can be asked. An index is the request's number in a channel: order is for ever.
ASKED = ("handoff", "letter", "hello")
# A letter is one message of an agent (1 MiB) or the end of a journey: its trail and its results.
MAX_LETTER = 16 << 20
MAX_HELLO = 64 << 10
# Bodies of this size (bytes) are bounded by the number of requests alone.
SMALL = 1 << 20
# Items: a letter with the most words has 1,600. Decoding takes time by the item.
_BOUNDS = canonical.Bounds(max_bytes=MAX_LETTER, max_depth=8, max_items=4096)


@frozen
class Limits:
    """What peers may take of this station at once. `codec`: sizes of handoff messages; times in seconds.

    `requests`, of these `per_peer` of one key, and `bodies`, bytes of large bodies as they are announced: at the same
    time. `rate`: bytes a second below which a sender is left, after `patience`.
    """

    codec: codec.Limits = codec.DEFAULT_LIMITS
    requests: int = 512
    per_peer: int = 64
    bodies: int = 1 << 30
    patience: float = 10.0
    rate: int = 64 << 10


class Doors(Protocol):
    """What the station does with what is said to it. The sender is authenticated, and nothing more."""

    name: str

    async def handoff(self, sender: PublicKey, message: Message) -> Message | None:
        """A message of a handoff; its answer, or None."""

    async def letter(self, sender: PublicKey, value: Any) -> Any:
        """A letter, as decoded CBOR; the answer, likewise."""

    async def hello(self, sender: PublicKey, value: Any) -> Any:
        """A greeting; who is here."""

    def metrics(self) -> str:
        """The station's metrics, in the text format of Prometheus."""


class Refused(Exception):
    """A request that is not answered. `status`: of HTTP (RFC 9110 section 15)."""

    def __init__(self, status: int, why: str) -> None:
        self.status, self.why = status, why


@define(eq=False)
class Shares:
    """What is taken of something, in all and by each address."""

    total: int = 0
    of: Counter[str] = field(factory=Counter)

    def take(self, address: str, amount: int, most: int) -> bool:
        """Take so much, if there is enough: `most` in all and half of it for one address. A first one may be larger."""
        mine = self.of[address]
        if amount and ((self.total and self.total + amount > most) or (mine and mine + amount > -(-most // 2))):
            return False
        self.total += amount
        self.of[address] += amount
        return True

    def give(self, address: str, amount: int) -> None:
        """Give it back."""
        self.total -= amount
        self.of[address] -= amount
        if not self.of[address]:
            del self.of[address]


@define(eq=False)
class Reception:
    """The requests of one station's peers."""

    doors: Doors
    limits: Limits = field(factory=Limits)
    requests: Shares = field(factory=Shares)
    bodies: Shares = field(factory=Shares)
    received_bytes: int = 0
    sent_bytes: int = 0
    refused: Counter[int] = field(factory=Counter)
    _peers: Counter[PublicKey] = field(factory=Counter)
    _senders: dict[bytes, PublicKey] = field(factory=dict)

    def _take_place(self, address: str) -> None:
        if not self.requests.take(address, 1, self.limits.requests):
            raise Refused(503, "this station answers as many requests as it can")

    @contextlib.contextmanager
    def place(self, address: str, size: int) -> Iterator[None]:
        """Room for a request with a body of `size` bytes: no address has more than half of it. Raises `Refused`."""
        self._take_place(address)
        # Gigabytes of bodies, read before anything is known of their senders.
        large = size if size > SMALL else 0
        try:
            if not self.bodies.take(address, large, self.limits.bodies):
                raise Refused(503, "this station reads as many bytes as it can")
            try:
                yield
            finally:
                self.bodies.give(address, large)
        finally:
            self.requests.give(address, 1)

    def begin(self, address: str, sender: PublicKey) -> None:
        """A small request of a proven sender is here; `end` gives its place back. Raises `Refused`."""
        self._take_place(address)
        try:
            self.enter(sender)
        except Refused:
            self.requests.give(address, 1)
            raise

    def end(self, address: str, sender: PublicKey) -> None:
        """It is answered."""
        self.leave(sender)
        self.requests.give(address, 1)

    def enter(self, sender: PublicKey) -> None:
        """`sender` has proven itself: from now on the request counts as its own. Raises `Refused`."""
        if self._peers[sender] >= self.limits.per_peer:
            raise Refused(429, "too many requests of one station at once")
        self._peers[sender] += 1

    def leave(self, sender: PublicKey) -> None:
        """Its request is over."""
        self._peers[sender] -= 1
        if self._peers[sender] <= 0:
            del self._peers[sender]

    def sender(self, said: bytes) -> PublicKey:
        """The key that a header names. Raises `CredentialError`."""
        key = self._senders.get(said)
        if key is None:
            key = PublicKey.from_text(said.decode("ascii", "replace"))
            if len(self._senders) >= 1024:  # anyone can make up keys
                self._senders.clear()
            self._senders[said] = key
        return key

    async def handoff(self, sender: PublicKey, message: Message) -> list[Buffer] | None:
        """A message of the handoff; its answer. Raises what `refused` names."""
        answer = await self.doors.handoff(sender, message)
        return None if answer is None else codec.encode(answer)

    async def value(self, what: str, sender: PublicKey, body: Buffer) -> list[Buffer]:
        """A letter or a greeting; its answer. Raises what `refused` names."""
        try:
            value = canonical.decode(body, _BOUNDS)
        except NotCanonical as error:
            raise MalformedMessage(str(error)) from error
        ask = self.doors.letter if what == "letter" else self.doors.hello
        return [canonical.encode(await ask(sender, value))]

    async def whole(self, what: str, sender: PublicKey, body: Buffer) -> list[Buffer] | None:
        """A request whose body is here, whole. Raises what `refused` names."""
        if what == "handoff":
            return await self.handoff(sender, codec.decode(body, self.limits.codec))
        return await self.value(what, sender, body)

    def refusal(self, error: Exception) -> Refused:
        """What a peer is told when its request failed so; it is counted."""
        match error:
            case Refused():
                told = error
            case RemoteProtocolError():
                told = Refused(400, str(error))
            case CredentialError():
                told = Refused(403, f"the body cannot be opened: {error.reason}")
            case LocalProtocolError():
                told = Refused(503, str(error))
            case _:
                _log.error("a request failed", exc_info=error)
                return Refused(500, "the station failed to answer")
        self.refused[told.status] += 1
        return told
