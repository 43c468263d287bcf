"""The stacks of agents that are here, for their operator: what `agents.stack` reads, from the state that can be had.

An agent that runs is asked to suspend at its next loop turn, as when another one waits for its thread, and goes on at
once. If it does not, or has no such turn, and if it was stopped, there is its last stored state, and the note says so.

Invariants: an agent does not notice that its stack was read; reading happens in a thread, and is bounded
(`agents.stack`).
"""

from __future__ import annotations

import asyncio

from attrs import define

from agents.image import AgentImage
from agents.snapshot import Snapshot
from agents.stack import Stack, sources_of, stack_of
from docking.aio.threads import in_thread
from docking.errors import StationError, UnknownAgent
from docking.letters.journeys import OVER
from docking.residents.berth import Berth, Standing
from docking.residents.checkpoints import StoredState
from docking.residents.residents import Residents

SUSPENDS_WITHIN_S = 2.0  # an agent that runs; otherwise its stored state is read
# Memory of an instance that is captured while the agent waits in a service: in the event loop, which waits meanwhile.
CAPTURED_BYTES = 64 << 20
MAX_FRAMES = 200  # of a stack
_STORED = "this is its stack when it was last stored"


@define(eq=False, repr=False)
class Stacks:
    """Reads the stacks of the agents that are `here`."""

    _here: Residents

    async def of(self, agent: bytes) -> Stack:
        """The stack of an agent. Raises `UnknownAgent` if it is not here, `StationError`, `FormatError`."""
        return (await self.with_sources(agent))[0]

    async def with_sources(self, agent: bytes) -> tuple[Stack, dict[str, str]]:
        """The same, and the texts of the files that its frames name, as far as they travel with the agent."""
        berth = self._here.berths.get(agent)
        if berth is None:
            raise UnknownAgent(self._gone(agent))
        state = await self._suspended(berth) if berth.running else None
        state = state or self._standing_still(berth)
        if self._here.berths.get(agent) is not berth:
            raise UnknownAgent(self._gone(agent))
        said = ""
        if state is None:
            if not isinstance(berth.saved, StoredState):
                raise StationError("the agent has only just come, and its state is not stored yet: ask again")
            state, said = await in_thread(self._here.state_of, berth), _outdated(berth)
        return await in_thread(_read, berth.image, state, said)

    def _gone(self, agent: bytes) -> str:
        journey = self._here.journeys.get(agent)
        if journey is not None and journey.standing in OVER:
            return f"the agent's journey is over ({journey.standing.value}), and nothing is left of its stack"
        return f"the agent is not at {self._here.name}: its stack is read at the station where it is"

    async def _suspended(self, berth: Berth) -> bytes | Snapshot | None:
        """The state of an agent that runs, when its turn has ended; None if that does not end, or leaves no state."""
        turned: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        berth.turned.append(turned)
        berth.interrupt()
        await asyncio.wait({turned}, timeout=SUSPENDS_WITHIN_S)
        if turned in berth.turned:
            berth.turned.remove(turned)
        return turned.result() if turned.done() else None

    def _standing_still(self, berth: Berth) -> bytes | Snapshot | None:
        """The state of an agent as it is now; None if it runs, or only the store has it."""
        life = berth.life
        if berth.owed is not None:
            raise StationError(f"the agent {berth.owed.said}: it has no stack as a whole before that")
        if life is not None and life.instance is not None and not berth.running and berth.occupied <= CAPTURED_BYTES:
            return life.snapshot()
        return berth.state


def _outdated(berth: Berth) -> str:
    """Why the state in the store is not the one that the agent is in; empty if it is."""
    if berth.standing is Standing.STOPPED:
        return f"it was stopped ({berth.text}), and {_STORED}"
    if berth.running:
        return f"it does not suspend, and {_STORED}"
    return _STORED if berth.life is not None and berth.begun else ""


def _read(image: AgentImage, state: bytes | Snapshot, said: str) -> tuple[Stack, dict[str, str]]:
    snapshot = state if isinstance(state, Snapshot) else Snapshot.decode(state)
    stack = stack_of(image, snapshot).cut(MAX_FRAMES, said)
    return stack, sources_of(stack, snapshot)
