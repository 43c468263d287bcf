"""One station of the demonstration, as a process: `python -m docking.cli.demo.place NAME HOME POLICY [--no-mdns]`.

Prints its address on standard output, and ends when its standard input does, so that it never outlives the
demonstration.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import datetime
from pathlib import Path

from agents.errors import PortcallError
from docking.aio import loops
from docking.peers.mdns import has_multicast
from docking.residents.services import Visitor
from docking.station import Station
from docking.trust.policy import read_policy

PLACES = ("alpha", "beta", "gamma")


def services(station: Station) -> None:
    """The services of this station, different at each."""
    if station.name == "alpha":

        @station.service("clock.read")
        def clock(request: bytes) -> str:
            return datetime.now().strftime("%H:%M:%S")

    elif station.name == "beta":

        @station.service("thermometer.read")
        async def thermometer(request: bytes) -> str:
            return "21.5 degrees"

    else:

        @station.service("oracle.ask")
        def oracle(request: bytes, visitor: Visitor) -> str:
            return f"where you began, {visitor.label}; this is hop {visitor.hop}"


async def run_place(name: str, home: Path, policy: Path, mdns: bool) -> None:
    """Run until the standard input ends."""
    # Without multicast, the conductor notices, and introduces the stations to each other.
    mdns = mdns and has_multicast()
    station = Station(name, home, policy=read_policy(policy.read_text()), host="127.0.0.1", mdns=mdns, threads=2)
    services(station)
    async with station:
        print(json.dumps({"name": name, "url": station.url, "key": station.key.text}), flush=True)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    # Ctrl-C goes to every process of the terminal; the conductor decides when this one ends.
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    name, home, policy, *options = sys.argv[1:]
    try:
        loops.run_loop(run_place(name, Path(home), Path(policy), "--no-mdns" not in options))
    except (PortcallError, OSError) as error:
        sys.exit(str(error))
