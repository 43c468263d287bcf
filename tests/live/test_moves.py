"""Agents that are moved while they run: no write is lost, and what fails leaves them where they were."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from agents.engines import writes
from docking import Policy, Station
from docking.errors import StationError, UnknownAgent
from docking.events import Event
from docking.handle import Agent
from docking.handoff.refusal import Refusal
from docking.residents.berth import Standing
from docking.residents.departures import Departures
from tests.live.movers import TERMS, accountant, policy
from tests.patience import PATIENCE
from tests.residents.guests import RESTING
from tests.station.harbour import begin, harbour, key_of, meet, numbers, places, run, settled, station

SMALL = 2  # MiB
SLOW = accountant(SMALL, hot=1, pause=1)


async def running(at: Station, agent: Agent) -> None:
    """It has filled its memory, and writes."""
    while at.core.here.berths[agent.key].memory_bytes < SMALL << 20:
        await asyncio.sleep(0.01)


async def ended(agent: Agent, at: str) -> None:
    """It ended there, and knows of no write that was lost."""
    report = await agent.wait(PATIENCE)
    assert report.exit_code == 0
    assert numbers(report, "d") == [0, 0]
    assert places(report) == [at]


@pytest.mark.parametrize("durable", [False, True])
@run
async def test_no_write_is_lost(tmp_path: Path, durable: bool) -> None:
    home = tmp_path if durable else None
    async with harbour("alpha", "beta", "gamma", "omega", home=home, policy=policy()) as (alpha, beta, gamma, omega):
        agent = await begin(alpha, SLOW, "beta", "gamma", "omega", terms=TERMS)
        await running(alpha, agent)
        for here, there in ((alpha, beta), (beta, gamma), (gamma, omega)):
            report = await here.agent(agent.id).move(there.name)
            assert (report.to, report.agent) == (there.name, agent.id)
            assert report.rounds >= 1
            assert report.sent_bytes >= SMALL << 20
            assert report.watch == (writes.USERFAULTFD if writes.kernel_tells() else writes.COMPARISON)
        await ended(agent, "omega")
        assert [stay.station for stay in agent.trail()] == ["alpha", "beta", "gamma", "omega"]
        assert not any(each.core.sessions.open for each in (alpha, beta, gamma, omega))


@run
async def test_no_write_is_lost_where_the_kernel_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "kernel_tells", lambda: False)
    async with harbour("alpha", "omega", policy=policy()) as (alpha, _):
        agent = await begin(alpha, SLOW, "omega", terms=TERMS)
        await running(alpha, agent)
        rows: list[dict[str, object]] = []

        def note(event: Event) -> bool:
            if event.kind == "moving":
                rows.extend(row for row in alpha.core.queries.rows() if row["agent"] == agent.id)
            return event.kind == "moved"

        events = alpha.subscribe(note)
        report = await agent.move("omega")
        said = await anext(events)
        assert (said.place, said.text) == ("omega", report.sentence())
        assert rows[0]["moving"] == {"to": "omega", "rounds": 0, "sent_bytes": 0, "resent_blocks": 0}
        assert '\nportcall_moves_total{ended="moved"} 1\n' in alpha.metrics()
        assert (report.watch, report.rounds >= 1) == (writes.COMPARISON, True)
        await ended(agent, "omega")


@run
async def test_an_agent_is_stopped_first_where_that_is_asked_for() -> None:
    async with harbour("alpha", "omega", policy=policy()) as (alpha, _):
        agent = await begin(alpha, SLOW, "omega", terms=TERMS)
        await running(alpha, agent)
        report = await agent.move("next", precopy=False)
        assert (report.to, report.rounds, report.watch) == ("omega", 0, "")
        await ended(agent, "omega")


@run
async def test_an_agent_that_writes_too_fast_stays_or_is_forced() -> None:
    async with harbour("alpha", "omega", policy=policy()) as (alpha, _):
        agent = await begin(alpha, accountant(SMALL, hot=16 * SMALL), "omega", terms=TERMS)
        await asyncio.sleep(0.1)
        with pytest.raises(StationError, match="not-converging: it writes faster than it can be sent"):
            await agent.move("omega", downtime_ms=0)
        assert agent.where() == "alpha"
        report = await agent.move("omega", downtime_ms=0, timeout_s=0, on_timeout="force")
        assert report.resent_blocks > 0
        await ended(agent, "omega")


@run
async def test_it_is_moved_only_where_its_itinerary_leads() -> None:
    async with harbour("alpha", "beta", "omega", policy=policy()) as (alpha, *_):
        agent = await begin(alpha, SLOW, "omega", terms=TERMS)
        for to, said in (("beta", "itinerary"), ("nowhere", "nowhere"), ("alpha", "here already")):
            with pytest.raises(StationError, match=said):
                await agent.move(to)
        await running(alpha, agent)
        await agent.move("omega")
        await ended(agent, "omega")
        with pytest.raises(UnknownAgent, match="not here"):
            await agent.move("omega")


@run
async def test_a_station_that_does_not_admit_it_says_so_before_anything_is_sent() -> None:
    async with harbour("alpha", policy=policy()) as (alpha,), harbour("omega", policy=Policy(owners=[])) as (omega,):
        await meet(alpha, omega)
        agent = await begin(alpha, SLOW, "omega", terms=TERMS)
        await running(alpha, agent)
        with pytest.raises(StationError, match="owner-unknown"):
            await agent.move("omega")
        assert omega.core.sessions.open == {}
        assert agent.where() == "alpha"
        await omega.replace_policy(policy())
        await agent.move("omega")
        await ended(agent, "omega")


@run
async def test_an_agent_that_sleeps_is_moved_and_sleeps_on() -> None:
    async with harbour("alpha", "beta", policy=policy()) as (alpha, beta):
        agent = await begin(alpha, RESTING, "beta")
        berth = await settled(alpha, agent, Standing.WAITING)
        until = berth.until
        report = await agent.move("beta")
        assert report.rounds == 0
        there = await settled(beta, agent, Standing.WAITING)
        assert abs(there.until - until) < 5_000  # not an hour from now: an hour from when it fell asleep


@run
async def test_a_sleeper_that_leaves_is_not_woken_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    async with harbour("alpha", "beta", policy=policy()) as (alpha, beta):
        agent = await begin(alpha, RESTING, "beta")
        await settled(alpha, agent, Standing.WAITING)
        honest = Departures.depart

        async def depart(self: Departures, *parts: Any) -> Refusal | None:
            # Between two steps of a handoff: it must not run here any more.
            with pytest.raises(StationError, match="leaving"):
                agent.wake()
            return await honest(self, *parts)

        monkeypatch.setattr(Departures, "depart", depart)
        await agent.move("beta")
        await settled(beta, agent, Standing.WAITING)
        assert not beta.core.here.berths[agent.key].begun


@run
async def test_an_agent_that_stays_goes_on_sleeping_until_the_same_moment() -> None:
    async with harbour("alpha", "beta", policy=policy()) as (alpha, _):
        agent = await begin(alpha, RESTING, "beta")
        until = (await settled(alpha, agent, Standing.WAITING)).until
        with pytest.raises(StationError):
            await agent.move(key_of("nobody").public.text)
        assert (await settled(alpha, agent, Standing.WAITING)).until == until


@run
async def test_two_moves_at_once_are_one() -> None:
    async with harbour("alpha", "omega", policy=policy()) as (alpha, _):
        agent = await begin(alpha, SLOW, "omega", terms=TERMS)
        await running(alpha, agent)
        first = asyncio.ensure_future(agent.move("omega"))
        await asyncio.sleep(0)
        with pytest.raises(StationError, match="being moved already"):
            await agent.move("omega")
        await first
        await ended(agent, "omega")


@run
async def test_a_move_that_nobody_waits_for_is_given_up_and_the_agent_goes_on() -> None:
    async with harbour("alpha", "omega", policy=policy()) as (alpha, omega):
        agent = await begin(alpha, accountant(SMALL, hot=16 * SMALL), "omega", terms=TERMS)
        await asyncio.sleep(0.1)
        move = asyncio.ensure_future(agent.move("omega", downtime_ms=0, timeout_s=600))
        while not omega.core.sessions.open and not move.done():
            await asyncio.sleep(0.005)
        move.cancel()
        with pytest.raises(asyncio.CancelledError):
            await move
        while omega.core.sessions.open or alpha.core.here.berths[agent.key].moving:
            await asyncio.sleep(0.01)
        await agent.move("omega", on_timeout="force", timeout_s=0)
        await ended(agent, "omega")


@run
async def test_an_order_comes_before_a_move() -> None:
    async with harbour("alpha", "omega", policy=policy()) as (alpha, omega):
        agent = await begin(alpha, accountant(SMALL, hot=16 * SMALL), "omega", terms=TERMS)
        await asyncio.sleep(0.1)
        move = asyncio.ensure_future(agent.move("omega", downtime_ms=0, timeout_s=600))
        while not omega.core.sessions.open and not move.done():
            await asyncio.sleep(0.005)
        agent.dispose()
        with pytest.raises(StationError, match="has ended, has left by itself, or obeys another order"):
            await move
        while omega.core.sessions.open:
            await asyncio.sleep(0.01)


@run
@pytest.mark.parametrize("mail", [False, True])
async def test_after_a_crash_it_goes_on_from_the_blocks_that_arrived(tmp_path: Path, mail: bool) -> None:
    async with harbour("alpha", home=tmp_path, policy=policy()) as (alpha,):
        omega = station("omega", tmp_path / "omega", policy=policy())
        async with omega:
            await meet(alpha, omega)
            agent = await begin(alpha, accountant(SMALL, last="zeta", hot=1, pause=1), "omega", terms=TERMS)
            await running(alpha, agent)
            await agent.move("omega")
            if mail:  # it is stored again, with the state that came
                agent.send(b"hello")
                while not omega.core.here.berths[agent.key].inbox:
                    await asyncio.sleep(0.01)
            await omega.core.here.journal.write([], True)
            files = list((tmp_path / "omega").glob("*.blocks/*"))
            assert len(files) == 1
            shutil.copytree(tmp_path / "omega", tmp_path / "copy")  # as a crash would leave it
            for each in (tmp_path / "copy").glob("control.sock"):
                each.unlink()
        again = station("omega", tmp_path / "copy", policy=policy())
        async with again:
            state = again.core.here.state_of(again.core.here.berths[agent.key])
            assert state.startswith(b"portcall snapshot 1\n")
            while not again.core.here.berths[agent.key].begun:
                await asyncio.sleep(0.01)
        # Its new checkpoint is whole: the file is not needed, and gone at the next start.
        async with station("omega", tmp_path / "copy", policy=policy()) as last:
            assert agent.key in last.core.here.berths
            assert list((tmp_path / "copy").glob("*.blocks/*")) == []


@run
async def test_an_agent_that_comes_back_is_not_taken_for_one_that_serves() -> None:
    async with harbour("alpha", "beta", policy=policy()) as (alpha, beta):
        agent = await begin(alpha, accountant(SMALL, last="zeta", hot=1, pause=1), "beta", "alpha", terms=TERMS)
        await running(alpha, agent)
        await agent.move("beta")
        await beta.agent(agent.id).move("alpha")
        assert alpha.core.serving.asked(agent.key) is None
        assert all("requests" not in row for row in alpha.core.queries.rows())


@run
async def test_a_station_is_drained() -> None:
    async with harbour("alpha", "beta", "omega", policy=policy()) as (alpha, beta, _):
        mover = await begin(alpha, SLOW, "omega", terms=TERMS)
        await running(alpha, mover)
        stays = await begin(alpha, RESTING)
        moved, left = await alpha.drain(["omega"])
        assert [report.agent for report in moved] == [mover.id]
        assert stays.id in left
        with pytest.raises(StationError, match="being emptied"):
            await begin(alpha, RESTING)
        guest = await begin(beta, accountant(SMALL, last="a", hot=1, pause=1), "alpha", terms=TERMS)
        with pytest.raises(StationError, match="draining"):
            await guest.move("alpha")
        alpha.admit_again()
        await guest.move("alpha")
        await ended(guest, "alpha")
        await ended(mover, "omega")
