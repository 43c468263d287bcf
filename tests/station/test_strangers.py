"""What somebody met who knew only the documents: small things that did not hold, each now with its test."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from docking.berth import Standing
from tests.station.harbour import OWNER, Watch, begin, harbour, meet, numbers, program, run, settled, station

SLEEPER = program("(drop (call $sleep (i32.const 3600000))) (call $tell_here)")
# Tells where it is, goes on, and sleeps there.
GOER = program(
    "(call $tell_here) (drop (call $go (s 0))) (call $tell_here) (drop (call $sleep (i32.const 3600000)))", "beta"
)


@run
async def test_trail_and_results_of_an_agent_that_has_not_left_yet_hold() -> None:
    async with harbour("alpha") as (alpha,):
        agent = await begin(alpha, SLEEPER)
        assert agent.trail() == ()
        assert agent.results() == []


@run
async def test_trail_and_results_hold_at_each_moment_of_a_first_hop() -> None:
    async with harbour("alpha", "beta") as (alpha, beta):
        agent = await begin(alpha, GOER, "beta")
        while agent.key not in beta.office.berths:
            assert len(agent.trail()) <= 1
            assert len(agent.results()) <= 1
            await asyncio.sleep(0)
        await settled(beta, agent, Standing.WAITING)
        assert [stay.station for stay in agent.trail()] == ["alpha"]
        assert [result.text for result in agent.results()] == ["alpha"]


@run
async def test_a_person_is_told_of_an_agent_that_may_live_twice(tmp_path: Path) -> None:
    """A home that was restored from a copy does not know whom it gave away."""
    looping = program(
        "(drop (call $sleep (i32.const 400))) (loop $l (drop (call $go (s 0))) "
        "(drop (call $sleep (i32.const 50))) (br $l))",
        "beta",
    )
    async with harbour("beta", home=tmp_path) as (beta,):
        async with station("alpha", tmp_path / "alpha") as alpha:
            await meet(alpha, beta)
            mover = await begin(alpha, looping, "beta")
            await settled(alpha, mover, Standing.WAITING)
            await alpha.office.journal.write([], True)
            shutil.copytree(tmp_path / "alpha", tmp_path / "copy", ignore=shutil.ignore_patterns("*.sock"))
            while mover.key not in beta.office.berths:
                await asyncio.sleep(0.01)
        async with station("alpha", tmp_path / "copy") as alpha:
            await meet(alpha, beta)
            watch = Watch(alpha)
            alarm = await watch.until("alarm")
            assert alarm.agent == mover.id
            assert "may live twice" in alarm.text
            assert alpha.agent(mover.id).dispose() == "obeyed"
            await watch.until("disposed")
            assert mover.key in beta.office.berths


@run
async def test_a_long_journey_that_ends_at_home_after_a_restart_has_its_whole_trail(tmp_path: Path) -> None:
    """Home keeps the last points of a trail and all its links; a checkpoint of its own is for others, not for itself."""
    hops = 56
    wat = program(
        """(loop $l (drop (call $go (s 0)))
             (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 56))))
           (call $tell (i32.const 110) (local.get $n)) (drop (call $sleep (i32.const 3600000)))""",
        "next",
        "(local $n i32)",
    )
    async with harbour("beta") as (beta,):
        async with station("home", tmp_path / "home") as home:
            await meet(home, beta)
            agent = await begin(home, wat, *["beta", "home"] * (hops // 2))
            while agent.where() != "home" or len(agent.trail()) < hops:
                await asyncio.sleep(0.05)
            await settled(home, agent, Standing.WAITING)
        async with station("home", tmp_path / "home") as home:
            again = home.agent(agent.id, OWNER)
            assert again.wake() == "obeyed"
            report = await again.wait(20)
            assert [stay.index for stay in report.trail] == list(range(hops + 1))
            assert numbers(report, "n") == [hops]
