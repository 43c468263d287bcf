"""Agents that travel: what they carry, where they are let in, what they hear when they are not."""

from __future__ import annotations

import asyncio
from pathlib import Path

from attrs import evolve

from agents.credentials.itinerary import Alt, Itinerary, Loop, Seq, Stop
from agents.credentials.permit import Budget, Permit
from docking import Policy, Terms
from docking.launching import DEFAULT_PERMIT
from docking.residents.berth import Standing
from docking.trust.agent_credentials import with_checkpoint
from docking.trust.policy import DEFAULT_BUDGET, OwnerRule
from tests.patience import PATIENCE
from tests.residents.guests import GOER, RESTING
from tests.station.harbour import (
    OWNER,
    Watch,
    begin,
    harbour,
    journey,
    key_of,
    meet,
    numbers,
    packed,
    places,
    program,
    run,
    settled,
    station,
)

# Goes to three stations in a loop that counts, and tells where it is and how far the count is.
TOUR = program(
    """
    (loop $tour
      (drop (call $go (i32.add (i32.const 1000) (i32.mul (local.get $n) (i32.const 100))) (i32.const 5)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (call $tell_here)
      (call $tell (i32.const 110) (local.get $n))
      (br_if $tour (i32.lt_s (local.get $n) (i32.const 3))))""",
    "beta1|beta2|beta3",
    "(local $n i32)",
)


@run
async def test_a_loop_goes_on_at_each_station() -> None:
    async with harbour("home", "beta1", "beta2", "beta3") as (home, *_):
        report = await journey(home, TOUR, "beta1", "beta2", "beta3")
    assert report.exit_code == 0
    assert places(report) == ["beta1", "beta2", "beta3"]
    assert numbers(report, "n") == [1, 2, 3]
    assert [(stay.station, stay.to) for stay in report.trail] == [
        ("home", "beta1"),
        ("beta1", "beta2"),
        ("beta2", "beta3"),
        ("beta3", ""),
    ]
    assert [result.station for result in report.results] == ["beta1"] * 2 + ["beta2"] * 2 + ["beta3"] * 2


def errno(name: str) -> str:
    """Goes to a station, tells what `go` gave and where it is then."""
    return program("(call $tell (i32.const 101) (call $go (s 0))) (call $tell_here)", name)


@run
async def test_an_unknown_station_is_an_error_where_the_agent_is() -> None:
    async with harbour("home", "beta1") as (home, _):
        report = await journey(home, errno("nowhere"), "beta1")
    assert (numbers(report, "e"), places(report)) == ([-23], ["home"])


@run
async def test_a_station_that_is_not_in_the_itinerary_is_refused_here() -> None:
    async with harbour("home", "beta1", "gamma") as (home, _, gamma):
        report = await journey(home, errno("gamma"), "beta1")
        assert gamma.core.here.counts["arrived"] == 0
    assert (numbers(report, "e"), places(report)) == ([-63], ["home"])


@run
async def test_a_policy_that_does_not_know_the_owner_refuses() -> None:
    async with harbour("home", "beta1") as (home, beta):
        await beta.replace_policy(Policy())
        watch = Watch(home)
        report = await journey(home, errno("beta1"), "beta1")
        refused = await watch.until("refused")
    assert (numbers(report, "e"), places(report)) == ([-2], ["home"])
    assert "owner-unknown" in refused.text
    assert [stay.station for stay in report.trail] == ["home"]


@run
async def test_a_station_that_is_gone_is_an_error() -> None:
    async with harbour("home", "beta1") as (home, beta):
        await beta.close()
        report = await journey(home, errno("beta1"), "beta1")
    assert (numbers(report, "e"), places(report)) == ([-23], ["home"])


@run
async def test_a_busy_station_asks_to_come_later() -> None:
    async with harbour("home", "beta1") as (home, beta):
        await beta.replace_policy(evolve(beta.policy, residents=0))
        report = await journey(home, errno("beta1"), "beta1")
    assert numbers(report, "e") == [-6]


@run
async def test_a_state_beyond_the_policy_does_not_travel() -> None:
    async with harbour("home", "beta1") as (home, beta):
        await beta.replace_policy(evolve(beta.policy, state=100))
        received = beta.reception.received_bytes
        report = await journey(home, errno("beta1"), "beta1")
        assert beta.reception.received_bytes - received < 20_000
    assert numbers(report, "e") == [-51]


@run
async def test_go_to_where_it_is_already() -> None:
    async with harbour("home") as (home,):
        report = await journey(home, errno("home"))
    assert (numbers(report, "e"), places(report)) == ([0], ["home"])
    assert len(report.trail) == 1


@run
async def test_a_station_can_be_named_by_key_id_or_address() -> None:
    async with harbour("home", "beta1") as (home, beta):
        report = await journey(home, errno(beta.key.id), "beta1")
        assert places(report) == ["beta1"]
        report = await journey(home, errno(beta.url.removeprefix("http://")), "beta1")
        assert places(report) == ["beta1"]


@run
async def test_next_and_home_follow_the_itinerary() -> None:
    there_and_back = program(
        "(drop (call $go (s 0))) (call $tell_here) (drop (call $go (s 1))) (call $tell_here)"
        "(call $tell (i32.const 101) (call $go (s 0)))",
        "next|home",
    )
    async with harbour("home", "beta1") as (home, _):
        report = await journey(home, there_and_back, "beta1")
    assert places(report) == ["beta1", "home"]
    assert numbers(report, "e") == [-23]
    assert [stay.station for stay in report.trail] == ["home", "beta1", "home"]


@run
async def test_next_takes_the_alternative_when_the_first_is_down() -> None:
    go = program("(call $tell (i32.const 101) (call $go (s 0))) (call $tell_here)", "next")
    async with harbour("home", "beta1", "gamma") as (home, beta, gamma):
        choice = Itinerary(Alt([Stop(beta.key), Stop(gamma.key)]))
        await beta.close()
        agent = await home.launch(packed(go), owner=OWNER, itinerary=choice)
        report = await agent.wait()
    assert (numbers(report, "e"), places(report)) == ([0], ["gamma"])


@run
async def test_next_stop_is_told() -> None:
    ask = program(
        """(drop (call $report (i32.const 1100) (i32.const 1) (i32.const 200)
             (call $next_stop (i32.const 200) (i32.const 64))))""",
        "x|n",
    )
    async with harbour("home", "beta1") as (home, _):
        report = await journey(home, ask, "beta1")
    assert [(result.key, result.text) for result in report.results] == [("n", "beta1")]


@run
async def test_weak_migration_calls_the_entry_and_keeps_the_globals() -> None:
    weak = program(
        """(global.set $count (i32.const 41))
           (call $tell (i32.const 101) (call $go_at (s 0) (s 1)))""",
        "beta1|landed",
    )
    weak = weak.rstrip().removesuffix(")") + (
        '(func (export "landed") (call $tell_here)'
        "(call $tell (i32.const 99) (i32.add (global.get $count) (i32.const 1)))))"
    )
    async with harbour("home", "beta1") as (home, _):
        report = await journey(home, weak, "beta1")
    assert (places(report), numbers(report, "c"), numbers(report, "e")) == (["beta1"], [42], [])


@run
async def test_the_memory_travels() -> None:
    fill = program(
        """(drop (memory.grow (i32.const 40)))
           (loop $fill
             (i32.store (i32.add (i32.const 65536) (local.get $n)) (i32.mul (local.get $n) (i32.const 7)))
             (local.set $n (i32.add (local.get $n) (i32.const 4)))
             (br_if $fill (i32.lt_u (local.get $n) (i32.const 2400000))))
           (drop (call $go (s 0)))
           (local.set $n (i32.const 0))
           (loop $check
             (br_if $check (i32.and
               (i32.eq (i32.load (i32.add (i32.const 65536) (local.get $n))) (i32.mul (local.get $n) (i32.const 7)))
               (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 4))) (i32.const 2400000)))))
           (call $tell (i32.const 110) (local.get $n))
           (call $tell (i32.const 115) (memory.size))""",
        "beta1",
        "(local $n i32)",
    )
    async with harbour("home", "beta1") as (home, _):
        report = await journey(home, fill, "beta1")
    assert numbers(report, "s") == [41]
    assert report.trail[0].carried > 1 << 20


BOUNCE = program(
    """
    (loop $bounce
      (drop (call $go (s 0)))
      (drop (call $go (s 1)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $bounce (i32.lt_s (local.get $n) (i32.const 60))))
    (call $tell (i32.const 110) (local.get $n))""",
    "beta1|home",
    "(local $n i32)",
)


@run
async def test_a_hop_costs_the_same_however_long_the_trail_is() -> None:
    async with harbour("home", "beta1") as (home, beta):
        route = Itinerary(Loop(100, Seq([Stop(beta.key), Stop(home.key)])))
        agent = await home.launch(packed(BOUNCE), owner=OWNER, itinerary=route)
        sent = []
        async for event in agent.events():
            if event.kind == "left":
                sent.append(home.client.sent_bytes)
        report = await agent.wait()
    assert numbers(report, "n") == [60]
    assert len(report.trail) == 121
    early, late = sent[25] - sent[10], sent[55] - sent[40]
    assert late < 1.05 * early


@run
async def test_a_station_that_is_new_to_the_agent_gets_a_checkpoint_by_home() -> None:
    tour = program(
        """
        (loop $bounce
          (drop (call $go (s 0)))
          (drop (call $go (s 1)))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $bounce (i32.lt_s (local.get $n) (i32.const 20))))
        (drop (call $go (s 2)))
        (drop (call $go (s 3)))
        (call $tell_here)""",
        "beta1|home|gamma|delta",
        "(local $n i32)",
    )
    async with harbour("home", "beta1", "gamma", "delta") as (home, beta, gamma, delta):
        back_and_forth = Loop(20, Seq([Stop(beta.key), Stop(home.key)]))
        route = Itinerary(Seq([back_and_forth, Stop(gamma.key), Stop(delta.key)]))
        agent = await home.launch(packed(tour), owner=OWNER, itinerary=route)
        report = await agent.wait()
        # 40 hops make 120 links of 400 bytes and more; gamma and delta saw but a few of them.
        assert gamma.reception.received_bytes < 12_000
        assert delta.reception.received_bytes < 12_000
    assert places(report) == ["delta"]
    assert len(report.trail) == 43


@run
async def test_a_peer_that_has_forgotten_the_trail_gets_all_of_it() -> None:
    async with harbour("home", "beta1") as (home, beta):
        route = Itinerary(Loop(100, Seq([Stop(beta.key), Stop(home.key)])))
        agent = await home.launch(packed(BOUNCE), owner=OWNER, itinerary=route)
        watch = Watch(home)
        for _ in range(10):
            await watch.until("left")
        beta.core.trails.recent.clear()
        beta.core.here.store.tables.writer.execute("DELETE FROM points")
        report = await agent.wait()
    assert len(report.trail) == 121


UNTIL_REFUSED = program(
    """
    (loop $bounce
      (if (i32.eqz (local.tee $e (call $go (s 0)))) (then
        (br_if $bounce (i32.eqz (local.tee $e (call $go (s 1))))))))
    (call $tell (i32.const 101) (local.get $e))""",
    "beta1|home",
    "(local $e i32)",
)


@run
async def test_the_permit_bounds_the_journey() -> None:
    few = evolve(DEFAULT_PERMIT, budget=evolve(DEFAULT_PERMIT.budget, carried=3000))
    async with harbour("home", "beta1") as (home, beta):
        route = Itinerary(Loop(100, Seq([Stop(beta.key), Stop(home.key)])))
        for terms, errno_, least in ((Terms(hops=3), -63, 4), (Terms(permit=few), -19, 5)):
            agent = await home.launch(packed(UNTIL_REFUSED), owner=OWNER, itinerary=route, terms=terms)
            report = await agent.wait()
            assert numbers(report, "e") == [errno_]
            assert least <= len(report.trail) < 20


@run
async def test_a_needed_capability_that_is_not_granted_refuses_the_agent() -> None:
    needs = Permit(Budget(10**6, 1 << 26, 1 << 26, 100), ("service:safe.open",), ("service:safe.open",))
    async with harbour("home", "beta1") as (home, beta):
        rule = OwnerRule(OWNER.public, capabilities=["service:thermometer.*"])
        await beta.replace_policy(Policy(owners=[rule]))
        watch = Watch(home)
        agent = await begin(home, errno("beta1"), "beta1", terms=Terms(permit=needs))
        report = await agent.wait()
        refused = await watch.until("refused")
    assert numbers(report, "e") == [-2]
    assert "safe.open" in refused.text


@run
async def test_trail_and_results_of_an_agent_that_has_not_left_yet_hold() -> None:
    async with harbour("alpha") as (alpha,):
        agent = await begin(alpha, RESTING)
        assert agent.trail() == ()
        assert agent.results() == []


@run
async def test_trail_and_results_hold_at_each_moment_of_a_first_hop() -> None:
    async with harbour("alpha", "beta") as (alpha, beta):
        agent = await begin(alpha, GOER, "beta")
        while agent.key not in beta.core.here.berths:
            assert len(agent.trail()) <= 1
            assert len(agent.results()) <= 1
            await asyncio.sleep(0)
        await settled(beta, agent, Standing.WAITING)
        assert [stay.station for stay in agent.trail()] == ["alpha"]
        assert [result.text for result in agent.results()] == ["alpha"]


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
            report = await again.wait(PATIENCE)
            assert [stay.index for stay in report.trail] == list(range(hops + 1))
            assert numbers(report, "n") == [hops]


@run
async def test_home_signs_no_checkpoint_for_a_beginning_that_it_has_not_itself() -> None:
    wat = program(
        """(loop $l (drop (call $go (s 0)))
             (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 8))))
           (drop (call $sleep (i32.const 3600000)))""",
        "next",
        "(local $n i32)",
    )
    async with harbour("home", "beta") as (home, _):
        agent = await begin(home, wat, *["beta", "home"] * 4)
        while agent.where() != "home" or len(agent.trail()) < 8:
            await asyncio.sleep(0.05)
        await settled(home, agent, Standing.WAITING)
        own, trails = home.core.here.berths[agent.key].credentials, home.core.trails
        home.core.here.idle()
        assert with_checkpoint(own, own.since, key_of("home"), trails).checkpoint is not None
        for table in ("links", "points"):
            home.core.here.store.tables.writer.execute(f"DELETE FROM {table}")
        trails.recent.clear()
        trails._links.clear()
        assert with_checkpoint(own, own.since, key_of("home"), trails).checkpoint is None


@run
async def test_an_agent_with_more_memory_than_it_may_have_is_refused_and_not_taken_to_be_stopped() -> None:
    small = Policy(owners=[OwnerRule(OWNER.public, budget=evolve(DEFAULT_BUDGET, memory=32 << 10))])
    async with harbour("home") as (home,), station("beta", policy=small) as beta:
        await meet(home, beta)
        report = await journey(home, program("(call $tell (i32.const 103) (call $go (s 0)))", "beta"), "beta")
        assert numbers(report, "g") == [-19]  # EDQUOT
        assert beta.core.here.berths == {}
