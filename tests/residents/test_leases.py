"""Leases: a home renews them; where nobody does, an agent sleeps, is woken by a renewal, and ends in the end."""

from __future__ import annotations

import asyncio
from pathlib import Path

from docking.launching import Terms
from docking.letters.orders import OrderKind
from docking.residents.berth import Standing
from tests.residents.guests import GOER, LISTENER, berth
from tests.station.harbour import Watch, begin, harbour, run, settled, station

LEASE_MS = 3_600_000
LEASED = Terms(lease_ms=LEASE_MS)


@run
async def test_a_home_renews_the_lease_of_its_agents() -> None:
    async with harbour("home") as (home,):
        agent = await begin(home, LISTENER, terms=LEASED)
        there = await settled(home, agent, Standing.WAITING)
        first, clocks = there.credentials.terms.lease, home.core.here.clocks
        await home.core.leases.look()
        assert not there.credentials.amendments  # it is too early
        home.core.leases._renewed[agent.key] = clocks.now() + LEASE_MS // 2
        await home.core.leases.look()
        assert there.credentials.terms.lease >= first
        assert len(there.credentials.amendments.items) == 1
        assert there.credentials.terms.expires == there.credentials.passport.body.expires


@run
async def test_only_agents_with_a_lease_are_looked_at_also_after_a_restart(tmp_path: Path) -> None:
    async with station("home", tmp_path) as home:
        agent = await begin(home, LISTENER, terms=LEASED)
        other = await begin(home, LISTENER)
        for each in (agent, other):
            await settled(home, each, Standing.WAITING)
        assert list(home.core.here.journeys.leased) == [agent.key]
    async with station("home", tmp_path) as home:
        leases, journeys = home.core.leases, home.core.here.journeys
        assert not journeys.leased
        leases._renewed[agent.key] = home.core.here.clocks.now() + LEASE_MS // 2
        await leases.look()
        assert list(journeys.leased) == [agent.key]
        assert len(home.core.here.berths[agent.key].credentials.amendments.items) == 1
        assert not home.core.here.berths[other.key].credentials.amendments
        await settled(home, agent, Standing.WAITING)
        home.core.commands.order(agent.key, OrderKind.DISPOSE)
        while journeys.leased:
            await leases.look()
            await asyncio.sleep(0.005)
        assert not leases._renewed


@run
async def test_an_agent_that_nobody_renews_sleeps_and_ends() -> None:
    async with harbour("home") as (home,):
        agent = await begin(home, LISTENER, terms=LEASED)
        there = await settled(home, agent, Standing.WAITING)
        lease, leases = there.credentials.terms.lease, home.core.leases
        watch = Watch(home)
        leases._check(there, lease - LEASE_MS // 4)
        assert "lease ends in" in (await watch.until("alarm")).text
        leases._check(there, lease + 1)
        await settled(home, agent, Standing.ASLEEP)
        leases._check(there, lease + 7 * 24 * LEASE_MS + 1001)
        await watch.until("disposed")
        assert agent.key not in home.core.here.berths or berth(home, agent).standing is Standing.ENDED


@run
async def test_a_renewal_by_the_owner_wakes_an_agent_whose_lease_was_over() -> None:
    async with harbour("home") as (home,):
        agent = await begin(home, LISTENER, terms=Terms(lease_ms=1))
        there = await settled(home, agent, Standing.WAITING)
        home.core.leases._check(there, home.core.here.clocks.now() + 10)
        await settled(home, agent, Standing.ASLEEP)
        await agent.renew(1)
        again = await settled(home, agent, Standing.WAITING)
        assert again.credentials.terms.lease > home.core.here.clocks.now()


@run
async def test_an_agent_whose_lease_is_over_is_refused_elsewhere() -> None:
    async with harbour("home", "beta") as (home, beta):
        watch = Watch(home)
        await begin(home, GOER, "beta", terms=Terms(lease_ms=1))
        assert "lease" in (await watch.until("refused")).text
        assert not beta.core.here.berths
