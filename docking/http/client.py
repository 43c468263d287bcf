"""Requests to peers: opened and read by nobody else, over a channel where there is one and else by HTTP.

Small requests go over channels (`calling`), large ones and those to stations that have none by HTTP (`posting`), each
sealed (`sealed`). Invariants: a request that certainly did not reach the peer is `PeerUnreachable`, one that perhaps
did is `NoAnswer`; an answer was made by the peer's key, for this request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from attrs import define, field

from agents import canonical
from agents.credentials.keys import PublicKey
from agents.errors import CredentialError, NotCanonical
from docking.errors import CarrierError, MalformedMessage, NoAnswer, PeerUnreachable
from docking.handoff import codec
from docking.handoff.messages import Buffer, Message
from docking.http.app import FROM, SALTED
from docking.http.calling import Calls
from docking.http.channel import LONGEST
from docking.http.posting import Posts
from docking.http.reception import ASKED
from docking.http.sealed import MAX_ANSWER, SALT, Secrets, open_answer, seal_request

_HELLO_BOUNDS = canonical.Bounds(max_bytes=MAX_ANSWER, max_depth=6, max_items=20_000)


@define(eq=False)
class Client:
    """Talks to peers. `addresses(key)`: URLs of a peer, the best first; `met(key, url)` is told what worked."""

    _secrets: Secrets
    _random: Callable[[int], bytes]
    _addresses: Callable[[PublicKey], Sequence[str]]
    _met: Callable[[PublicKey, str], None]
    _posts: Posts = field(factory=Posts)
    _calls: Calls = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._calls = Calls(self._secrets, self._random)

    @property
    def sent_bytes(self) -> int:
        """Bytes of requests."""
        return self._posts.sent_bytes + self._calls.sent_bytes

    @property
    def received_bytes(self) -> int:
        """Bytes of answers."""
        return self._posts.received_bytes + self._calls.received_bytes

    async def exchange(self, peer: bytes, message: Message) -> Message | None:
        """See `docking.courier.Carrier`."""
        answer = await self._ask(PublicKey(peer), "handoff", codec.encode(message))
        if answer is None:
            return None
        try:
            return codec.decode(answer)
        except MalformedMessage as error:
            raise NoAnswer(f"the answer is malformed: {error}") from error

    async def letter(self, peer: PublicKey, value: Any) -> Any:
        """Deliver a letter; what was answered. Raises `CarrierError`."""
        return await self._value(peer, "letter", value)

    async def hello(self, peer: PublicKey, value: Any) -> Any:
        """Greet a station; what it says of itself. Raises `CarrierError`."""
        return await self._value(peer, "hello", value)

    async def _value(self, peer: PublicKey, what: str, value: Any) -> Any:
        answer = await self._ask(peer, what, [canonical.encode(value)])
        try:
            return canonical.decode(answer or b"", _HELLO_BOUNDS)
        except NotCanonical as error:
            raise NoAnswer(f"the answer is malformed: {error}") from error

    async def who(self, url: str) -> tuple[str, PublicKey]:
        """The name and the key that are claimed at `url`. Proves nothing. Raises `CarrierError`."""
        status, body = await self._posts.send(url, "station", b"GET", b"", lambda: iter(()), 0)
        try:
            value = json.loads(body) if status == 200 and len(body) < 4096 else None
            return str(value["name"]), PublicKey.from_text(str(value["key"]))  # type: ignore[index]
        except (ValueError, TypeError, KeyError, CredentialError):
            raise NoAnswer(f"there is no station at {url}") from None

    def close(self) -> None:
        """Close all connections."""
        self._posts.close()
        self._calls.close()

    # How a request is made

    async def _ask(self, peer: PublicKey, what: str, bodies: Sequence[Buffer]) -> bytes | None:
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
            except NoAnswer as error:
                problem = error
                continue
            self._met(peer, url)
            return body if status == 200 else None
        assert problem is not None
        raise problem

    async def _called(self, peer: PublicKey, url: str, what: str, bodies: Sequence[Buffer]) -> tuple[int, bytes] | None:
        """The answer by a channel; None if there is none to be had, and nothing was sent."""
        if sum(len(body) for body in bodies) > LONGEST:
            return None
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.path.strip("/"):
            return None  # behind a proxy, or inside another application
        answer = await self._calls.ask(peer, parts.hostname or "", parts.port or 80, ASKED.index(what), bodies)
        if answer is not None:
            _check(url, *answer)
        return answer

    async def _posted(self, peer: PublicKey, url: str, what: str, bodies: Sequence[Buffer]) -> tuple[int, bytes]:
        """The answer by HTTP."""
        try:
            now = asyncio.get_running_loop().time()
            ephemeral, salt = self._secrets.ephemeral(peer, self._random, now), self._random(SALT)
            length, pieces, mark = seal_request(self._secrets, peer, what, bodies, ephemeral, salt)
        except CredentialError as error:
            raise PeerUnreachable(f"the key of the station cannot be used: {error.reason}") from error
        salted = salt.hex().encode()
        extra = b"%s: %s\r\n%s: %s\r\ncontent-length: %d\r\n" % (FROM, self._secrets.name, SALTED, salted, length)
        status, body = await self._posts.send(url, what, b"POST", extra, pieces, length)
        _check(url, status, body)
        if status == 204:
            return status, b""
        try:
            return status, open_answer(self._secrets, peer, mark, body)
        except CredentialError as error:
            raise NoAnswer(f"another station answers at {url}: {error.reason}") from error


def _check(url: str, status: int, body: bytes) -> None:
    """Raises `NoAnswer` for what is none. Of HTTP it is not sealed: anyone on the way may have said it, so nothing
    follows from it, nor from the same in a channel.
    """
    if status not in (200, 204):
        raise NoAnswer(f"{url} answered {status}: {body[:200].decode('utf-8', 'replace')!r}")
