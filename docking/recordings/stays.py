"""One stay while it is recorded: between an agent and the archive.

Invariants: recording changes nothing that an agent can notice but the time its calls take; an agent that makes a
million calls is recorded up to what the policy allows, and runs on.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

from attrs import define, evolve, field

from agents.hostcalls import Ambient
from agents.outcomes import Asked, Exhausted, Finished, Spent, Stop, Trapped
from agents.recording import Recorder, Tape
from agents.snapshot import Snapshot
from agents.waits import Accept, Event, Recv, Sleep
from docking.recordings.archive import Archive
from docking.recordings.record import StayRecord

LONG_NS = 50_000_000  # of a sleep, before which the tape is written down


@define(eq=False, repr=False)
class StayRecording:
    """The recording of one stay. `facts`: what is known of it when the agent is taken in, without a state."""

    _archive: Archive
    _facts: StayRecord
    _clock: Callable[[], int]
    _ambient: Ambient
    ambient: Recorder = field(init=False)
    """What the agent's calls are made of instead of its station."""
    _tape: Tape = field(init=False)
    _start: Snapshot | None = None
    _begun: bool = False
    _over: bool = False

    def __attrs_post_init__(self) -> None:
        self._tape = Tape(self._archive.calls, self._taken, 16 << 10)
        self.ambient = Recorder(weakref.proxy(self._ambient), self._tape)

    def opened(self, snapshot: Snapshot) -> None:
        """An instance was made of this state: where the record begins, if the agent has not run yet."""
        if not self._begun:
            self._start = snapshot

    def passed(self, snapshot: Snapshot) -> None:
        """The agent does not run here, and goes on with this state."""
        if not self._begun:
            self._start = snapshot
            self._begin()

    def turn(self, run: object, event: Event | None) -> None:
        """The agent runs, for the first time or again."""
        if not self._begun:
            self._begin()
        self.ambient.turn(run, event)

    def _begin(self) -> None:
        self._begun, snapshot, self._start = True, self._start, None
        if snapshot is None:
            self._tape.dropped = 1
            return
        size = len(snapshot.wasi) + sum(len(b) for memory in snapshot.memories for b in memory.blocks)
        if not self._archive.begin(self._facts, snapshot.encode, size):
            self._tape.dropped = 1

    def stopped(self, stop: Stop) -> None:
        """The turn has ended."""
        if isinstance(stop, Asked | Spent):
            self.ambient.stopped("asked")
        elif isinstance(stop, Finished | Trapped | Exhausted):
            self.ambient.stopped(type(stop).__name__.lower())
        else:
            self.ambient.stopped("wait", stop)
            if isinstance(stop, Recv | Accept) or (isinstance(stop, Sleep) and stop.ns >= LONG_NS):
                self._tape.flush()

    def end(self) -> None:
        """The agent is not here any more, or the station stops."""
        if self._begun and not self._over:
            self._over = True
            self._tape.flush()
            self._archive.ended(self._facts.agent, self._facts.visit, self._clock(), self._tape.dropped)

    def flush(self) -> None:
        """Write down what is recorded so far."""
        self._tape.flush()

    def _taken(self, data: bytes, count: int) -> None:
        self._archive.calls_made(self._facts.agent, self._facts.visit, data, count)

    def restarted(self) -> None:
        """The agent goes on here after a restart of the station."""
        self._facts = evolve(self._facts, restarted=True)
