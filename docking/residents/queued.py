"""Agents that wait for a station: they asked to go there, and it cannot be reached, is full, or is not known yet.

Such an agent sleeps, as data in the store, until its time is over or the station answers: when it is heard of, and
again and again, rarely in the end. What is asked first is a greeting, one for all who wait for a station; an agent is
offered only to one that answers. Not the handoff, and not which station a name means (`departures`). Invariants: an
agent that waits lives here, also after a restart; each has one timer; none tries more often than every `LEAST_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine

from attrs import define, evolve, field, frozen

from agents.credentials.keys import PublicKey
from agents.waits import Go, Refused
from docking.aio.timeouts import within
from docking.errors import IdentityError, UnknownStation
from docking.handoff.refusal import Refusal
from docking.residents.berth import Berth, Standing
from docking.residents.departures import Departures, errno_of
from docking.residents.residents import Residents

MENDS_ITSELF = frozenset(
    ["unreachable", "no-answer", "unknown-station", "busy", "held-here", "storage", "disk-full", "draining", "held"]
)
"""Codes of refusals that are over some time. The others are answers: the agent is told at once."""
SILENT = frozenset(["unreachable", "no-answer"])
# Seconds between two tries: at first, at most, and at least although its station is heard of.
FIRST_S, LONGEST_S, LEAST_S = 1.0, 30.0, 0.5
# Seconds until a greeting is given up.
GREETED_WITHIN_S = 10.0
# Seconds between the tries of agents that all wait for a station which is heard of.
APART_S = 0.02
DAY_S = 86_400.0
# Agents whose offers wait at docks: each is held in memory. Others go on to wait here.
MAX_DOCKED = 32


@frozen
class HeldUp:
    """Why an agent waits for a station. `tries`: to leave, so far; `tried`: when last, seconds of the loop's clock."""

    why: Refusal
    tries: int = 0
    tried: float = 0.0


def waits_for(berth: Berth) -> Go | None:
    """The departure that an agent waits for; None if it waits for none."""
    return berth.wait if isinstance(berth.wait, Go) and berth.standing is Standing.WAITING else None


@define(eq=False, repr=False)
class Queued:
    """The agents of one station that wait for others.

    `greet(key)`: whether a station answers; `depart(berth, wait, docked_s)`: has an agent try to leave, by
    way of a dock for so many seconds; `park(berth)`: stores its
    state and forgets it; `refused(berth, event)`: has it go on where it is.
    """

    _here: Residents
    _departures: Departures
    _greet: Callable[[PublicKey], Coroutine[object, object, bool]]
    _depart: Callable[[Berth, Go, float], None]
    _park: Callable[[Berth], None]
    _refused: Callable[[Berth, Refused], None]
    docked: Callable[[PublicKey], bool] = lambda key: False
    """Whether docks of a station are known."""
    _waiting: set[bytes] = field(factory=set)
    """Who waits, and perhaps some that do not any more."""

    def takes(self, berth: Berth, wait: Go, why: Refusal) -> bool:
        """Whether an agent that was refused waits from now on; otherwise it has its answer."""
        before, berth.held_up = berth.held_up, None
        if not wait.wait_ns or why.code not in MENDS_ITSELF or self._here.clocks.now() >= berth.until:
            return False
        tries = before.tries + 1 if isinstance(before, HeldUp) else 0
        self._begin(berth, wait, HeldUp(why, tries, asyncio.get_running_loop().time()))
        if not tries:
            self._here.tell("waiting", berth.agent, place=wait.host, text="until it can go there")
        self._park(berth)
        return True

    def resume(self, berth: Berth, wait: Go, until: int) -> None:
        """After a restart: it waits on. `until`: ms since 1970."""
        berth.until = until
        self._begin(berth, wait, HeldUp(Refusal("unreachable", f"{wait.host[:80]!r} did not answer in time")))

    def _begin(self, berth: Berth, wait: Go, held: HeldUp) -> None:
        berth.wait, berth.standing, berth.held_up = wait, Standing.WAITING, held
        self._waiting.add(berth.agent)
        self._again_in(berth, wait, max(held.why.retry_after, _pause(held.tries)))

    def _again_in(self, berth: Berth, wait: Go, seconds: float) -> None:
        self._here.timers.stop(berth.agent)
        left = max(0.0, (berth.until - self._here.clocks.now()) / 1000)
        self._here.timers.start(berth.agent, min(seconds, left, DAY_S), self._due, berth, wait)

    def _is_waiting(self, berth: Berth, wait: Go) -> bool:
        return not self._here.closing and self._here.berths.get(berth.agent) is berth and waits_for(berth) is wait

    def _due(self, berth: Berth, wait: Go) -> None:
        if not self._is_waiting(berth, wait):
            return
        held = berth.held_up
        assert isinstance(held, HeldUp)
        if self._here.clocks.now() >= berth.until:
            berth.held_up = None
            said = f"it waited for {wait.host[:80]!r} in vain: {held.why.reason}"
            berth.remark(said)
            self._refused(berth, Refused(errno_of(held.why.code), said))
        elif held.why.code in SILENT:
            self._here.run(self._ask(berth, wait, held))
        else:
            self._depart(berth, wait, 0.0)

    async def _ask(self, berth: Berth, wait: Go, held: HeldUp) -> None:
        """Go if the station answers a greeting."""
        answers, targets = False, await self._targets(berth, wait)
        for key in targets:
            with contextlib.suppress(asyncio.TimeoutError):
                answers = answers or await within(GREETED_WITHIN_S, self._greet(key))
        if not self._is_waiting(berth, wait) or berth.agent in self._here.timers:
            return  # or it was heard of meanwhile
        left = (berth.until - self._here.clocks.now()) / 1000
        if answers:
            self._depart(berth, wait, 0.0)
        elif any(map(self.docked, targets)) and left > 0 and len(self._departures.docked) < MAX_DOCKED:
            self._depart(berth, wait, left)
        else:
            berth.held_up = evolve(held, tries=held.tries + 1)
            self._again_in(berth, wait, _pause(held.tries + 1))

    async def _targets(self, berth: Berth, wait: Go) -> list[PublicKey]:
        try:
            return await self._departures.targets(berth, wait.host)
        except (UnknownStation, IdentityError):
            return []

    def heard(self, peer: PublicKey) -> None:
        """A station has appeared: those who wait for it go now, one after the other."""
        berths = [berth for agent in self._waiting if (berth := self._here.berths.get(agent)) is not None]
        waiting = [(berth, wait) for berth in berths if (wait := waits_for(berth)) is not None]
        self._waiting = {berth.agent for berth, _ in waiting}
        if waiting and not self._here.closing:
            self._here.run(self._hear(peer, waiting))

    async def _hear(self, peer: PublicKey, waiting: list[tuple[Berth, Go]]) -> None:
        now, after = asyncio.get_running_loop().time(), 0.0
        for berth, wait in waiting:
            wanted = peer in await self._targets(berth, wait) and self._is_waiting(berth, wait)
            held = berth.held_up
            if wanted and isinstance(held, HeldUp):
                # It is there, whoever tells: what it says to an offer counts from now on.
                berth.held_up = evolve(held, why=evolve(held.why, code="busy", retry_after=0))
                self._again_in(berth, wait, max(after, held.tried + LEAST_S - now))
                after += APART_S

    def try_now(self, berth: Berth) -> bool:
        """Have an agent try again at once; whether it waits for a station."""
        wait = waits_for(berth)
        if wait is not None:
            self._again_in(berth, wait, 0.0)
        return wait is not None


def _pause(tries: int) -> float:
    """Seconds until the next try after so many."""
    return min(FIRST_S * 2.0 ** min(tries, 16), LONGEST_S)
