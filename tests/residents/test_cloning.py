"""Clones: each goes its own way with its own trail, and no more of them than passport and permit allow."""

from __future__ import annotations

from agents.credentials.permit import Permit
from docking import Terms
from docking.launching import DEFAULT_PERMIT
from tests.station.harbour import OWNER, Watch, begin, harbour, numbers, packed, places, program, run

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
    from agents.credentials.passport import Clones

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
