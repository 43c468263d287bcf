"""An interpreter that has started: its state when it is about to read the script, so that no launch starts it.

It is run here, with clocks that stand still and randomness that is none, until it sleeps for no time, which is how
it says that it has started. So packing gives the same bytes each time; what is chosen at random by then, like the
order of Python's sets of texts, is the same for all agents of that build.

Not the packing, and nothing of the agent's own code is run.
"""

from __future__ import annotations

import itertools

from agents.ambient import StandaloneHost
from agents.budget import TimeBudget
from agents.engines import load
from agents.execution import Execution
from agents.image import MAX_LUGGAGE_BYTES, AgentImage
from agents.outcomes import Waiting
from agents.waits import Sleep

WAIT_S = 60.0  # of processor time, for an interpreter to start


class _Silent(StandaloneHost):
    """Where a build that does not start says so, it says it again when it is run."""

    def output(self, fd: int, data: bytes) -> None:
        pass


def started(image: AgentImage) -> bytes:
    """The encoded snapshot of the image when it has started; empty if it does not start here.

    A build without its library, which is granted where the agent runs, does not. Raises `EngineError`.
    """
    times = itertools.count(1)
    place = _Silent(lambda: 0, lambda: next(times), bytes)
    budget = TimeBudget(cpu_ns=int(WAIT_S * 1e9))
    with Execution(image, engine=load("wasmtime"), ambient=place, budget=budget) as life:
        outcome = life.run()
    if not isinstance(outcome, Waiting) or outcome.wait != Sleep(0):
        return b""
    encoded: bytes = outcome.snapshot.encode()
    return encoded if len(encoded) <= MAX_LUGGAGE_BYTES else b""
