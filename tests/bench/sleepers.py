"""Many agents that sleep at one station: what they cost while they do, how soon they wake, how long a restart takes.

    python -m tests.bench.sleepers [--quick] [--agents N] [--json FILE]

The station is a process of its own with a store on the disk. The agents sleep for a day, each with 4 KiB of state of
its own; what is measured is the memory of the process before and after, the time from the order to wake one until it
runs, and the time until a station that was stopped, and one that was killed, answers again with all of them.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click

import agents
from tests.bench.place import Steered

SLEEPER = """(module (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "run") (local $at i32)
    (loop $fill
      (i64.store (local.get $at) (i64.mul (i64.extend_i32_u (local.get $at)) (i64.const 0x9e3779b97f4a7c15)))
      (br_if $fill (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 4096))))
    (if (call $sleep (i32.const 86400000)) (then unreachable))))"""
BATCH = 500


def start(home: Path, owner: bytes) -> tuple[Steered, float]:
    """The station, and the seconds until it answers."""
    began = time.perf_counter()
    station = Steered.start("alpha", owner, "--home", str(home)).await_ready()
    station.ask("stamps")
    return station, time.perf_counter() - began


def asleep(station: Steered) -> int:
    """How many wait at the station."""
    return int(station.ask("standing").get("waiting", 0))


def until_asleep(station: Steered, count: int) -> None:
    """Until all wait, and their states are on the disk."""
    deadline = time.monotonic() + 300
    while asleep(station) < count:
        if time.monotonic() > deadline:
            raise click.ClickException(f"only {asleep(station)} of {count} agents sleep")
        time.sleep(0.05)


def measure(count: int, folder: Path) -> dict[str, Any]:
    """All figures: seconds and bytes."""
    owner, home = secrets.token_bytes(32), folder / "alpha"
    image = folder / "sleeper.agent"
    image.write_bytes(agents.pack(SLEEPER, name="sleeper").encode())
    station, empty_start = start(home, owner)
    station.ask("launch", image=str(image), via=[], count=1)
    until_asleep(station, 1)  # the engine is loaded, the image compiled
    empty = station.ask("stamps")
    began = time.perf_counter()
    ids: list[str] = []
    while len(ids) < count - 1:
        ids += station.ask("launch", image=str(image), via=[], count=min(BATCH, count - 1 - len(ids)))
    until_asleep(station, count)
    launched = time.perf_counter() - began
    full = station.ask("stamps")
    idle = idle_share(station)
    wakes = [wake(station, agent) for agent in ids[:: max(1, len(ids) // 100)]]
    left = count - len(wakes)
    began = time.perf_counter()
    station.end()
    stopped = time.perf_counter() - began
    station, restart = start(home, owner)
    until_asleep(station, left)
    resumed = station.ask("stamps")
    station.kill()
    station, after_kill = start(home, owner)
    until_asleep(station, left)
    at_once = station.ask("wake_all")
    station.end()
    return {
        "agents": count,
        "memory of one": (full["memory"] - empty["memory"]) / (count - 1),
        "memory of one after a restart": (resumed["memory"] - empty["memory"]) / left,
        "memory of the station": full["memory"],
        "disk of one": sum(path.stat().st_size for path in home.rglob("*") if path.is_file()) / count,
        "launches a second": (count - 1) / launched,
        "idle share of a processor": idle,
        "wake p50": statistics.median(wakes),
        "wake p99": sorted(wakes)[int(0.99 * len(wakes))],
        "wake worst": max(wakes),
        "start without agents": empty_start,
        "stop": stopped,
        "start with them": restart,
        "start with them after a kill": after_kill,
        "all woken at once: the last one runs after": at_once["run"],
        "all woken at once: all have ended after": at_once["ended"],
        "all woken at once: nobody else is answered for": at_once["still"],
    }


def idle_share(station: Steered) -> float:
    """The share of one processor that is used while all sleep."""
    before, began = station.ask("stamps")["cpu"], time.perf_counter()
    time.sleep(3)  # nothing is awaited here: it is the measurement
    after = station.ask("stamps")["cpu"]
    return float((after - before) / (time.perf_counter() - began))


def wake(station: Steered, agent: str) -> float:
    """Seconds from the order until the agent runs: its state is read, its instance made."""
    station.ask("stamps")
    ordered = time.monotonic_ns()
    station.ask("order", agent=agent, order="wake")
    while True:
        stamps = station.ask("stamps")["stamps"]
        if stamps:
            return float((stamps[0][0] - ordered) / 1e9)


@click.command()
@click.option("--quick", is_flag=True, help="1,000 agents instead of 10,000.")
@click.option("--agents", "count", type=click.IntRange(200), help="So many agents.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write the figures here.")
def main(quick: bool, count: int | None, target: Path | None) -> None:
    """Measure a station full of sleeping agents."""
    folder = Path(tempfile.mkdtemp(prefix="portcall-sleepers-"))
    try:
        found = measure(count or (1000 if quick else 10_000), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    click.echo(f"## {found['agents']:,} sleeping agents at one station\n")
    click.echo("| | |\n|---|--:|")
    for name, value in found.items():
        if name.startswith(("memory", "disk")):
            shown = f"{value / 1024:,.1f} KiB"
        elif name.startswith("idle"):
            shown = f"{100 * value:.1f} %"
        elif name.startswith(("agents", "launches")):
            shown = f"{value:,.0f}"
        else:
            shown = f"{1000 * value:,.1f} ms"
        click.echo(f"| {name} | {shown} |")
    click.echo(f"\nLoad average of the machine at the end: {os.getloadavg()[0]:.1f}, processors: {os.cpu_count()}.")
    if target is not None:
        target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
