"""A host and an agent of paglets, the peer of `tests.bench.hop`. Runs in an environment of its own, where paglets is.

    python -m tests.bench.paglets_peer NAME FOLDER [--hops N --size BYTES --to URL]

It says its URL on the standard output, serves, and ends with its standard input. With `--to` it also makes an agent
that goes to that URL and back, `--hops` times. Wherever the agent begins to run it adds a line to `FOLDER/stamps`:
that moment, in ns of the machine's monotonic clock. So it can be told how far an agent came that does not come home.

Only paglets' documented interface is used. Its hosts trust each other here, as it does by default: nothing is signed or
sealed, and the class of the agent must be importable at both. Its agents go with their state, not with their stack:
`run` begins anew at each host. One agent is one process there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from dataclasses import dataclass, field

from paglets.core.agent import Paglet, PagletState  # type: ignore[import-not-found,unused-ignore]
from paglets.runtime.host import Host  # type: ignore[import-not-found,unused-ignore]


@dataclass
class TripState(PagletState):  # type: ignore[misc,unused-ignore]
    """What travels. `begun`: how often it began to run; `luggage`: noise, made anew before each hop."""

    places: list[str] = field(default_factory=list)
    hops: int = 0
    size: int = 0
    begun: int = 0
    luggage: bytes = b""
    told: str = ""  # the file with the stamps


class Trip(Paglet[TripState]):  # type: ignore[misc,unused-ignore]
    """Goes back and forth."""

    State = TripState

    def run(self) -> None:
        """At each host, from its beginning."""
        now = time.monotonic_ns()
        state = self.state
        state.begun += 1
        with open(state.told, "a", encoding="ascii") as file:
            file.write(f"{now}\n")
        if state.begun <= state.hops:
            state.luggage = os.urandom(state.size)
            self.dispatch(state.places[state.begun % 2])


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
        if asked.to is not None:
            # By their module's name: what is defined in `__main__` cannot be imported by the other host.
            from tests.bench import paglets_peer

            told = os.path.join(asked.folder, "stamps")
            places = [host.address, asked.to]
            state = paglets_peer.TripState(places=places, hops=asked.hops, size=asked.size, told=told)
            # In a thread that nobody waits for. In paglets 2.0.0 `create` sometimes never returns for an agent that
            # leaves in its first `run`: the agent's process has ended before it is told that its answer has arrived,
            # telling it fails, and the answer is dropped. The agent itself is on its way by then.
            threading.Thread(target=host.create, args=(paglets_peer.Trip, state), daemon=True).start()
        print(json.dumps({"url": host.address}), flush=True)
        sys.stdin.read()
    finally:
        host.stop()


if __name__ == "__main__":
    main()
