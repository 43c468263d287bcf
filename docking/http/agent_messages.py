"""Requests and responses as agents see them: messages of HTTP/1.1 (RFC 9112), `message/http`.

A request is given to an agent with the end-to-end headers of the client (names in lower case, repeated ones joined) and
`portcall-request`, the id that its answer needs. What an agent answers is read here, and is hostile: a head of a few
kilobytes, headers that are tokens and visible ASCII, and a body, the rest of the message. Not here: connections and
queues.

Invariant: no byte of an agent's answer is sent as a head without having passed `read_response`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import field, frozen

from agents.brief import brief
from agents.waits import MAX_BODY_BYTES

# Bytes of a head, and headers in it.
MAX_HEAD_BYTES, MAX_HEADERS = 16 << 10, 64
REQUEST_HEADER = b"portcall-request"
# Of one connection, not of the message (RFC 9110 section 7.6.1), or made here.
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding"
    b" upgrade content-length".split()
)
# What would speak for all of a station's address, where other agents answer too.
_OF_THE_ORIGIN = frozenset(
    b"set-cookie set-cookie2 clear-site-data service-worker-allowed strict-transport-security alt-svc public-key-pins"
    b" content-security-policy".split()
)
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE = re.compile(rb"[\t -~]*\Z")
_TARGET = re.compile(rb"/[!-~]*\Z")
_STATUS = re.compile(rb"HTTP/1\.[01] ([2-5][0-9][0-9])(?: [\t -~]*)?\Z")
# Browsers give what an agent serves an origin of its own: another agent's pages, and the station's, are out of reach.
_SANDBOX = (
    (b"content-security-policy", b"sandbox allow-scripts allow-forms allow-popups"),
    (b"x-content-type-options", b"nosniff"),
)
BODILESS = (204, 205, 304)


class BadHead(ValueError):
    """A head that is not passed on; the text is a sentence for people. `large`: because of its size."""

    def __init__(self, why: str, large: bool = False) -> None:
        super().__init__(why)
        self.large = large


@frozen
class Response:
    """What an agent answered."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=brief)
    body: bytes = field(repr=brief)


def write_request(
    ident: str, method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> bytes:
    """The message for an agent. `target`: path and query as the client sent them. Raises `BadHead`."""
    if not _TOKEN.match(method) or not _TARGET.match(target):
        raise BadHead("the request line is none of HTTP")
    kept: dict[bytes, bytes] = {}
    given = list(headers)
    dropped = _HOP_BY_HOP | _named_by_connection(given)
    for name, value in given:
        name = name.lower()
        if name in dropped or name.startswith(b"portcall-"):
            continue
        value = value.strip()
        if not _TOKEN.match(name) or not _VALUE.match(value):
            raise BadHead("a header has other characters than visible ASCII")
        before = kept.get(name)
        kept[name] = value if before is None else before + (b"; " if name == b"cookie" else b", ") + value
    if body:
        kept[b"content-length"] = b"%d" % len(body)
    kept[REQUEST_HEADER] = ident.encode()
    lines = [b"%s %s HTTP/1.1" % (method, target), *(b"%s: %s" % each for each in kept.items()), b"", b""]
    head = b"\r\n".join(lines)
    if len(kept) > MAX_HEADERS or len(head) > MAX_HEAD_BYTES:
        raise BadHead(f"more than {MAX_HEADERS} headers, or {MAX_HEAD_BYTES} bytes of them", large=True)
    if len(head) + len(body) > MAX_BODY_BYTES:
        raise BadHead(f"a request of {len(head) + len(body)} bytes; an agent takes {MAX_BODY_BYTES}", large=True)
    return head + body


def read_response(message: bytes) -> Response:
    """What an agent answered, fit to be sent. Raises `BadHead`."""
    head, found, body = message.partition(b"\r\n\r\n")
    if not found or len(head) > MAX_HEAD_BYTES:
        raise BadHead(f"no head of at most {MAX_HEAD_BYTES} bytes")
    first, *lines = head.split(b"\r\n")
    line = _STATUS.match(first)
    if line is None or len(lines) > MAX_HEADERS:
        raise BadHead(f"no status line of HTTP with a status from 200 to 599, or more than {MAX_HEADERS} headers")
    headers = []
    for each in lines:
        name, colon, value = each.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if not colon or not _TOKEN.match(name) or not _VALUE.match(value):
            raise BadHead("a header that is none")
        headers.append((name, value))
    dropped = _HOP_BY_HOP | _OF_THE_ORIGIN | _named_by_connection(headers)
    kept = [each for each in headers if each[0] not in dropped and not each[0].startswith(b"portcall-")]
    return Response(int(line[1]), (*kept, *_SANDBOX), body)


def _named_by_connection(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """The headers that `Connection` says are of this connection only."""
    said = [value for name, value in headers if name.lower() == b"connection"]
    return frozenset(each.strip().lower() for value in said for each in value.split(b","))
