"""A station that stops: in its time, whatever agents do; and one that starts again goes on exactly where they were."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import docking.residents.berth
import docking.residents.lifecycle
from docking import Station, Visitor
from docking.errors import AgentEnded
from docking.letters.journeys import JourneyStanding
from docking.letters.orders import OrderKind
from docking.letters.packets import Packet
from docking.residents.berth import Delivery, Standing
from docking.residents.checkpoints import BerthNote
from docking.residents.workers import TURNS_PER_STEP, Job, Workers
from tests.patience import PATIENCE
from tests.station.harbour import OWNER, begin, harbour, journey, meet, numbers, packed, program, run, settled, station


@run
async def test_thousands_that_end_together_leave_the_loop_time_for_others() -> None:
    workers = Workers(2)
    left = count = 1000

    def done(result: object, error: object) -> None:
        nonlocal left
        left -= 1

    for _ in range(count):
        workers.submit(Job(lambda: None, lambda: None, done))
    most, before = 0, left
    while left:
        await asyncio.sleep(0)
        most, before = max(most, before - left), left
    await workers.close()
    assert most <= 2 * TURNS_PER_STEP  # in one turn of the loop


@run
async def test_what_has_not_begun_does_not_begin_any_more_and_is_said_so() -> None:
    workers = Workers(1)
    gate, told = threading.Event(), list[str]()
    workers.submit(Job(gate.wait, gate.set, lambda result, error: told.append("first")))
    for _ in range(3):
        workers.submit(Job(lambda: told.append("ran"), lambda: None, lambda *_: None, lambda: told.append("dropped")))
    while not workers.running:
        await asyncio.sleep(0.001)
    workers.interrupt_all()
    await workers.close()
    assert told == ["dropped"] * 3 + ["first"]


@run
async def test_an_end_that_cannot_be_followed_holds_up_no_other() -> None:
    workers = Workers(1)
    told = list[int]()

    def fails(result: object, error: object) -> None:
        raise RuntimeError("a bug")

    for number in range(20):
        workers.submit(Job(lambda: None, lambda: None, fails if number % 2 else lambda *_: told.append(1)))
    while len(told) < 10:
        await asyncio.sleep(0.001)
    await workers.close()


LOOP = """
  (loop $l
    (local.set $n (i32.add (local.get $n) (i32.const 1)))
    (br_if $l (i32.lt_u (local.get $n) (i32.const {turns}))))
  (call $tell (i32.const 110) (local.get $n))"""


@run
async def test_agents_that_queue_for_a_thread_lose_nothing(tmp_path: Path) -> None:
    """Each is in the middle of a loop; some were asked to make room, and their states are only in memory."""
    turns = 120_000_000
    wat = program(LOOP.replace("{turns}", str(turns)), locals_="(local $n i32)")
    home = tmp_path / "home"
    async with station("home", home) as first:
        agents = [await first.launch(packed(wat), owner=OWNER) for _ in range(5)]
        while not any(berth.cpu_us for berth in first.core.here.berths.values()):  # one has made room
            await asyncio.sleep(0.005)
    async with station("home", home) as second:
        ended = [
            j for j in second.core.here.journeys.all() if j.standing == JourneyStanding.FINISHED
        ]  # a fast machine is done with some
        assert len(second.core.here.berths) + len(ended) == 5
        for agent in agents:
            assert numbers(await second.agent(agent.id, OWNER).wait(PATIENCE), "n") == [turns]


@run
async def test_an_agent_that_cannot_be_interrupted_does_not_keep_the_station(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docking.residents.workers.SUSPEND_TIMEOUT_S", 0.5)
    wat = program(LOOP.replace("{turns}", "4000000000"), locals_="(local $n i32)")
    home = tmp_path / "home"
    async with station("home", home) as first:
        agent = await first.launch(packed(wat, polls="none"), owner=OWNER)
        while not first.core.here.workers.running:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)
    async with station("home", home) as second:
        assert agent.key in second.core.here.berths  # from its beginning: it was never stored since


@run
async def test_a_call_that_is_cut_short_comes_again_with_the_same_number(tmp_path: Path) -> None:
    """Service calls are told apart by agent, hop and number: by these a service knows that it has heard it before."""
    calls = list[tuple[int, int, bytes]]()
    stuck = asyncio.Event()

    async def service(request: bytes, visitor: Visitor) -> bytes:
        calls.append((visitor.hop, visitor.call, request))
        if request == b"two" and not stuck.is_set():
            stuck.set()
            await asyncio.sleep(60)
        return b"ok"

    def offering(home: Path) -> Station:
        made = station("home", home)
        made.offer("oracle", service)
        return made

    call = "(drop (call $call (s 0) (s {}) (i32.const 300) (i32.const 8)))"
    wat = program("".join(call.replace("{}", str(n)) for n in (1, 2, 3)), "oracle|one|two|three")
    async with offering(tmp_path / "home") as first:
        agent = await first.launch(packed(wat), owner=OWNER)
        await stuck.wait()
    async with offering(tmp_path / "home") as second:
        await second.agent(agent.id, OWNER).wait(PATIENCE)
    assert calls == [(0, 1, b"one"), (0, 2, b"two"), (0, 2, b"two"), (0, 3, b"three")]


@run
async def test_an_agent_that_is_written_to_all_the_time_is_stored_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never waits: what it has read would be kept for ever, in case of a crash."""
    monkeypatch.setattr(docking.residents.berth, "MAX_INBOX", 100)
    monkeypatch.setattr(docking.residents.lifecycle, "MAX_UNSAVED_MAIL", 40)
    receive = """(loop $l
      (drop (call $recv (i32.const 300) (i32.const 100) (i32.const 20000)))
      (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 250))))
      (call $tell (i32.const 110) (local.get $n))"""
    async with station("home", tmp_path / "home") as home:
        agent = await begin(home, program(receive, locals_="(local $n i32)"))
        berth = await settled(home, agent, Standing.WAITING)
        sent = most = 0
        while sent < 250:
            packet = Packet(agent.key, "tester", b"%d" % sent)
            if home.core.post.accept(packet, sent.to_bytes(32, "big"))[0] is Delivery.TAKEN:
                sent += 1
            else:
                await asyncio.sleep(0.001)
            most = max(most, len(berth.taken))
        assert numbers(await agent.wait(PATIENCE), "n") == [250]
        assert most < 100


@run
async def test_stopping_and_starting_again_and_again(tmp_path: Path) -> None:
    """An agent that sleeps little and counts much, through ten lives of its station."""
    wat = program(
        """(loop $l (drop (call $sleep (i32.const 5)))
          (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 100))))
        (call $tell (i32.const 110) (local.get $n))""",
        locals_="(local $n i32)",
    )
    home = tmp_path / "home"
    async with station("home", home) as first:
        agent = await first.launch(packed(wat), owner=OWNER)
        await asyncio.sleep(0.05)
    for _ in range(9):
        async with station("home", home):
            await asyncio.sleep(0.03)
    async with station("home", home) as last:
        assert numbers(await last.agent(agent.id, OWNER).wait(PATIENCE), "n") == [100]


@run
async def test_thousands_of_reports_are_verified_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    reports = """(loop $l
      (call $tell (i32.const 110) (local.get $n))
      (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 600))))"""
    async with harbour("home", "beta") as (home, _):
        body = f"(drop (call $go (s 0))) {reports}"
        agent = await begin(home, program(body, "beta", locals_="(local $n i32)"), "beta")
        threads: dict[str, int] = {}

        def noting(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
            def noted(*args: Any) -> Any:
                threads[name] = threading.get_ident()
                return work(*args)

            return noted

        journeys = type(home.core.here.journeys)
        monkeypatch.setattr(journeys, "judge", noting("judged at home", journeys.judge))
        monkeypatch.setattr(type(agent), "_opened", noting("opened for the owner", type(agent)._opened))
        assert len(numbers(await agent.wait(PATIENCE), "n")) == 600
        assert set(threads) == {"judged at home", "opened for the owner"}
        assert threading.get_ident() not in threads.values()


@run
async def test_a_state_that_the_disk_has_damaged_is_noticed_and_its_agent_stopped(tmp_path: Path) -> None:
    """A bit of an agent's memory is another one, which no decoder would see; its neighbours go on."""
    home = tmp_path / "home"
    sleeper = "(drop (call $sleep (i32.const 100000))) (call $tell (i32.const 110) (i32.const 7))"
    running = program(LOOP.replace("{turns}", "4000000000"), locals_="(local $n i32)")
    async with station("home", home) as first:
        agents = [await begin(first, wat) for wat in (program(sleeper, "a"), program(sleeper, "b"), running)]
        for agent in agents[:2]:
            await settled(first, agent, Standing.WAITING)
        berths = [first.core.here.berths[agent.key] for agent in agents]
    digests = [berth.saved.state.digest for berth in berths]  # type: ignore[attr-defined]
    assert len(set(digests)) == 3
    with contextlib.closing(sqlite3.connect(home / "station.db")) as store:
        for digest in (digests[0], digests[2]):
            [(number, body)] = store.execute(
                "SELECT number, body FROM bodies JOIN parts USING (number) WHERE digest = ?", (digest,)
            )
            store.execute("UPDATE bodies SET body = ? WHERE number = ?", (body[:-1] + bytes([body[-1] ^ 1]), number))
        store.commit()
    async with station("home", home) as second:
        for agent in agents[:2]:
            second.core.commands.order(agent.key, OrderKind.WAKE)
        assert numbers(await second.agent(agents[1].id, OWNER).wait(PATIENCE), "n") == [7]
        for agent in (agents[0], agents[2]):
            with pytest.raises(AgentEnded, match=r"stopped at home: .*the agent's state was damaged in the store"):
                await second.agent(agent.id, OWNER).wait(PATIENCE)


@run
async def test_at_no_commit_an_agent_is_stored_without_the_trail_that_it_refers_to(tmp_path: Path) -> None:
    """Whenever a station is killed: what an agent's note refers to was written before it, or with it."""
    looked = list[bool]()
    made: list[Station] = []

    def committed(place: str) -> None:
        if place != "store.after-commit" or not made:
            return
        store = made[0].core.here.store
        for capsule in store.capsules():
            if capsule.note:
                looked.append(store.point(BerthNote.decode(capsule.note).trail) is not None)

    hop = "(drop (call $go (s 0))) (drop (call $sleep (i32.const 60)))"
    async with harbour("home") as (home,), station("beta", tmp_path / "beta", failpoint=committed) as beta:
        made.append(beta)
        await meet(home, beta)
        for number in range(5):
            await journey(home, program(hop, f"beta|{number}"), "beta")
    assert len(looked) >= 5
    assert all(looked)
