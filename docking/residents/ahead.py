"""Sending ahead: where an agent has one next stop, its memory goes there while it still runs here.

Blocks that have not been written for a while travel into a session at the next stop (`docking.live`), slowly, and what
is written later follows when it has come to rest. When the agent then calls `go`, only the blocks that it wrote last
go with the offer. If the session is lost, or the agent goes elsewhere, its state travels as a whole, as ever.

Not here: how blocks are read and sent (`sending`), and the handoff. Invariants: at most `MOST` agents of a station are
sent ahead at once, one to each destination, each for one session and at most `ROUNDS` times its memory; nothing is sent
for an agent that is moved by order; a refusal of what was sent ahead never keeps an agent from going.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from attrs import define, field

from agents.blocks import BATCH_BLOCKS, BLOCK_BYTES
from agents.credentials.itinerary import Stop
from agents.credentials.keys import PublicKey, text_of
from agents.errors import EngineError
from docking.aio.threads import in_thread
from docking.errors import IdentityError, StationError
from docking.residents.berth import Berth, Standing
from docking.residents.departures import Departures, Given, Sent
from docking.residents.moves import OFFERED_BYTES, Moves
from docking.residents.residents import Residents
from docking.residents.sending import MoveOver, Sending, SessionRefused

_log = logging.getLogger(__name__)
# Agents of one station that are sent ahead at once; times that the memory of each may be sent.
MOST, ROUNDS = 2, 4
# Seconds between two looks at what was written, and for which an agent has been here when it is looked at first.
LOOK_S = 1.0
# For each second in which blocks are sent, seconds in which none are.
REST_RATIO = 3.0
# Seconds after which the destination is told that the session is needed still.
ALIVE_S = 10.0


@define(eq=False, repr=False)
class _Going:
    """One agent that is sent ahead. `behind`: of each memory, the blocks that its destination lacks or has as they
    were; `taken`: whether the agent goes now.
    """

    sending: Sending
    to: PublicKey
    behind: list[set[int]]
    taken: bool = False
    alive: float = 0.0


@define(eq=False, repr=False)
class Ahead:
    """The agents of one station that are sent ahead. `least`: bytes of memory that such an agent has; None for none."""

    _here: Residents
    _moves: Moves
    _departures: Departures
    _least: int | None
    sent_bytes: int = 0
    """Bytes of memory that were sent ahead."""
    saved_bytes: int = 0
    """Of these, bytes that were still right when their agent went."""
    _going: dict[bytes, _Going] = field(factory=dict)
    _tasks: dict[bytes, tuple[PublicKey, asyncio.Task[None]]] = field(factory=dict)
    _tried: set[tuple[bytes, int, bool]] = field(factory=set)
    """Agents and visits that are not tried again: those whose size was known, and those that were asked for it."""
    _timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look at the agents from now on."""
        if self._least is not None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def close(self) -> None:
        """Look no more. What is under way ends with the station."""
        if self._timer is not None:
            self._timer.cancel()

    @property
    def under_way(self) -> int:
        """Agents that are sent ahead now."""
        return len(self._going)

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)
        here = self._here
        self._tried = {key for key in self._tried if key[0] in here.berths}
        for berth in tuple(here.active.values()):
            if len(self._tasks) >= MOST or here.closing:
                return
            if not self._suits(berth):
                continue
            to = self._next(berth)
            if to is None or all(to != other for other, _ in self._tasks.values()):
                self._tried.add((berth.agent, berth.visit, self._large(berth)))
            if to is not None and all(to != other for other, _ in self._tasks.values()):
                self._tasks[berth.agent] = to, here.run(self._run(berth, to))

    def _suits(self, berth: Berth) -> bool:
        if (berth.agent, berth.visit, self._large(berth)) in self._tried or berth.moving:
            return False
        if (
            berth.agent in self._tasks
            or berth.life is None
            or berth.order
            or berth.barred
            or berth.standing is Standing.LEAVING
        ):
            return False
        if self._here.clocks.now() - berth.credentials.since < 1000 * LOOK_S or berth.image.metadata is None:
            return False
        # Of one that has computed since it came, nobody knows how large it is: it is asked once.
        return self._large(berth) or (berth.begun and berth.running and not berth.occupied)

    def _large(self, berth: Berth) -> bool:
        return self._least is not None and berth.occupied >= self._least

    def _next(self, berth: Berth) -> PublicKey | None:
        """Its one next stop; None if there are several, or none that is a station."""
        stops = berth.credentials.next_stops()
        found = {stop.station for stop in stops if isinstance(stop, Stop)}
        if len(found) != 1 or not all(isinstance(stop, Stop) for stop in stops):
            return None
        (only,) = found
        return None if only == self._here.key.public else only

    async def stop(self, agent: bytes) -> None:
        """Send an agent ahead no more: it is moved by order, say."""
        if agent in self._tasks:
            _, task = self._tasks[agent]
            task.cancel()
            await asyncio.wait({task})

    async def _run(self, berth: Berth, to: PublicKey) -> None:
        sending, going, berth.ahead = None, None, True
        try:
            sending = await self._moves.open(berth, to, self._least or 0)
            if sending is None:
                return
            self._tried.add((berth.agent, berth.visit, True))
            found = await in_thread(sending.different)
            going = self._going[berth.agent] = _Going(sending, to, [set(blocks) for blocks in found])
            await self._keep_up(berth, going, found)
        except (MoveOver, SessionRefused, StationError, EngineError) as error:
            _log.debug("%s is not sent ahead any more: %s", text_of(berth.agent), error)
        finally:
            self._going.pop(berth.agent, None)
            self._tasks.pop(berth.agent, None)
            if going is None or not going.taken:
                berth.ahead = False
                if sending is not None:
                    self._over(sending, to)

    def _over(self, sending: Sending, to: PublicKey) -> None:
        self._moves.close(sending, left=False)
        if not self._here.closing:
            self._moves.cancel(to, sending.session)

    async def _keep_up(self, berth: Berth, going: _Going, quiet: list[list[int]]) -> None:
        """Send the blocks that are at rest, for as long as the agent is here."""
        sending, told = going.sending, False
        most = ROUNDS * sum(part.tree.blocks for part in sending.parts)
        going.alive = time.monotonic()
        while True:
            if sending.sent_blocks + sum(map(len, quiet)) <= most:
                await self._send(berth, going, quiet)
            if not told:
                told = True
                text = f"{sending.sent_bytes >> 10} KiB of its memory were sent ahead"
                self._here.tell("moving", berth.agent, self._here.peers.label(going.to), text)
            await asyncio.sleep(LOOK_S)
            _check(berth, sending)
            sending.rounds += 1
            written = [set(blocks) for blocks in await in_thread(sending.written)]
            for behind, blocks in zip(going.behind, written, strict=True):
                behind |= blocks
            quiet = [sorted(behind - blocks) for behind, blocks in zip(going.behind, written, strict=True)]
            if time.monotonic() - going.alive > ALIVE_S:
                await sending.send([[0], *([] for _ in sending.parts[1:])])
                going.alive = time.monotonic()

    async def _send(self, berth: Berth, going: _Going, quiet: list[list[int]]) -> None:
        sending = going.sending
        for at, blocks in enumerate(quiet):
            for first in range(0, len(blocks), BATCH_BLOCKS):
                chunk = blocks[first : first + BATCH_BLOCKS]
                began = time.monotonic()
                await sending.send([chunk if at == number else [] for number in range(len(quiet))])
                going.alive = time.monotonic()
                going.behind[at].difference_update(chunk)
                self.sent_bytes += len(chunk) * BLOCK_BYTES
                await asyncio.sleep(REST_RATIO * (going.alive - began))
                _check(berth, sending)

    async def given(self, berth: Berth, host: str) -> Given | None:
        """The agent stands still, and goes to `host` now: what has to be sent yet; None if all has."""
        going = self._going.get(berth.agent)
        if going is None:  # it has only begun
            await self.stop(berth.agent)
            berth.ahead = False
            return None
        going.taken = True
        await self.stop(berth.agent)
        berth.ahead = False
        sending = going.sending
        try:
            with contextlib.suppress(IdentityError, StationError):  # which the departure tells
                if berth.life is sending.life and await self._departures.targets(berth, host) == [going.to]:
                    state, sent = await self._rest(going)
                    return Given(state, sent, lambda left: self._moves.close(sending, left))
        except (SessionRefused, EngineError) as error:
            _log.info("%s travels as a whole: %s", text_of(berth.agent), error, extra={"agent": text_of(berth.agent)})
        except BaseException:
            self._moves.close(sending, left=False)
            raise
        self._over(sending, going.to)
        return None

    async def _rest(self, going: _Going) -> tuple[bytes, Sent]:
        sending = going.sending
        await sending.send([[] for _ in sending.parts])  # what is on its way arrives before what is newer
        found = [sorted(behind.union(blocks)) for behind, blocks in zip(going.behind, sending.written(), strict=True)]
        blocks = sum(map(len, found))
        while sum(map(len, found)) * BLOCK_BYTES > OFFERED_BYTES:
            await sending.send(found)
            found = await in_thread(sending.written)
        rest, snapshot = sending.rest(found)
        different = sum(1 for part in sending.parts for _ in part.tree.different())
        self.saved_bytes += max(0, different - blocks) * BLOCK_BYTES
        last = rest.encode()
        return snapshot.encode(), Sent(last, sending.sent_bytes + len(last))


def _check(berth: Berth, sending: Sending) -> None:
    if berth.life is not sending.life or berth.standing is Standing.LEAVING:
        raise MoveOver
