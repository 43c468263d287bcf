"""Clones: each goes its own way with its own trail, and no more of them than passport and permit allow."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from attrs import evolve

from agents.credentials.envelope import identify
from agents.credentials.passport import Clones
from agents.credentials.permit import Permit
from agents.waits import Event, Forked
from docking import Terms
from docking.launching import DEFAULT_PERMIT
from docking.residents.berth import Berth
from docking.residents.lifecycle import Lifecycle
from tests.station.harbour import OWNER, Watch, begin, harbour, numbers, packed, places, program, run, station

CLONES = program(
    """
    (call $tell (i32.const 98) (i32.const 1))
    (local.set $n (call $clone (i32.const 300) (i32.const 64)))
    (if (local.get $n) (then (drop (call $go (s 0)))) (else (drop (call $go (s 1)))))
    (call $tell (i32.const 110) (local.get $n))
    (call $tell_here)""",
    "beta1|gamma",
    "(local $n i32)",
)


@run
async def test_a_clone_goes_its_own_way_with_its_own_trail() -> None:
    from agents.credentials.itinerary import Alt, Itinerary, Stop

    async with harbour("home", "beta1", "gamma") as (home, beta, gamma):
        watch = Watch(home)
        route = Itinerary(Alt([Stop(beta.key), Stop(gamma.key)]))
        parent = await home.launch(packed(CLONES), owner=OWNER, itinerary=route)
        cloned = await watch.until("cloned")
        child = home.agent(cloned.text, OWNER)
        reports = [await parent.wait(), await child.wait()]
    assert [(numbers(r, "b"), numbers(r, "n"), places(r)) for r in reports] == [
        ([1], [1], ["beta1"]),
        ([1], [0], ["gamma"]),
    ]
    assert [[stay.station for stay in r.trail] for r in reports] == [["home", "beta1"], ["home", "gamma"]]


@run
async def test_clones_are_limited_by_the_passport_and_the_permit() -> None:
    greedy = program(
        """(loop $more
             (local.set $n (call $clone (i32.const 300) (i32.const 64)))
             (br_if $more (i32.eq (local.get $n) (i32.const 1))))
           (call $tell (i32.const 110) (local.get $n))""",
        "x",
        "(local $n i32)",
    )
    async with harbour("home") as (home,):
        agent = await begin(home, greedy, terms=Terms(clones=Clones(2, 1)))
        assert numbers(await agent.wait(), "n") == [-63]
        everyone = [home.agent(row["agent"], OWNER) for row in home.core.queries.rows()]
        ends = [numbers(await each.wait(), "n") for each in everyone]
        assert sorted(ends) == [[-63], [0], [0]]
        forbidden = Permit(DEFAULT_PERMIT.budget, ("service:*",))
        agent = await begin(home, greedy, terms=Terms(permit=forbidden))
        assert numbers(await agent.wait(), "n") == [-63]


FORKS = program(
    """
    (local.set $n (call $fork (i32.const 3) (i32.const 300) (i32.const 1000)))
    (call $tell (i32.const 110) (local.get $n))
    (if (i32.eqz (local.get $n)) (then (call $tell (i32.const 115) (i32.load8_u (i32.const 352)))))""",
    "x",
    "(local $n i32)",
)


@run
async def test_a_fork_makes_all_from_one_state_in_one_write(tmp_path: Path) -> None:
    async with station("home", tmp_path / "home") as home:
        parent = await begin(home, FORKS)
        assert numbers(await parent.wait(), "n") == [0]
        assert numbers(await parent.wait(), "s") == [ord("\n")]  # between two ids
        everyone = [home.agent(row["agent"], OWNER) for row in home.core.queries.rows()]
        assert sorted([numbers(await each.wait(), "n")[0] for each in everyone]) == [0, 1, 2, 3]


@run
async def test_a_fork_that_would_be_too_large_makes_none() -> None:
    async with harbour("home") as (home,):
        agent = await begin(home, FORKS, terms=Terms(clones=Clones(2, 1)))
        assert numbers(await agent.wait(), "n") == [-63]
        roomy = home.policy
        await home.replace_policy(evolve(roomy, residents=4, shed=0.75))
        agent = await begin(home, FORKS)
        assert numbers(await agent.wait(), "n") == [-63]
        assert home.core.here.counts["cloned"] == 0


def test_a_restart_after_a_fork_goes_on_with_each_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wat = program(
        """(local.set $n (call $fork (i32.const 2) (i32.const 300) (i32.const 1000)))
        (call $tell (i32.const 110) (local.get $n))""",
        "x",
        "(local $n i32)",
    )
    go_on = Lifecycle.go_on

    def unless_forked(self: Lifecycle, berth: Berth, event: Event | None) -> None:
        if not isinstance(event, Forked):
            go_on(self, berth, event)

    @run
    async def main() -> None:
        with monkeypatch.context() as patch:  # killed, as it were, between the write and the first turn
            patch.setattr(Lifecycle, "go_on", unless_forked)
            async with station("home", tmp_path / "home") as home:
                watch = Watch(home)
                agent = await begin(home, wat)
                await watch.until("cloned")
                await watch.until("cloned")
        async with station("home", tmp_path / "home") as home:
            everyone = [home.agent(row["agent"], OWNER) for row in home.core.queries.rows()]
            assert agent.id in [each.id for each in everyone]
            assert sorted([numbers(await each.wait(), "n")[0] for each in everyone]) == [0, 1, 2]

    main()


@run
async def test_home_learns_of_clones_that_are_made_elsewhere_and_all_are_disposed_of() -> None:
    wat = program(
        """(drop (call $go (s 0)))
        (drop (call $fork (i32.const 2) (i32.const 300) (i32.const 1000)))
        (drop (call $recv (i32.const 300) (i32.const 100) (i32.const -1)))""",
        "beta",
    )
    async with harbour("home", "beta") as (home, beta):
        agent = await begin(home, wat, "beta", terms=Terms(label="trip"))
        while len(home.core.queries.family(agent.key)) < 3:
            await asyncio.sleep(0.01)
        family = agent.family()
        assert sorted(each.label for each in family) == ["trip", "trip.1", "trip.2"]
        assert home.agent("trip.2").id in [each.id for each in family]
        assert sorted(berth.label for berth in beta.core.here.berths.values()) == ["trip", "trip.1", "trip.2"]
        for each in family:
            each.dispose()
        while any(each.standing != "disposed" for each in family):
            await asyncio.sleep(0.01)
        assert beta.core.here.berths == {}


@run
async def test_clones_that_cannot_be_are_not_told_of() -> None:
    """A station that has had an agent says that others were made of it."""
    async with harbour("home", "beta") as (home, beta):
        agent = await begin(home, program("(drop (call $go (s 0)))", "beta"), "beta")
        await agent.wait()
        journey = home.core.here.journeys.get(agent.key)
        assert journey is not None
        digest = journey.passport

        async def claim(ident: bytes, of: bytes) -> None:
            word = [ident, of, 1, "travelling", ""]
            await beta.introductions.letter(home.key, ["told", bytes(32), [word]])

        await claim(bytes(32), digest)  # no clone
        await claim(identify("clone", agent.key, 16), digest)  # more than there may be
        await claim(identify("clone", agent.key, 0), bytes(32))  # of another passport
        assert len(home.core.queries.family(agent.key)) == 1
