"""Running an agent: `run(image, ...)` gives an outcome; a `Life` is a run that can also be stopped from outside.

No network is called: a departure is an outcome like a trap or an end. Whoever runs an agent decides what then
happens, and continues it with an event.
"""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from .ambient import Alone
from .engines import Engine, load
from .hostcalls import Ambient
from .image import AgentImage
from .life import Life
from .outcomes import Asked, Exhausted, Finished, Outcome, Spent, Stop, Trapped
from .snapshot import Snapshot
from .waits import Event, Wait

__all__ = ["Asked", "Life", "Spent", "Stop", "run"]


def run(
    image: AgentImage,
    *,
    engine: Engine | str | Sequence[Engine | str] = "wasmtime",
    ambient: Ambient | None = None,
    snapshot: Snapshot | bytes | None = None,
    event: Event | None = None,
    hop_every: int | None = None,
    hops: int | None = None,
    answer: Callable[[Wait], Event | None] | None = None,
    on_hop: Callable[[bytes], None] | None = None,
    **options: Any,
) -> Outcome:
    """Run an agent from its start, or from `snapshot` with `event`, until an outcome. Options: see `Life`.

    hop_every: the oracle. Take every opportunity to suspend, and at each Nth go on in a fresh instance, from
    the encoded snapshot, on the next of the engines; at most `hops` times. answer: gives the event for a wait,
    so that the run goes on; None for a wait leaves it as the outcome. on_hop: sees the bytes of each hop.

    Raises `FormatError` for an image or snapshot that is bad, `EngineError` for one that cannot run here.
    """
    if not isinstance(image, AgentImage):
        raise TypeError(f"an AgentImage is run, not {type(image).__name__}: agents.pack makes one")
    named = [engine] if isinstance(engine, str) or not isinstance(engine, Sequence) else list(engine)
    engines = itertools.cycle([_engine(each) if isinstance(each, str) else each for each in named])
    if snapshot is not None and not isinstance(snapshot, Snapshot):
        snapshot = Snapshot.decode(snapshot)
    place = _alone() if ambient is None else ambient
    with Life(image, engine=next(engines), ambient=place, snapshot=snapshot, **options) as life:
        life.always = hop_every is not None and hops != 0
        for opportunity in itertools.count(1):
            stop = life.advance(event)
            event = None
            if isinstance(stop, (Finished, Trapped, Exhausted, Spent)):
                return life.outcome(stop)
            if not isinstance(stop, Asked):
                event = None if answer is None else answer(stop)
                if event is None:
                    return life.outcome(stop)
            elif not life.always:
                return life.outcome(stop)
            if life.always and hop_every is not None and opportunity % hop_every == 0:
                encoded = life.hop(next(engines))
                hops = None if hops is None else hops - 1
                life.always = hops != 0
                if on_hop is not None:
                    on_hop(encoded)
    raise AssertionError("an endless count ended")


@functools.cache
def _engine(name: str) -> Engine:
    return load(name)


def _alone() -> Ambient:
    return Alone(time.time_ns, time.monotonic_ns, os.urandom)
