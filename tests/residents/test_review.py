"""A policy that is replaced while agents are here: who is revoked stands still, and goes on when that is taken back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from agents.credentials.keys import text_of
from agents.errors import CredentialError
from docking import Policy, Station, Visitor
from docking.errors import StationError
from docking.handle import Agent
from docking.residents.berth import Standing
from docking.trust.policy import DEFAULT_BUDGET, OwnerRule
from tests.patience import PATIENCE
from tests.station.harbour import OWNER, Watch, begin, harbour, meet, numbers, program, run, settled, station

ADMITTED = Policy(owners=[OWNER.public])
REVOKED = evolve(ADMITTED, revoked=frozenset([OWNER.public.raw]))
SLEEPER = program("(drop (call $sleep (i32.const 3600000))) (call $tell_here)")
BUSY = program("(loop $for_ever (global.set $count (i32.add (global.get $count) (i32.const 1))) (br $for_ever))")
CALLER = program(
    "(call $tell (i32.const 97) (call $call (s 0) (s 1) (i32.const 300) (i32.const 64)))"
    "(call $tell (i32.const 98) (call $call (s 0) (s 1) (i32.const 300) (i32.const 64)))",
    "slow|x",
)
LISTENER = program("(call $tell (i32.const 110) (call $recv (i32.const 300) (i32.const 64) (i32.const -1)))")
PARENT = program("(drop (call $clone (i32.const 300) (i32.const 64))) (drop (call $sleep (i32.const 3600000)))")


async def kept(at: Station, agent: Agent) -> str:
    """Why an agent is kept, when it is."""
    while agent.key not in at.core.arrivals.kept:
        await asyncio.sleep(0.005)
    assert agent.key not in at.core.here.berths
    return str(at.core.arrivals.kept[agent.key].why)


@run
async def test_a_revoked_owners_agent_stands_still_and_goes_on_when_that_is_taken_back() -> None:
    async with harbour("home") as (home,):
        agent = await begin(home, SLEEPER)
        await settled(home, agent, Standing.WAITING)
        await home.replace_policy(REVOKED)
        assert "was revoked here" in await kept(home, agent)
        [row] = home.core.queries.rows()
        assert (row["agent"], row["standing"]) == (agent.id, "kept")
        assert any("suspended: the owner" in line for line in agent.logs())
        with pytest.raises(StationError, match="was revoked here"):
            agent.wake()
        with pytest.raises(CredentialError, match="was revoked here"):
            await begin(home, SLEEPER)
        await home.replace_policy(ADMITTED)
        await settled(home, agent, Standing.WAITING)
        assert agent.wake() == "obeyed"
        assert [result.text for result in (await agent.wait(PATIENCE)).results] == ["home"]
        assert home.core.here.load().owners[OWNER.public] == 0


@run
async def test_one_that_computes_is_stopped_and_goes_on() -> None:
    async with harbour("home") as (home,):
        agent = await begin(home, BUSY)
        await home.replace_policy(REVOKED)
        await kept(home, agent)
        assert home.core.here.workers.busy == 0
        await home.replace_policy(ADMITTED)
        while home.core.here.workers.busy == 0:
            await asyncio.sleep(0.005)
        assert agent.dispose() == "obeyed"


@run
async def test_what_was_called_is_called_again_with_the_same_number() -> None:
    async with harbour("home") as (home,):
        numbers_seen, asked, answer = [], asyncio.Event(), asyncio.Event()

        @home.service("slow")
        async def slow(request: bytes, visitor: Visitor) -> bytes:
            numbers_seen.append(visitor.call)
            asked.set()
            await answer.wait()
            return b"done"

        agent = await begin(home, CALLER)
        await asked.wait()
        await home.replace_policy(REVOKED)
        await kept(home, agent)
        answer.set()
        await home.replace_policy(ADMITTED)
        report = await agent.wait(PATIENCE)
        assert (numbers(report, "a"), numbers(report, "b")) == ([4], [4])
        assert numbers_seen == [1, 1, 2]


@run
async def test_a_message_for_one_that_is_suspended_is_not_taken() -> None:
    async with harbour("home", "beta") as (home, beta):
        agent = await begin(home, LISTENER)
        await settled(home, agent, Standing.WAITING)
        await home.replace_policy(REVOKED)
        await kept(home, agent)
        letter = ["message", b"l" * 32, [agent.key, "somebody", b"hello", 0]]
        assert (await home.core.inbound.receive(beta.key, letter))[0] == "later"
        await home.replace_policy(ADMITTED)
        assert (await home.core.inbound.receive(beta.key, letter))[0] == "taken"
        assert numbers(await agent.wait(PATIENCE), "n") == [5]


@run
async def test_a_clone_is_revoked_with_its_parent_or_by_itself() -> None:
    async with harbour("home") as (home,):
        agent = await begin(home, PARENT)
        while len(home.core.here.berths) < 2:
            await asyncio.sleep(0.005)
        child = home.agent(text_of(next(berth for berth in home.core.here.berths if berth != agent.key)))
        for each in (agent, child):
            await settled(home, each, Standing.WAITING)
        await home.replace_policy(evolve(ADMITTED, revoked=frozenset([child.key])))
        await kept(home, child)
        assert list(home.core.here.berths) == [agent.key]
        await home.replace_policy(evolve(ADMITTED, revoked=frozenset([agent.key])))
        for each in (agent, child):
            await kept(home, each)


@run
async def test_an_owner_that_is_not_named_any_more_or_may_use_less() -> None:
    async with harbour("home") as (home,):
        agent = await begin(home, SLEEPER)
        berth = await settled(home, agent, Standing.WAITING)
        less = evolve(DEFAULT_BUDGET, messages=7)
        await home.replace_policy(Policy(owners=[OwnerRule(OWNER.public, budget=less)]))
        assert berth.grant.budget.messages == 7
        await home.replace_policy(Policy())
        assert "is not trusted here" in await kept(home, agent)


@run
async def test_one_that_is_away_is_not_let_in_again() -> None:
    goer = program("(drop (call $go (s 0))) (call $tell (i32.const 103) (call $go (s 1)))", "beta|home")
    async with harbour("home") as (home,), station("beta") as beta:
        await meet(home, beta)
        watch = Watch(home)
        await home.replace_policy(ADMITTED)  # replaced, and it admits: newcomers are judged once more, and begin
        agent = await begin(home, goer, "beta")
        await watch.until("home")
        assert numbers(await agent.wait(PATIENCE), "g") == [0]
        await beta.replace_policy(REVOKED)
        agent = await begin(home, goer, "beta")
        refused = await watch.until("refused")
        assert "revoked" in refused.text


@run
async def test_after_a_restart_a_revoked_agent_is_kept_and_a_policy_lets_it_go_on(tmp_path: Path) -> None:
    async with station("home", tmp_path / "home") as home:
        agent = await begin(home, SLEEPER)
        await settled(home, agent, Standing.WAITING)
        await home.replace_policy(REVOKED)
        await kept(home, agent)
    async with station("home", tmp_path / "home", policy=REVOKED) as home:
        again = home.agent(agent.id, OWNER)
        assert "was revoked here" in await kept(home, again)
        with pytest.raises(CredentialError, match="was revoked here"):
            await begin(home, SLEEPER)
        await home.replace_policy(ADMITTED)
        assert again.wake() == "obeyed"
        assert [result.text for result in (await again.wait(PATIENCE)).results] == ["home"]


@run
async def test_what_lasts_until_the_next_start(caplog: Any) -> None:
    async with harbour("home") as (home,):
        wasi = evolve(home.policy.wasi, files=77)
        await home.replace_policy(evolve(ADMITTED, wasi=wasi))
        assert home.policy.wasi.files != 77
        assert "are those of the start" in caplog.text
