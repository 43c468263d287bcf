"""The ASGI application of a station: three sealed requests, and one open one that says which key is here.

    GET  .../portcall/1/station    {"protocol": 1, "name": ..., "key": ...}: a hint, proven by the first sealed answer
    POST .../portcall/1/handoff    a message of the handoff, and its answer
    POST .../portcall/1/letter     something for this station or one of its agents
    POST .../portcall/1/hello      who are you, and what do you offer?

Runs under uvicorn, or mounted anywhere in another application. No TLS and no accounts: bodies are sealed (`sealed`),
and what a sender may do is decided behind `Doors`. Invariants: a body is bounded by its announced size before it is
read, and refused without one; nothing is kept of a body before its first piece was opened; a peer that is slow or
stands still is left; refused requests cost a status line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, Protocol, TypeAlias

from attrs import define, field, frozen

from agents import canonical
from agents.credentials.keys import PublicKey
from agents.credentials.sealing import HEADER_SIZE, Opener, sealed_size
from agents.errors import CredentialError, NotCanonical
from docking.errors import LocalProtocolError, MalformedMessage, RemoteProtocolError
from docking.handoff import codec
from docking.handoff.messages import Message
from docking.http.sealed import NONCE, SALT, Secrets, opener, seal_answer

_log = logging.getLogger(__name__)
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PROTOCOL = 1
PREFIX = f"/portcall/{PROTOCOL}/"
FROM, SALTED = b"portcall-from", b"portcall-salt"
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


class _Refused(Exception):
    def __init__(self, status: int, why: str) -> None:
        self.status, self.why = status, why


@define(eq=False)
class _Shares:
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
class App:
    """The application. `random(n)`: fresh random bytes; `show_metrics`: whether `GET .../metrics` is answered."""

    _doors: Doors
    _secrets: Secrets
    _random: Callable[[int], bytes]
    _limits: Limits = field(factory=Limits)
    _show_metrics: bool = False
    _requests: _Shares = field(factory=_Shares)
    _bodies: _Shares = field(factory=_Shares)
    _peers: Counter[PublicKey] = field(factory=Counter)
    _senders: dict[bytes, PublicKey] = field(factory=dict)
    received_bytes: int = 0
    sent_bytes: int = 0
    refused: Counter[int] = field(factory=Counter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI says."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        try:
            status, kind, body = await self._answer(scope, receive)
        except _Refused as refused:
            self.refused[refused.status] += 1
            status, kind, body = refused.status, b"text/plain", refused.why.encode()
        except Exception:
            _log.exception("a request failed", extra={"path": scope["path"][-64:]})
            status, kind, body = 500, b"text/plain", b"the station failed to answer"
        self.sent_bytes += len(body)
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        if status >= 400:
            headers.append((b"connection", b"close"))  # the rest of a refused body is not read
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes, bytes]:
        _, found, what = scope["path"].rpartition(PREFIX)
        method = scope["method"]
        if not found:
            raise _Refused(404, "there is nothing here; a station answers below .../portcall/1/")
        if method == "GET" and what == "station":
            body = {"protocol": PROTOCOL, "name": self._doors.name, "key": self._secrets.me.text}
            return 200, b"application/json", json.dumps(body).encode()
        if method == "GET" and what == "metrics" and self._show_metrics:
            return 200, b"text/plain; version=0.0.4", self._doors.metrics().encode()
        if method != "POST" or what not in ("handoff", "letter", "hello"):
            raise _Refused(404, "there is nothing here")
        headers = dict(scope["headers"])
        size = self._announced(what, headers)
        address = str((scope.get("client") or ("",))[0])
        with self._place(address, size):
            return await self._sealed(what, headers, size, receive)

    @contextlib.contextmanager
    def _place(self, address: str, size: int) -> Iterator[None]:
        """Room for a request with a body of `size` bytes: no address has more than half of it."""
        if not self._requests.take(address, 1, self._limits.requests):
            raise _Refused(503, "this station answers as many requests as it can")
        # Gigabytes of bodies, read before anything is known of their senders.
        large = size if size > SMALL else 0
        try:
            if not self._bodies.take(address, large, self._limits.bodies):
                raise _Refused(503, "this station reads as many bytes as it can")
            try:
                yield
            finally:
                self._bodies.give(address, large)
        finally:
            self._requests.give(address, 1)

    async def _sealed(
        self, what: str, headers: dict[bytes, bytes], size: int, receive: Receive
    ) -> tuple[int, bytes, bytes]:
        try:
            sender = self._sender(headers.get(FROM, b""))
            salt = _salt(headers.get(SALTED, b""))
            pieces = opener(self._secrets, sender, what, salt)
        except CredentialError as error:
            raise _Refused(400, f"the header Portcall-From does not name a key: {error.reason}") from None
        body = _Body(self, pieces, sender, size, receive)
        try:
            answer = await self._ask(what, sender, body)
        except RemoteProtocolError as error:
            raise _Refused(400, str(error)) from None
        except CredentialError as error:
            raise _Refused(403, f"the body cannot be opened: {error.reason}") from None
        except LocalProtocolError as error:
            raise _Refused(503, str(error)) from None
        finally:
            body.release()
        if answer is None:
            return 204, b"text/plain", b""
        sealed = seal_answer(self._secrets, sender, salt + body.header, answer, self._random(NONCE))
        return 200, b"application/vnd.portcall.sealed", sealed

    def _sender(self, said: bytes) -> PublicKey:
        """The key that a header names. Raises `CredentialError`."""
        key = self._senders.get(said)
        if key is None:
            key = PublicKey.from_text(said.decode("ascii", "replace"))
            if len(self._senders) >= 1024:  # anyone can make up keys
                self._senders.clear()
            self._senders[said] = key
        return key

    def _announced(self, what: str, headers: dict[bytes, bytes]) -> int:
        """The size of the body, which must be said beforehand, and be bearable."""
        limits = self._limits.codec
        most = {
            "handoff": codec.PREFIX_SIZE + limits.head + limits.bodies,
            "letter": MAX_LETTER,
            "hello": MAX_HELLO,
        }[what]
        text = headers.get(b"content-length", b"")
        if not text.isdigit() or len(text) > 15:
            raise _Refused(411, "a body without its length is not read")
        if int(text) > sealed_size(most):
            raise _Refused(413, f"a body of {int(text)} bytes; at most {sealed_size(most)} are read here")
        if int(text) < HEADER_SIZE:
            raise _Refused(400, "the body is not sealed")
        return int(text)

    async def _ask(self, what: str, sender: PublicKey, body: _Body) -> bytes | None:
        if what == "handoff":
            # What does not come need not have room.
            limits = self._limits.codec
            reader = codec.Reader(codec.Limits(limits.head, min(limits.bodies, body.size)))
            message: Message | None = None
            async for piece in body.pieces():
                if message is not None:
                    raise MalformedMessage("bytes after the message")
                message = reader.feed(piece)
            if message is None:
                raise MalformedMessage("the body ends inside the message")
            answer = await self._doors.handoff(sender, message)
            return None if answer is None else b"".join(codec.encode(answer))
        whole = b"".join([piece async for piece in body.pieces()])
        try:
            value = canonical.decode(whole, _BOUNDS)
        except NotCanonical as error:
            raise MalformedMessage(str(error)) from error
        ask = self._doors.letter if what == "letter" else self._doors.hello
        return canonical.encode(await ask(sender, value))

    def enter(self, sender: PublicKey) -> None:
        """`sender` has proven itself: from now on the request counts as its own."""
        if self._peers[sender] >= self._limits.per_peer:
            raise _Refused(429, "too many requests of one station at once")
        self._peers[sender] += 1

    def leave(self, sender: PublicKey) -> None:
        """Its request is over."""
        self._peers[sender] -= 1
        if self._peers[sender] <= 0:
            del self._peers[sender]

    @property
    def patience(self) -> tuple[float, int]:
        """Seconds, and bytes a second, that a sender is given."""
        return self._limits.patience, self._limits.rate


@define(eq=False)
class _Body:
    """A sealed body as it comes in."""

    _app: App
    _opener: Opener
    _sender: PublicKey
    size: int
    _receive: Receive
    header: bytes = b""
    _counted: bool = False

    async def pieces(self) -> Any:
        """The opened pieces. Raises `CannotOpen`, `MalformedMessage`, or `_Refused` for one who is too slow."""
        patience, rate = self._app.patience
        loop = asyncio.get_running_loop()
        # Not `size / rate` at the end: who announces a gigabyte, and sends a byte now and then, would stay for hours.
        begin = loop.time() + patience
        read, more = 0, True
        while more:
            wait = min(patience, begin + read / rate - loop.time())
            if wait <= 0:
                raise _Refused(408, "the body came too slowly")
            event = await self._next(wait)
            if event["type"] == "http.disconnect":
                raise _Refused(400, "the connection was closed inside the body")
            chunk = event.get("body", b"")
            more = event.get("more_body", False)
            read += len(chunk)
            if read > self.size:
                raise _Refused(400, "the body is longer than announced")
            if len(self.header) < HEADER_SIZE:
                self.header += bytes(chunk[: HEADER_SIZE - len(self.header)])
            for piece in self._opener.feed(chunk):
                self._proven()
                yield piece
        self._app.received_bytes += read
        last = self._opener.finish()
        self._proven()
        if last:
            yield last

    async def _next(self, wait: float) -> MutableMapping[str, Any]:
        """The next event, within `wait` seconds."""
        task = asyncio.current_task()
        assert task is not None
        late = False

        def too_late() -> None:
            nonlocal late
            late = True
            task.cancel()

        # A timer of our own: `asyncio.wait_for` makes a task for each piece.
        timer = asyncio.get_running_loop().call_later(wait, too_late)
        try:
            return await self._receive()
        except asyncio.CancelledError:
            if not late:
                raise
            if sys.version_info >= (3, 11):
                task.uncancel()
            raise _Refused(408, "the body came too slowly") from None
        finally:
            timer.cancel()

    def _proven(self) -> None:
        if not self._counted:
            self._app.enter(self._sender)
            self._counted = True

    def release(self) -> None:
        """The request is over."""
        if self._counted:
            self._app.leave(self._sender)


def _salt(said: bytes) -> bytes:
    try:
        salt = bytes.fromhex(said.decode("ascii"))
    except ValueError:  # UnicodeDecodeError is one
        salt = b""
    if len(salt) != SALT:
        raise _Refused(400, f"the header Portcall-Salt does not hold {2 * SALT} hexadecimal digits")
    return salt


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return
