"""Who is let into the console: the host that is named, the page that asks, the token, the cookie that stands for it.

Attackers are other users of this machine, other machines, and web pages in the browser of somebody who is logged in.
Invariants: nothing is told or done for a request whose `Host` is none of ours (DNS rebinding); nothing is done for a
request that another page made (cross-site requests); a token is compared in constant time, and tried a bounded number
of times; sessions are random, bounded, and end.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping

from attrs import define, field

from agents import canonical
from docking.http.agent_requests import Scope

# Sessions at once; the oldest ends for a new one. Seconds until one ends.
MAX_SESSIONS, SESSION_S = 64, 12 * 3600
# Wrong tokens within so many seconds: of one address, and of all.
FAILURES_S, ADDRESS_FAILURES, ALL_FAILURES = 60.0, 10, 100
MAX_HOST_CHARS = 300


class Denied(Exception):
    """A request that is refused. `sentence`: for people; `again_s`: seconds until it makes sense to ask again."""

    def __init__(self, status: int, sentence: str, again_s: int = 0) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.again_s = status, sentence, again_s


@define(eq=False, repr=False)
class Access:
    """The door of one console. `allow`: decides instead of the token, where it is given; `now()`: seconds."""

    _token: str
    _hosts: frozenset[str]
    _allow: Callable[[Scope], bool] | None = None
    _now: Callable[[], float] = time.monotonic
    _mark: str = field(factory=lambda: secrets.token_hex(4))
    _sessions: OrderedDict[bytes, float] = field(factory=OrderedDict)
    _failures: deque[tuple[float, str]] = field(factory=lambda: deque(maxlen=ALL_FAILURES))

    @classmethod
    def of(cls, token: str, hosts: Iterable[str], allow: Callable[[Scope], bool] | None) -> Access:
        """The door for these names."""
        return cls(token, frozenset(each.lower().rstrip(".") for each in hosts) | {"localhost"}, allow)

    def check(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Whether the request may be looked at. `headers`: the last of each name. Raises `Denied`."""
        said = [value for name, value in scope["headers"] if name == b"host"]
        if len(said) != 1 or not self._is_ours(said[0]):
            raise Denied(421, "the console is not reached under this name: see its option --console-name")
        site = headers.get(b"sec-fetch-site", b"none")
        if site not in (b"none", b"same-origin") and not self._is_visit(scope, headers):
            raise Denied(403, "another page asks, and the console answers its own page only")
        origin = headers.get(b"origin")
        if origin is not None and not _same(origin, said[0]):
            raise Denied(403, "another page asks, and the console answers its own page only")
        if scope["method"] == "POST" and origin is None:
            raise Denied(403, "what changes something is asked by the console's own page: its Origin is missing")

    @staticmethod
    def _is_visit(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
        """Whether somebody followed a link to the page itself, which shows nothing yet."""
        return (
            scope["method"] == "GET" and "/api/" not in scope["path"] and headers.get(b"sec-fetch-mode") == b"navigate"
        )

    def _is_ours(self, host: bytes) -> bool:
        name = _host_name(host)
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)  # no other page has an address for its name
        except ValueError:
            return False
        return True

    def lets_in(self, scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
        """Whether the request comes from somebody who has shown the token."""
        if self._allow is not None:
            return bool(self._allow(scope))
        mark = _cookie(headers.get(b"cookie", b""), self._cookie_name)
        until = self._sessions.get(canonical.digest(mark)) if mark else None
        return until is not None and until > self._now()

    def enter(self, scope: Scope, token: object) -> bytes:
        """The cookie for who shows the token. Raises `Denied`."""
        address, now = str((scope.get("client") or ("",))[0]), self._now()
        while self._failures and self._failures[0][0] < now - FAILURES_S:
            self._failures.popleft()
        mine = sum(each == address for _, each in self._failures)
        if mine >= ADDRESS_FAILURES or len(self._failures) >= ALL_FAILURES:
            raise Denied(429, "too many wrong tokens: wait a minute", int(FAILURES_S))
        given = token.encode("utf-8", "replace") if isinstance(token, str) else b""
        if not hmac.compare_digest(canonical.digest(given), canonical.digest(self._token.encode())):
            self._failures.append((now, address))
            raise Denied(401, "this is not the token: the station printed a link with it when it started")
        mark = secrets.token_urlsafe(32)
        self._sessions[canonical.digest(mark.encode())] = now + SESSION_S
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return self._set(scope, mark, SESSION_S)

    def leave(self, scope: Scope, headers: Mapping[bytes, bytes]) -> bytes:
        """End the session of the request; the cookie that is to be forgotten."""
        self._sessions.pop(canonical.digest(_cookie(headers.get(b"cookie", b""), self._cookie_name)), None)
        return self._set(scope, "", 0)

    @property
    def _cookie_name(self) -> bytes:
        # Cookies are of a host, not of a port: consoles of several stations must not overwrite each other's.
        return b"portcall-console-" + self._mark.encode()

    def _set(self, scope: Scope, mark: str, seconds: int) -> bytes:
        path = scope.get("root_path", "").rstrip("/") or "/"
        if not path.isascii() or any(each in path for each in ';,\r\n\t "'):
            path = "/"
        secure = b"; Secure" if scope.get("scheme") == "https" else b""
        rest = f"={mark}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict".encode()
        return self._cookie_name + rest + secure


def _host_name(host: bytes) -> str:
    """The name in a `Host`, without the port; empty for what is none."""
    if len(host) > MAX_HOST_CHARS:
        return ""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        name, _, port = text[1:].partition("]")
        port = port.removeprefix(":") if not port or port.startswith(":") else "?"
    else:
        name, _, port = text.partition(":")
    return "" if port and not port.isdigit() else name.rstrip(".")


def _same(origin: bytes, host: bytes) -> bool:
    """Whether an `Origin` is that of a page that came from this `Host`."""
    scheme, found, place = origin.lower().partition(b"://")
    return bool(found) and scheme in (b"http", b"https") and place == host.lower()


def _cookie(header: bytes, name: bytes) -> bytes:
    for each in header.split(b";")[:100]:
        key, _, value = each.strip().partition(b"=")
        if key == name:
            return value[:200]
    return b""
