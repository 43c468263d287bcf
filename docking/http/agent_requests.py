"""Agents that serve: HTTP requests of clients at `.../portcall/1/agents/NAME/...`, and what becomes of them.

The request becomes a message (`agent_messages`) that the station gives to the agent (`Doors`), wherever it is; its
answer is sent, filtered. What the station answers itself is a problem (RFC 9457): 403, 404, 409, 410, 413 and so on,
307 with the new address of an agent that moved a while ago, 502 for an agent that cannot answer, 503 with `Retry-After`
where there is no room, 504 when the time is over.

Anyone who reaches the station can ask, so everything is bounded: requests in progress, in total and of one address,
bytes of requests and answers in memory, and the time of each. Invariants: a request that is refused was not given to
the agent, except with 502 and 504; a request is answered once.
"""

from __future__ import annotations

import asyncio
import http
import json
import re
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, Protocol, TypeAlias
from urllib.parse import quote, unquote

from attrs import define, field, frozen

from agents.waits import MAX_BODY_BYTES
from docking.aio.timeouts import ended, within
from docking.http.agent_messages import BODILESS, BadHead, Response, read_response, write_request
from docking.http.dispatch import Dispatcher, RequestRefused, Shares

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

AGENTS = "agents/"
FORWARD_HEADER = b"portcall-forward"
# Seconds until a request is answered with 504, and the most that a client can ask for (`Prefer: wait=N`, RFC 7240).
WAIT_S, MAX_WAIT_S = 30.0, 60.0
# Under which the requests are counted whose clients did not wait for the answer.
GONE = 499
_WAIT = re.compile(rb"(?:^|[,;])\s*wait\s*=\s*([0-9]{1,4})\s*(?:$|[,;])")


@frozen
class ClientLimits:
    """What all clients of agents together may use. `requests`: in progress, at most half of them of one address;
    `body_bytes`: of requests and answers in memory.
    """

    requests: int = 1024
    body_bytes: int = 128 << 20


class Doors(Protocol):
    """How the station takes the requests of clients. All raise `RequestRefused`."""

    def find(self, name: str, forward: bool) -> bytes:
        """The agent with this label or id, if it can be asked here. `forward`: also long after it has moved.

        Refuses with 307 and the other station's address in `location`, where it has moved.
        """

    def new_ident(self) -> str:
        """An id for a request."""

    async def ask(self, agent: bytes, ident: str, message: bytes, seconds: float) -> bytes:
        """The agent's answer, within so many seconds."""


@define(eq=False, repr=False)
class AgentRequests:
    """The requests of one station's clients."""

    _doors: Doors
    _reception: Dispatcher
    limits: ClientLimits = field(factory=ClientLimits)
    requests: Shares = field(factory=Shares)
    bodies: Shares = field(factory=Shares)
    answered: Counter[int] = field(factory=Counter)

    async def below(self, prefix: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request whose path has `prefix`, and then the agent's name."""
        _, found, path = _raw_path(scope).partition(prefix.encode())
        if not found:  # the prefix itself is percent-encoded
            path = quote(scope["path"].partition(prefix)[2]).encode()
        name, _, rest = path.partition(b"/")
        await self.handle(unquote(name.decode("latin-1")), b"/" + rest, scope, receive, send)

    async def mounted(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request for the agent `name`, whose address is where another application has mounted it."""
        path, root = _raw_path(scope), quote(scope.get("root_path", "").rstrip("/")).encode()
        below = path[len(root) :] if path.startswith(root) else path  # some frameworks leave the mount's own path out
        await self.handle(name, below if below.startswith(b"/") else b"/" + below, scope, receive, send)

    async def handle(self, name: str, path: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request for the agent `name`; `path`: as the agent is to see it, percent-encoded."""
        address = str((scope.get("client") or ("",))[0])
        if not self.requests.take(address, 1, self.limits.requests):
            await self._problem(send, scope, _full("this station answers as many clients as it can"))
            return
        held, answered = 0, 0
        try:
            body = _Body(receive, dict(scope["headers"]))
            held = body.announced
            if not self.bodies.take(address, held, self.limits.body_bytes):
                held = 0
                raise _full("this station holds as many requests as it can")
            response = await self._ask(name, path, scope, body)
        except ClientGone:
            self.answered[GONE] += 1
        except Exception as error:
            await self._problem(send, scope, self._reception.refusal(error))
        else:
            answered = len(response.body)
            self.bodies.take(address, answered, sys.maxsize)
            await self._respond(send, scope, response)
        finally:
            self.bodies.give(address, held + answered)
            self.requests.give(address, 1)

    async def _ask(self, name: str, path: bytes, scope: Scope, body: _Body) -> Response:
        headers = scope["headers"]
        method = scope["method"].encode()
        if method in (b"CONNECT", b"TRACE"):
            raise RequestRefused(405, "an agent is not asked with this method")
        given = dict(headers)
        seconds = _seconds(given.get(b"prefer", b""))
        forward = given.get(FORWARD_HEADER, b"").strip().lower() == b"always"
        query = scope.get("query_string", b"")
        target = path + (b"?" + query if query else b"")
        try:
            agent = self._doors.find(name, forward)
        except RequestRefused as refused:
            if refused.location:
                refused.location += f"/portcall/1/{AGENTS}{quote(name, safe='')}{target.decode('latin-1')}"
            raise
        loop = asyncio.get_running_loop()
        begin = loop.time()
        content = await body.read(seconds)
        ident = self._doors.new_ident()
        try:
            message = write_request(ident, method, target, headers, content)
        except BadHead as error:
            raise RequestRefused(
                431 if error.large and not content else 413 if error.large else 400, str(error)
            ) from None
        del content
        left = max(0.0, seconds - (loop.time() - begin))
        answer = await body.while_connected(self._doors.ask(agent, ident, message, left))
        try:
            return read_response(answer)
        except BadHead as error:
            raise RequestRefused(502, f"the agent's answer cannot be sent: {error}") from None

    async def _respond(self, send: Send, scope: Scope, response: Response) -> None:
        self.answered[response.status] += 1
        headers, body = list(response.headers), response.body
        if response.status in BODILESS:
            body = b""
        else:
            headers.append((b"content-length", b"%d" % len(body)))
        if scope["method"] == "HEAD":
            body = b""
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _problem(self, send: Send, scope: Scope, refused: RequestRefused) -> None:
        self.answered[refused.status] += 1
        said = {"title": http.HTTPStatus(refused.status).phrase, "status": refused.status, "detail": refused.why}
        body = json.dumps(said).encode()
        headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
        headers.append((b"connection", b"close"))  # the rest of a refused body is not read
        if refused.location:
            headers.append((b"location", refused.location.encode("latin-1", "replace")))
        if refused.retry_after:
            headers.append((b"retry-after", b"%d" % refused.retry_after))
        await send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


class ClientGone(Exception):
    """The connection was closed while its client waited for the answer: nobody does any more."""


@define(eq=False, repr=False)
class _Body:
    """The body of a request, and what is known of its connection after that. `announced`: bytes that it may have."""

    _receive: Receive
    _headers: dict[bytes, bytes] = field(repr=False)
    announced: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        length = self._headers.get(b"content-length")
        if length is None:
            self.announced = MAX_BODY_BYTES if b"transfer-encoding" in self._headers else 0
            return
        if not length.isdigit() or len(length) > 15:
            raise RequestRefused(400, "the length of the body is no number")
        self.announced = int(length)
        if self.announced > MAX_BODY_BYTES:
            raise RequestRefused(413, f"a body of {self.announced} bytes; an agent takes {MAX_BODY_BYTES}")

    async def read(self, seconds: float) -> bytes:
        """All of it. Raises `RequestRefused`."""
        if not self.announced:
            return b""
        try:
            return await within(seconds, self._read())
        except asyncio.TimeoutError:
            raise RequestRefused(408, "the body came too slowly") from None

    async def while_connected(self, work: Coroutine[Any, Any, bytes]) -> bytes:
        """What `work` gives, which is cancelled when the client closes the connection. Raises `ClientGone`."""
        loop = asyncio.get_running_loop()
        working, gone = loop.create_task(work), loop.create_task(self._gone())
        try:
            await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise ClientGone
        finally:
            await ended((working, gone))

    async def _gone(self) -> None:
        """Return when the connection is closed."""
        for _ in range(2):  # one event is of a body that was empty, and was not read
            if (await self._receive())["type"] == "http.disconnect":
                return
        await asyncio.get_running_loop().create_future()  # this server does not tell

    async def _read(self) -> bytes:
        pieces, size, more = [], 0, True
        while more:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise RequestRefused(400, "the connection was closed inside the body")
            pieces.append(event.get("body", b""))
            more = event.get("more_body", False)
            size += len(pieces[-1])
            if size > self.announced:
                raise RequestRefused(413, f"a body of more than {self.announced} bytes")
        return b"".join(pieces)


def _raw_path(scope: Scope) -> bytes:
    """The path as the client sent it, percent-encoded."""
    return scope.get("raw_path") or quote(scope["path"]).encode()


def _seconds(prefer: bytes) -> float:
    found = _WAIT.search(prefer)
    return WAIT_S if found is None else min(float(found[1]), MAX_WAIT_S)


def _full(why: str) -> RequestRefused:
    return RequestRefused(503, why, retry_after=1)
