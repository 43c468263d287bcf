"""What agents write to standard output: lines in the log of the station where they are, in order, and none lost."""

from __future__ import annotations

import secrets
import time

import pytest

from docking.aio.clocks import Clocks
from docking.errors import AgentEnded
from tests.station.harbour import begin, harbour, run

# Numbers from 99 down to 0, a line each; then a line by another way; then it goes on, and the same again; then a trap.
COUNTS = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "portcall" "log" (func $log (param i32 i32 i32)))
  (import "portcall" "go" (func $go (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\08\\00\\00\\00\\03\\00\\00\\0000\\n") (data (i32.const 16) "beta")
  (func $counts (local $n i32)
    (local.set $n (i32.const 100))
    (loop $each
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (i32.store8 (i32.const 8) (i32.add (i32.const 48) (i32.div_u (local.get $n) (i32.const 10))))
      (i32.store8 (i32.const 9) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))
      (br_if $each (local.get $n)))
    (call $log (i32.const 2) (i32.const 16) (i32.const 4)))
  (func (export "run") (call $counts) (drop (call $go (i32.const 16) (i32.const 4))) (call $counts) unreachable))"""
LINES = [f"{number:02}" for number in range(99, -1, -1)] + ["beta"]


@pytest.mark.parametrize("native", [True, False], ids=["clocks of the machine", "clocks of its own"])
@run
async def test_lines_are_logged_where_they_were_written_and_before_what_follows(native: bool) -> None:
    clocks = Clocks(time.time_ns if native else lambda: time.time_ns(), time.monotonic_ns, secrets.token_bytes)
    async with harbour("home", "beta", clocks=clocks) as (home, beta):
        agent = await begin(home, COUNTS, "beta")
        with pytest.raises(AgentEnded, match="unreachable"):
            await agent.wait()
        there = home.core.here.past[agent.key], beta.core.here.berths[agent.key]
        assert [berth.native for berth in there] == [native, native]
        assert [line.text for line in there[0].lines] == LINES
        assert [line.text for line in there[1].lines][: len(LINES)] == LINES
