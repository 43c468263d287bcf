"""What agents hold of a station's memory: free when they wait, counted while they run, bounded by the policy."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

from agents.execution import Execution
from agents.snapshot import Snapshot
from docking import Policy
from docking.residents import residents
from docking.residents.berth import LARGE, Standing
from tests.station.harbour import OWNER, begin, harbour, journey, numbers, run, settled

PAGES = 160
NOISE = f"""
 (memory (export "memory") {PAGES}) (data (i32.const 8) "n")
 (func $noise (local $at i32) (local $x i64) ;; what does not compress
  (local.set $at (i32.const 65536)) (local.set $x (i64.const 88172645463325252))
  (loop $fill
   (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
   (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
   (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
   (i64.store (local.get $at) (local.get $x))
   (br_if $fill (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const {PAGES << 16})))))"""
CALLS = """
 (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
 (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))"""
SLEEPER = f"""(module {CALLS} {NOISE}
 (func (export "_start") (call $noise) (drop (call $sleep (i32.const 3600000)))))"""
# Naps with its instance, or without where memory is short, and tells how often.
NAPPER = f"""(module {CALLS} {NOISE}
 (func (export "_start") (local $n i32) (call $noise)
  (loop $nap (drop (call $sleep (i32.const 1)))
   (br_if $nap (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 5))))
  (i32.store (i32.const 16) (local.get $n))
  (drop (call $report (i32.const 8) (i32.const 1) (i32.const 16) (i32.const 4)))))"""


def left_over() -> list[Any]:
    # By type: to ask objects of other libraries what they are may run their code.
    return [each for each in gc.get_objects() if type(each) in (Execution, Snapshot)]


@run
async def test_an_agent_that_waits_for_long_holds_no_memory(tmp_path: Path) -> None:
    async with harbour("alpha", home=tmp_path) as [alpha]:
        gc.collect()
        before = left_over()  # by other tests
        gc.disable()
        try:
            agent = await begin(alpha, SLEEPER)
            berth = await settled(alpha, agent, Standing.WAITING)
            while berth.state is not None:  # it is written down
                await asyncio.sleep(0.01)
            assert [each for each in left_over() if not any(each is other for other in before)] == []
            assert alpha.core.here.held() == 0
            assert berth.agent not in alpha.core.here.active
            assert berth.saved.state.size > LARGE
            # What it took to capture and to write is its own time.
            assert berth.cpu_us > berth.saved.state.size // 2048
        finally:
            gc.enable()


@run
async def test_agents_beyond_the_memory_of_the_policy_are_put_away_between_their_turns(tmp_path: Path) -> None:
    policy = Policy(owners=[OWNER.public], memory=18 << 20)
    async with harbour("alpha", home=tmp_path, policy=policy) as [alpha]:
        here = alpha.core.here
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, here.held())
                await asyncio.sleep(0.001)

        watching = asyncio.ensure_future(watch())
        reports = await asyncio.gather(*(journey(alpha, NAPPER) for _ in range(2)))
        watching.cancel()
        assert [numbers(report, "n") for report in reports] == [[5], [5]]
        assert most > policy.memory * residents.CROWDED  # else this shows nothing
        assert here.held() == 0


@run
async def test_what_waits_for_the_disk_counts_as_held(tmp_path: Path) -> None:
    async with harbour("alpha", home=tmp_path) as [alpha]:
        agent = await begin(alpha, SLEEPER)
        berth = alpha.core.here.berths[agent.key]
        seen = 0
        while berth.standing is not Standing.WAITING or berth.state is not None:
            seen = max(seen, alpha.core.here.load().memory_bytes)
            await asyncio.sleep(0)
        assert seen >= PAGES << 16
