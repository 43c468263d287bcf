"""The ASGI application of a station: sealed requests, those of agents' clients, and one that returns the station's key.

    GET  .../portcall/1/station    {"protocol": 1, "name": ..., "key": ...}: a hint, proven by the first sealed answer
    POST .../portcall/1/handoff    a message of the handoff, and its answer
    POST .../portcall/1/letter     a letter to this station or to one of its agents
    POST .../portcall/1/hello      a greeting: who are you, and what do you offer?
    POST .../portcall/1/serve      the request of an agent's client, passed on, or the answer to one
    GET  .../                      for people: what this is (`front_page`)
    any  .../portcall/1/agents/NAME/...   the request of a client, not sealed (`agent_requests`)

Runs under uvicorn, or mounted anywhere in another application. No TLS and no accounts: bodies are sealed (`sealing`),
and the implementation of `PeerRequests` authorizes the sender. Invariants: a body without an announced size is refused,
and the size is checked before the body is read; nothing of a body is kept before its first piece is opened; a peer that
is slow or stalls is disconnected; a refused request costs no more than a status line.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

from attrs import define

from agents.canonical import Buffer
from agents.credentials.keys import PublicKey
from agents.credentials.sealing import HEADER_SIZE, Opener, sealed_size
from agents.errors import CredentialError
from docking.errors import MalformedMessage
from docking.handoff import codec
from docking.handoff.messages import Message
from docking.http import front_page
from docking.http.agent_requests import AGENTS, AgentRequests, Receive, Scope, Send
from docking.http.dispatch import (
    MAX_HELLO_BYTES,
    MAX_LETTER_BYTES,
    MAX_RECORDINGS_BYTES,
    MAX_SERVE_BYTES,
    REQUEST_KINDS,
    Dispatcher,
    RequestRefused,
)
from docking.http.sealing import REQUEST_KEY_BYTES, SALT_BYTES, SharedKeys, opener, seal_answer
from docking.live.wire import MAX_SESSION_MESSAGE_BYTES

HTTP_PROTOCOL = 1
URL_PREFIX = f"/portcall/{HTTP_PROTOCOL}/"
AGENTS_PREFIX = URL_PREFIX + AGENTS
FROM_HEADER, SALT_HEADER = b"portcall-from", b"portcall-salt"


@define(eq=False, repr=False)
class App:
    """The application. `random(n)`: fresh random bytes; `show_metrics`: whether to answer `GET .../metrics`."""

    reception: Dispatcher
    _secrets: SharedKeys
    _random: Callable[[int], bytes]
    _show_metrics: bool = False
    clients: AgentRequests | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request: see the ASGI specification."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        if self.clients is not None and AGENTS_PREFIX in scope["path"]:
            await self.clients.below(AGENTS_PREFIX, scope, receive, send)
            return
        try:
            status, kind, body = await self._answer(scope, receive)
        except Exception as error:
            refused = self.reception.refusal(error)
            status, kind, body = refused.status, b"text/plain", refused.why.encode()
        self.reception.sent_bytes += len(body)
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        if body is front_page.PAGE:
            headers += front_page.HEADERS
        if status >= 400:
            headers.append((b"connection", b"close"))  # the rest of a refused body is not read
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes, bytes]:
        # Some frameworks, Litestar for one, append a slash to the path below a mount.
        _, found, what = scope["path"].removesuffix("/").rpartition(URL_PREFIX)
        method = scope["method"]
        doors = self.reception.doors
        if not found and method in ("GET", "HEAD") and _is_root(scope):
            return 200, b"text/html; charset=utf-8", front_page.PAGE
        if not found:
            raise RequestRefused(404, "there is nothing here; a station answers below .../portcall/1/")
        if method == "GET" and what == "station":
            body = {"protocol": HTTP_PROTOCOL, "name": doors.name, "key": self._secrets.me.text}
            return 200, b"application/json", json.dumps(body).encode()
        if method == "GET" and what == "metrics" and self._show_metrics:
            return 200, b"text/plain; version=0.0.4", doors.metrics().encode()
        if method != "POST" or what not in REQUEST_KINDS:
            raise RequestRefused(404, "there is nothing here")
        headers = dict(scope["headers"])
        size = self._announced(what, headers)
        address = str((scope.get("client") or ("",))[0])
        with self.reception.place(address, size):
            return await self._sealed(what, headers, size, receive, address)

    async def _sealed(
        self, what: str, headers: dict[bytes, bytes], size: int, receive: Receive, address: str
    ) -> tuple[int, bytes, bytes]:
        try:
            sender = self.reception.sender(headers.get(FROM_HEADER, b""))
            salt = _salt(headers.get(SALT_HEADER, b""))
            pieces = opener(self._secrets, sender, what, salt)
        except CredentialError as error:
            raise RequestRefused(400, f"the header Portcall-From does not name a key: {error.reason}") from None
        body = _RequestBody(self.reception, pieces, sender, size, receive)
        try:
            answer = await self._ask(what, sender, body, address)
        finally:
            body.release()
        if answer is None:
            return 204, b"text/plain", b""
        mark = salt + body.header
        sealed = seal_answer(self._secrets, sender, mark, b"".join(answer), self._random(REQUEST_KEY_BYTES))
        return 200, b"application/vnd.portcall.sealed", sealed

    def _announced(self, what: str, headers: dict[bytes, bytes]) -> int:
        """The size of the body, which must be announced and within the limits."""
        limits = self.reception.limits.codec
        most = {
            "handoff": codec.FRAME_PREFIX_SIZE + limits.head_bytes + limits.body_bytes,
            "letter": MAX_LETTER_BYTES,
            "hello": MAX_HELLO_BYTES,
            "session": MAX_SESSION_MESSAGE_BYTES,
            "serve": MAX_SERVE_BYTES,
            "recordings": MAX_RECORDINGS_BYTES,
        }[what]
        text = headers.get(b"content-length", b"")
        if not text.isdigit() or len(text) > 15:
            raise RequestRefused(411, "a body without its length is not read")
        if int(text) > sealed_size(most):
            raise RequestRefused(413, f"a body of {int(text)} bytes; at most {sealed_size(most)} are read here")
        if int(text) < HEADER_SIZE:
            raise RequestRefused(400, "the body is not sealed")
        return int(text)

    async def _ask(self, what: str, sender: PublicKey, body: _RequestBody, address: str) -> list[Buffer] | None:
        if what != "handoff":
            whole = b"".join([piece async for piece in body.pieces()])
            return await self.reception.value(what, sender, whole, address)
        # Reserve no memory for a body that cannot arrive.
        limits = self.reception.limits.codec
        reader = codec.MessageReader(codec.MessageLimits(limits.head_bytes, min(limits.body_bytes, body.size)))
        message: Message | None = None
        async for piece in body.pieces():
            if message is not None:
                raise MalformedMessage("bytes after the message")
            message = reader.feed(piece)
        if message is None:
            raise MalformedMessage("the body ends inside the message")
        return await self.reception.handoff(sender, message)


@define(eq=False, repr=False)
class _RequestBody:
    """A sealed body, as it arrives."""

    _reception: Dispatcher
    _opener: Opener
    _sender: PublicKey
    size: int
    _receive: Receive
    header: bytes = b""
    _counted: bool = False

    async def pieces(self) -> Any:
        """The opened pieces. Raises `CannotOpen`, `MalformedMessage`, or `RequestRefused` if the sender is too slow."""
        patience, rate = self._reception.limits.patience_s, self._reception.limits.min_bytes_per_s
        loop = asyncio.get_running_loop()
        # Measure the rate from the start instead of allowing `size / rate` for the whole body: otherwise a sender that
        # announces a gigabyte and sends a byte now and then could stay connected for hours.
        begin = loop.time() + patience
        read, more = 0, True
        while more:
            wait = min(patience, begin + read / rate - loop.time())
            if wait <= 0:
                raise RequestRefused(408, "the body came too slowly")
            event = await self._next(wait)
            if event["type"] == "http.disconnect":
                raise RequestRefused(400, "the connection was closed inside the body")
            chunk = event.get("body", b"")
            more = event.get("more_body", False)
            read += len(chunk)
            if read > self.size:
                raise RequestRefused(400, "the body is longer than announced")
            if len(self.header) < HEADER_SIZE:
                self.header += bytes(chunk[: HEADER_SIZE - len(self.header)])
            for piece in self._opener.feed(chunk):
                self._proven()
                yield piece
        self._reception.received_bytes += read
        last = self._opener.finish()
        self._proven()
        if last:
            yield last

    async def _next(self, wait: float) -> MutableMapping[str, Any]:
        """The next event. Raises `RequestRefused` after `wait` seconds."""
        task = asyncio.current_task()
        assert task is not None
        late = False

        def too_late() -> None:
            nonlocal late
            late = True
            task.cancel()

        # Our own timer: `asyncio.wait_for` would make a task for each piece.
        timer = asyncio.get_running_loop().call_later(wait, too_late)
        try:
            return await self._receive()
        except asyncio.CancelledError:
            # If other code cancelled the task in the same step, that cancellation must propagate.
            if not late or (sys.version_info >= (3, 11) and task.uncancel()):
                raise
            raise RequestRefused(408, "the body came too slowly") from None
        finally:
            timer.cancel()

    def _proven(self) -> None:
        if not self._counted:
            self._reception.enter(self._sender)
            self._counted = True

    def release(self) -> None:
        """Release the slot of the finished request."""
        if self._counted:
            self._reception.leave(self._sender)


def _salt(said: bytes) -> bytes:
    try:
        salt = bytes.fromhex(said.decode("ascii"))
    except ValueError:  # includes UnicodeDecodeError
        salt = b""
    if len(salt) != SALT_BYTES:
        raise RequestRefused(400, f"the header Portcall-Salt does not hold {2 * SALT_BYTES} hexadecimal digits")
    return salt


def _is_root(scope: Scope) -> bool:
    """Whether the station's own address is asked for, with nothing below it; also where it is mounted."""
    return scope["path"].rstrip("/") in ("", scope.get("root_path", "").rstrip("/"))


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return
