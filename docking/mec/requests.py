"""What all resources do alike with a request: who asks, what it accepts, its body; and what an answer looks like.

Invariants: a body is read up to its bound, in bounded time; what a client may not see or do is refused before its
body is read; every error is problem details.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from agents import canonical
from docking.aio.timeouts import within
from docking.mec.models import MAX_BODY_BYTES
from docking.mec.problems import PROBLEM_TYPE, Details, Problem, bad_request, forbidden, unauthorized

BODY_S = 20.0
# Bytes of a body that is too large that are read, and thrown away.
DRAINED_BYTES = 1 << 20
MAX_PARAMETERS, MAX_QUERY_CHARS = 32, 8192
AMSI, OWN = "/amsi/v1", "/portcall-mec/v1"
JSON = "application/json"
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
# Written by proxies: then the address of the connection is not the client's.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


@frozen
class Doors:
    """Who may come in. `tokens`: of clients; `operators`: those who may also move instances."""

    _tokens: Sequence[str] = field(default=(), repr=False)
    _operators: Sequence[str] = field(default=(), repr=False)

    def client(self, connection: HTTPConnection) -> str | None:
        """Whose resources may be seen: None for all. Raises `Problem` (401)."""
        if not self._tokens and not self._operators:
            return None
        token = _token(connection)
        if _is_one(token, self._operators):
            return None
        if not _is_one(token, self._tokens):
            raise unauthorized("the token is unknown")
        return self.owner(connection)

    def operator(self, connection: HTTPConnection) -> None:
        """Raises `Problem` (401, 403) for who may not move instances."""
        if not self._tokens and not self._operators:
            return
        token = _token(connection)
        if _is_one(token, self._operators or self._tokens):
            return
        if _is_one(token, self._tokens):
            raise forbidden("only operators may do this")
        raise unauthorized("the token is unknown")

    @staticmethod
    def owner(connection: HTTPConnection) -> str:
        """Whose the resources are that this request makes: a digest of its token."""
        header = connection.headers.get("authorization")
        return "" if header is None else canonical.digest(_token(connection).encode()).hex()[:32]


def _token(connection: HTTPConnection) -> str:
    header = connection.headers.get("authorization")
    if header is None:
        raise unauthorized("this needs a bearer token")
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else header


def _is_one(token: str, tokens: Sequence[str]) -> bool:
    given = token.encode("utf-8", "surrogatepass")
    same = [secrets.compare_digest(given, each.encode()) for each in tokens]  # all of them: time tells nothing
    return any(same)


def root_of(connection: HTTPConnection, root: str | None) -> str:
    """The root of the API as the client addresses it, without a slash at its end."""
    if root is not None:
        return root.rstrip("/") + AMSI
    scope = connection.scope
    host = connection.headers.get("host", "")
    if not _HOST.fullmatch(host):
        server = scope.get("server") or ("localhost", None)
        name = f"[{server[0]}]" if ":" in str(server[0]) else str(server[0])
        host = name if server[1] is None else f"{name}:{server[1]}"
    scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
    return f"{scheme}://{host}{scope.get('root_path', '').rstrip('/')}{AMSI}"


def requester_of(request: Request) -> str:
    """The address that a request came from; empty if that cannot be told."""
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return ""
    return request.client.host


def parameters_of(request: Request) -> list[tuple[str, str]]:
    """The query parameters. Raises `Problem` (400)."""
    if len(request.scope.get("query_string", b"")) > MAX_QUERY_CHARS:
        raise bad_request("the query is too long")
    found = request.query_params.multi_items()
    if len(found) > MAX_PARAMETERS:
        raise bad_request(f"at most {MAX_PARAMETERS} query parameters are taken")
    return found


def no_parameters(request: Request) -> None:
    """Raises `Problem` (400) if there is a query."""
    if parameters_of(request):
        raise bad_request("this resource has no query parameters")


def check_accept(request: Request) -> None:
    """Raises `Problem` (406) if the client does not take JSON."""
    header = request.headers.get("accept", "*/*")
    for each in header[:4096].split(","):
        kind, *options = (part.strip().lower() for part in each.split(";"))
        refused = any(re.fullmatch(r"q=0(\.0{0,3})?", option) for option in options)
        if kind in (JSON, "application/*", "*/*", "") and not refused:
            return
    raise Problem(406, f"this API answers in {JSON}")


async def body_of(request: Request) -> bytes:
    """The body of a request. Raises `Problem` (408, 413, 415)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        raise Problem(415, f"a body is {JSON}")
    try:
        return await within(BODY_S, _read(request))
    except asyncio.TimeoutError:
        raise Problem(408, f"the body did not come within {BODY_S:g} s") from None


async def _read(request: Request) -> bytes:
    found, size = bytearray(), 0
    async for part in request.stream():
        size += len(part)
        # What follows is read for a while: a connection closed on a client that still writes loses it the answer.
        if size <= MAX_BODY_BYTES:
            found += part
        elif size > DRAINED_BYTES:
            break
    if size > MAX_BODY_BYTES:
        raise Problem(413, f"a body has at most {MAX_BODY_BYTES} bytes", {"Connection": "close"})
    return bytes(found)


def check_match(request: Request, tag: str) -> None:
    """Raises `Problem` (412) if the request is for another state of the resource (If-Match, RFC 9110)."""
    header = request.headers.get("if-match")
    if header is None or header.strip() == "*":
        return
    if tag not in [each.strip() for each in header[:4096].split(",")]:
        raise Problem(412, "the resource has changed: If-Match names another state of it")


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(_json(value), status, dict(headers or {}), media_type=JSON)


def nothing() -> Response:
    """204: done, and nothing to say."""
    return Response(status_code=204)


def problem(request: HTTPConnection, error: Problem) -> Response:
    """An error as an answer."""
    root, path = request.scope.get("root_path", ""), request.scope["path"]
    # With a root, servers differ in whether the path holds it.
    details = Details(error.status, error.detail, _printable(path if path.startswith(root) else root + path))
    return Response(_json(details.value()), error.status, error.headers, media_type=PROBLEM_TYPE)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _printable(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9/._~%-]", "?", text[:300]).replace("?", "%3F")
