"""What a restart makes of agents that sleep, listen, run or were stopped, and of journeys that ended."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path

import pytest

from docking import Policy
from docking.aio.clocks import Clocks
from docking.residents.berth import Standing
from docking.residents.workers import Job, Workers
from tests.patience import PATIENCE
from tests.residents.guests import BUSY, LISTENER, RESTING, SLEEPER, berth
from tests.station.harbour import OWNER, Watch, begin, harbour, numbers, places, program, run, settled, station


@pytest.mark.parametrize("when", ["asleep", "listening", "running", "stopped", "put to sleep"])
def test_a_restart_goes_on_with_every_agent(tmp_path: Path, when: str) -> None:
    @run
    async def main() -> None:
        wat = {"asleep": SLEEPER, "listening": LISTENER, "stopped": program("(unreachable)")}.get(when, BUSY)
        async with station("home", tmp_path / "home") as home:
            agent = await begin(home, wat)
            if when == "running":
                while not berth(home, agent).running:
                    await asyncio.sleep(0.005)
            elif when == "put to sleep":
                agent.sleep()
                await settled(home, agent, Standing.ASLEEP)
            else:
                await settled(home, agent, Standing.STOPPED if when == "stopped" else Standing.WAITING)
            before = berth(home, agent).cpu_us
        async with station("home", tmp_path / "home") as home:
            again = home.agent(agent.id, OWNER)
            if when == "asleep":
                assert numbers(await again.wait(), "s") == [0]
            elif when == "listening":
                again.send("four")
                again.send("x")
                assert numbers(await again.wait(), "n") == [4, 1]
            elif when == "running":
                assert berth(home, again).cpu_us >= before
                again.dispose()
                await Watch(home).until("home")
            else:
                expected = Standing.STOPPED if when == "stopped" else Standing.ASLEEP
                assert berth(home, again).standing is expected
            assert home.core.here.counts["resumed"] == 1

    main()


@run
async def test_a_clock_that_was_ahead_does_not_prolong_a_sleep_over_a_restart(tmp_path: Path) -> None:
    hour_ns = 3600 * 10**9
    ahead = Clocks(lambda: time.time_ns() + hour_ns, time.monotonic_ns, os.urandom)
    async with station("home", tmp_path / "home", clocks=ahead) as home:
        agent = await begin(home, SLEEPER)
        await settled(home, agent, Standing.WAITING)
    async with station("home", tmp_path / "home") as home:
        again = home.agent(agent.id, OWNER)
        left = berth(home, again).until - time.time_ns() // 1_000_000
        assert left < 60_000  # as long as it had asked for, and not an hour more
        assert numbers(await again.wait(), "s") == [0]


@run
async def test_reports_made_before_a_restart_are_in_the_chain(tmp_path: Path) -> None:
    patient = program("(call $tell (i32.const 98) (i32.const 5))(drop (call $sleep (i32.const 100)))(call $tell_here)")
    async with station("home", tmp_path / "home") as home:
        agent = await begin(home, patient)
        await settled(home, agent, Standing.WAITING)
    async with station("home", tmp_path / "home") as home:
        report = await home.agent(agent.id, OWNER).wait()
    assert (numbers(report, "b"), places(report)) == ([5], ["home"])


@run
async def test_an_agent_that_arrived_goes_on_after_a_restart_of_both(tmp_path: Path) -> None:
    sleeper = program("(drop (call $go (s 0)))(drop (call $sleep (i32.const 200)))(call $tell_here)", "beta1")
    async with harbour("home", "beta1", home=tmp_path) as (home, beta):
        agent = await begin(home, sleeper, "beta1")
        await settled(beta, agent, Standing.WAITING)
    async with harbour("home", "beta1", home=tmp_path) as (home, beta):
        report = await home.agent(agent.id, OWNER).wait()
    assert places(report) == ["beta1"]
    assert [stay.station for stay in report.trail] == ["home", "beta1"]


@run
async def test_a_journey_that_ended_is_known_after_a_restart(tmp_path: Path) -> None:
    async with harbour("home", "beta1", home=tmp_path) as (home, _):
        agent = await begin(home, program("(drop (call $go (s 0)))(call $tell_here)", "beta1"), "beta1")
        await agent.wait()
    async with station("home", tmp_path / "home") as home:
        again = home.agent(agent.id[:8], OWNER)
        assert again.standing == "finished"
        assert [result.text for result in again.results()] == ["beta1"]
        assert len(again.trail()) == 2


@run
async def test_an_agent_that_the_policy_admits_no_more_is_kept_shown_and_goes_on_when_it_does(tmp_path: Path) -> None:
    async with station("home", tmp_path / "home") as home:
        agent = await begin(home, RESTING)
        await settled(home, agent, Standing.WAITING)
    async with station("home", tmp_path / "home", policy=Policy()) as home:
        [row] = home.core.queries.rows()
        assert (row["agent"], row["standing"], row["hop"], row["label"]) == (agent.id, "kept", 0, "agent")
        assert "not trusted here" in row["text"]
        assert "agents_kept 1" in home.metrics()
    async with station("home", tmp_path / "home") as home:
        again = home.agent(agent.id, OWNER)
        assert again.wake() == "obeyed"
        assert [result.text for result in (await again.wait(PATIENCE)).results] == ["home"]


@run
async def test_an_agent_that_had_mail_before_its_first_turn_has_arrived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message is stored with the state that came. After a crash, `go` gives 0 all the same, and nobody goes twice."""
    submit, held = Workers.submit, list[Job]()
    goer = program("(call $tell (i32.const 101) (call $go (s 0)))", "beta")
    async with harbour("home", "beta", home=tmp_path) as (home, beta):
        mine = beta.core.here.workers
        monkeypatch.setattr(
            Workers, "submit", lambda self, job: held.append(job) if self is mine else submit(self, job)
        )
        agent = await begin(home, goer, "beta")
        while agent.key not in beta.core.here.berths:
            await asyncio.sleep(0.01)
        agent.send("while it waits for a thread")
        while not beta.core.here.berths[agent.key].inbox:
            await asyncio.sleep(0.01)
        await beta.core.here.journal.write([], True)
        shutil.copytree(tmp_path / "beta", tmp_path / "as it crashed")
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "beta")
    (tmp_path / "as it crashed").rename(tmp_path / "beta")
    async with harbour("home", "beta", home=tmp_path) as (home, _):
        report = await home.agent(agent.id, OWNER).wait(PATIENCE)
    assert numbers(report, "e") == [0]
    assert [stay.station for stay in report.trail] == ["home", "beta"]
