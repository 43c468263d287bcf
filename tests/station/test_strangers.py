"""What somebody met who knew only the documents: small things that did not hold, each now with its test."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import time
from pathlib import Path

import pytest
from attrs import evolve

from agents.credentials.keys import SecretKey
from docking import Policy
from docking.berth import Standing
from docking.config import DEFAULT_BUDGET, OwnerRule
from docking.errors import AgentEnded, KeyChanged, StationError, UnknownAgent
from docking.identity import PINS_FILE, load_pins, save_pins
from docking.orders import sign_order
from docking.station import Clocks
from tests.station.harbour import (
    OWNER,
    Watch,
    begin,
    harbour,
    journey,
    meet,
    numbers,
    packed,
    places,
    program,
    run,
    settled,
    station,
)
from tests.station.test_doubt import held, hid_of

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
    """Home keeps the last points of a trail and all its links; its checkpoint is for others."""
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


CALL = "(call $tell (i32.const 99) (call $call (s 0) (i32.const 3000) (i32.const 1) (i32.const 4000) (i32.const 9)))"
CALLER = program(CALL, "svc")
CALLER_AWAY = program(f"(drop (call $go (s 1))) {CALL}", "svc|beta")


@pytest.mark.filterwarnings("ignore:coroutine")
@run
async def test_services_that_misbehave_fail_and_nothing_else_does(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)

    async def cancelled(request: bytes) -> bytes:
        raise asyncio.CancelledError

    async def leaves(request: bytes) -> bytes:
        raise SystemExit(3)

    async def clings(request: bytes) -> bytes:
        while not let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await let_go.wait()
        return b""

    let_go = asyncio.Event()
    async with harbour("alpha") as (alpha,):
        for service, errno in ((cancelled, -29), (leaves, -29), (clings, -73)):
            alpha.offer("svc", service, timeout=0.2)
            assert numbers(await asyncio.wait_for(journey(alpha, CALLER), 10), "c") == [errno]
            alpha.withdraw("svc")
        assert numbers(await journey(alpha, CALLER), "c") == [-44]  # ENOENT
        let_go.set()


@run
async def test_a_service_is_withdrawn_before_the_start_and_in_the_middle_of_a_call() -> None:
    answered = asyncio.Event()

    async def slow(request: bytes) -> bytes:
        await answered.wait()
        return b"ok"

    alpha = station("alpha")
    alpha.offer("other", slow)
    alpha.withdraw("other")
    alpha.offer("svc", slow)
    async with alpha:
        assert alpha.office.pages.names == ("svc",)
        agent = await begin(alpha, CALLER)
        while not alpha.office.pages.calls:
            await asyncio.sleep(0)
        alpha.withdraw("svc")
        answered.set()
        assert numbers(await agent.wait(10), "c") == [2]


@run
async def test_an_agent_whose_call_hangs_can_be_ended() -> None:
    asked = asyncio.Event()

    async def hangs(request: bytes) -> bytes:
        asked.set()
        await asyncio.sleep(3600)
        return b""

    async with harbour("home", "beta") as (home, beta):
        beta.offer("svc", hangs, timeout=3600)
        agent = await begin(home, CALLER_AWAY, "beta")
        await asked.wait()
        watch = Watch(home)
        assert agent.dispose() == "sent"
        await watch.until("home")
        assert beta.office.berths == {}
        with pytest.raises(AgentEnded, match="disposed"):
            await agent.wait(5)


@run
async def test_an_agent_that_was_stopped_does_not_go_on_by_way_of_sleep_or_a_clone() -> None:
    async with harbour("home", "beta") as (home, beta):
        here = await begin(home, program("unreachable"))
        with pytest.raises(AgentEnded):
            await here.wait(10)
        for order in (here.sleep, here.wake, here.clone):
            with pytest.raises(StationError, match="cannot go on: trapped"):
                order()
        there = await begin(home, program("(drop (call $go (s 0))) unreachable", "beta"), "beta")
        with pytest.raises(AgentEnded):
            await there.wait(10)
        watch = Watch(home)
        assert there.sleep() == "sent"
        told = await watch.until("refused")
        assert told.agent == there.id
        assert told.place == "beta"
        assert "sleep: the agent cannot go on: trapped" in told.text
        assert beta.office.berths[there.key].standing is Standing.STOPPED


@run
async def test_an_agent_with_more_memory_than_it_may_have_is_refused_and_not_taken_to_be_stopped() -> None:
    small = Policy(owners=[OwnerRule(OWNER.public, budget=evolve(DEFAULT_BUDGET, memory=32 << 10))])
    async with harbour("home") as (home,), station("beta", policy=small) as beta:
        await meet(home, beta)
        report = await journey(home, program("(call $tell (i32.const 103) (call $go (s 0)))", "beta"), "beta")
        assert numbers(report, "g") == [-19]  # EDQUOT
        assert beta.office.berths == {}


@run
async def test_an_agent_that_the_policy_admits_no_more_is_kept_shown_and_goes_on_when_it_does(tmp_path: Path) -> None:
    async with station("home", tmp_path / "home") as home:
        agent = await begin(home, SLEEPER)
        await settled(home, agent, Standing.WAITING)
    async with station("home", tmp_path / "home", policy=Policy()) as home:
        [row] = home.office.steering.rows()
        assert (row["agent"], row["standing"], row["hop"], row["label"]) == (agent.id, "kept", 0, "agent")
        assert "not trusted here" in row["text"]
        assert "agents_kept 1" in home.metrics()
    async with station("home", tmp_path / "home") as home:
        again = home.agent(agent.id, OWNER)
        assert again.wake() == "obeyed"
        assert [result.text for result in (await again.wait(10)).results] == ["home"]


@run
async def test_an_order_whose_answer_was_lost_is_obeyed_once() -> None:
    """Letters are sent until they are taken: an agent that is to be cloned would be four."""
    async with harbour("home", "beta") as (home, beta):
        agent = await begin(home, GOER, "beta")
        while agent.key not in beta.office.berths:
            await asyncio.sleep(0.01)
        await settled(beta, agent, Standing.WAITING)
        order = sign_order(agent.key, "clone", home.office.clocks.now(), home.office.key)
        for number in range(3):
            letter = ["order", bytes([number]) * 32, [order, 0]]
            assert await beta.office.letters.receive(home.key, letter) == ["taken"]
        while len(beta.office.berths) < 2:
            await asyncio.sleep(0.01)
        await beta.office.journal.write([], True)
        assert len(beta.office.berths) == 2


@run
async def test_the_new_key_of_a_station_that_a_person_accepts_holds_while_the_station_runs(tmp_path: Path) -> None:
    home = station("home", tmp_path / "home")
    async with home, station("beta") as old:
        await meet(home, old)
    async with home, station("beta", key=SecretKey(bytes(range(32)))) as beta:
        await beta.contacts.call_on(home.url)  # greets, and is not believed
        with pytest.raises(KeyChanged):
            await home.contacts.call_on(beta.url)
        save_pins(pins := tmp_path / "home" / PINS_FILE, load_pins(pins).accept("beta", beta.key, 1))
        report = await journey(home, GOER.replace("(drop (call $sleep (i32.const 3600000)))", ""), "beta")
        assert places(report) == ["home", "beta"]
        assert [(peer.name, peer.key) for peer in home.office.peers.all()] == [("beta", beta.key)]
        assert home.office.peers.refused == {}


@run
async def test_a_clock_that_is_set_back_does_not_keep_sleepers_asleep() -> None:
    back = 0

    def wall() -> int:
        return time.time_ns() - back

    async with harbour("alpha", clocks=Clocks(wall, time.monotonic_ns, secrets.token_bytes)) as (alpha,):
        agent = await begin(alpha, program("(drop (call $sleep (i32.const 300))) (call $tell_here)"))
        await settled(alpha, agent, Standing.WAITING)
        back = 3600 * 10**9
        assert places(await asyncio.wait_for(agent.wait(), 20)) == ["alpha"]


def test_a_thread_that_would_wait_for_itself_says_so_and_one_that_has_ended_too() -> None:
    report = "(drop (call $report (s 0) (i32.const 2000) (call $call (s 0) (s 0) (i32.const 2000) (i32.const 900))))"
    asking = program(report, "begin")
    with station("alpha").in_thread() as running:

        @running.service("begin")
        async def begin_another(request: bytes) -> bytes:
            try:
                running.launch(packed(SLEEPER), owner=OWNER)
            except StationError as error:
                said = str(error)
            await running.station.launch(packed(SLEEPER), owner=OWNER)
            return said.encode()

        agent = running.launch(packed(asking), owner=OWNER)
        assert agent.wait(20).results[0].text.startswith("this is the station's own thread")
        assert running.call(lambda: len(running.station.office.berths)) == 1
    with pytest.raises(StationError, match="alpha has ended"):
        running.launch(packed(SLEEPER), owner=OWNER)
    with pytest.raises(StationError, match="alpha has ended"):
        agent.where()


@run
async def test_an_order_for_an_agent_in_doubt_says_that_a_person_decides_first() -> None:
    async with harbour("home", "beta", "gamma") as (home, beta, _):
        agent = await held(home, beta, Watch(beta))
        there = beta.agent(agent.id[:10])
        assert there.id == agent.id
        with pytest.raises(StationError, match="to be decided first: portcall agents says how"):
            there.dispose()
        beta.office.courier.discard(hid_of(beta))
        await beta.office.journal.write([], True)
        with pytest.raises(UnknownAgent):
            beta.agent(agent.id[:10])
