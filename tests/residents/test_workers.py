"""Many agents wait and few threads run: what sleeps holds no instance, and what computes shares the threads."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time

from docking.aio.clocks import Clocks
from docking.residents.berth import Standing
from tests.patience import PATIENCE
from tests.residents.guests import BUSY, SLEEPER
from tests.station.harbour import begin, harbour, journey, numbers, places, program, run, settled


@run
async def test_a_sleeping_agent_holds_no_instance_and_no_state() -> None:
    async with harbour("home") as (home,):
        agent = await begin(home, SLEEPER)
        there = await settled(home, agent, Standing.WAITING)
        assert (there.life, there.state) == (None, None)
        assert home.core.here.workers.busy == 0
        report = await agent.wait()
    assert numbers(report, "s") == [0]
    assert report.trail[0].departed - report.trail[0].arrived >= 300


@run
async def test_many_sleep_and_few_threads_run() -> None:
    async with harbour("home") as (home,):
        before = threading.active_count()
        agents = await asyncio.gather(*(begin(home, SLEEPER) for _ in range(60)))
        assert threading.active_count() - before <= home.core.here.workers.threads + 8  # and the loop's own helpers
        reports = await asyncio.gather(*(agent.wait() for agent in agents))
    assert [numbers(report, "s") for report in reports] == [[0]] * 60


@run
async def test_busy_agents_share_the_threads() -> None:
    async with harbour("home") as (home,):
        for _ in range(3):
            await begin(home, BUSY)
        report = await asyncio.wait_for(journey(home, SLEEPER), PATIENCE)
        assert numbers(report, "s") == [0]


@run
async def test_a_clock_that_is_set_back_does_not_keep_sleepers_asleep() -> None:
    back = 0

    def wall() -> int:
        return time.time_ns() - back

    async with harbour("alpha", clocks=Clocks(wall, time.monotonic_ns, secrets.token_bytes)) as (alpha,):
        agent = await begin(alpha, program("(drop (call $sleep (i32.const 300))) (call $tell_here)"))
        await settled(alpha, agent, Standing.WAITING)
        back = 3600 * 10**9
        assert places(await asyncio.wait_for(agent.wait(), PATIENCE)) == ["alpha"]
