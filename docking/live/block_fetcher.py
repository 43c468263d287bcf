"""Brings the blocks of agents that run here already, from the stations that they left (post-copy).

Code of an agent that touches a block which is not here stands still until it has come (`agents.engines.missing`); this
block is asked for at once, and all others beside, in order. When all are here, and on the disk where there is one, the
source is told, and forgets them.

Not here: the other side (`block_server`). Invariants: a block is used only with the digest that the agent's trail
covers; a block that cannot be had now is asked for again, for as long as the agent is here; agents that wait in this
way are bounded in number, since each may hold a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path

from attrs import define, field

from agents.blocks import BLOCK_BYTES
from agents.brief import brief
from agents.canonical import digest
from agents.credentials.keys import PublicKey
from agents.engines.missing import MissingPages
from agents.errors import BadSnapshot, EngineError
from docking.aio.threads import in_thread
from docking.aio.turns import short_turns
from docking.errors import CarrierError, MalformedMessage
from docking.handoff.refusal import Refusal
from docking.live.block_file import BlockFile
from docking.live.wire import Answer, Contents, Fetch, Owed, Request, Settled

_log = logging.getLogger(__name__)
# Agents that run here before all of their blocks have come, and of these, agents from one station.
MAX_FETCHED, MAX_FROM_PEER = 4, 2
# Blocks asked for at once, beside those that somebody waits for, and such requests on their way.
BACKGROUND_BLOCKS, WINDOW = 16, 2
# The same while the agent touches blocks that are not here: its own are answered between two of these requests.
FEW_BLOCKS, TOUCHED_S = 4, 0.05
# Seconds until a source that does not answer is asked again, at first and at most.
FIRST_RETRY_S, LONGEST_RETRY_S = 0.05, 5.0
# Seconds after which a source is not told any more that all blocks are here: it forgets them by itself some day.
TOLD_FOR_S = 3600.0


class _Unavailable(Exception):
    """The blocks cannot be had now."""


@define(eq=False, repr=False)
class FetchedAgent:
    """An agent whose blocks come. `session`: in which it came; `source`: where the blocks are, called `label`."""

    session: bytes
    agent: bytes
    source: PublicKey
    label: str
    missing: Mapping[int, MissingPages]
    """By memory, its missing pages; empty where the agent does not run yet."""
    whole: asyncio.Future[None]
    """Done when all blocks are here; cancelled if they never will be."""
    named: Mapping[int, Owed] = field(factory=dict, repr=brief)
    """By memory, the blocks that were not here at first, with their digests."""
    owed: dict[int, dict[int, int]] = field(factory=dict, repr=brief)
    """By memory, the blocks that are not here, each with its place in `named`."""
    why: str = ""
    """Why no blocks come now."""
    touched: float = float("-inf")
    """When it touched a block that was not here, on the clock of `time.monotonic`."""
    waits_ms: deque[float] = field(factory=lambda: deque(maxlen=4096), repr=brief)
    """How long the agent waited for blocks that it touched, as measured here, in ms."""
    task: asyncio.Task[None] | None = None
    file: BlockFile | None = None
    _urgent: set[tuple[int, int]] = field(factory=set, repr=brief)

    @property
    def left_bytes(self) -> int:
        """Bytes that have not come."""
        return sum(map(len, self.owed.values())) * BLOCK_BYTES

    @property
    def said(self) -> str:
        """What it does, after "the agent"."""
        said = f"waits for {self.left_bytes >> 10} KiB of its memory from {self.label}"
        return f"{said}: {self.why}" if self.why else said

    @property
    def abandoned(self) -> bool:
        """Whether its run was given up, and says nothing of the agent."""
        return any(pages.abandoned for pages in self.missing.values())

    def abandon(self) -> None:
        """The agent is to end, or the station: whatever waits for a block goes on, only to be ended."""
        for pages in self.missing.values():
            pages.abandon()
        self.whole.cancel()

    def over(self) -> None:
        """The agent has ended, durably: no block is needed any more."""
        for blocks in self.owed.values():
            blocks.clear()
        self.whole.cancel()
        if self.task is not None:
            self.task.cancel()


@define(eq=False, repr=False)
class BlockFetcher:
    """Fetches for one station.

    `folder`: where the sessions' files are, None for a station whose store is in memory; `ask`: sends a request to a
    station; `run`: runs a coroutine until the station stops; `lend(n)`: so many more threads may run agents;
    `tell(agent, label, text)`: publishes how far it is.
    """

    _folder: Path | None
    _ask: Callable[[PublicKey, Request], Awaitable[Answer]]
    _run: Callable[[Coroutine[object, object, None]], asyncio.Task[None]]
    _lend: Callable[[int], None]
    _tell: Callable[[bytes, str, str], None]
    open: dict[bytes, FetchedAgent] = field(factory=dict, repr=brief)
    """By agent."""
    fetched_bytes: int = 0
    faults: int = 0
    waits_ms: deque[float] = field(factory=lambda: deque(maxlen=4096), repr=brief)
    """How long agents waited for blocks that they touched, the last ones, in ms."""
    _closed: bool = False

    def may(self, peer: bytes) -> bool:
        """Whether another agent of this station may run here before all of its blocks have come."""
        own = sum(each.source.raw == peer for each in self.open.values())
        return len(self.open) < MAX_FETCHED and own < MAX_FROM_PEER

    def start(
        self,
        agent: bytes,
        session: bytes,
        source: PublicKey,
        label: str,
        owed: tuple[Owed, ...],
        missing: Mapping[int, MissingPages],
    ) -> FetchedAgent:
        """Bring these blocks of an agent. `missing`: by memory, its missing pages; empty if it does not run yet."""
        whole: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        found = FetchedAgent(session, agent, source, label, missing, whole)
        found.named = {each.memory: each for each in owed}
        found.owed = {each.memory: dict(zip(each.blocks, range(len(each.blocks)), strict=True)) for each in owed}
        self.open[agent] = found
        self._lend(1)
        found.task = self._run(self._fetch(found))
        return found

    def close(self) -> None:
        """The station stops. The blocks that have come stay on the disk; the others stay where they are."""
        self._closed = True
        for found in self.open.values():
            found.abandon()

    async def _fetch(self, found: FetchedAgent) -> None:
        readers: list[int] = []
        try:
            if self._folder is not None:
                await in_thread(self._open, found)
            for memory, pages in found.missing.items():
                # A duplicate, since the instance closes its own when the agent ends, in another thread.
                descriptor = os.dup(pages.fileno())
                readers.append(descriptor)
                asyncio.get_running_loop().add_reader(descriptor, self._faulted, found, memory)
            self._tell(found.agent, found.label, f"{found.left_bytes >> 10} KiB come now")
            with short_turns():
                await self._background(found)
            if found.file is not None:
                await in_thread(found.file.sync)
            self._tell(found.agent, found.label, _summary(found))
            self._settle(found)
            if not found.whole.done():
                found.whole.set_result(None)
        except asyncio.CancelledError:
            if not any(found.owed.values()):
                self._settle(found)
            raise
        except (OSError, BadSnapshot) as error:
            # A restart finds the blocks that came, and fetches the others.
            found.why = f"they could not be stored here: {error}"
            _log.exception("blocks of an agent could not be stored")
            self._tell(found.agent, found.label, found.why)
        finally:
            for descriptor in readers:
                asyncio.get_running_loop().remove_reader(descriptor)
                os.close(descriptor)
            if found.file is not None:
                found.file.close()
            if self.open.get(found.agent) is found:
                del self.open[found.agent]
            self._lend(-1)

    def _open(self, found: FetchedAgent) -> None:
        """In a thread: open the file of the session, and see what of the blocks is there."""
        assert self._folder is not None
        found.file = file = BlockFile.open(self._folder / found.session.hex())
        if not found.missing:
            for memory, blocks in found.owed.items():
                named = found.named[memory]
                for block in [block for block, at in blocks.items() if file.has(memory, block, named.digest(at))]:
                    del blocks[block]

    async def _background(self, found: FetchedAgent) -> None:
        wait = FIRST_RETRY_S
        while any(found.owed.values()):
            chunks = self._next(found)
            try:
                await asyncio.gather(*(self._bring(found, memory, blocks) for memory, blocks in chunks))
                wait, found.why = FIRST_RETRY_S, ""
            except _Unavailable as error:
                if not found.why:
                    self._tell(found.agent, found.label, f"it waits: {error}")
                found.why = str(error)
                await asyncio.sleep(wait)
                wait = min(2 * wait, LONGEST_RETRY_S)

    def _next(self, found: FetchedAgent) -> list[tuple[int, list[int]]]:
        """What to ask for now: blocks that somebody waits for, and those that follow in order."""
        chunks: list[tuple[int, list[int]]] = []
        for memory, pages in found.missing.items():
            waiting = dict.fromkeys(offset // BLOCK_BYTES for offset in pages.waiting())
            if urgent := sorted(block for block in waiting if block in found.owed[memory])[:BACKGROUND_BLOCKS]:
                chunks.append((memory, urgent))
        size = FEW_BLOCKS if time.monotonic() - found.touched < TOUCHED_S else BACKGROUND_BLOCKS
        for memory, blocks in found.owed.items():
            rest = list(itertools.islice(blocks, WINDOW * size))
            for at in range(0, len(rest), size):
                if len(chunks) >= WINDOW:
                    return chunks
                chunks.append((memory, rest[at : at + size]))
        return chunks

    def _faulted(self, found: FetchedAgent, memory: int) -> None:
        """In the loop: agent code has touched pages that are not here."""
        offsets = found.missing[memory].faults()
        found.touched = time.monotonic()
        for block in dict.fromkeys(offset // BLOCK_BYTES for offset in offsets):
            if (memory, block) not in found._urgent and block in found.owed[memory]:
                found._urgent.add((memory, block))
                self._run(self._urgently(found, memory, block))

    async def _urgently(self, found: FetchedAgent, memory: int, block: int) -> None:
        began = time.perf_counter()
        try:
            here = await self._bring(found, memory, [block])
            found.waits_ms.append(1000 * (here - began))
            self.waits_ms.append(found.waits_ms[-1])
            self.faults += 1
        except _Unavailable:
            pass  # it is the first to be asked for when the source answers again
        finally:
            found._urgent.discard((memory, block))

    async def _bring(self, found: FetchedAgent, memory: int, blocks: list[int]) -> float:
        """Returns when they were there for the agent, on the clock of `time.perf_counter`. Raises `_Unavailable`."""
        try:
            answer = await self._ask(found.source, Fetch(found.session, memory, tuple(blocks)))
        except (CarrierError, MalformedMessage) as error:
            raise _Unavailable(f"{found.label} does not answer: {error}"[:300]) from error
        if isinstance(answer, Refusal):
            raise _Unavailable(f"{found.label} refuses: {answer.reason}"[:300])
        if not isinstance(answer, Contents) or answer.batch.memory != memory or list(answer.batch.blocks) != blocks:
            raise _Unavailable(f"{found.label} answers with something else")
        try:
            contents = answer.batch.contents()
        except BadSnapshot as error:
            raise _Unavailable(f"{found.label} sends what cannot be read: {error}") from error
        owed, pages = found.owed[memory], found.missing.get(memory)
        rows = []
        for block, data in zip(blocks, contents, strict=True):
            at = owed.get(block)
            if at is None:
                continue  # it has come meanwhile
            named = found.named[memory].digest(at)
            if digest(data) != named:
                raise _Unavailable(f"{found.label} sends other blocks than the agent had")
            if pages is not None:
                with contextlib.suppress(EngineError):  # its instance is closed: it goes on from the disk, or has ended
                    pages.provide(block * BLOCK_BYTES, data)
            rows.append((block, named, data))
        here = time.perf_counter()
        if found.file is not None and rows:
            await in_thread(found.file.write, memory, rows)
        for block, _, _ in rows:
            if owed.pop(block, None) is not None:
                self.fetched_bytes += BLOCK_BYTES
        return here

    def _settle(self, found: FetchedAgent) -> None:
        if not self._closed:
            self._run(self._settled(found))

    async def _settled(self, found: FetchedAgent) -> None:
        """Tell the source that it may forget the blocks, until it answers."""
        loop = asyncio.get_running_loop()
        until, wait = loop.time() + TOLD_FOR_S, FIRST_RETRY_S
        while loop.time() < until:
            with contextlib.suppress(CarrierError, MalformedMessage):
                if not isinstance(await self._ask(found.source, Settled(found.session)), Refusal):
                    return
            await asyncio.sleep(wait)
            wait = min(2 * wait, 12 * LONGEST_RETRY_S)


def _summary(found: FetchedAgent) -> str:
    waits = found.waits_ms
    if not waits:
        return "all of its memory is here"
    return f"all of its memory is here; it waited {len(waits)} times, {statistics.median(waits):.2f} ms each (median)"
