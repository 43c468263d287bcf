"""Agents for tests of live moves: they write all the time, and know whether a write was lost."""

from __future__ import annotations

from attrs import evolve

from agents.credentials.permit import Budget
from docking import Policy, Terms
from docking.launching import DEFAULT_PERMIT
from docking.trust.policy import OwnerRule
from tests.station.harbour import OWNER

MIB = 1 << 20
BUDGET = Budget(cpu=600 * 10**6, memory=1 << 30, carried=1 << 40, messages=100_000)


def policy(**options: object) -> Policy:
    """Admits the agents of `OWNER`, large ones too."""
    rule = OwnerRule(OWNER.public, budget=BUDGET)
    return Policy(**{"owners": [rule], "budget": BUDGET, "state": 1 << 30, "memory": 4 << 30, **options})  # type: ignore[arg-type]


TERMS = Terms(permit=evolve(DEFAULT_PERMIT, budget=BUDGET))


def accountant(mib: int, last: str = "omega", hot: int = 16, pause: int = 0) -> str:
    """A program that fills `mib` MiB, and goes on writing numbers there, at random over `hot` pages of 64 KiB.

    The sum of its memory it has in a local, and in a global; at the station `last` it adds up its memory, and reports
    under d whether one of them is another, under h where it is, under n how often it wrote.

    pause: milliseconds that it sleeps after each 65536 writes
    """
    sleep = f"(drop (call $sleep (i32.const {pause})))" if pause else ""
    return f"""(module
      (import "portcall" "here" (func $here (param i32 i32) (result i32)))
      (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))
      (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
      (memory (export "memory") {16 * mib + 1})
      (global $sum (mut i64) (i64.const 0))
      (func $tell (param $key i32) (param $value i32)
        (i32.store8 (i32.const 100) (local.get $key))
        (i32.store (i32.const 104) (local.get $value))
        (drop (call $report (i32.const 100) (i32.const 1) (i32.const 104) (i32.const 4))))
      (func (export "_start") (local $at i32) (local $x i64) (local $sum i64) (local $n i32) (local $old i64)
        (local.set $x (i64.const 88172645463325252))
        (local.set $at (i32.const 65536))
        (loop $fill
          (i64.store (local.get $at) (i64.extend_i32_u (i32.mul (local.get $at) (i32.const 2654435761))))
          (local.set $sum (i64.add (local.get $sum) (i64.load (local.get $at))))
          (br_if $fill
            (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const {(16 * mib + 1) << 16}))))
        (global.set $sum (local.get $sum))
        (loop $on
          (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
          (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
          (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
          (local.set $at (i32.add (i32.const 65536) (i32.shl (i32.rem_u (i32.wrap_i64 (local.get $x))
            (i32.const {hot << 13})) (i32.const 3))))
          (local.set $old (i64.load (local.get $at)))
          (i64.store (local.get $at) (local.get $x))
          (local.set $sum (i64.add (local.get $sum) (i64.sub (local.get $x) (local.get $old))))
          (global.set $sum (i64.add (global.get $sum) (i64.sub (local.get $x) (local.get $old))))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $on (i32.and (local.get $n) (i32.const 65535)))
          {sleep}
          (drop (call $here (i32.const 200) (i32.const 64)))
          (br_if $on (i32.ne (i32.load8_u (i32.const 200)) (i32.const {ord(last[0])}))))
        (local.set $old (i64.const 0))
        (local.set $at (i32.const 65536))
        (loop $add
          (local.set $old (i64.add (local.get $old) (i64.load (local.get $at))))
          (br_if $add
            (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const {(16 * mib + 1) << 16}))))
        (call $tell (i32.const 100) (i64.ne (local.get $old) (local.get $sum)))
        (call $tell (i32.const 100) (i64.ne (local.get $old) (global.get $sum)))
        (call $tell (i32.const 110) (local.get $n))
        (i32.store8 (i32.const 100) (i32.const 104))
        (drop (call $report (i32.const 100) (i32.const 1)
          (i32.const 200) (call $here (i32.const 200) (i32.const 64))))))"""
