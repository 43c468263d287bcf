"""Itineraries whose stops name tasks: which export a station calls, and what travels between two of them.

Not the departure (`departures`), and not what an itinerary allows. Invariants: an agent begins a task only where the
itinerary that its owner signed names it; between two tasks its state has no stack, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from agents.credentials.itinerary import Itinerary, Position
from agents.credentials.keys import PublicKey
from agents.evolve import evolve
from agents.snapshot import TASK_CALL, Pending, Snapshot
from agents.waits import FOREVER_NS, NEXT_STOP, Go, GoAt

ONWARD = Go(NEXT_STOP, FOREVER_NS)
"""What an agent waits for between two tasks."""


def calling(state: Snapshot, to: PublicKey, task: str) -> Snapshot:
    """The state of an agent that begins `task` when it arrives at `to`."""
    if state.stage == "new":
        return evolve(state, entry=task, args=())
    return evolve(state, pending=Pending(*TASK_CALL, (), GoAt(to.text, task)))


def begins(state: Snapshot, itinerary: Itinerary, positions: Sequence[Position], at: PublicKey) -> str | None:
    """The task that an agent with this state begins at `at`, at one of `positions`; None if it goes on first.

    Raises ValueError, with a sentence, for a task that is not of these stops.
    """
    wait = None if state.pending is None else state.pending.wait
    named = state.entry if state.stage == "new" else None
    if isinstance(wait, GoAt) and wait.host == at.text:
        named = wait.entry
    here = itinerary.tasks(positions)
    if named is None or not here:
        return None
    if named not in here:
        raise ValueError(f"the itinerary names {' or '.join(map(repr, sorted(here)))} here, not {named!r}")
    return named
