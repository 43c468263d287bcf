"""Agents that travel: what they carry, where they are let in, what they hear when they are not."""

from __future__ import annotations

from attrs import evolve

from agents.credentials.itinerary import Alt, Itinerary, Loop, Seq, Stop
from agents.credentials.permit import Budget, Permit
from docking import Policy, Terms
from docking.config import OwnerRule
from docking.launching import DEFAULT_PERMIT
from tests.station.harbour import OWNER, Watch, begin, harbour, journey, numbers, packed, places, program, run

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
        assert gamma.office.counts["arrived"] == 0
    assert (numbers(report, "e"), places(report)) == ([-63], ["home"])


@run
async def test_a_policy_that_does_not_know_the_owner_refuses() -> None:
    async with harbour("home", "beta1") as (home, beta):
        beta.office.customs.policy = Policy()
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
        beta.office.customs.policy = evolve(beta.policy, residents=0)
        report = await journey(home, errno("beta1"), "beta1")
    assert numbers(report, "e") == [-6]


@run
async def test_a_state_beyond_the_policy_does_not_travel() -> None:
    async with harbour("home", "beta1") as (home, beta):
        beta.office.customs.policy = evolve(beta.policy, state=100)
        received = beta._app.reception.received_bytes  # type: ignore[union-attr]
        report = await journey(home, errno("beta1"), "beta1")
        assert beta._app.reception.received_bytes - received < 20_000  # type: ignore[union-attr]
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
                sent.append(home._client.sent_bytes)  # type: ignore[union-attr]
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
        assert gamma._app.reception.received_bytes < 12_000  # type: ignore[union-attr]
        assert delta._app.reception.received_bytes < 12_000  # type: ignore[union-attr]
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
        beta.office.knowledge._recent.clear()
        beta.office.store._tables._points.clear()
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
        beta.office.customs.policy = Policy(owners=[rule])
        watch = Watch(home)
        agent = await begin(home, errno("beta1"), "beta1", terms=Terms(permit=needs))
        report = await agent.wait()
        refused = await watch.until("refused")
    assert numbers(report, "e") == [-2]
    assert "safe.open" in refused.text
