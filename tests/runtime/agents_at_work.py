"""Small agents in text form, and helpers to run them: shared by the tests of the runtime."""

from __future__ import annotations

from functools import cache

import agents
from agents import AgentImage
from agents.ambient import StandaloneHost
from agents.waits import (
    Arrived,
    Call,
    Clone,
    Cloned,
    Event,
    Fork,
    Forked,
    Go,
    GoAt,
    Recv,
    Reply,
    Sleep,
    TimedOut,
    Wait,
    Woke,
)


def place(name: str = "here", **options: object) -> StandaloneHost:
    """A place without clocks or chance."""
    return StandaloneHost(lambda: 1_000, lambda: 2_000, bytes, station=name, sink=lambda fd, data: None, **options)


def agreeable(wait: Wait) -> Event | None:
    """The good answer to each wait."""
    match wait:
        case Go() | GoAt():
            return Arrived()
        case Sleep():
            return Woke()
        case Recv():
            return TimedOut()
        case Call():
            return Reply(b"reply to " + wait.request)
        case Clone():
            return Cloned("child")
        case Fork(count):
            return Forked(0, tuple(f"child {number}" for number in range(count)))
        case _:
            return None


@cache
def packed(text: str, **options: object) -> AgentImage:
    """The image of a module in text form; packed once."""
    return agents.pack(text, **options)


# go() at every third turn; a value in memory, one in a global, locals and an operand below the call.
WANDERER = """(module
  (import "portcall" "go" (func $go (param i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 8) "beta")
  (global $turns (export "turns") (mut i64) (i64.const 0))
  (global $half (mut f64) (f64.const 0.5))
  (func $leg (param $n i32) (result i32)
    (i32.add (local.get $n) (call $go (i32.const 8) (i32.const 4))))
  (func (export "run") (param $n i32) (result i32 i64 f64) (local $sum i32)
    (loop $again
      (global.set $turns (i64.add (global.get $turns) (i64.const 1)))
      (global.set $half (f64.mul (global.get $half) (f64.const 1.5)))
      (if (i32.eqz (i32.rem_u (local.get $n) (i32.const 3)))
        (then (local.set $sum (i32.add (local.get $sum) (call $leg (local.get $n))))))
      (i32.store (i32.const 100) (local.get $sum))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (i32.load (i32.const 100)) (global.get $turns) (global.get $half)))"""


# Recursion that moves at every leaf.
FIB = """(module (import "portcall" "go" (func $go (param i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "next")
  (func $fib (export "run") (param i32) (result i32)
    (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
      (then (i32.add (local.get 0) (call $go (i32.const 0) (i32.const 4))))
      (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1)))
                     (call $fib (i32.sub (local.get 0) (i32.const 2))))))))"""


SPIN = """(module (memory (export "memory") 1) (global $n (mut i32) (i32.const 0))
  (func (export "run") (result i32)
    (loop $l (global.set $n (i32.add (global.get $n) (i32.const 1)))
      (br_if $l (i32.eqz (i32.load (i32.const 0)))))
    (global.get $n)))"""
