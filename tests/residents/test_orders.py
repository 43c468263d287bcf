"""Orders: sleep, wake, retract, dispose and clone; obeyed once, and only those of the home."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from docking.errors import AgentEnded, StationError
from docking.letters.orders import OrderKind, sign_order
from docking.residents.berth import Standing
from tests.patience import PATIENCE
from tests.residents.guests import BUSY, FOREVER, GOER, LISTENER, berth
from tests.station.harbour import OWNER, Watch, begin, harbour, numbers, places, program, run, settled, station


@run
async def test_sleep_and_wake_by_order() -> None:
    async with harbour("home") as (home,):
        agent = await begin(home, BUSY)
        await settled(home, agent, Standing.READY) if not berth(home, agent).running else None
        assert agent.sleep() == "obeyed"
        there = await settled(home, agent, Standing.ASLEEP)
        assert there.life is None
        used = there.cpu_us
        agent.wake()
        while berth(home, agent).cpu_us == used and not berth(home, agent).running:
            await asyncio.sleep(0.005)
        agent.dispose()
        await Watch(home).until("home")


@run
async def test_an_agent_is_retracted_in_the_middle_of_its_loop() -> None:
    async with harbour("home", "beta1") as (home, _):
        watch = Watch(home)
        agent = await begin(
            home,
            program(
                """(drop (call $go (s 0)))
                   (loop $until_home
                     (global.set $count (i32.add (global.get $count) (i32.const 1)))
                     (br_if $until_home (i32.eq (call $here (i32.const 200) (i32.const 64)) (i32.const 5))))
                   (call $tell_here)
                   (call $tell (i32.const 99) (i32.gt_s (global.get $count) (i32.const 0)))""",
                "beta1",
            ),
            "beta1",
        )
        await watch.until("told")
        assert agent.where() == "beta1"
        assert agent.retract() == "sent"
        report = await agent.wait()
    assert (places(report), numbers(report, "c")) == (["home"], [1])
    assert [stay.station for stay in report.trail] == ["home", "beta1", "home"]


@run
async def test_an_order_that_is_not_of_the_home_is_refused() -> None:
    from docking.letters.orders import sign_order

    away = program(
        f"(drop (call $go (s 0))) (drop (call $recv (i32.const 300) (i32.const 64) {FOREVER}))",
        "beta1",
    )
    async with harbour("home", "beta1", "gamma") as (home, beta, gamma):
        agent = await begin(home, away, "beta1")
        await settled(beta, agent, Standing.WAITING)
        forged = sign_order(agent.key, OrderKind.DISPOSE, home.core.here.clocks.now(), gamma.core.here.key)
        old = sign_order(agent.key, OrderKind.DISPOSE, 0, home.core.here.key)
        for order, code in ((forged, "not-home"), (old, "order-old")):
            answer = await gamma.introductions.letter(beta.key, ["order", bytes(32), [order, 0]])
            assert answer[:2] == ["refused", code]
        assert berth(beta, agent).standing is Standing.WAITING


@run
async def test_an_agent_that_was_stopped_does_not_go_on_by_way_of_sleep_or_a_clone() -> None:
    async with harbour("home", "beta") as (home, beta):
        here = await begin(home, program("unreachable"))
        with pytest.raises(AgentEnded):
            await here.wait(PATIENCE)
        for order in (here.sleep, here.wake, here.clone):
            with pytest.raises(StationError, match="cannot go on: trapped"):
                order()
        there = await begin(home, program("(drop (call $go (s 0))) unreachable", "beta"), "beta")
        with pytest.raises(AgentEnded):
            await there.wait(PATIENCE)
        watch = Watch(home)
        assert there.sleep() == "sent"
        told = await watch.until("refused")
        assert told.agent == there.id
        assert told.place == "beta"
        assert "sleep: the agent cannot go on: trapped" in told.text
        assert beta.core.here.berths[there.key].standing is Standing.STOPPED


@run
async def test_an_order_whose_answer_was_lost_is_obeyed_once() -> None:
    """Letters are sent until they are taken: an agent that is to be cloned would be four."""
    async with harbour("home", "beta") as (home, beta):
        agent = await begin(home, GOER, "beta")
        while agent.key not in beta.core.here.berths:
            await asyncio.sleep(0.01)
        await settled(beta, agent, Standing.WAITING)
        order = sign_order(agent.key, OrderKind.CLONE, home.core.here.clocks.now(), home.core.here.key)
        for number in range(3):
            letter = ["order", bytes([number]) * 32, [order, 0]]
            assert await beta.core.inbound.receive(home.key, letter) == ["taken"]
        while len(beta.core.here.berths) < 2:
            await asyncio.sleep(0.01)
        await beta.core.here.journal.write([], True)
        assert len(beta.core.here.berths) == 2


@run
async def test_a_sleep_by_order_ends_by_itself_also_after_a_restart(tmp_path: Path) -> None:
    async with station("home", tmp_path / "home") as home:
        agent = await begin(home, LISTENER)
        await settled(home, agent, Standing.WAITING)
        agent.sleep(0.1)
        await settled(home, agent, Standing.ASLEEP)
        await settled(home, agent, Standing.WAITING)  # it listens again
        agent.sleep(3600)
        until = (await settled(home, agent, Standing.ASLEEP)).until
        assert until > home.core.here.clocks.now()
    async with station("home", tmp_path / "home") as home:
        again = home.agent(agent.id, OWNER)
        berth = await settled(home, again, Standing.ASLEEP)
        assert berth.until == until
        assert agent.key in home.core.here.timers
        again.wake()
        await settled(home, again, Standing.WAITING)
