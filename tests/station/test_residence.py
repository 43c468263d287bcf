"""Agents that stay: waiting, messages, services, clones, orders, budgets, and what a restart makes of all that."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from agents.credentials.permit import Budget, Permit
from agents.wasi.limits import Limits as WasiLimits
from docking import Policy, ServiceFailed, Station, Terms, Visitor
from docking.agent import Agent
from docking.berth import Standing
from docking.config import OwnerRule
from docking.errors import AgentEnded, StationError
from docking.launching import DEFAULT_PERMIT
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

FOREVER = "(i32.const -1)"
# Waits for messages and tells the length of each, until one has one byte only.
LISTENER = program(
    f"""(loop $next
         (local.set $n (call $recv (i32.const 300) (i32.const 64) {FOREVER}))
         (call $tell (i32.const 110) (local.get $n))
         (br_if $next (i32.gt_s (local.get $n) (i32.const 1))))
       (call $tell_here)""",
    "x",
    "(local $n i32)",
)
SLEEPER = program("(call $tell (i32.const 115) (call $sleep (i32.const 300))) (call $tell_here)")
BUSY = program(
    """(loop $for_ever
         (global.set $count (i32.add (global.get $count) (i32.const 1)))
         (br_if $for_ever (i32.ne (global.get $count) (i32.const 2000000000))))
       (call $tell (i32.const 99) (global.get $count))""",
)


def berth(at: Station, agent: Agent) -> Any:
    found = at.office.berths.get(agent.key)
    assert found is not None
    return found


# Waiting


@run
async def test_a_sleeping_agent_holds_no_instance_and_no_state() -> None:
    async with harbour("home") as (home,):
        agent = await begin(home, SLEEPER)
        there = await settled(home, agent, Standing.WAITING)
        assert (there.life, there.state) == (None, None)
        assert home.office.workers.busy == 0
        report = await agent.wait()
    assert numbers(report, "s") == [0]
    assert report.trail[0].departed - report.trail[0].arrived >= 300


@run
async def test_many_sleep_and_few_threads_run() -> None:
    async with harbour("home") as (home,):
        before = threading.active_count()
        agents = await asyncio.gather(*(begin(home, SLEEPER) for _ in range(60)))
        assert threading.active_count() - before <= home.office.threads + 8  # and the loop's own helpers
        reports = await asyncio.gather(*(agent.wait() for agent in agents))
    assert [numbers(report, "s") for report in reports] == [[0]] * 60


@run
async def test_busy_agents_share_the_threads() -> None:
    async with harbour("home") as (home,):
        for _ in range(3):
            await begin(home, BUSY)
        report = await asyncio.wait_for(journey(home, SLEEPER), 30)
        assert numbers(report, "s") == [0]


# Messages


@run
async def test_messages_are_delivered_in_order_and_travel_with_the_agent() -> None:
    listener = program(
        f"""(drop (call $recv (i32.const 300) (i32.const 64) {FOREVER}))
            (drop (call $go (s 0)))
            (call $tell (i32.const 110) (call $recv (i32.const 300) (i32.const 64) {FOREVER}))
            (call $tell (i32.const 110) (call $recv (i32.const 300) (i32.const 64) {FOREVER}))
            (call $tell_here)""",
        "beta1",
    )
    async with harbour("home", "beta1") as (home, _):
        agent = await begin(home, listener, "beta1")
        await settled(home, agent, Standing.WAITING)
        assert [agent.send("go"), agent.send("22"), agent.send("333")] == ["delivered"] * 3
        report = await agent.wait()
    assert (numbers(report, "n"), places(report)) == ([2, 3], ["beta1"])


@run
async def test_a_message_follows_an_agent_that_has_moved() -> None:
    mover = program(
        f"""(drop (call $go (s 0))) (drop (call $go (s 1)))
            (call $tell (i32.const 110) (call $recv (i32.const 300) (i32.const 64) {FOREVER}))
            (call $tell_here)""",
        "beta1|gamma",
    )
    async with harbour("home", "beta1", "gamma") as (home, _, gamma):
        agent = await begin(home, mover, "beta1", "gamma")
        await settled(gamma, agent, Standing.WAITING)
        assert agent.send("hello there") == "sent"
        report = await agent.wait()
    assert (numbers(report, "n"), places(report)) == ([11], ["gamma"])


@run
async def test_agents_write_to_each_other() -> None:
    async with harbour("home", "beta1") as (home, beta):
        listener = await begin(beta, LISTENER)
        await settled(beta, listener, Standing.WAITING)
        writer = program(
            "(drop (call $go (s 0))) (call $tell (i32.const 115) (call $send (s 1) (s 2)))"
            "(call $tell (i32.const 115) (call $send (s 1) (s 3)))",
            f"beta1|{listener.id}|four|x",
        )
        report = await journey(home, writer, "beta1")
        assert numbers(report, "s") == [0, 0]
        assert numbers(await listener.wait(), "n") == [4, 1]


@run
async def test_an_agent_may_send_as_many_messages_as_its_permit_says() -> None:
    send = program(
        "(call $tell (i32.const 115) (call $send (s 0) (s 1))) (call $tell (i32.const 115) (call $send (s 0) (s 1)))",
        "someone|x",
    )
    one = evolve(DEFAULT_PERMIT, budget=evolve(DEFAULT_PERMIT.budget, messages=1))
    none = Permit(DEFAULT_PERMIT.budget, ("service:*",))
    async with harbour("home") as (home,):
        assert numbers(await journey(home, send, terms=Terms(permit=one)), "s") == [0, -19]
        assert numbers(await journey(home, send, terms=Terms(permit=none)), "s") == [-63, -63]


@run
async def test_recv_gives_up_in_time() -> None:
    impatient = program("(call $tell (i32.const 110) (call $recv (i32.const 300) (i32.const 64) (i32.const 30)))")
    async with harbour("home") as (home,):
        assert numbers(await journey(home, impatient), "n") == [-73]


# Services


def calling(*names: str, room: int = 64) -> str:
    """Calls services, and tells what each gave."""
    calls = "\n".join(
        f"(call $tell (i32.const 99) (call $call (s {n}) (s 0) (i32.const 4000) (i32.const {room})))"
        for n in range(1, len(names) + 1)
    )
    return program(calls, "|".join(("request", *names)))


@run
async def test_services_answer_sync_and_async_and_know_who_visits() -> None:
    async with harbour("home", "beta1") as (home, beta):
        seen: list[tuple[bytes, Visitor]] = []

        @beta.service("echo.twice")
        def twice(request: bytes, visitor: Visitor) -> bytes:
            seen.append((request, visitor))
            return request * 2

        @beta.service("echo.once")
        async def once(request: bytes) -> str:
            await asyncio.sleep(0)
            return request.decode()

        go = program(
            """(drop (call $go (s 3)))
               (call $tell (i32.const 99) (call $call (s 1) (s 0) (i32.const 4000) (i32.const 64)))
               (call $tell (i32.const 99) (call $call (s 2) (s 0) (i32.const 4000) (i32.const 64)))
               (call $tell (i32.const 99) (call $call (s 1) (s 0) (i32.const 4000) (i32.const 64)))""",
            "request|echo.twice|echo.once|beta1",
        )
        agent = await begin(home, go, "beta1", terms=Terms(label="visitor"))
        report = await agent.wait()
    assert numbers(report, "c") == [14, 7, 14]
    assert [request for request, _ in seen] == [b"request"] * 2
    assert [(v.agent, v.label, v.owner, v.hop, v.call, v.station) for _, v in seen] == [
        (agent.id, "visitor", OWNER.public, 1, call, "beta1") for call in (1, 3)
    ]


@run
async def test_services_that_fail_are_errors_for_the_agent_only() -> None:
    async with harbour("home") as (home,):

        @home.service("broken")
        def broken(request: bytes) -> bytes:
            raise RuntimeError("a secret")

        @home.service("unwilling")
        def unwilling(request: bytes) -> bytes:
            raise ServiceFailed("not today", errno=6)

        @home.service("slow", timeout=0.05)
        async def slow(request: bytes) -> bytes:
            await asyncio.Event().wait()
            return b""

        @home.service("huge")
        def huge(request: bytes) -> bytes:
            return bytes(2 << 20)

        @home.service("wrong")
        def wrong(request: bytes) -> Any:
            return 5

        report = await journey(home, calling("broken", "unwilling", "slow", "huge", "wrong", "missing"))
        assert numbers(report, "c") == [-29, -6, -73, -35, -29, -44]
        assert (home.office.pages.calls, home.office.pages.failures) == (6, 6)


@run
async def test_a_service_that_is_not_in_the_permit_is_not_called() -> None:
    rule = OwnerRule(OWNER.public, capabilities=["service:open.*"])
    async with harbour("home", policy=Policy(owners=[rule])) as (home,):
        home.offer("open.door", lambda request: b"")
        home.offer("safe.door", lambda request: b"")
        assert numbers(await journey(home, calling("open.door", "safe.door")), "c") == [0, -2]


@run
async def test_a_reply_that_does_not_fit_is_not_asked_for_twice() -> None:
    async with harbour("home") as (home,):
        asked = []
        home.offer("long", lambda request: asked.append(request) or b"x" * 100)
        twice = program(
            """(call $tell (i32.const 99) (call $call (s 1) (s 0) (i32.const 4000) (i32.const 10)))
               (call $tell (i32.const 99) (call $call (s 1) (s 0) (i32.const 4000) (i32.const 100)))""",
            "request|long",
        )
        assert numbers(await journey(home, twice), "c") == [100, 100]
        assert len(asked) == 1


@run
async def test_lookup_names_the_stations_that_offer_a_service() -> None:
    async with harbour("home", "beta1") as (home, beta):
        beta.offer("oracle", lambda request: b"")
        await home.contacts.greet(beta.key)
        ask = program(
            """(drop (call $report (i32.const 1100) (i32.const 1) (i32.const 200)
                 (call $lookup (s 0) (i32.const 200) (i32.const 64))))""",
            "oracle|l",
        )
        report = await journey(home, ask)
    assert [(result.key, result.text) for result in report.results] == [("l", "beta1")]


def test_impossible_names_of_services_are_refused() -> None:
    there = station("home")

    @run
    async def main() -> None:
        async with there:
            for name in ("", "Upper", "a b", "a..b", "x" * 200):
                with pytest.raises(StationError):
                    there.offer(name, lambda request: b"")
            there.offer("twice", lambda request: b"")
            with pytest.raises(StationError, match="already"):
                there.offer("twice", lambda request: b"")

    main()


# Budgets


@run
async def test_an_agent_that_uses_up_its_time_is_stopped_and_kept() -> None:
    short = evolve(DEFAULT_PERMIT, budget=evolve(DEFAULT_PERMIT.budget, cpu=30_000))
    async with harbour("home", "beta1") as (home, beta):
        busy = program(
            """(drop (call $go (s 0)))
               (loop $for_ever
                 (global.set $count (i32.add (global.get $count) (i32.const 1))) (br $for_ever))""",
            "beta1",
        )
        agent = await begin(home, busy, "beta1", terms=Terms(permit=short))
        with pytest.raises(AgentEnded, match="processor time"):
            await agent.wait()
        kept = berth(beta, agent)
        assert kept.standing is Standing.STOPPED
        assert 25_000 <= kept.cpu <= 500_000
        assert beta.office.store.capsule(agent.key, 1) is not None
        assert agent.where() == "beta1"
        assert agent.dispose() == "sent"
        await Watch(home).until("home")
        assert [stay.station for stay in agent.trail()] == ["home", "beta1"]


def test_a_stop_elsewhere_is_heard_at_a_home_with_a_disk(tmp_path: Path) -> None:
    """Home hears of it in a word, and it is written a moment after that was told."""

    @run
    async def main() -> None:
        async with harbour("home", "beta1", home=tmp_path) as (home, _):
            agent = await begin(home, program("(drop (call $go (s 0))) unreachable", "beta1"), "beta1")
            with pytest.raises(AgentEnded, match="unreachable"):
                await agent.wait()

    main()


@run
async def test_traps_and_bombs_are_outcomes() -> None:
    async with harbour("home") as (home,):
        for body, word in (
            ("(unreachable)", "unreachable"),
            ("(drop (i32.load (i32.const 100000000)))", "memory"),
            ("(drop (i32.div_s (i32.const 1) (global.get $count)))", "division"),
        ):
            agent = await begin(home, program(body))
            with pytest.raises(AgentEnded, match=word):
                await agent.wait()
        bomb = program("(call $tell (i32.const 109) (memory.grow (i32.const 60000)))")
        assert numbers(await journey(home, bomb), "m") == [-1]


@run
async def test_a_flood_of_lines_ends_where_the_visit_s_log_is_full() -> None:
    """By the import as by the file: whoever keeps the log of a station would run out of disk."""
    policy = evolve(Policy(owners=[OWNER.public]), wasi=evolve(WasiLimits(), log_bytes=1000))
    async with harbour("home", policy=policy) as (home,):
        lines = """(loop $l
          (local.set $e (call $log (i32.const 2) (i32.const 1000) (i32.const 6)))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $l (i32.and (i32.eqz (local.get $e)) (i32.lt_u (local.get $n) (i32.const 100000)))))
          (call $tell (i32.const 110) (local.get $n)) (call $tell (i32.const 101) (local.get $e))"""
        agent = await begin(home, program(lines, "a line", "(local $n i32) (local $e i32)"))
        report = await agent.wait()
        assert (numbers(report, "n"), numbers(report, "e")) == ([15], [-51])
        assert agent.logs() == ["a line"] * 14


@run
async def test_an_exit_code_comes_home() -> None:
    async with harbour("home", "beta1") as (home, _):
        report = await journey(home, program("(drop (call $go (s 0))) (call $exit (i32.const 7))", "beta1"), "beta1")
    assert report.exit_code == 7


# Clones

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
        everyone = [home.agent(row["agent"], OWNER) for row in home.office.steering.rows()]
        ends = [numbers(await each.wait(), "n") for each in everyone]
        assert sorted(ends) == [[-63], [0], [0]]
        forbidden = Permit(DEFAULT_PERMIT.budget, ("service:*",))
        agent = await begin(home, greedy, terms=Terms(permit=forbidden))
        assert numbers(await agent.wait(), "n") == [-63]


# Orders


@run
async def test_sleep_and_wake_by_order() -> None:
    async with harbour("home") as (home,):
        agent = await begin(home, BUSY)
        await settled(home, agent, Standing.READY) if not berth(home, agent).running else None
        assert agent.sleep() == "obeyed"
        there = await settled(home, agent, Standing.ASLEEP)
        assert there.life is None
        used = there.cpu
        agent.wake()
        while berth(home, agent).cpu == used and not berth(home, agent).running:
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
    from docking.orders import sign_order

    away = program(
        f"(drop (call $go (s 0))) (drop (call $recv (i32.const 300) (i32.const 64) {FOREVER}))",
        "beta1",
    )
    async with harbour("home", "beta1", "gamma") as (home, beta, gamma):
        agent = await begin(home, away, "beta1")
        await settled(beta, agent, Standing.WAITING)
        forged = sign_order(agent.key, "dispose", home.office.clocks.now(), gamma.office.key)
        old = sign_order(agent.key, "dispose", 0, home.office.key)
        for order, code in ((forged, "not-home"), (old, "order-old")):
            answer = await gamma.contacts.letter(beta.key, ["order", bytes(32), [order, 0]])
            assert answer[:2] == ["refused", code]
        assert berth(beta, agent).standing is Standing.WAITING


# Restarts


@pytest.mark.parametrize("when", ["asleep", "listening", "running", "stopped", "put to sleep"])
def test_a_restart_goes_on_with_every_agent(tmp_path: Path, when: str) -> None:
    @run
    async def main() -> None:
        wat = {"asleep": SLEEPER, "listening": LISTENER, "stopped": program("(unreachable)")}.get(when, BUSY)
        async with station("home", tmp_path / "home") as home:
            agent = await begin(home, wat)
            if when == "running":
                while not berth(home, agent).running:
                    await asyncio.sleep(0.005)
            elif when == "put to sleep":
                agent.sleep()
                await settled(home, agent, Standing.ASLEEP)
            else:
                await settled(home, agent, Standing.STOPPED if when == "stopped" else Standing.WAITING)
            before = berth(home, agent).cpu
        async with station("home", tmp_path / "home") as home:
            again = home.agent(agent.id, OWNER)
            if when == "asleep":
                assert numbers(await again.wait(), "s") == [0]
            elif when == "listening":
                again.send("four")
                again.send("x")
                assert numbers(await again.wait(), "n") == [4, 1]
            elif when == "running":
                assert berth(home, again).cpu >= before
                again.dispose()
                await Watch(home).until("home")
            else:
                expected = Standing.STOPPED if when == "stopped" else Standing.ASLEEP
                assert berth(home, again).standing is expected
            assert home.office.counts["resumed"] == 1

    main()


@run
async def test_a_message_that_was_taken_survives(tmp_path: Path) -> None:
    async with station("home", tmp_path / "home") as home, station("other") as other:
        await meet(home, other)
        agent = await begin(home, LISTENER)
        await settled(home, agent, Standing.WAITING)
        agent.sleep()
        await settled(home, agent, Standing.ASLEEP)
        for number, body in enumerate((b"four", b"x")):
            letter = ["message", bytes([number]) * 32, [agent.key, "someone", body, 0]]
            assert await other.contacts.letter(home.key, letter) == ["taken"]
            assert await other.contacts.letter(home.key, letter) == ["taken"]  # the same again
    async with station("home", tmp_path / "home") as home:
        again = home.agent(agent.id, OWNER)
        again.wake()
        assert numbers(await again.wait(), "n") == [4, 1]


@run
async def test_reports_made_before_a_restart_are_in_the_chain(tmp_path: Path) -> None:
    patient = program("(call $tell (i32.const 98) (i32.const 5))(drop (call $sleep (i32.const 100)))(call $tell_here)")
    async with station("home", tmp_path / "home") as home:
        agent = await begin(home, patient)
        await settled(home, agent, Standing.WAITING)
    async with station("home", tmp_path / "home") as home:
        report = await home.agent(agent.id, OWNER).wait()
    assert (numbers(report, "b"), places(report)) == ([5], ["home"])


@run
async def test_an_agent_that_arrived_goes_on_after_a_restart_of_both(tmp_path: Path) -> None:
    sleeper = program("(drop (call $go (s 0)))(drop (call $sleep (i32.const 200)))(call $tell_here)", "beta1")
    async with harbour("home", "beta1", home=tmp_path) as (home, beta):
        agent = await begin(home, sleeper, "beta1")
        await settled(beta, agent, Standing.WAITING)
    async with harbour("home", "beta1", home=tmp_path) as (home, beta):
        report = await home.agent(agent.id, OWNER).wait()
    assert places(report) == ["beta1"]
    assert [stay.station for stay in report.trail] == ["home", "beta1"]


@run
async def test_a_journey_that_ended_is_known_after_a_restart(tmp_path: Path) -> None:
    async with harbour("home", "beta1", home=tmp_path) as (home, _):
        agent = await begin(home, program("(drop (call $go (s 0)))(call $tell_here)", "beta1"), "beta1")
        await agent.wait()
    async with station("home", tmp_path / "home") as home:
        again = home.agent(agent.id[:8], OWNER)
        assert again.standing == "finished"
        assert [result.text for result in again.results()] == ["beta1"]
        assert len(again.trail()) == 2


# Launches


@run
async def test_what_cannot_be_launched_is_said() -> None:
    from agents.errors import CredentialError
    from tests.station.harbour import STRANGER

    async with harbour("home") as (home,):
        with pytest.raises(CredentialError, match="owner-unknown"):
            await home.launch(packed(SLEEPER), owner=STRANGER)
        with pytest.raises(StationError, match="no station 'nowhere'"):
            await asyncio.wait_for(home.launch(packed(SLEEPER), ["nowhere"], owner=OWNER), 20)
        tiny = Terms(permit=Permit(Budget(), ("host:*",)))
        with pytest.raises(CredentialError, match="budget"):
            await home.launch(packed(SLEEPER), owner=OWNER, terms=tiny)


@run
async def test_an_agent_does_not_stay_long_after_its_passport_has_expired() -> None:
    async with harbour("home") as (home,):
        agent = await begin(home, LISTENER)
        await settled(home, agent, Standing.WAITING)
        clocks, wall = home.office.clocks, home.office.clocks.wall
        watch = Watch(home)
        # 25.5 hours and back again: a clock that is wrong for one look ends nobody.
        for hours, standing in ((25.5, "waiting"), (24.5, "waiting"), (25.5, "waiting"), (25.6, "disposed")):
            clocks.wall = lambda hours=hours: wall() + int(hours * 3600e9)  # type: ignore[misc]
            home.office._tidy()
            if standing == "disposed":
                await watch.until("disposed")
            assert agent.standing == standing
