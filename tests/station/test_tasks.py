"""Itineraries whose stops name tasks: stations call them, and send the agent on."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.credentials.itinerary import START, Alt, Itinerary, Loop, Opt, Seq, Stop
from agents.evolve import evolve
from agents.snapshot import Snapshot
from docking import Policy, Station
from docking.errors import StationError, TasksRefused
from docking.handle import Report
from docking.residents import tasks
from docking.residents.berth import Standing
from tests.patience import PATIENCE
from tests.station.harbour import OWNER, harbour, meet, numbers, packed, places, program, run, settled, station


def with_tasks(**bodies: str) -> str:
    """A program that has these exports, and whose own entry traps."""
    exports = "\n".join(f'(func (export "{name}") {body})' for name, body in bodies.items())
    return program("unreachable")[:-1] + exports + ")"


COUNTS = """(global.set $count (i32.add (global.get $count) (i32.const {})))
    (call $tell_here) (call $tell (i32.const 110) (global.get $count))"""
TWO = with_tasks(one=COUNTS.format(1), ten=COUNTS.format(10))


async def tour(home: Station, itinerary: Itinerary, wat: str = TWO) -> Report:
    agent = await home.launch(packed(wat), owner=OWNER, itinerary=itinerary)
    return await agent.wait(PATIENCE)


def task(at: Station, name: str) -> Stop:
    return Stop(at.key, task=name)


@run
async def test_each_station_calls_its_task_and_sends_the_agent_on() -> None:
    async with harbour("home", "beta", "gamma") as (home, *_):
        agent = await home.launch(packed(TWO), "beta:one,gamma:ten,beta:one", owner=OWNER)
        report = await agent.wait(PATIENCE)
        assert places(report) == ["beta", "gamma", "beta"]
        assert numbers(report, "n") == [1, 11, 12]
        assert [stay.station for stay in report.trail] == ["home", "beta", "gamma", "beta"]


@run
async def test_a_task_at_home_is_the_first() -> None:
    async with harbour("home", "beta") as (home, beta):
        report = await tour(home, Itinerary(Seq((task(home, "ten"), task(beta, "one"), task(home, "one")))))
        assert (places(report), numbers(report, "n")) == (["home", "beta", "home"], [10, 11, 12])


@run
async def test_a_loop_of_tasks_goes_round() -> None:
    async with harbour("home", "beta", "gamma") as (home, beta, gamma):
        report = await tour(home, Itinerary(Loop(3, Seq((task(beta, "one"), task(gamma, "ten"))))))
        assert numbers(report, "n") == [1, 11, 12, 22, 23, 33]


@run
async def test_alternatives_and_optional_stops_that_are_down_are_passed_by_each_with_its_own_task() -> None:
    async with harbour("home", "beta", "gamma") as (home, beta, gamma):
        await beta.close()
        way = Seq((Opt(task(beta, "ten")), Alt((task(beta, "ten"), task(gamma, "one"))), Opt(task(beta, "ten"))))
        with pytest.raises(Exception, match="two stops in a row"):
            Itinerary(way)
        way = Seq((Alt((task(beta, "ten"), task(gamma, "one"))), Opt(task(beta, "ten"))))
        with pytest.raises(Exception, match="two stops in a row"):
            Itinerary(way)
        report = await tour(home, Itinerary(Seq((Opt(task(beta, "ten")), task(gamma, "one"), Opt(task(beta, "ten"))))))
        assert (places(report), numbers(report, "n")) == (["gamma"], [1])
        report = await tour(home, Itinerary(Alt((task(beta, "ten"), task(gamma, "one")))))
        assert (places(report), numbers(report, "n")) == (["gamma"], [1])


@run
async def test_where_the_next_station_admits_nobody_it_stops_and_is_kept() -> None:
    async with harbour("home", "beta", "gamma") as (home, beta, gamma):
        await gamma.replace_policy(Policy())
        agent = await home.launch(packed(TWO), "beta:one,gamma:ten", owner=OWNER)
        berth = await settled(beta, agent, Standing.STOPPED)
        assert "no next stop takes it" in berth.text


@run
async def test_it_waits_for_a_station_that_is_down(tmp_path: Path) -> None:
    async with harbour("home", "beta", home=tmp_path) as (home, beta):
        gamma = station("gamma", tmp_path / "gamma")
        async with gamma:
            await meet(home, beta, gamma)
        agent = await home.launch(
            packed(TWO), owner=OWNER, itinerary=Itinerary(Seq((task(beta, "one"), Stop(gamma.key, task="ten"))))
        )
        await settled(beta, agent, Standing.WAITING)
        async with station("gamma", tmp_path / "gamma") as gamma:
            await meet(home, beta, gamma)
            report = await agent.wait(PATIENCE)
        assert numbers(report, "n") == [1, 11]


@run
async def test_a_station_that_starts_again_between_two_tasks_repeats_none(tmp_path: Path) -> None:
    async with harbour("home", home=tmp_path) as (home,):
        gamma = station("gamma", tmp_path / "gamma")
        async with gamma, station("beta", tmp_path / "beta") as beta:
            await meet(home, beta, gamma)
            await gamma.close()
            way = Itinerary(Seq((task(beta, "one"), Stop(gamma.key, task="ten"))))
            agent = await home.launch(packed(TWO), owner=OWNER, itinerary=way)
            await settled(beta, agent, Standing.WAITING)
        async with station("beta", tmp_path / "beta") as beta, station("gamma", tmp_path / "gamma") as gamma:
            await meet(home, beta, gamma)
            report = await agent.wait(PATIENCE)
        assert (places(report), numbers(report, "n")) == (["beta", "gamma"], [1, 11])


@run
async def test_a_task_may_sleep_and_go_itself() -> None:
    goes = f"""(drop (call $sleep (i32.const 1))) (drop (call $go (i32.const 1000) (i32.const 4))) {COUNTS.format(1)}"""
    wat = (
        program("unreachable", "next")[:-1]
        + f'(func (export "goes") {goes}) (func (export "ten") {COUNTS.format(10)}))'
    )
    async with harbour("home", "beta", "gamma", "delta") as (home, beta, gamma, delta):
        way = Itinerary(Seq((task(beta, "goes"), task(gamma, "ten"), task(delta, "ten"))))
        report = await tour(home, way, wat)
        assert (places(report), numbers(report, "n")) == (["gamma", "delta"], [1, 11])


@run
async def test_a_task_that_traps_stops_the_agent_there() -> None:
    async with harbour("home", "beta") as (home, beta):
        agent = await home.launch(packed(TWO), "beta:_start", owner=OWNER)
        berth = await settled(beta, agent, Standing.STOPPED)
        assert "trapped" in berth.text


@run
async def test_an_agent_that_ends_itself_in_a_task_has_ended() -> None:
    async with harbour("home", "beta", "gamma") as (home, *_):
        wat = with_tasks(one=COUNTS.format(1) + "(call $exit (i32.const 3))", ten="")
        agent = await home.launch(packed(wat), "beta:one,gamma:ten", owner=OWNER)
        report = await agent.wait(PATIENCE)
        assert [stay.station for stay in report.trail] == ["home", "beta"]


@run
async def test_a_task_that_the_agent_does_not_have_is_refused_at_launch() -> None:
    async with harbour("home", "beta") as (home, *_):
        wat = with_tasks(one="", takes="(param i32)")
        with pytest.raises(StationError, match="no-such-task: the agent exports no function 'two'"):
            await home.launch(packed(wat), "beta:two", owner=OWNER)
        with pytest.raises(StationError, match="task-parameters: the task 'takes' takes parameters"):
            await home.launch(packed(wat), "beta:takes", owner=OWNER)
        with pytest.raises(StationError, match="no-tasks: the agent was packed so that nothing can suspend it"):
            await home.launch(packed(wat, profile="none"), "beta:one", owner=OWNER)


@run
async def test_tasks_of_a_script_are_refused_at_launch_also_its_entry() -> None:
    async with harbour("home", "beta") as (home, *_):
        for language, itself in (("python", "portcall.tour(FUNCTION)"), ("javascript", "portcall.go('next')")):
            script = packed(with_tasks(count=""), language=language)
            for way in ("beta:count", "beta:_start", "home:_start,beta:_start"):
                with pytest.raises(TasksRefused) as refused:
                    await home.launch(script, way, owner=OWNER)
                assert refused.value.code == "no-tasks"
                assert itself in refused.value.reason
        assert not home.core.here.berths


@run
async def test_what_a_state_says_to_call_must_be_what_the_owner_signed_here() -> None:
    async with harbour("home", "beta") as (home, beta):
        way = Itinerary(Seq((task(beta, "one"), task(home, "ten"))))
        at_beta = [step.position for step in way.steps(START)]
        state = Snapshot(packed(TWO).digest, "_start")
        sent = state.calling(beta.key.text, "one")
        assert tasks.begins(sent, way, at_beta, beta.key) == "one"
        assert tasks.begins(sent, way, [START], home.key) is None
        later = evolve(state, stage="run").calling(beta.key.text, "ten")
        assert tasks.begins(later, way, at_beta, home.key) is None  # it was to begin elsewhere
        with pytest.raises(ValueError, match="names 'one' here, not 'ten'"):
            tasks.begins(later, way, at_beta, beta.key)


@run
async def test_a_journey_by_tasks_that_is_recorded_ends_as_one_that_is_not() -> None:
    async with harbour("home", "beta", "gamma", record_mib=16) as (home, *_):
        agent = await home.launch(packed(TWO), "beta:one,gamma:ten", owner=OWNER)
        report = await agent.wait(PATIENCE)
        assert numbers(report, "n") == [1, 11]
