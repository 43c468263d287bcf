"""An agent that runs here, alone: what `portcall run` does in the place of stations.

It plays all of them: `go("beta")` succeeds, and from then on this is beta. Services, other agents and clones
there are none; asking for them is an error that the agent sees. Not a sandbox of its own: what the agent may
use is given to `agents.run`.
"""

from __future__ import annotations

import os
import select
import time

from agents.ambient import Alone, Terminal
from agents.errors import PortcallError
from agents.hostcalls import ENOENT, ENOTSUP
from agents.waits import (
    Arrived,
    Call,
    Clone,
    Event,
    Failed,
    Go,
    GoAt,
    Input,
    InputReady,
    Listen,
    Recv,
    Refused,
    Sleep,
    TimedOut,
    Wait,
    Woke,
    Yield,
)

EDEADLK = 16  # WASI: it would wait for ever
CHUNK = 65536  # bytes of input at once
REASONS = 20  # that are said: an agent may ask for ever new services
LOOK = 0.1  # seconds between looks whether the user wants to stop


class Solo:
    """The places that one agent believes to visit. `wants_out`: the user asked it to suspend."""

    def __init__(self, station: str) -> None:
        self.place = Alone(time.time_ns, time.monotonic_ns, os.urandom, station=station, sink=Terminal())
        self.wants_out = False
        self._told: set[str] = set()
        self.hops = 0
        self.sizes = (0, 0)  # of the smallest and the largest snapshot, bytes

    def hopped(self, snapshot: bytes) -> None:
        """Count a hop."""
        least, most = self.sizes if self.hops else (len(snapshot), 0)
        self.sizes = min(least, len(snapshot)), max(most, len(snapshot))
        self.hops += 1

    def answer(self, wait: Wait) -> Event | None:
        """Carry out what the agent waits for. None when the user wanted out meanwhile.

        What cannot be had here is said once, since the agent sees only a number.
        """
        event = self._answer(wait)
        if isinstance(event, (Failed, Refused)) and event.reason not in self._told and len(self._told) < REASONS:
            self._told.add(event.reason)
            self.place.log(1, f"{type(wait).__name__.lower()} failed: {event.reason}")
        return event

    def _answer(self, wait: Wait) -> Event | None:
        match wait:
            case Go(host) | GoAt(host, _):
                self.place.station = host
                return Arrived()
            case Sleep(ns):
                return Woke() if self._pause(ns) else None
            case Yield():
                return Woke()
            case Recv(timeout):
                if timeout is None:
                    return Failed(EDEADLK, "nobody sends messages to an agent that runs alone")
                return TimedOut() if self._pause(timeout) else None
            case Call(service, _):
                return Failed(ENOENT, f"no station offers {service!r} to an agent that runs alone")
            case Clone():
                return Refused(ENOTSUP, "an agent that runs alone cannot be cloned")
            case Input(_, timeout) | Listen(_, timeout):  # nobody sends messages here
                return self._input(timeout)
        raise PortcallError(f"an agent that runs alone cannot wait for {wait!r}")

    def _pause(self, ns: int) -> bool:
        """Sleep; False when the user wanted out meanwhile."""
        until = time.monotonic() + ns / 1e9
        while not self.wants_out:
            left = until - time.monotonic()
            if left <= 0:
                return True
            time.sleep(min(left, LOOK))
        return False

    def _input(self, timeout_ns: int | None) -> Event | None:
        until = None if timeout_ns is None else time.monotonic() + timeout_ns / 1e9
        while not self.wants_out:
            left = LOOK if until is None else min(max(until - time.monotonic(), 0.0), LOOK)
            if select.select([0], [], [], left)[0]:
                return InputReady(os.read(0, CHUNK))
            if until is not None and time.monotonic() >= until:
                return TimedOut()
        return None
