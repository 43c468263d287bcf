"""Agents that wait for a station: until it is back, across restarts, until their time is over, whatever is ordered."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from attrs import evolve

from docking import Policy
from docking.errors import StationError
from docking.handle import Agent
from docking.residents.berth import Standing
from docking.residents.queued import waits_for
from docking.station import Station
from tests.station.harbour import OWNER, Watch, begin, harbour, meet, numbers, places, program, run, settled, station

HOUR_MS, SHORT_MS = 3_600_000, 300


def patient(ms: int) -> str:
    """Goes to beta, waits for it so long, and tells how that ended, and where it is then."""
    body = f"(local.set $n (call $go_wait (s 0) (i32.const {ms}))) (call $tell (i32.const 110) (local.get $n))"
    return program(body + "(call $tell_here)", "beta", "(local $n i32)")


async def waiting(home: Station, agent: Agent) -> None:
    """Until it waits for a station, and that is stored."""
    berth = await settled(home, agent, Standing.WAITING)
    assert waits_for(berth) is not None
    while berth.state is not None:
        await asyncio.sleep(0.005)


async def acquainted(*stations: Station) -> None:
    for each in stations:
        await each.start()
    await meet(*stations)


@run
async def test_an_agent_sleeps_until_its_station_is_back(tmp_path: Path) -> None:
    async with station("home", tmp_path / "home") as home:
        beta = station("beta", tmp_path / "beta")
        await acquainted(beta)
        await meet(home, beta)
        await beta.close()
        agent = await begin(home, patient(HOUR_MS), "beta")
        await waiting(home, agent)
        (row,) = home.core.queries.rows()
        assert (row["standing"], row["text"]) == ("waiting", "waits to go to beta")
        async with station("beta", tmp_path / "beta") as beta:
            await beta.introductions.call_on(home.url)
            report = await agent.wait()
    assert (numbers(report, "n"), places(report)) == ([0], ["beta"])
    assert [stay.station for stay in report.trail] == ["home", "beta"]


@run
async def test_and_across_a_restart_of_its_own_station(tmp_path: Path) -> None:
    beta = station("beta", tmp_path / "beta")
    async with station("home", tmp_path / "home") as home:
        await acquainted(beta)
        await meet(home, beta)
        await beta.close()
        agent = await begin(home, patient(HOUR_MS), "beta")
        await waiting(home, agent)
        until = home.core.here.berths[agent.key].until
    async with station("home", tmp_path / "home") as home:
        again = home.agent(agent.id, OWNER)
        assert (await settled(home, again, Standing.WAITING)).until == until
        async with station("beta", tmp_path / "beta") as beta:
            await beta.introductions.call_on(home.url)
            assert numbers(await again.wait(), "n") == [0]
            assert beta.core.here.counts["arrived"] == 1


@run
async def test_when_its_time_is_over_it_goes_on_where_it_is() -> None:
    async with harbour("home", "beta") as (home, beta):
        await beta.close()
        report = await (await begin(home, patient(SHORT_MS), "beta")).wait()
        assert (numbers(report, "n"), places(report)) == ([-23], ["home"])
        assert len(home.core.here.timers) == 0


@run
async def test_what_waiting_does_not_mend_is_told_at_once() -> None:
    async with harbour("home", "beta") as (home, _):
        report = await (await begin(home, patient(HOUR_MS))).wait()  # its way leads nowhere
        assert numbers(report, "n") == [-63]


@run
async def test_a_station_that_is_full_takes_it_when_there_is_room() -> None:
    async with harbour("home", "beta") as (home, beta):
        roomy = beta.policy
        await beta.replace_policy(evolve(roomy, residents=0, retry=1))
        agent = await begin(home, patient(HOUR_MS), "beta")
        await waiting(home, agent)
        await beta.replace_policy(roomy)
        agent.wake()  # tries at once
        assert numbers(await agent.wait(), "n") == [0]


@pytest.mark.parametrize("order", ["sleep", "dispose", "clone", "move", "suspend"])
def test_an_agent_that_waits_obeys(order: str, tmp_path: Path) -> None:
    @run
    async def main() -> None:
        async with harbour("home", "beta", "gamma", home=tmp_path) as (home, beta, _):
            await beta.close()
            agent = await begin(home, patient(HOUR_MS), "beta")
            await waiting(home, agent)
            if order == "dispose":
                watch = Watch(home)
                agent.dispose()
                await watch.until("home")
                assert home.core.here.berths == {}
            elif order == "move":
                with pytest.raises(StationError, match="waits to go to beta by itself: portcall retract"):
                    await agent.move("gamma")
                await waiting(home, agent)
            elif order == "suspend":
                policy = home.policy
                await home.replace_policy(Policy())
                assert agent.standing == "travelling"  # kept, and listed so
                await home.replace_policy(policy)
                await waiting(home, agent)
            elif order == "clone":
                watch = Watch(home)
                agent.clone()
                child = home.agent((await watch.until("cloned")).text, OWNER)
                assert numbers(await child.wait(), "n") == [-27]  # it has no journey of its own yet: its go fails
                await waiting(home, agent)
            else:
                agent.sleep()
                await settled(home, agent, Standing.ASLEEP)
                agent.wake()
                await waiting(home, agent)

    main()


@run
async def test_retracted_from_abroad_it_comes_home(tmp_path: Path) -> None:
    wat = program(
        """(drop (call $go (s 0)))
        (call $tell (i32.const 110) (call $go_wait (s 1) (i32.const -1)))
        (drop (call $sleep (i32.const 1))) (call $tell_here)""",
        "beta|gamma",
    )
    async with harbour("home", "beta", "gamma", home=tmp_path) as (home, beta, gamma):
        await gamma.close()
        agent = await begin(home, wat, "beta", "gamma")
        await waiting(beta, agent)
        agent.retract()
        report = await agent.wait()
    assert (numbers(report, "n"), places(report)) == ([-27], ["home"])


@run
async def test_many_that_wait_for_one_station_all_arrive(tmp_path: Path) -> None:
    async with station("home", tmp_path / "home") as home:
        beta = station("beta", tmp_path / "beta")
        await acquainted(beta)
        await meet(home, beta)
        await beta.close()
        crowd = [await begin(home, patient(HOUR_MS), "beta") for _ in range(20)]
        for each in crowd:
            await waiting(home, each)
        async with station("beta", tmp_path / "beta") as beta:
            await beta.introductions.call_on(home.url)
            reports = await asyncio.gather(*(each.wait() for each in crowd))
            assert beta.core.here.counts["arrived"] == len(crowd)
        assert [numbers(report, "n") for report in reports] == [[0]] * len(crowd)
