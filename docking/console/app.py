"""The console as an ASGI application: a page, what the page asks, and what happens, as server-sent events.

    GET  .../                          the page, without a word about the station
    GET  .../static/NAME               its style, modules and icon
    POST .../api/enter                 {"token"}: the cookie;   POST .../api/leave
    GET  .../api/overview              stations and some agents at each
    GET  .../api/agents?q=&station=&standing=&sort=&offset=&limit=
    GET  .../api/agents/ID             one agent;   .../journey, .../stack, .../replay?step=&again=
    POST .../api/agents/ID/order       {"what"};   .../move {"to"}
    GET  .../api/events                what happens (server-sent events)

All below `api/` needs the cookie (`access`). The same under uvicorn and mounted in another application; addresses in
the page are relative. Invariants: each answer has the headers that keep other pages out and scripts of others off;
bodies are small, of a known size, and read in bounded time; an error is answered with a sentence and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl

from attrs import define

from agents.errors import PortcallError
from docking.aio.failures import describe_error
from docking.aio.timeouts import within
from docking.console.access import Access, Denied
from docking.console.answers import Answers
from docking.console.feed import Feed, Reader, Watched
from docking.console.files import INDEX, File, page_files
from docking.console.rewinds import Rewinds
from docking.console.roster import Asked, Roster, Search
from docking.console.settings import Settings
from docking.errors import UnknownAgent
from docking.http.agent_requests import Receive, Scope, Send

_log = logging.getLogger(__name__)
MAX_BODY_BYTES, BODY_TIMEOUT_S = 4096, 10.0
MAX_QUERY_BYTES, MAX_QUERY_FIELDS = 2000, 20
API, STATIC = "/api/", "/static/"
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    b" form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
Fields = dict[str, Any]


@define(eq=False, repr=False)
class Console:
    """The console of some stations: an ASGI application, as `Station.console` makes it.

    token: the word that opens it
    feed: the browsers that look
    """

    token: str
    feed: Feed
    _access: Access
    _answers: Answers
    _files: dict[str, File]

    @classmethod
    def of(cls, asked: Sequence[Asked], watched: Sequence[Watched], settings: Settings) -> Console:
        """The console of several stations.

        asked, watched: what `Station.shown` gives of each of them
        settings: who may see it
        """
        access = Access.of(settings.token, settings.hosts, settings.allow)
        answers = Answers(asked, Roster(asked), Rewinds(asked), settings.owners)
        return cls(settings.token, Feed(watched), access, answers, page_files())

    def link(self, url: str) -> str:
        """The address that opens the console at once.

        url: where it is served, as `http://HOST:PORT/`. The token is in the fragment, which browsers send nowhere
        """
        return f"{url.rstrip('/')}/#token={self.token}"

    def close(self) -> None:
        """End the streams of all browsers. They come again if the console is still served."""
        self.feed.close()
        self._answers.rewinds.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request: see the ASGI specification."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        path = _below(scope)
        try:
            self._access.check(scope, headers)
            if path.startswith(API):
                await self._api(path.removeprefix(API), scope, headers, receive, send)
            else:
                await self._page(path, scope, headers, send)
        except Denied as denied:
            again = [(b"retry-after", b"%d" % denied.again_s)] if denied.again_s else []
            await _json(send, denied.status, {"error": denied.sentence}, again)
        except UnknownAgent as error:
            await _json(send, 404, {"error": str(error)})
        except PortcallError as error:
            await _json(send, 409, {"error": str(error)})
        except Exception as error:
            _log.error("a request to the console failed: %s", describe_error(error))
            await _json(send, 500, {"error": "the station failed to answer; its log says why"})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            event = await receive()
            if event["type"] == "lifespan.shutdown":
                self.close()
            await send({"type": f"{event['type']}.complete"})
            if event["type"] == "lifespan.shutdown":
                return

    async def _page(self, path: str, scope: Scope, headers: dict[bytes, bytes], send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            raise Denied(405, "this is only read")
        if path == "":
            where = scope["path"].rsplit("/", 1)[-1] + "/"  # relative: whoever has mounted this knows the rest
            if "\r" in where or "\n" in where or not where.isascii():
                raise Denied(404, "there is nothing here")
            await _respond(send, 307, b"text/plain", b"", [(b"location", b"./" + where.encode())])
            return
        name = INDEX if path == "/" else path.removeprefix(STATIC) if path.startswith(STATIC) else ""
        file = self._files.get(name)
        if file is None or (name == INDEX and path != "/"):
            raise Denied(404, "there is nothing here")
        extra = [(b"etag", file.tag), (b"cache-control", b"no-cache")]
        if headers.get(b"if-none-match") == file.tag:
            await _respond(send, 304, b"", b"", extra)
            return
        await _respond(send, 200, file.kind, file.body, extra, body_sent=scope["method"] == "GET")

    async def _api(self, what: str, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method not in ("GET", "POST"):
            raise Denied(405, "there is only GET and POST")
        if method == "POST" and what == "enter":
            fields = await _body(headers, receive)
            cookie = self._access.enter(scope, fields.get("token"))
            await _json(send, 200, {}, [(b"set-cookie", cookie)])
            return
        if not self._access.lets_in(scope, headers):
            raise Denied(401, "the token is needed: the station printed a link with it when it started")
        if method == "POST" and what == "leave":
            await _json(send, 200, {}, [(b"set-cookie", self._access.leave(scope, headers))])
        elif method == "GET" and what == "events":
            await self._events(receive, send)
        elif method == "GET":
            await _json(send, 200, await self._read(what, scope))
        else:
            await _json(send, 200, await self._do(what, await _body(headers, receive)))

    async def _read(self, what: str, scope: Scope) -> Fields:
        if what == "overview":
            return await self._answers.overview()
        fields = _query(scope)
        if what == "agents":
            return await self._answers.roster.page(Search.of(fields))
        kind, _, rest = what.partition("/")
        ident, _, part = rest.partition("/")
        asks: dict[str, Callable[[str], Awaitable[Fields]]] = {
            "": self._answers.agent,
            "journey": self._answers.journey,
            "stack": self._answers.stack,
            "replay": lambda ident: self._answers.rewind(ident, _step(fields), fields.get("again") == "1"),
        }
        if kind != "agents" or part not in asks:
            raise Denied(404, "there is nothing here")
        return await asks[part](ident)

    async def _do(self, what: str, fields: Fields) -> Fields:
        kind, _, rest = what.partition("/")
        ident, _, part = rest.partition("/")
        if kind == "agents" and part == "order":
            return await self._answers.order(ident, fields.get("what"))
        if kind == "agents" and part == "move":
            return await self._answers.move(ident, fields.get("to"), fields.get("on_timeout", "cancel"))
        raise Denied(404, "there is nothing here")

    async def _events(self, receive: Receive, send: Send) -> None:
        reader = self.feed.join()
        if reader is None:
            raise Denied(503, "so many browsers look already: close one", 10)
        gone = asyncio.get_running_loop().create_task(_until_gone(receive, reader))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _headers(b"text/event-stream", [])})
            while (message := await reader.next()) is not None:
                await send({"type": "http.response.body", "body": message, "more_body": True})
            if not gone.done():
                await send({"type": "http.response.body", "body": b""})
        finally:
            self.feed.leave(reader)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)


async def _until_gone(receive: Receive, reader: Reader) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reader.end()


def _below(scope: Scope) -> str:
    """The path below where the console is mounted; frameworks differ in whether they leave the mount's own path out."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path[len(root) :] if root and (path == root or path.startswith(root + "/")) else path


def _query(scope: Scope) -> dict[str, str]:
    """The fields of the query. Raises `Denied`."""
    query = scope.get("query_string", b"")
    if len(query) > MAX_QUERY_BYTES:
        raise Denied(414, "a search that is too long")
    try:
        return dict(parse_qsl(query.decode("latin-1"), max_num_fields=MAX_QUERY_FIELDS))
    except ValueError:
        raise Denied(400, "a search of too many parts") from None


def _step(fields: dict[str, str]) -> int:
    text = fields.get("step", "")
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else -1


async def _body(headers: dict[bytes, bytes], receive: Receive) -> Fields:
    """The fields of a small JSON object. Raises `Denied`."""
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
        raise Denied(415, "the console is asked in JSON")
    length = headers.get(b"content-length", b"")
    if not length.isdigit():
        raise Denied(411, "a body without its length is not read")
    if len(length) > 9 or int(length) > MAX_BODY_BYTES:
        raise Denied(413, f"at most {MAX_BODY_BYTES} bytes are read")
    try:
        data = await within(BODY_TIMEOUT_S, _whole(receive))
        fields = json.loads(data)
    except asyncio.TimeoutError:
        raise Denied(408, "the body came too slowly") from None
    except (ValueError, RecursionError):
        raise Denied(400, "this is no JSON") from None
    if not isinstance(fields, dict):
        raise Denied(400, "this is no JSON object")
    return fields


async def _whole(receive: Receive) -> bytes:
    data, more = b"", True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise Denied(400, "the connection was closed inside the body")
        data += event.get("body", b"")
        if len(data) > MAX_BODY_BYTES:
            raise Denied(413, f"at most {MAX_BODY_BYTES} bytes are read")
        more = event.get("more_body", False)
    return data


def _headers(kind: bytes, extra: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    found = [*HEADERS, *extra]
    if kind:
        found.append((b"content-type", kind))
    if not any(name == b"cache-control" for name, _ in extra):
        found.append((b"cache-control", b"no-store"))
    return found


async def _json(send: Send, status: int, value: Fields, extra: Sequence[tuple[bytes, bytes]] = ()) -> None:
    # ASCII only, and no character that means something in HTML: wherever this ends up, it is text.
    text = json.dumps(value, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e")
    await _respond(send, status, b"application/json", text.replace("&", "\\u0026").encode(), extra)


async def _respond(
    send: Send,
    status: int,
    kind: bytes,
    body: bytes,
    extra: Sequence[tuple[bytes, bytes]] = (),
    body_sent: bool = True,
) -> None:
    headers = _headers(kind, extra)
    if status != 304:
        headers.append((b"content-length", b"%d" % len(body)))
    if status >= 400:
        headers.append((b"connection", b"close"))  # the rest of a refused body is not read
    with contextlib.suppress(ConnectionError):
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body if body_sent else b""})
