"""The requests of clients, and their answers, from one station to another: what is sent, and how often it is tried.

    ["request", ident, agent, message, milliseconds left, steps]            passed on to where the agent is
    ["answer", ident, agent, status, body, retry after, steps]              back to where the client waits

An answer with the status 0 is the agent's own; others are of a station that could not give the request to the agent.
Both are answered `["taken"]`, a request also `["later"]` (the agent is not there yet) or `["refused", status, why,
retry after]`. Each is repeated until it is taken, or its time is over. Not here: who waits for what (`serving`).

Invariant: a request is repeated only to the station that may have it already, which gives it to the agent once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from attrs import define, field, frozen

from agents.brief import brief
from agents.credentials.fields import array, byte_string, text, uint
from agents.credentials.keys import PublicKey, bytes_of
from agents.errors import CredentialError
from agents.waits import MAX_BODY_BYTES, MAX_REQUEST_ID_BYTES
from docking.aio.timeouts import within
from docking.errors import CarrierError, MalformedMessage

# Stations that one request or answer may pass.
MAX_STEPS = 32
# Milliseconds that a request can have left, and seconds for which an answer is carried whose end is not known here.
MAX_LEFT_MS, CARRIED_S = 120_000, 60.0
# Seconds between two tries, at first and at most, and for one try.
FIRST_RETRY_S, LONGEST_RETRY_S, TRY_S = 0.02, 1.0, 10.0
# Answers on their way to other stations, those of one agent, and their bytes; of more, none is sent.
MAX_CARRIED, MAX_CARRIED_EACH, MAX_CARRIED_BYTES = 1024, 256, 64 << 20


@frozen
class Outcome:
    """What became of a request. `status`: 0 for the agent's answer in `body`, else of HTTP, and `body` says why."""

    status: int
    body: bytes = field(repr=brief)
    retry_after: int = 0


@frozen
class Ferried:
    """What another station sends: a request (`outcome` is None) or an answer."""

    ident: str
    agent: bytes
    steps: int
    message: bytes = field(default=b"", repr=brief)
    seconds: float = 0.0
    outcome: Outcome | None = None


@define(eq=False, repr=False)
class Ferry:
    """Carries requests and answers of one station. `send(peer, value)` returns the answer; raises `CarrierError`."""

    _send: Callable[[PublicKey, object], Awaitable[object]]
    carried: int = 0
    carried_bytes: int = 0
    lost: int = 0
    _carried_for: Counter[bytes] = field(factory=Counter)

    async def request(
        self, to: PublicKey, agent: bytes, ident: str, message: bytes, until: float, steps: int
    ) -> Outcome | None:
        """Pass a request on. None once it is taken; else what to tell the client."""
        if steps >= MAX_STEPS:
            return Outcome(502, b"the agent moves too fast for this request")
        loop = asyncio.get_running_loop()
        wait = FIRST_RETRY_S
        while (left := until - loop.time()) > 0:
            value = ["request", ident, agent, message, max(1, int(left * 1000)), steps + 1]
            said = await self._try(to, value, left)
            if isinstance(said, list) and said[:1] == ["taken"]:
                return None
            if isinstance(said, list) and said[:1] == ["refused"]:
                return _refused(said)
            await asyncio.sleep(min(wait, max(0.0, until - loop.time())))
            wait = min(2 * wait, LONGEST_RETRY_S)
        return Outcome(504, b"the station where the agent went has not taken the request in time")

    async def answer(
        self,
        mark: str,
        before: PublicKey | None,
        agent: bytes,
        ident: str,
        outcome: Outcome,
        until: float | None,
        steps: int,
    ) -> None:
        """Bring an answer to the station `mark`, or to the one `before`, from which the agent came."""
        size = len(outcome.body)
        full = self.carried >= MAX_CARRIED or self._carried_for[agent] >= MAX_CARRIED_EACH
        if full or steps >= MAX_STEPS or self.carried_bytes + size > MAX_CARRIED_BYTES:
            self.lost += 1
            return
        try:
            to = PublicKey(byte_string(bytes_of(mark), "station", 32))
        except (CredentialError, ValueError):
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + CARRIED_S if until is None else until
        value = ["answer", ident, agent, outcome.status, outcome.body, outcome.retry_after, steps + 1]
        ways = list(dict.fromkeys(each for each in (to, before) if each is not None))
        wait = FIRST_RETRY_S
        self.carried += 1
        self.carried_bytes += size
        self._carried_for[agent] += 1
        try:
            while (left := until - loop.time()) > 0:
                for way in ways:
                    if isinstance(await self._try(way, value, left), list):
                        return
                await asyncio.sleep(wait)
                wait = min(2 * wait, LONGEST_RETRY_S)
            self.lost += 1
        finally:
            self.carried -= 1
            self.carried_bytes -= size
            self._carried_for[agent] -= 1
            if not self._carried_for[agent]:
                del self._carried_for[agent]

    async def _try(self, to: PublicKey, value: object, left: float) -> object:
        """The answer of a station; None if there is none."""
        try:
            return await within(min(TRY_S, left), self._asked(to, value))
        except (CarrierError, CredentialError, asyncio.TimeoutError):
            return None

    async def _asked(self, to: PublicKey, value: object) -> object:
        return await self._send(to, value)

    @staticmethod
    def read(value: object) -> Ferried:
        """What another station sent. Raises `MalformedMessage`."""
        try:
            if isinstance(value, list) and value[:1] == ["request"]:
                _, ident, agent, message, left, steps = array(value, "request", 6)
                seconds = uint(left, "time left", MAX_LEFT_MS) / 1000
                body = byte_string(message, "request", 0, MAX_BODY_BYTES)
                return Ferried(_ident(ident), byte_string(agent, "agent", 32), _steps(steps), body, seconds)
            _, ident, agent, status, body, after, steps = array(value, "answer", 7)
            if 0 < uint(status, "status", 599) < 400:
                raise ValueError("a status that is no failure")
            outcome = Outcome(
                status, byte_string(body, "answer", 0, MAX_BODY_BYTES), uint(after, "retry after", 86_400)
            )
            return Ferried(_ident(ident), byte_string(agent, "agent", 32), _steps(steps), outcome=outcome)
        except (CredentialError, ValueError, TypeError) as error:
            raise MalformedMessage(f"neither a request of a client nor an answer: {error}") from error


def _ident(value: object) -> str:
    ident = text(value, "request's id", MAX_REQUEST_ID_BYTES)
    if not ident.isascii() or ident.count(".") != 1 or not ident.isprintable():
        raise ValueError("no id of a request")
    return ident


def _steps(value: object) -> int:
    return uint(value, "steps", MAX_STEPS)


def _refused(said: list[object]) -> Outcome:
    try:
        _, status, why, after = said
        if type(status) is int and 400 <= status <= 599 and isinstance(why, str) and type(after) is int:
            return Outcome(status, why[:500].encode(), max(0, min(after, 86_400)))
    except ValueError:
        pass
    return Outcome(502, b"the station where the agent went refused the request")
