"""Downtime over the size of an agent, and over what it writes, each way of moving it; and its speed meanwhile.

A way that a station refuses here, such as post-copy where the system has no userfaultfd, is left out with a sentence.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import click

import agents
from tests.bench.live_fleet import MIB, Case, Fleet, fleet_of, moves, p50
from tests.bench.place import Failed

# Name and options of each way. The second is not held up by agents that write too fast: then it is as the first.
WAYS: dict[str, dict[str, Any]] = {
    "stop-and-copy": {"precopy": False},
    "pre-copy": {"on_timeout": "force"},
    "post-copy": {"on_timeout": "post-copy", "timeout_s": 0},
    "pre- and post-copy": {"on_timeout": "post-copy"},
}
SIZES = (1, 4, 16, 64, 256, 1024)  # MiB
RATES = (0, 1, 4, 16, 64, 256)  # MiB a second
SIZE, HOT = 64, 16  # MiB: of those that write, and over how many of them they do
# Computes, and counts at 80; it is never at rest. {pages}, {first}, {end}: of its memory, with noise in between.
COMPUTING = """(module
  (memory (export "memory") {pages})
  (func (export "run") (local $at i32) (local $x i64) (local $n i32)
    (local.set $x (i64.const 88172645463325252))
    (local.set $at (i32.const 2097152))
    (loop $fill
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
      (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
      (i64.store (local.get $at) (local.get $x))
      (br_if $fill (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const {end}))))
    (loop $on
      (local.set $n (i32.const 1000))
      (loop $step
        (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
        (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
        (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
        (br_if $step (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
      ;; over a MiB: too much to be sent in no time
      (i64.store (i32.add (i32.const 1048576) (i32.and (i32.wrap_i64 (local.get $x)) (i32.const 1048568)))
        (local.get $x))
      (i64.store (i32.const 80) (i64.add (i64.load (i32.const 80)) (i64.const 1)))
      (br $on))))"""


@attrs.frozen
class Point:
    """The median downtime of one way at one place of a series; None if it was refused, and why."""

    way: str
    at: int
    downtime_ms: float | None
    said: str = ""


def _points(fleet: Fleet, case: Case, at: int, folder: Path, count: int, refused: dict[str, str]) -> list[Point]:
    found = []
    for way, options in WAYS.items():
        if way in refused:
            continue
        try:
            done = moves(fleet, case, folder, [options] * count)
        except Failed as error:
            with contextlib.suppress(Failed):
                fleet.end()
            said = str(error)[:300]
            if not found and way != "stop-and-copy" and "on_timeout" in said:
                refused[way] = said
            found.append(Point(way, at, None, said))
            continue
        found.append(Point(way, at, p50([each.downtime_ms for each in done])))
    return found


def series(folder: Path, quick: bool, durable: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Downtime over size, with 1 MiB/s written in 64 KiB; and over what is written, of 64 MiB. Each a median."""
    sizes, rates = (SIZES[::2], RATES[::2]) if quick else (SIZES, RATES)
    count = 2 if quick else 5
    refused: dict[str, str] = {}
    by_size: list[Point] = []
    by_rate: list[Point] = []
    with fleet_of(folder, durable) as fleet:
        for mib in sizes:
            by_size += _points(fleet, Case(mib), mib, folder, count, refused)
        for rate in rates:
            case = Case(SIZE - HOT, hot=HOT * MIB, rate=rate * MIB)
            by_rate += _points(fleet, case, rate, folder, count, refused)
    for point in (*by_size, *by_rate):
        if point.downtime_ms is None:
            click.echo(f"{point.way} at {point.at}: left out: {point.said}", err=True)
    return {name: [attrs.asdict(point) for point in each] for name, each in (("size", by_size), ("rate", by_rate))}


def _used(pid: int) -> dict[str, int]:
    """The processor time of each thread of a process, in ticks of the system."""
    found = {}
    for path in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has ended
            words = (path / "stat").read_text().rpartition(")")[2].split()
            found[path.name] = int(words[11]) + int(words[12])
    return found


def speeds(fleet: Fleet, mib: int, tries: int, folder: Path) -> list[tuple[float, float]]:
    """How fast an agent computes while it is sent ahead, over how fast it does without, for each of some moves: by the
    clock, and by the processor time that its thread got.

    It writes over a MiB and may not stand still at all, so that round follows round until the move is given up.
    """
    end = (2 + mib) * MIB
    wat = COMPUTING.replace("{pages}", str(end >> 16)).replace("{end}", str(end))
    path = folder / "computing.agent"
    path.write_bytes(agents.pack(wat, name="computing").pack())
    (fleet.agent,) = fleet.places[0].ask("launch", image=str(path), via=[fleet.places[1].key], turns=1)
    fleet.at, pid = 0, fleet.places[0].process.pid
    while not fleet.count():
        time.sleep(0.1)

    def speed(work: Any) -> tuple[float, float]:
        used, began, before = _used(pid), time.perf_counter(), fleet.count()
        work()
        done, took = fleet.count() - before, time.perf_counter() - began
        # The agent's thread is the one that computes most.
        return done / took, done / max(ticks - used.get(thread, 0) for thread, ticks in _used(pid).items())

    def rounds() -> None:
        try:
            fleet.places[0].ask("move", agent=fleet.agent, to="next", downtime_ms=0.0)
        except Failed:
            return  # it was given up, as it should be
        raise click.ClickException("the agent has left, though it wrote more than can be sent in no time")

    ratios = []
    for _ in range(tries):
        before = speed(lambda: time.sleep(2))
        during = speed(rounds)
        after = speed(lambda: time.sleep(2))
        clock, used = (during[n] / ((before[n] + after[n]) / 2) for n in (0, 1))
        ratios.append((clock, used))
    fleet.places[0].ask("order", agent=fleet.agent, order="dispose")
    return ratios


def speed_while_copied(folder: Path, quick: bool) -> dict[str, float]:
    """The medians of `speeds` of an agent with 256 MiB."""
    with fleet_of(folder, durable=False) as fleet:
        clock, used = zip(*speeds(fleet, 256, 3 if quick else 7, folder), strict=True)
    return {"speed_while_copied": p50(list(clock)), "speed_while_copied_by_processor_time": p50(list(used))}


def as_table(found: Sequence[dict[str, Any]], unit: str) -> str:
    """A series as a table in Markdown."""
    places = sorted({row["at"] for row in found})
    ways = [way for way in WAYS if any(row["way"] == way and row["downtime_ms"] is not None for row in found)]
    value = {(row["way"], row["at"]): row["downtime_ms"] for row in found}
    lines = [f"| ms | {' | '.join(f'{place} {unit}' for place in places)} |", "| --- |" + " ---: |" * len(places)]
    for way in ways:
        cells = [value.get((way, place)) for place in places]
        lines.append(f"| {way} | {' | '.join('' if cell is None else f'{cell:.1f}' for cell in cells)} |")
    return "\n".join(lines)
