"""Itineraries whose stops name tasks: which export a station calls.

Not the departure (`departures`), nor what travels between two tasks (`Snapshot.calling`), nor what an itinerary allows.
Invariant: an agent begins a task only where the itinerary that its owner signed names it.
"""

from __future__ import annotations

from collections.abc import Sequence

from agents.credentials.itinerary import Itinerary, Position
from agents.credentials.keys import PublicKey
from agents.snapshot import Snapshot
from agents.waits import GoAt


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
