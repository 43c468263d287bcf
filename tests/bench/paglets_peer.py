"""A host and an agent of paglets, the peer of `tests.bench.hop`. Runs in an environment of its own, where paglets is.

    python -m tests.bench.paglets_peer NAME FOLDER [--hops N --size BYTES --to URL]

Without `--to` it says its URL on the standard output, serves, and ends with its standard input. With it, it also makes
an agent that goes to that URL and back, `--hops` times, and prints a line of JSON when the agent is home: the moments
at which it began to run, in ns of the machine's monotonic clock.

Only paglets' documented interface is used. Its hosts trust each other here, as it does by default: nothing is signed or
sealed, and the class of the agent must be importable at both. Its agents go with their state, not with their stack:
`run` begins anew at each host. One agent is one process there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass, field

from paglets.core.agent import Paglet, PagletState  # type: ignore[import-not-found,unused-ignore]
from paglets.runtime.host import Host  # type: ignore[import-not-found,unused-ignore]

PATIENCE = 300.0  # seconds for a journey


@dataclass
class TripState(PagletState):  # type: ignore[misc,unused-ignore]
    """What travels. `stamps`: when it began to run, at each host; `luggage`: noise, made anew before each hop."""

    places: list[str] = field(default_factory=list)
    hops: int = 0
    size: int = 0
    stamps: list[int] = field(default_factory=list)
    luggage: bytes = b""
    told: str = ""  # the file in which the last of them writes the stamps


class Trip(Paglet[TripState]):  # type: ignore[misc,unused-ignore]
    """Goes back and forth."""

    State = TripState

    def run(self) -> None:
        """At each host, from its beginning."""
        state = self.state
        state.stamps.append(time.monotonic_ns())
        if len(state.stamps) <= state.hops:
            state.luggage = os.urandom(state.size)
            self.dispatch(state.places[len(state.stamps) % 2])
        else:
            part = f"{state.told}.part"
            with open(part, "w", encoding="ascii") as file:
                json.dump(state.stamps, file)
            os.rename(part, state.told)


def main() -> None:
    """Serve, and perhaps send an agent."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("folder")
    parser.add_argument("--hops", type=int, default=0)
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--to")
    asked = parser.parse_args()
    host = Host(asked.name, "127.0.0.1", 0, mesh=False, persistence_dir=asked.folder)
    host.start_background()
    try:
        if asked.to is None:
            print(json.dumps({"url": host.address}), flush=True)
            sys.stdin.read()
            return
        # By their module's name: what is defined in `__main__` cannot be imported by the other host.
        from tests.bench import paglets_peer

        told = os.path.join(asked.folder, "stamps.json")
        places = [host.address, asked.to]
        state = paglets_peer.TripState(places=places, hops=asked.hops, size=asked.size, told=told)
        host.create(paglets_peer.Trip, state)
        until = time.monotonic() + PATIENCE
        while not os.path.exists(told) and time.monotonic() < until:
            time.sleep(0.05)
        with open(told, encoding="ascii") as file:
            print(json.dumps({"stamps": json.load(file)}), flush=True)
    finally:
        host.stop()


if __name__ == "__main__":
    main()
