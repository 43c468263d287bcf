"""Running an agent: `run(image, ...)` returns an outcome; an `Execution` can also be stopped from outside.

No network is used: a departure is an outcome like a trap or an end. Whoever runs an agent decides what happens
then, and continues it with an event.
"""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from .ambient import StandaloneHost
from .engines import Engine, load
from .errors import CompilingTooCostly
from .execution import Execution
from .hostcalls import Ambient
from .image import AgentImage
from .outcomes import Asked, Exhausted, Finished, Outcome, Spent, Stop, Trapped
from .snapshot import Snapshot
from .waits import Event, Wait

__all__ = ["Asked", "Execution", "Spent", "Stop", "run"]


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
    """Run an agent until an outcome: from its start, or from a snapshot.

        outcome = agents.run(agents.pack(Path("hello.wasm")))

    image: what `agents.pack` makes
    engine: "wasmtime" (the default), "v8", "wasmer", or what `agents.load` returns
    ambient: what the agent can ask its host; by default the clocks and randomness of this machine, and no peers
    snapshot: where it goes on, as a `Snapshot` or encoded; None to start it
    event: what it waited for (`agents.waits`), if the snapshot waits
    answer: called with each wait; returns the event that ends it, so that the run goes on, or None, which leaves the
        wait as the outcome
    hop_every: for tests that compare runs: take every opportunity to suspend, and at each Nth go on in a fresh
        instance, from the encoded snapshot, on the next engine if `engine` is a sequence
    hops: at most so many of these
    on_hop: called with the bytes of each
    options: the other parameters of `Execution`, such as `args`, `grants`, `limits`, `budget`

    Raises `FormatError` for an invalid image or snapshot, `EngineError` for one that cannot run here.
    """
    if not isinstance(image, AgentImage):
        raise TypeError(f"an AgentImage is run, not {type(image).__name__}: agents.pack makes one")
    named = [engine] if isinstance(engine, str) or not isinstance(engine, Sequence) else list(engine)
    engines = itertools.cycle([_engine(each) if isinstance(each, str) else each for each in named])
    if snapshot is not None and not isinstance(snapshot, Snapshot):
        snapshot = Snapshot.decode(snapshot)
    place = _alone() if ambient is None else ambient
    try:
        begun = Execution(image, engine=next(engines), ambient=place, snapshot=snapshot, **options)
    except CompilingTooCostly as error:
        return Exhausted(error.what, error.reason, snapshot)
    with begun as life:
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
    return StandaloneHost(time.time_ns, time.monotonic_ns, os.urandom, native=True)
