"""How agents end: out of time, trapped, expired, or with an exit code that comes home."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from agents.wasi.limits import WasiLimits
from docking import Policy, Terms
from docking.errors import AgentEnded
from docking.launching import DEFAULT_PERMIT
from docking.residents.berth import Standing
from tests.residents.guests import LISTENER, berth
from tests.station.harbour import OWNER, Watch, begin, harbour, journey, numbers, program, run, settled


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
        assert 10_000 <= kept.cpu_us <= 500_000
        assert beta.core.here.store.capsule(agent.key, 1) is not None
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


@run
async def test_an_agent_does_not_stay_long_after_its_passport_has_expired() -> None:
    async with harbour("home") as (home,):
        agent = await begin(home, LISTENER)
        await settled(home, agent, Standing.WAITING)
        clocks, wall = home.core.here.clocks, home.core.here.clocks.wall
        watch = Watch(home)
        # 25.5 hours and back again: a clock that is wrong for one look ends nobody.
        for hours, standing in ((25.5, "waiting"), (24.5, "waiting"), (25.5, "waiting"), (25.6, "disposed")):
            clocks.wall = lambda hours=hours: wall() + int(hours * 3600e9)  # type: ignore[misc]
            home.core.upkeep.tidy()
            if standing == "disposed":
                await watch.until("disposed")
            assert agent.standing == standing


@run
async def test_why_an_agent_was_stopped_stands_in_its_log_before_that_is_told() -> None:
    async with harbour("home") as (home,):
        watch = Watch(home)
        agent = await begin(home, program("(unreachable)"))
        await watch.until("stopped")
        (line,) = agent.logs()
        assert line.startswith("stopped: trapped: ")
        assert [event.text for event in watch.seen if event.kind == "log"] == [line]


@run
async def test_an_agent_whose_time_is_over_has_that_in_its_log() -> None:
    permit = evolve(DEFAULT_PERMIT, budget=evolve(DEFAULT_PERMIT.budget, cpu=20_000))
    async with harbour("home") as (home,):
        agent = await begin(home, program("(loop $l (br $l))"), terms=Terms(permit=permit))
        with pytest.raises(AgentEnded):
            await agent.wait()
        *_, line = agent.logs()
        assert line.startswith("stopped: ")
        assert "budget" in line or "time" in line


@run
async def test_messages_beyond_the_budget_leave_one_line_in_the_log() -> None:
    permit = evolve(DEFAULT_PERMIT, budget=evolve(DEFAULT_PERMIT.budget, messages=2))
    send = "(drop (call $send (i32.const 3000) (call $me (i32.const 3000) (i32.const 64)) (i32.const 0) (i32.const 1)))"
    call = "(drop (call $call (s 0) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0)))"
    async with harbour("home") as (home,):
        agent = await begin(home, program(send * 5 + call, "svc"), terms=Terms(permit=permit))
        await agent.wait()
        spent = [line for line in agent.logs() if "budget of messages" in line and not line.startswith("call(")]
        assert len(spent) == 1


@run
async def test_the_logs_show_every_visit() -> None:
    hop = "(drop (call $log (i32.const 2) (s 0))) (drop (call $go (s 1))) (drop (call $log (i32.const 2) (s 2)))"
    back = f"{hop} (drop (call $go (s 3))) (drop (call $log (i32.const 2) (s 4)))"
    words = "first|beta1|away|home|again"
    async with harbour("home", "beta1") as (home, beta):
        agent = await begin(home, program(back, words), "beta1", "home")
        await agent.wait()
        assert agent.logs() == ["first", "again"]
        assert beta.agent(agent.id).logs() == ["away"]


def reporting(size: int, many: int) -> str:
    """Reports of this size until one is refused or there are so many; then how many are left, and the error."""
    return f"""(local.set $n (i32.const {many}))
      (loop $l
        (local.set $e (call $report (i32.const 5000) (i32.const 256) (i32.const 65536) (i32.const {size})))
        (local.set $n (i32.sub (local.get $n) (i32.eqz (local.get $e))))
        (br_if $l (i32.and (i32.eqz (local.get $e)) (i32.gt_s (local.get $n) (i32.const 0)))))
      (call $tell (i32.const 110) (local.get $n)) (call $tell (i32.const 101) (local.get $e))"""


@run
async def test_results_may_be_as_large_as_the_page_says_and_all_come_home() -> None:
    body = f"{reporting(1 << 20, 1)} (drop (call $go (s 0))) {reporting(1 << 20, 7)} (drop (call $go (s 1))) "
    body += reporting(1 << 20, 7)
    wat = program(body, "beta1|beta2", "(local $n i32) (local $e i32)").replace(
        '(memory (export "memory") 1)', f'(memory (export "memory") 17) (data (i32.const 5000) "{"k" * 256}")'
    )
    async with harbour("home", "beta1", "beta2") as (home, _, _):
        report = await journey(home, wat, "beta1", "beta2")
    # What home knows does not count: it was there. Of the rest there is room for 11 with their seals, and small ones.
    assert numbers(report, "e") == [0, 0, -51]
    assert numbers(report, "n") == [0, 0, 3]
    large = [result for result in report.results if result.key == "k" * 256]
    assert [len(result.value) for result in large] == [1 << 20] * 12
