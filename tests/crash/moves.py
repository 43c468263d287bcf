"""Whole stations killed with SIGKILL while an agent is moved between them as it runs (`docking.residents.moves`).

    python -m tests.crash.moves [--cases N] [--seed N]

As `tests.crash.stations`, and judged as there; but the agent never goes by itself: it writes all the time, and
notices by the station's name that it has been moved. Then it compares its memory with what it knows of it, which it
would not find so if a write were lost or done twice. Each time that it has said so, it is moved again, in turn with
all of its memory sent ahead and with most of it coming later (post-copy). The stations die before and after the
messages of sessions too, and while blocks are owed.
"""

from __future__ import annotations

import sys

from attrs import define, field

from tests.crash.stations import HOPS, NAMES, Pair, main

# 1 MiB of noise, in which 64 KiB are written all the time; the sum is kept in a local. At 24 the number of moves seen.
AGENT = """(module
  (import "portcall" "here" (func $here (param i32 i32) (result i32)))
  (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 17) (data (i32.const 8) "step")
  (func $sum (result i64) (local $at i32) (local $s i64)
    (local.set $at (i32.const 65536))
    (loop $l
      (local.set $s (i64.add (local.get $s) (i64.load (local.get $at))))
      (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 1114112))))
    (local.get $s))
  (func $say (param $n i32)
    (i32.store8 (i32.const 16) (i32.add (i32.const 48) (local.get $n)))
    (if (call $report (i32.const 8) (i32.const 4) (i32.const 16) (i32.const 1)) (then unreachable)))
  (func $place (result i32)
    (drop (call $here (i32.const 128) (i32.const 64)))
    (i32.load8_u (i32.const 128)))
  (func (export "run") (local $at i32) (local $x i64) (local $n i32) (local $sum i64) (local $place i32) (local $k i32)
    (local.set $x (i64.const 88172645463325252)) (local.set $at (i32.const 65536))
    (loop $fill
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
      (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
      (i64.store (local.get $at) (local.get $x))
      (br_if $fill (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 1114112))))
    (local.set $sum (call $sum))
    (call $say (i32.const 0))
    (local.set $place (call $place))
    (i64.store (i32.const 24) (i64.const 1))
    (loop $on
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
      (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
      (local.set $at (i32.add (i32.const 65536) (i32.and (i32.wrap_i64 (local.get $x)) (i32.const 65528))))
      (local.set $sum (i64.add (local.get $sum) (i64.sub (local.get $x) (i64.load (local.get $at)))))
      (i64.store (local.get $at) (local.get $x))
      (br_if $on (i32.and (local.tee $k (i32.add (local.get $k) (i32.const 1))) (i32.const 4095)))
      (drop (call $sleep (i32.const 1)))
      (br_if $on (i32.eq (local.get $place) (call $place)))
      (local.set $place (call $place))
      (if (i64.ne (call $sum) (local.get $sum)) (then unreachable))
      (call $say (local.tee $n (i32.add (local.get $n) (i32.const 1))))
      (i64.store (i32.const 24) (i64.extend_i32_u (i32.add (local.get $n) (i32.const 1))))
      (br_if $on (i32.lt_u (local.get $n) (i32.const {hops}))))
    (drop (call $sleep (i32.const 86400000)))
    (if (i64.ne (call $sum) (local.get $sum)) (then unreachable))
    (call $say (i32.add (local.get $n) (i32.const 1)))))"""


@define(eq=False)
class Movers(Pair):
    """Two stations between which an agent is moved. `moves`: how many succeeded, of these with rounds."""

    moves: int = 0
    live: int = 0
    later: int = 0
    _turn: int = 0
    _rounds: dict[str, int] = field(factory=dict)

    def program(self) -> str:
        """See `Pair`."""
        return AGENT

    def settled(self, agent: str) -> bool:
        """Move it, where it has said that it has arrived; whether that was the last time."""
        for name, rows in self.places().items():
            for row in rows:
                visit = row[2]
                if row[0] != agent or visit >= HOPS or row[1] not in ("ready", "waiting"):
                    continue
                if self.ask(name, "peek", agent=agent, at=24) == visit + 1:
                    other = NAMES[1 - NAMES.index(name)]
                    self._turn += 1
                    then = "post-copy" if self._turn % 2 else "force"
                    how = {"to": other, "timeout_s": 0.0, "on_timeout": then}
                    report = self.ask(name, "move", agent=agent, **how)
                    self.later += report is not None and report["owed_bytes"] > 0
                    self.moves += report is not None
                    self.live += report is not None and report["rounds"] > 0
                return False
        return super().settled(agent)


if __name__ == "__main__":
    sys.exit(main(Movers))
