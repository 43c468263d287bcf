"""Agents that serve: requests of clients wait here until their agent accepts them, and the answers find the clients.

A station has a *door* for each agent that is asked: a bounded queue of requests. An agent that is here takes them one
by one; while it is leaving they wait; once it has left they are passed on to the station where it went (`ferry`), and
for a while new ones too; then clients are told the new address. The id of a request names the station where the client
waits, so the answer goes there from wherever the agent gives it.

Nothing of this is written down: a station that crashes takes the connections of its clients along. Invariants: a
request is in one door, or given to an agent, or answered; it is given to an agent at most once by each station, however
often it comes; a client gets the first answer, and every later one is dropped; what waits is bounded in number, bytes
and time.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque

from attrs import define, field

from agents.brief import brief
from agents.credentials.keys import PublicKey, text_of
from agents.errors import CallFailed
from agents.hostcalls import EINVAL
from agents.waits import Accept, Request
from docking.errors import UnknownAgent
from docking.http.dispatch import RequestRefused
from docking.letters.journeys import OVER
from docking.residents.berth import Berth, Standing
from docking.residents.ferry import Ferry, Outcome
from docking.residents.lifecycle import Lifecycle
from docking.residents.queries import Queries
from docking.residents.residents import Residents
from docking.residents.saves import Saves

# Requests that wait or are being answered, and bytes of those that wait: for one agent, and for all.
MAX_WAITING, MAX_WAITING_BYTES = 256, 16 << 20
MAX_ALL_WAITING, MAX_ALL_BYTES = 2048, 64 << 20
# How long after an agent has left new requests are passed on, in seconds; then clients are sent after it.
PASS_ON_S = 10.0
# Doors, and ids of requests by which a repeated one is recognized.
MAX_DOORS, MAX_SEEN = 4096, 8192
IDENT_BYTES = 16
PERMISSION = "host:serve"


@define(eq=False, repr=False)
class Asked:
    """A request in a door. `until`: on the loop's clock; `steps`: stations that have passed it on."""

    ident: str
    message: bytes = field(repr=brief)
    until: float
    steps: int = 0


@define(eq=False, repr=False)
class Door:
    """The requests for one agent. `given`: accepted here and not answered, with their ends; `left`: since when and
    where the agent is, if it has left; `passing`: requests that are being passed on.
    """

    waiting: deque[Asked] = field(factory=deque, repr=False)
    size: int = 0
    given: OrderedDict[str, float] = field(factory=OrderedDict, repr=False)
    passing: int = 0
    left: tuple[float, PublicKey] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost with it, but where the agent went."""
        return not (self.waiting or self.given or self.passing)


@define(eq=False, repr=False)
class Serving:
    """The doors of the agents of one station."""

    _here: Residents
    _lifecycle: Lifecycle
    _queries: Queries
    _ferry: Ferry
    _saves: Saves
    doors: OrderedDict[bytes, Door] = field(factory=OrderedDict)
    counts: Counter[str] = field(factory=Counter)
    """Requests: `accepted` by agents, `passed` on, `came` from other stations, `late` answers that were dropped."""
    waiting: int = 0
    waiting_bytes: int = 0
    _clients: dict[str, tuple[bytes, asyncio.Future[Outcome]]] = field(factory=dict)
    _asking: Counter[bytes] = field(factory=Counter)
    _seen: OrderedDict[str, None] = field(factory=OrderedDict)
    _serves: set[bytes] = field(factory=set)
    _ended: OrderedDict[bytes, None] = field(factory=OrderedDict)
    _names: dict[str, bytes] = field(factory=dict)
    _mark: str = field(init=False)
    _closed: bool = False

    def __attrs_post_init__(self) -> None:
        self._mark = text_of(self._here.key.public.raw)

    # Clients: see `docking.http.agent_requests.Doors`

    def find(self, name: str, forward: bool) -> bytes:
        """See `Doors`."""
        if self._here.failure or self._closed:
            raise RequestRefused(503, "this station is closing", retry_after=5)
        agent = self._known(name)
        berth = self._here.berths.get(agent)
        if berth is not None:
            self._check(berth)
            return agent
        went = self._went(agent)
        if went is None:
            if self._queries.arriving(agent):
                return agent
            raise RequestRefused(410, "this agent has ended") if self._over(agent) else _unknown()
        moved, to = went
        if not forward and asyncio.get_running_loop().time() > moved + PASS_ON_S:
            addresses = self._here.peers.addresses(to)
            if addresses:
                raise RequestRefused(307, f"the agent is at {self._here.peers.label(to)}", location=addresses[0])
        return agent

    def _known(self, name: str) -> bytes:
        agent = self._names.get(name)
        if agent is not None and (agent in self._here.berths or agent in self.doors):
            return agent
        try:
            agent = self._queries.find_agent(name)
        except UnknownAgent as error:
            many = "agents are called" in str(error)
            raise RequestRefused(409 if many else 404, str(error)) from None
        if len(self._names) >= MAX_DOORS:
            self._names.clear()
        self._names[name] = agent
        return agent

    @staticmethod
    def _check(berth: Berth) -> None:
        """Refuse what the agent may not be asked, or cannot be."""
        if not berth.grant.allows(PERMISSION):
            raise RequestRefused(403, f"the agent's permit here does not cover {PERMISSION}")
        if berth.standing is Standing.STOPPED:
            raise RequestRefused(503, "the agent has stopped", retry_after=60)
        if berth.standing in (Standing.ASLEEP, Standing.SUSPENDED) or berth.barred:
            raise RequestRefused(503, "the agent is suspended", retry_after=60)

    def new_ident(self) -> str:
        """See `Doors`."""
        return f"{self._mark}.{self._here.clocks.random(IDENT_BYTES).hex()}"

    async def ask(self, agent: bytes, ident: str, message: bytes, seconds: float) -> bytes:
        """See `Doors`."""
        loop = asyncio.get_running_loop()
        if self._asking[agent] >= MAX_WAITING or len(self._clients) >= MAX_ALL_WAITING:
            raise RequestRefused(503, "the agent has as many requests as it may have", retry_after=1)
        answer: asyncio.Future[Outcome] = loop.create_future()
        asked = Asked(ident, message, loop.time() + seconds)
        self._clients[ident] = (agent, answer)
        self._asking[agent] += 1
        timer = loop.call_later(seconds, _give_up, answer)
        try:
            self._put(agent, asked)
            outcome = await answer
        finally:
            timer.cancel()
            del self._clients[ident]
            self._asking[agent] -= 1
            if not self._asking[agent]:
                del self._asking[agent]
            self._withdraw(agent, asked)
        if outcome.status:
            raise RequestRefused(outcome.status, outcome.body.decode("utf-8", "replace"), outcome.retry_after)
        return outcome.body

    # Doors

    def _door(self, agent: bytes) -> Door:
        door = self.doors.get(agent)
        if door is None:
            if len(self.doors) >= MAX_DOORS:
                for other in [key for key, each in self.doors.items() if each.idle][: MAX_DOORS // 4]:
                    del self.doors[other]
            door = self.doors[agent] = Door()
        return door

    def _over(self, agent: bytes) -> bool:
        """Whether the agent's journey has ended, as far as this station knows."""
        journey = self._queries.journey(agent)
        return agent in self._ended or (journey is not None and journey.standing in OVER)

    def _put(self, agent: bytes, asked: Asked) -> None:
        """Have a request wait for its agent. Raises `RequestRefused`."""
        door = self._door(agent)
        size = len(asked.message)
        full = len(door.waiting) >= MAX_WAITING or door.size + size > MAX_WAITING_BYTES
        if full or self.waiting >= MAX_ALL_WAITING or self.waiting_bytes + size > MAX_ALL_BYTES:
            self._drop_late(door)
            raise RequestRefused(503, "as many requests wait for the agent as may", retry_after=1)
        door.waiting.append(asked)
        door.size += size
        self.waiting += 1
        self.waiting_bytes += size
        self._pump(agent)

    def _taken(self, door: Door, asked: Asked) -> None:
        """It does not wait any more."""
        door.size -= len(asked.message)
        self.waiting -= 1
        self.waiting_bytes -= len(asked.message)

    def _withdraw(self, agent: bytes, asked: Asked) -> None:
        door = self.doors.get(agent)
        if door is None:
            return
        if asked in door.waiting:
            door.waiting.remove(asked)
            self._taken(door, asked)
        if door.idle and door.left is None:
            self.doors.pop(agent, None)

    def _drop_late(self, door: Door) -> None:
        now = asyncio.get_running_loop().time()
        for asked in [each for each in door.waiting if each.until <= now]:
            door.waiting.remove(asked)
            self._taken(door, asked)

    def _next(self, door: Door) -> Asked | None:
        now = asyncio.get_running_loop().time()
        while door.waiting:
            asked = door.waiting.popleft()
            self._taken(door, asked)
            if asked.until > now:
                return asked
        return None

    def _pump(self, agent: bytes) -> None:
        """Give a waiting request to its agent, or pass all on to where it is."""
        berth = self._here.berths.get(agent)
        if berth is not None:
            if berth.standing is Standing.WAITING and isinstance(berth.wait, Accept) and not berth.running:
                self.accepts(berth)
            return
        door = self.doors[agent]
        went = self._went(agent)
        if went is not None:
            while (asked := self._next(door)) is not None:
                door.passing += 1
                self.counts["passed"] += 1
                self._here.run(self._pass_on(agent, door, asked, went[1]))

    async def _pass_on(self, agent: bytes, door: Door, asked: Asked, to: PublicKey) -> None:
        try:
            outcome = await self._ferry.request(to, agent, asked.ident, asked.message, asked.until, asked.steps)
        finally:
            door.passing -= 1
        if outcome is not None:
            self._settle(agent, asked.ident, outcome)

    # The agent's side

    def accepts(self, berth: Berth) -> bool:
        """In the loop: the agent waits for a request. Gives it the next one, if there is one."""
        if berth.barred or self._here.closing:
            return False
        if berth.agent not in self._serves:
            self._serves.add(berth.agent)
            self._here.tell("serving", berth.agent)
        if self._saves.between(berth):
            return True
        door = self.doors.get(berth.agent)
        if door is not None:
            door.left = None
        asked = None if door is None else self._next(door)
        if door is None or asked is None:
            self._saves.idle(berth)
            return False
        door.given[asked.ident] = asked.until
        while len(door.given) > 2 * MAX_WAITING:
            door.given.popitem(last=False)
        self.counts["accepted"] += 1
        self._lifecycle.go_on(berth, Request(asked.ident, asked.message))
        return True

    def reply(self, berth: Berth, ident: str, response: bytes) -> None:
        """From a worker: the agent here answers a request. Raises `CallFailed` for an id that is none."""
        if not ident.isascii() or ident.count(".") != 1:
            raise CallFailed(EINVAL, "this is no id of a request")
        if self._here.loop is not None:
            self._here.loop.call_soon_threadsafe(self._settle, berth.agent, ident, Outcome(0, response))

    def left(self, agent: bytes, to: PublicKey) -> None:
        """The agent durably belongs to another station."""
        self._serves.discard(agent)
        self._saves.forget(agent)
        door = self.doors.get(agent)
        if door is not None or self._served(agent):
            door = self._door(agent)
            door.left = (asyncio.get_running_loop().time(), to)
            door.given.clear()  # it answers from there
            self._pump(agent)

    def _served(self, agent: bytes) -> bool:
        past = self._here.past.get(agent)
        return past is not None and past.grant.allows(PERMISSION)

    def ended(self, berth: Berth, why: str) -> None:
        """The agent will answer nothing more: it has ended, or stopped."""
        self._serves.discard(berth.agent)
        self._saves.forget(berth.agent)
        self._ended[berth.agent] = None
        while len(self._ended) > MAX_DOORS:
            self._ended.popitem(last=False)
        door = self.doors.pop(berth.agent, None)
        if door is None:
            return
        given, waiting = list(door.given), list(door.waiting)
        for asked in waiting:
            self._taken(door, asked)
        for ident in given:
            self._settle(berth.agent, ident, Outcome(502, f"the agent {why}, and had not answered".encode()))
        for asked in waiting:
            self._settle(berth.agent, asked.ident, Outcome(410, f"the agent {why}".encode()))

    def asked(self, agent: bytes) -> int | None:
        """How many requests wait for an agent, or for its answer; None if it does not serve here."""
        door = self.doors.get(agent)
        if agent not in self._serves and (door is None or door.idle):
            return None
        return 0 if door is None else len(door.waiting) + len(door.given)

    # Answers

    def _settle(self, agent: bytes, ident: str, outcome: Outcome, steps: int = 0) -> None:
        """What became of a request: tell the client here, or the station where the client waits."""
        door = self.doors.get(agent)
        until = None
        if door is not None:
            until = door.given.pop(ident, None)
            if door.idle and door.left is None:
                del self.doors[agent]
        mark = ident.partition(".")[0]
        if mark == self._mark:
            asker, answer = self._clients.get(ident, (b"", None))
            if answer is None or asker != agent or answer.done():
                self.counts["late"] += 1
            else:
                answer.set_result(outcome)
            return
        berth = self._here.berths.get(agent) or self._here.past.get(agent)
        before = None if berth is None else berth.credentials.point.source
        self._here.run(self._ferry.answer(mark, before, agent, ident, outcome, until, steps))

    async def receive(self, sender: PublicKey, value: object) -> object:
        """From another station: a request that it passes on, or an answer. Raises `RemoteProtocolError`."""
        found = self._ferry.read(value)
        if found.outcome is not None:
            self._settle(found.agent, found.ident, found.outcome, found.steps)
            return ["taken"]
        if found.ident in self._seen:
            return ["taken"]
        berth = self._here.berths.get(found.agent)
        try:
            if berth is not None:
                self._check(berth)
            elif not self._queries.arriving(found.agent) and self._went(found.agent) is None:
                if self._over(found.agent):
                    raise RequestRefused(410, "this agent has ended")
                return ["later"]
            loop = asyncio.get_running_loop()
            asked = Asked(found.ident, found.message, loop.time() + found.seconds, found.steps)
            self._put(found.agent, asked)
        except RequestRefused as refused:
            return ["refused", refused.status, refused.why, refused.retry_after]
        self.counts["came"] += 1
        self._seen[found.ident] = None
        while len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        return ["taken"]

    def _went(self, agent: bytes) -> tuple[float, PublicKey] | None:
        """When (on the loop's clock) and where an agent went that is not here."""
        door = self.doors.get(agent)
        if door is not None and door.left is not None:
            return door.left
        to = None if self._over(agent) else self._queries.where(agent)
        if to is None:
            return None
        door = self._door(agent)
        door.left = (float("-inf"), to)
        return door.left

    def close(self) -> None:
        """The station stops: no client waits any longer."""
        self._closed = True
        for _, answer in self._clients.values():
            if not answer.done():
                answer.set_result(Outcome(503, b"this station is closing", 5))


def _unknown() -> RequestRefused:
    return RequestRefused(404, "no agent of this name is here")


def _give_up(answer: asyncio.Future[Outcome]) -> None:
    if not answer.done():
        answer.set_result(Outcome(504, b"the agent has not answered in time"))
