"""Three stations, and an agent that is moved between them: the programs, and what moving them says.

Its downtime is what the agent sees itself: the gap between two looks at the clock, after which the station has another
name.
"""

from __future__ import annotations

import contextlib
import secrets
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import click

import agents
from tests.bench.place import Steered, stations

MIB = 1 << 20
# {pages}: of its memory; {end}: of the noise; {hot}: bytes that are written, a power of 2; {rate}: bytes a second
AGENT = """(module
  (import "portcall" "here" (func $here (param i32 i32) (result i32)))
  (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))
  (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (memory (export "memory") {pages})
  (data (i32.const 64) "gap")
  (func $now (result i64) (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 8))) (i64.load (i32.const 8)))
  (func (export "run") (local $at i32) (local $x i64) (local $last i64) (local $now i64) (local $gap i64)
    (local $began i64) (local $written i64) (local $place i32)
    (local.set $x (i64.const 88172645463325252))
    (local.set $at (i32.const {first}))
    (loop $fill
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
      (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
      (i64.store (local.get $at) (local.get $x))
      (br_if $fill (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const {end}))))
    (drop (call $here (i32.const 128) (i32.const 64)))
    (local.set $place (i32.load8_u (i32.const 128)))
    (local.set $last (local.tee $began (call $now)))
    (loop $on
      (local.set $now (call $now))
      (local.set $gap (i64.sub (local.get $now) (local.get $last)))
      (local.set $last (local.get $now))
      ;; a thousandth of a second: long enough to have been moved
      (if (i64.gt_u (local.get $gap) (i64.const 1000000))
        (then
          (drop (call $here (i32.const 128) (i32.const 64)))
          (if (i32.ne (local.get $place) (i32.load8_u (i32.const 128)))
            (then
              (local.set $place (i32.load8_u (i32.const 128)))
              (i64.store (i32.const 72) (local.get $gap))
              (drop (call $report (i32.const 64) (i32.const 3) (i32.const 72) (i32.const 8)))
              (local.set $last (call $now))))
          ;; what it did not write meanwhile, it does not make up for
          (local.set $now (local.get $last))
          (local.set $began (local.get $last)) (local.set $written (i64.const 0))))
      (loop $write
        (if (i64.lt_u (i64.mul (local.get $written) (i64.const 1000000000))
              (i64.mul (i64.sub (local.get $now) (local.get $began)) (i64.const {rate})))
          (then
            (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
            (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
            (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
            (i64.store (i32.add (i32.const 65536) (i32.and (i32.wrap_i64 (local.get $x)) (i32.const {mask})))
              (local.get $x))
            (local.set $written (i64.add (local.get $written) (i64.const 8)))
            (br $write))))
      {idle}
      (i64.store (i32.const 80) (i64.add (i64.load (i32.const 80)) (i64.const 1)))
      (br $on))))"""


@attrs.frozen
class Case:
    """One agent. `mib`: of noise; `hot`: bytes over which it writes, a power of 2; `rate`: bytes a second; `idle`: it
    sleeps most of the time.
    """

    mib: int
    hot: int = 64 << 10
    rate: int = MIB
    idle: bool = False

    def wat(self) -> str:
        """The program."""
        first = (1 << 16) + max(self.hot, 1 << 16)
        end = first + self.mib * MIB
        idle = "(drop (call $sleep (i32.const 10)))" if self.idle else ""
        pages, mask = -(-end // 65536), (self.hot - 1) & ~7
        return AGENT.format(pages=pages, first=first, end=end, mask=mask, rate=self.rate, idle=idle)


@attrs.frozen
class Moved:
    """One move. `downtime_ms`: as the agent saw it; `report`: what the station says."""

    downtime_ms: float
    report: dict[str, Any] = attrs.field(repr=False)


@attrs.define(eq=False)
class Fleet:
    """Three stations, and one agent that is moved between them."""

    places: list[Steered]
    agent: str = ""
    at: int = 0

    def launch(self, case: Case, folder: Path) -> None:
        """Begin an agent, and wait until it has filled its memory."""
        path = folder / f"live-{case.mib}-{case.hot}-{case.rate}-{case.idle}.agent"
        path.write_bytes(agents.pack(case.wat(), name="live").pack())
        via = [place.key for place in (*self.places[1:], self.places[0])]
        (self.agent,) = self.places[0].ask("launch", image=str(path), via=via, turns=10_000)
        self.at = 0
        while not self.count():
            time.sleep(0.1)

    def count(self) -> int:
        """How often the agent has looked at the clock."""
        return int(self.places[self.at].ask("peek", agent=self.agent, at=80))

    def move(self, **options: Any) -> dict[str, Any]:
        """Move it to the next station; what that says."""
        report: dict[str, Any] = self.places[self.at].ask("move", agent=self.agent, to="next", **options)
        self.at = (self.at + 1) % len(self.places)
        before = self.count()
        while not before or self.count() == before:  # it has no instance yet, or has not run
            time.sleep(0.01)
            before = before or self.count()
        return report

    def end(self) -> list[float]:
        """End it; the gaps that it reported, in milliseconds."""
        self.places[self.at].ask("order", agent=self.agent, order="dispose")
        while self.places[0].ask("ended", agent=self.agent) is None:
            time.sleep(0.05)
        values = self.places[0].ask("values", agent=self.agent)
        return [int.from_bytes(bytes.fromhex(value), "little") / 1e6 for value in values]


def moves(fleet: Fleet, case: Case, folder: Path, kinds: list[dict[str, Any]]) -> list[Moved]:
    """Move a new agent once for each of these options, in order."""
    fleet.launch(case, folder)
    reports = [fleet.move(**kind) for kind in kinds]
    gaps = fleet.end()
    if len(gaps) != len(reports):
        raise click.ClickException(f"{len(gaps)} gaps were seen in {len(reports)} moves")
    return [Moved(gap, report) for gap, report in zip(gaps, reports, strict=True)]


def p50(values: list[float]) -> float:
    """The median."""
    return statistics.median(values)


@contextlib.contextmanager
def fleet_of(folder: Path, durable: bool) -> Iterator[Fleet]:
    """Three stations."""

    def options(name: str) -> list[str]:
        given = ["--home", str(folder / f"{name}-{secrets.token_hex(4)}")]
        return given if durable else [*given, "--volatile"]

    found = stations(secrets.token_bytes(32), ("alpha", "beta", "gamma"), options)
    try:
        yield Fleet(list(found.values()))
    finally:
        for place in found.values():
            place.end()
