"""A station with hostile guests, one after the other: `python -m tests.residents.hostile_station [FILE.wasm]`.

Prints, for each, its exit code, the most memory that the process had until then (KiB), the longest time that the
station's event loop stood still (ms), and the first and last lines of its log.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

from attrs import evolve

import agents
from agents.image import AgentImage
from docking import Policy, Station, Terms
from docking.events import Subscription
from docking.launching import DEFAULT_PERMIT
from docking.residents.berth import LOG_CHARS, LOG_LINES
from docking.trust.policy import OwnerRule
from tests.patience import PATIENCE
from tests.station.harbour import OWNER, station

MIB = 1 << 20
WASI = evolve(Policy().wasi, luggage_bytes=16 * MIB, log_bytes=32 * MIB, files=5000)
# One write of 16 MiB after the other, of one byte only, until there is no more room; the exit code is the last errno.
FLOOD = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 258)
  (func (export "_start") (local $error i32)
    (memory.fill (i32.const 65536) (i32.const BYTE) (i32.const 0x1000000))
    (i32.store (i32.const 0) (i32.const 65536))
    (i32.store (i32.const 4) (i32.const 0x1000000))
    (loop $more
      (local.set $error (call $write (i32.const FD) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br_if $more (i32.eqz (local.get $error))))
    (call $exit (local.get $error))))"""
LOGS = """(module
  (import "portcall" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $turn i32)
    (memory.fill (i32.const 0) (i32.const 10) (i32.const 65536))
    (loop $more
      (call $log (i32.const 2) (i32.const 0) (i32.const 65536))
      (br_if $more (i32.lt_u (local.tee $turn (i32.add (local.get $turn) (i32.const 1))) (i32.const 300))))))"""
CALM = '(module (memory (export "memory") 1) (func (export "_start")))'


def guests(path: str | None) -> dict[str, AgentImage]:
    """By name; the calm one comes first, so that what every agent costs is there already."""
    found = {"calm": CALM}
    for name, byte in (("newlines", 10), ("one line", 120), ("no text", 0xFF)):
        for fd in (1, 2):
            found[f"{name} to {fd}"] = FLOOD.replace("BYTE", str(byte)).replace("FD", str(fd))
    images = {name: agents.pack(wat) for name, wat in {**found, "log calls": LOGS}.items()}
    if path is not None:
        images |= {f"everything, turn {turn}": agents.pack(Path(path)) for turn in range(4)}
    return images


class Heart:
    """How long the event loop stood still while this process worked, at most, in seconds of its processor time: other
    processes do not count."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.process_time()

    async def beat(self) -> None:
        """For ever."""
        while True:
            now = time.process_time()
            self.longest = max(self.longest, now - self._last)
            self._last = now
            await asyncio.sleep(0.005)


async def listen(events: Subscription, into: list[str]) -> None:
    """Keep the first lines of a log."""
    async for event in events:
        if event.kind == "log" and len(into) < 12:
            into.append(event.text[:200])


async def visit(at: Station, name: str, image: AgentImage, heart: Heart) -> None:
    """One guest, to its end."""
    permit = evolve(DEFAULT_PERMIT, budget=evolve(DEFAULT_PERMIT.budget, cpu=60_000_000))
    heart.longest = 0.0
    first: list[str] = []
    listening = asyncio.create_task(listen(at.subscribe(), first))
    agent = await at.launch(image, owner=OWNER, terms=Terms(permit=permit, label=name))
    report = await agent.wait(PATIENCE)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    berth = at.core.here.past[agent.key]
    listening.cancel()
    lines = [*first, *(line.text[:200] for line in list(berth.lines)[-2:])]
    assert len(berth.lines) <= LOG_LINES
    assert sum(len(line.text) for line in berth.lines) <= LOG_CHARS
    print(json.dumps([name, report.exit_code, peak, round(heart.longest * 1000), lines]), flush=True)


async def main(path: str | None) -> None:
    """All of them."""
    images = guests(path)
    policy = Policy(owners=[OwnerRule(OWNER.public)], wasi=WASI)
    async with station("harbour", policy=policy) as at:
        heart = Heart()
        beating = asyncio.create_task(heart.beat())
        for name, image in images.items():
            await visit(at, name, image, heart)
        beating.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
