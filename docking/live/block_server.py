"""Blocks of agents that have left and run elsewhere already, until their new station has them (post-copy).

After the commit the agent belongs to the destination, and a part of its memory is still here, and nowhere else. It is
kept until the destination says that it has all, or that the agent is over; on a station with a store in a file that was
synced before the agent was offered, else in the instance in which it ran.

Not here: who decides that blocks come later (`docking.residents.moves`), and the other side (`block_fetcher`).
Invariants: blocks are given to the station to which the agent went, and to no other; what is durably promised survives
a restart; agents that left in this way are bounded in number, for each destination and in all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from attrs import define, field

from agents.blocks import BLOCK_BYTES, BlockBatch
from agents.brief import brief
from agents.errors import BadSnapshot, EngineError
from docking.aio.threads import in_thread
from docking.aio.timeouts import within
from docking.handoff.actions import Record
from docking.handoff.refusal import Refusal
from docking.live.block_file import BlockFile
from docking.live.wire import SESSION_BYTES, Answer, Contents, Fetch, Settled

_log = logging.getLogger(__name__)
# Agents that left and whose blocks are here, and of these, agents at one station.
MAX_SERVED, MAX_AT_PEER = 16, 4
# Seconds that a station whose store is in memory waits for destinations, when it stops.
SETTLED_WITHIN_S = 5.0


class Backing(Protocol):
    """Where the blocks of one agent are. Its methods raise `OSError`, `EngineError`, `BadSnapshot`."""

    def held(self) -> int:
        """Bytes of memory that it takes."""

    def pages(self, memory: int) -> int:
        """The size of a memory, in 64 KiB."""

    def read(self, memory: int, blocks: Sequence[int]) -> bytes:
        """The contents of these blocks, joined."""

    def close(self, remove: bool) -> None:
        """Close it. `remove`: nobody will need them any more."""


@define(eq=False, repr=False)
class ServedAgent:
    """An agent that left. `session`: 16 bytes; `agent`: its id; `peer`: where it is; `expires`: its passport, ms."""

    session: bytes
    agent: bytes
    peer: bytes
    backing: Backing
    expires: int
    left: bool = False
    """Whether the commit is durable. Before that the destination may read, and nothing else: the agent may stay."""
    sent_bytes: int = 0
    _lock: threading.Lock = field(factory=threading.Lock)

    def batch(self, request: Fetch) -> BlockBatch:
        """The blocks that are asked for. In a thread. Raises `OSError`, `EngineError`, `BadSnapshot`."""
        with self._lock:  # nothing is read from what is closed meanwhile
            contents = self.backing.read(request.memory, request.blocks)
            return BlockBatch.of(request.memory, self.backing.pages(request.memory), request.blocks, contents)

    def close(self, remove: bool) -> None:
        """Close the backing. `remove`: nobody will need it any more."""
        with self._lock, contextlib.suppress(OSError, EngineError):
            self.backing.close(remove)


@define(eq=False, repr=False)
class BlockServer:
    """The blocks that a station still has of agents that left.

    `folder`: for files; None for a station whose store is in memory; `clock`: ms since 1970; `settled(agent, bytes)`:
    told when a destination has all blocks of an agent.
    """

    folder: Path | None
    _clock: Callable[[], int]
    _settled: Callable[[bytes, int], None]
    open: dict[bytes, ServedAgent] = field(factory=dict, repr=brief)
    """By the name of the session in which it went."""
    _changed: asyncio.Event = field(factory=asyncio.Event)

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that is held for agents that have left. From any thread."""
        return sum(served.backing.held() for served in tuple(self.open.values()))

    def room(self, peer: bytes) -> bool:
        """Whether another agent may go to this station before all of its memory."""
        self._expire()
        return len(self.open) < MAX_SERVED and self._at(peer) < MAX_AT_PEER

    def _at(self, peer: bytes) -> int:
        return sum(each.peer == peer for each in self.open.values())

    def file(self, session: bytes, capacities: Sequence[int]) -> BlockFile | None:
        """A new file for blocks of the agent that goes in this session; None where they stay in memory.

        In a thread. Raises `OSError`.
        """
        if self.folder is None:
            return None
        self.folder.mkdir(mode=0o700, exist_ok=True)
        return BlockFile.make(self.folder / session.hex(), capacities)

    def serve(self, served: ServedAgent) -> None:
        """Give the blocks of an agent that leaves to its destination, from now on."""
        self.open[served.session] = served

    def drop(self, session: bytes) -> None:
        """The agent stays here, after all. The backing is the caller's again."""
        self.open.pop(session, None)

    def restore(self, record: Callable[[bytes], Record | None]) -> None:
        """The station starts: serve what was promised. `record(hid)`: of a handoff by which an agent left, if so."""
        if self.folder is None or not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            try:
                session, file = bytes.fromhex(path.name), BlockFile.open(path)
            except (OSError, BadSnapshot, ValueError) as error:
                # It stays: it may be all that there is of an agent.
                _log.error("a file with blocks of an agent that left cannot be read: %s", error)
                continue
            found = record(file.note)
            if found is None or len(session) != SESSION_BYTES:
                file.close(remove=True)  # it did not leave after all
            else:
                self.open[session] = ServedAgent(session, found.agent, found.peer, file, found.expires, left=True)

    # Requests of destinations

    async def handle(self, sender: bytes, request: Fetch | Settled) -> Answer:
        """Answer a request of the station with this key."""
        served = self.open.get(request.session)
        if served is None or served.peer != sender:
            return None if isinstance(request, Settled) else _UNKNOWN
        if isinstance(request, Settled):
            if not served.left:
                return Refusal("busy", "the agent has not left yet", 1)
            del self.open[request.session]
            self._changed.set()
            await in_thread(served.close, True)
            self._settled(served.agent, served.sent_bytes)
            return None
        try:
            # For one that somebody waits for, a thread would take as long again.
            one = len(request.blocks) == 1
            batch = served.batch(request) if one else await in_thread(served.batch, request)
        except (OSError, EngineError, BadSnapshot) as error:
            _log.error("blocks of an agent that left cannot be read: %s", error)
            return Refusal("storage", f"the blocks cannot be read here: {error}"[:500], 5)
        served.sent_bytes += len(request.blocks) * BLOCK_BYTES
        return Contents(batch)

    # The end

    async def settle(self) -> None:
        """Where nothing survives the end of this station: let destinations fetch what they need, for a while."""
        loop = asyncio.get_running_loop()
        until = loop.time() + SETTLED_WITHIN_S
        while self.folder is None and self.open and (left := until - loop.time()) > 0:
            self._changed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await within(left, self._changed.wait())

    def close(self) -> None:
        """The station stops."""
        for served in self.open.values():
            served.close(False)
        self.open.clear()

    def _expire(self) -> None:
        now = self._clock()
        for served in [each for each in self.open.values() if each.expires < now]:
            del self.open[served.session]
            served.close(True)


_UNKNOWN = Refusal("no-session", "there are no blocks of this agent here")
