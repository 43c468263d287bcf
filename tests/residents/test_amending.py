"""Top-ups and renewals: they reach an agent wherever it is, count once, and let it go on that had stopped for want."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from agents.credentials.amendments import MAX_AMENDMENTS, Lease, TopUp
from agents.credentials.permit import Budget
from agents.errors import CredentialError
from docking import Policy, Station
from docking.errors import AgentEnded, StationError, StoreFull, UnknownAgent
from docking.handle import Agent
from docking.launching import DEFAULT_PERMIT, Terms, amendment
from docking.letters.orders import OrderOutcome
from docking.residents.berth import Standing
from docking.store.group_commit import GroupCommit
from docking.trust.policy import DEFAULT_BUDGET
from tests.patience import PATIENCE
from tests.residents.guests import BUSY, FOREVER, GOER, LISTENER, berth
from tests.station.harbour import (
    OWNER,
    STRANGER,
    Watch,
    begin,
    harbour,
    numbers,
    places,
    program,
    run,
    settled,
    station,
)

HOUR_MS = 3_600_000
SHORT = Terms(evolve(DEFAULT_PERMIT, budget=evolve(DEFAULT_PERMIT.budget, cpu=40_000)))
MUCH = Budget(cpu=60_000_000)
# Computes for longer than 40 ms, in one loop that counts, and goes on to beta then.
DILIGENT = program(
    """(loop $on
         (global.set $count (i32.add (global.get $count) (i32.const 1)))
         (br_if $on (i32.ne (global.get $count) (i32.const 600000000))))
       (call $tell (i32.const 99) (global.get $count))
       (drop (call $go (s 0)))
       (call $tell_here)""",
    "beta",
)


def signed(agent: Agent, at: Station, change: TopUp | Lease, number: int = 0, owner: Any = OWNER) -> bytes:
    """An amendment of an agent that is at a station."""
    own = berth(at, agent).credentials
    now = at.core.here.clocks.now()
    return amendment(agent.key, own.passport.digest, change, owner, now, lambda size: bytes([number]) * size)


def full(*_: object) -> asyncio.Future[None]:
    """A write to a disk that is full."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(StoreFull("no room"))
    return future


async def nothing(_: object) -> None:
    """What a crash leaves undone."""


async def starved(home: Station, wat: str = DILIGENT, *via: str) -> Agent:
    """An agent that has used up its budget at home."""
    agent = await begin(home, wat, *via, terms=SHORT)
    with pytest.raises(AgentEnded, match="portcall top-up"):
        await agent.wait(PATIENCE)
    return agent


@run
async def test_an_agent_that_used_up_its_budget_goes_on_when_it_gets_more() -> None:
    async with harbour("home", "beta") as (home, _beta):
        agent = await starved(home, DILIGENT, "beta")
        there = berth(home, agent)
        assert (there.standing, there.spent > 0) == (Standing.STOPPED, True)
        assert await agent.top_up(MUCH) is OrderOutcome.OBEYED
        report = await agent.wait(PATIENCE)
        # It went on in the middle of its loop, and beta has verified the larger budget.
        assert numbers(report, "c") == [600_000_000]
        assert places(report) == ["beta"]
        assert report.trail[0].cpu > 40_000
        assert agent.capsule().amendments is not None
        assert [stay.station for stay in agent.trail()] == ["home", "beta"]


@run
async def test_it_waits_across_restarts_and_so_does_what_it_was_given(tmp_path: Path) -> None:
    async with station("home", tmp_path / "home") as home:
        agent = await starved(home)
    async with station("home", tmp_path / "home") as home:
        again = home.agent(agent.id, OWNER)
        there = await settled(home, again, Standing.STOPPED)
        assert there.spent > 0
        # Too little: it stops again.
        watch = Watch(home)
        await again.top_up(Budget(cpu=20_000))
        await watch.until("stopped")
        there = await settled(home, again, Standing.STOPPED)
        more = there.credentials.amendments
    async with station("home", tmp_path / "home") as home:
        again = home.agent(agent.id, OWNER)
        there = await settled(home, again, Standing.STOPPED)
        assert there.credentials.amendments == more
        await again.top_up(MUCH)
        assert numbers(await again.wait(PATIENCE), "c") == [600_000_000]


@run
async def test_an_agent_that_got_more_and_had_not_gone_on_yet_goes_on_after_a_crash(tmp_path: Path) -> None:
    """The crash is between the write and what follows it: nothing but the store says that there is more."""
    async with station("home", tmp_path / "home") as home:
        agent = await starved(home)
        home.core.amending.go_on = nothing
        await agent.top_up(MUCH)
        assert berth(home, agent).standing is Standing.STOPPED
    async with station("home", tmp_path / "home") as home:
        again = home.agent(agent.id, OWNER)
        while home.core.queries.standing(agent.key) != "finished":
            await asyncio.sleep(0.01)
        assert numbers(await again.wait(PATIENCE), "c") == [600_000_000]


@run
async def test_a_top_up_that_was_not_written_does_not_count(tmp_path: Path) -> None:
    async with station("home", tmp_path / "home") as home:
        agent = await starved(home)
        there = berth(home, agent)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(GroupCommit, "write", full)
            with pytest.raises(StoreFull):
                await agent.top_up(MUCH)
        assert not there.credentials.amendments
        assert there.standing is Standing.STOPPED
        await agent.top_up(MUCH)
        await agent.wait(PATIENCE)


@run
async def test_a_top_up_follows_the_agent_and_counts_once() -> None:
    listener = program(f"(drop (call $go (s 0))) (drop (call $recv (i32.const 300) (i32.const 64) {FOREVER}))", "beta")
    async with harbour("home", "beta") as (home, beta):
        agent = await begin(home, listener, "beta")
        await settled(beta, agent, Standing.WAITING) if agent.key in beta.core.here.berths else None
        while agent.key not in beta.core.here.berths:
            await asyncio.sleep(0.005)
        await settled(beta, agent, Standing.WAITING)
        before = berth(beta, agent).credentials.terms
        watch = Watch(beta)
        assert await agent.top_up(Budget(messages=7), hops=2) is OrderOutcome.SENT
        told = await watch.until("amended")
        assert "7 messages" in told.text
        assert "2 hops" in told.text
        mine = signed(agent, beta, TopUp(hops=5), 1)
        for number in range(3):
            letter = ["amend", bytes([number]) * 32, [mine, number]]
            assert await beta.core.inbound.receive(home.key, letter) == ["taken"]
        after = berth(beta, agent).credentials.terms
        assert (after.hops, after.budget.messages) == (before.hops + 7, before.budget.messages + 7)
        assert any("top-up" in line for line in beta.agent(agent.id).logs())


@run
async def test_who_may_not_amend_is_refused_and_what_is_malformed() -> None:
    async with harbour("home", "beta") as (home, beta):
        agent = await begin(home, LISTENER)
        await settled(home, agent, Standing.WAITING)
        with pytest.raises(CredentialError, match="signed by the agent's owner"):
            await agent.top_up(MUCH, owner=STRANGER)
        with pytest.raises(StationError, match="owner's key"):
            await home.agent(agent.id).top_up(MUCH)
        with pytest.raises(CredentialError, match="of nothing"):
            await agent.top_up()
        with pytest.raises(UnknownAgent):
            await beta.core.amending.amend(signed(agent, home, TopUp(hops=1)))
        forged = signed(agent, home, TopUp(hops=1), owner=home.core.here.key)  # a home renews, and does not top up
        good = signed(agent, home, TopUp(hops=1))
        for content, code in (
            ([forged, 0], "amendment"),
            ([good[:-1] + b"\0", 0], "signature"),
            ([bytes(5000), 0], "malformed"),
            ([good, -1], "malformed"),
            ([good], "malformed"),
            (good, "malformed"),
        ):
            answer = await home.core.inbound.receive(beta.key, ["amend", bytes(32), content])
            assert answer[:2] == ["refused", code], content
        assert not berth(home, agent).credentials.amendments
        unknown = await beta.core.inbound.receive(home.key, ["amend", bytes(32), [good, 0]])
        assert unknown[:2] == ["refused", "unknown-agent"]


@run
async def test_a_refused_amendment_is_told_where_it_was_sent_from() -> None:
    async with harbour("home", "beta") as (home, beta):
        agent = await begin(home, GOER, "beta")
        while agent.key not in beta.core.here.berths:
            await asyncio.sleep(0.005)
        await settled(beta, agent, Standing.WAITING)
        there = berth(beta, agent)
        for number in range(MAX_AMENDMENTS):
            await beta.core.amending.amend(signed(agent, beta, TopUp(hops=1), number))
        watch = Watch(home)
        assert await agent.top_up(hops=1) is OrderOutcome.SENT
        told = await watch.until("refused")
        assert "top-up: an agent has at most" in told.text
        assert len(there.credentials.amendments.items) == MAX_AMENDMENTS


@run
async def test_an_agent_that_runs_is_given_more_without_a_stop() -> None:
    async with harbour("home") as (home,):
        agent = await begin(
            home, BUSY, terms=evolve(SHORT, permit=evolve(SHORT.permit, budget=evolve(MUCH, memory=2**26)))
        )
        while not berth(home, agent).running or berth(home, agent).life is None:
            await asyncio.sleep(0.005)
        there = berth(home, agent)
        before = there.life.budget.cpu_ns
        await agent.top_up(MUCH)
        # The station's own limit is below the permit: it gives no more than that.
        assert there.grant.budget.cpu == DEFAULT_BUDGET.cpu
        assert there.life is None or there.life.budget.cpu_ns == before
        assert there.credentials.terms.budget.cpu == 120_000_000
        agent.dispose()


@run
async def test_a_top_up_beyond_what_the_station_gives_is_said() -> None:
    policy = Policy(owners=[OWNER.public], budget=evolve(DEFAULT_BUDGET, cpu=40_000))
    async with harbour("home", policy=policy) as (home,):
        agent = await begin(home, DILIGENT)
        with pytest.raises(AgentEnded):
            await agent.wait(PATIENCE)
        await agent.top_up(MUCH)
        assert berth(home, agent).standing is Standing.STOPPED
        assert any("it may use 0.04 s of processor time" in line for line in agent.logs())
        # It can be called home from elsewhere, and a policy that gives more has it go on.
        await home.replace_policy(evolve(policy, budget=DEFAULT_BUDGET))
        await agent.top_up(hops=1)
        await agent.wait(PATIENCE)


@run
async def test_hops_and_messages_are_topped_up_too() -> None:
    knock = program(
        """(call $tell (i32.const 103) (call $go (s 0)))
           (call $tell (i32.const 109) (call $send (s 1) (s 1)))
           (drop (call $recv (i32.const 300) (i32.const 64) (i32.const -1)))
           (call $tell (i32.const 109) (call $send (s 1) (s 1)))
           (call $tell (i32.const 103) (call $go (s 0)))""",
        "beta|home",
    )
    poor = Terms(evolve(DEFAULT_PERMIT, budget=evolve(DEFAULT_PERMIT.budget, messages=0)), hops=1)
    async with harbour("home", "beta") as (home, beta):
        agent = await begin(home, knock, "beta", "home", "beta", terms=poor)
        while agent.key not in beta.core.here.berths:
            await asyncio.sleep(0.005)
        await settled(beta, agent, Standing.WAITING)
        watch = Watch(beta)
        await agent.top_up(Budget(messages=3), hops=3)
        await watch.until("amended")
        agent.send(b"go on")
        report = await agent.wait(PATIENCE)
        edquot = 19
        first, then = numbers(report, "m")
        assert first == -edquot
        assert then != -edquot


@run
async def test_a_warning_comes_before_a_budget_is_used_up() -> None:
    async with harbour("home") as (home,):
        watch, low = Watch(home), list[tuple[str, int, int]]()
        home.core.budgets.low.append(lambda berth, name, used, most: low.append((name, used, most)))
        hour = evolve(DEFAULT_PERMIT.budget, cpu=400_000)
        agent = await begin(home, BUSY, terms=Terms(evolve(DEFAULT_PERMIT, budget=hour)))
        told = await watch.until("budget-low")
        assert told.text.startswith("cpu: ")
        assert told.text.endswith("of 0.4 s are used")
        await watch.until("stopped")
        kinds = [event.kind for event in watch.seen]
        assert kinds.index("budget-low") < kinds.index("stopped")
        assert kinds.count("budget-low") == 1
        assert [(name, most) for name, _, most in low] == [("cpu", 400_000)]
        assert any(line.startswith("budget low: cpu") for line in agent.logs())


@run
async def test_the_owner_s_renewal_lets_an_agent_live_longer(tmp_path: Path) -> None:
    async with station("home", tmp_path / "home") as home, station("beta") as beta:
        await home.introductions.call_on(beta.url)
        agent = await begin(home, GOER, "beta", terms=Terms(lifetime_ms=HOUR_MS))
        while agent.key not in beta.core.here.berths:
            await asyncio.sleep(0.005)
        await settled(beta, agent, Standing.WAITING)
        watch = Watch(beta)
        await agent.renew(48)
        await watch.until("amended")
        there, now = berth(beta, agent), home.core.here.clocks.now()
        assert there.credentials.terms.expires > now + 47 * HOUR_MS
        # The home remembers the agent, and its trail, for as long.
        await home.core.here.journal.write([], True)
        journey = home.core.here.journeys.get(agent.key)
        assert journey is not None
        assert journey.expires == there.credentials.terms.expires
        assert agent.trail()


@run
async def test_a_clone_has_what_its_original_was_given() -> None:
    forker = program(
        f"""(drop (call $recv (i32.const 300) (i32.const 64) {FOREVER}))
            (drop (call $clone (i32.const 400) (i32.const 64)))
            (drop (call $go (s 0))) (call $tell_here)""",
        "beta",
    )
    async with harbour("home", "beta") as (home, _beta):
        agent = await begin(home, forker, "beta", terms=Terms(hops=0))
        await settled(home, agent, Standing.WAITING)
        await agent.top_up(hops=1)
        watch = Watch(home)
        agent.send(b"x")
        cloned = await watch.until("cloned")
        for each in (agent, home.agent(cloned.text, OWNER)):
            assert places(await each.wait(PATIENCE)) == ["beta"]


@run
async def test_an_agent_that_waits_for_more_too_long_ends() -> None:
    policy = Policy(owners=[OWNER.public], spent_after=3600)
    async with harbour("home", policy=policy) as (home,):
        agent = await starved(home)
        upkeep, there = home.core.upkeep, berth(home, agent)
        upkeep.tidy()
        upkeep.tidy()
        assert there.standing is Standing.STOPPED
        there.spent -= 2 * HOUR_MS
        upkeep.tidy()  # twice in a row: a clock that is wrong for a moment ends nobody
        assert there.standing is Standing.STOPPED
        watch = Watch(home)
        upkeep.tidy()
        await watch.until("disposed")
