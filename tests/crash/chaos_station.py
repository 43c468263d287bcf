"""One station of `tests.crash.chaos`, as a program embeds it: behind a proxy, and by a wall clock that can be set.

    python -m tests.crash.chaos_station NAME HOME PORT URL CLOCK PACE STEPS PEER...

CLOCK is a file of eight bytes: nanoseconds by which its wall clock is ahead, signed, little-endian. PACE is one of
four: milliseconds for which agents rest at each stop. STEPS is a file to which all stations append what agents say of
their steps, through the service `step`, whose answer is the pace. Prints `up` when it is reachable;
ends in good order on SIGTERM.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import secrets
import signal
import sys
import time
from pathlib import Path

import docking
from docking.aio.clocks import Clocks
from docking.residents import docks, queued


def clock(path: Path) -> Clocks:
    """The machine's clocks, the wall clock set off by what the file says now."""
    with path.open("r+b") as file:
        ahead = mmap.mmap(file.fileno(), 8)
    return Clocks(
        lambda: time.time_ns() + int.from_bytes(ahead[:8], "little", signed=True),
        time.monotonic_ns,
        secrets.token_bytes,
    )


async def serve(name: str, home: str, port: str, url: str, clock_file: str, pace: str, steps: str, *peers: str) -> None:
    """Run it until SIGTERM."""
    network = docking.Network(host="127.0.0.1", port=int(port), url=url, peers=peers, mdns=False)
    policy = docking.Policy(dock_for=[docking.PublicKey.from_text(os.environ["CHAOS_LAPTOP"])])
    key = None
    if os.environ["CHAOS_KEY"]:  # the laptop, which nobody can call
        network = docking.Network(port=None, peers=peers, docks=[os.environ["CHAOS_DOCK"]], mdns=False)
        key = docking.SecretKey(bytes.fromhex(os.environ["CHAOS_KEY"]))
    docks.ROUND_S = queued.LONGEST_S = 2.0
    running = docking.Running(threads=2, clocks=clock(Path(clock_file)))
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    log = os.open(steps, os.O_WRONLY | os.O_APPEND)
    identity = docking.Identity(key=key)
    station = docking.Station(
        name, home, dev=True, policy=policy, identity=identity, network=network, running=running, patience=5.0
    )

    @station.service("step")
    async def step(request: bytes, visitor: docking.Visitor) -> bytes:
        os.write(log, f"{visitor.agent} {int.from_bytes(request, 'little')} {name}\n".encode())
        return Path(pace).read_bytes()

    async with station:
        print("up", flush=True)
        await end.wait()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
