"""Between receipt and commit an instance of the agent is made: nothing of it runs, and little is held for long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agents
import docking.residents.arrivals
from docking import Station
from docking.errors import NoAnswer
from docking.handoff.messages import CommitMessage, ReceiptMessage, Status
from docking.residents.berth import Berth
from docking.residents.workers import Workers
from tests.patience import PATIENCE
from tests.station.harbour import OWNER, Watch, begin, harbour, journey, meet, numbers, places, program, run, station

# Goes to beta, and logs there before anything else.
LOGS = program(
    """(drop (call $go (s 0))) (drop (call $log (i32.const 2) (s 1)))
       (call $tell (i32.const 110) (i32.const 7)) (call $tell_here)""",
    "beta|hello",
)

TELLS = program("(call $tell (i32.const 101) (call $go (s 0))) (call $tell_here)", "beta")


QUICK = docking.residents.arrivals.Arrivals._quick


@pytest.fixture(autouse=True, params=["in the loop", "in a thread"])
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where instances are made. They are held for long, since the machine may be busy with other tests."""
    monkeypatch.setattr(docking.residents.arrivals, "EXPECTED_S", 60.0)
    monkeypatch.setattr(docking.residents.arrivals.Arrivals, "_quick", lambda *_: request.param == "in the loop")


class Cable:
    """A station's way to its peers, with a fault."""

    def __init__(self, source: Station, exchange: Callable[[Any, bytes, Any], Any]) -> None:
        self._real: Any = source.introductions.wire
        self._exchange = exchange
        source.introductions.wire = self  # type: ignore[assignment]

    async def exchange(self, peer: bytes, message: Any) -> Any:
        return await self._exchange(self._real.exchange, peer, message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def without_commits(source: Station, destination: Station) -> Callable[[], None]:
    """From now on no COMMIT of `source` arrives, nor does `destination` hear of it when it asks, until what is given
    back is called.
    """
    gate = asyncio.Event()

    async def exchange(real: Any, peer: bytes, message: Any) -> Any:
        if isinstance(message, (CommitMessage, Status)) and not gate.is_set():
            raise NoAnswer("the cable is cut")
        return await real(peer, message)

    Cable(source, exchange)
    Cable(destination, exchange)
    return gate.set


async def expected(at: Station) -> Berth:
    """The agent that is held there, when its instance is made."""
    while True:
        for berth in at.core.arrivals.expected.values():
            if berth.life is not None and berth.life.instance is not None:
                return berth
        await asyncio.sleep(0.002)


@run
async def test_the_instance_is_made_and_nothing_runs_before_the_commit() -> None:
    async with harbour("home", "beta", patience=PATIENCE) as (home, beta):
        watch, joined = Watch(beta), without_commits(home, beta)
        agent = await begin(home, LOGS, "beta")
        berth = await expected(beta)
        assert agent.key not in beta.core.here.berths
        assert not berth.begun
        assert not berth.lines
        assert not [event for event in watch.seen if event.kind in ("log", "arrived")]
        joined()
        report = await agent.wait(PATIENCE)
        assert places(report) == ["beta"]
        assert numbers(report, "n") == [7]
        assert beta.core.arrivals.expected == {}
        assert beta.core.here.past[agent.key] is berth
        (line,) = [line.text for line in berth.lines]
        assert line == "hello"


@run
async def test_what_is_given_up_has_no_instance_any_more() -> None:
    # Patience for a busy machine: the instance must be there before the offer is given up.
    async with harbour("home", "beta", patience=1.5) as (home, beta):

        async def deaf(real: Any, peer: bytes, message: Any) -> Any:
            answer = await real(peer, message)
            if isinstance(answer, ReceiptMessage):
                raise NoAnswer("the answer is lost")
            return answer

        Cable(home, deaf)
        watch = Watch(home)
        await begin(home, LOGS, "beta")
        berth = await expected(beta)
        await watch.until("refused")
        while beta.core.arrivals.expected or berth.life is not None:
            await asyncio.sleep(0.002)
        await watch.until("finished")


@run
async def test_a_source_that_never_says_commit_holds_an_instance_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docking.residents.arrivals, "EXPECTED_S", 0.05)
    async with harbour("home", "beta", patience=PATIENCE) as (home, beta):
        joined = without_commits(home, beta)
        agent = await begin(home, LOGS, "beta")
        berth = await expected(beta)
        while beta.core.arrivals.expected or berth.life is not None:
            await asyncio.sleep(0.002)
        joined()  # it is made again when it is needed
        assert places(await agent.wait(PATIENCE)) == ["beta"]


@run
async def test_few_are_made_in_advance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docking.residents.arrivals, "MAX_EXPECTED", 2)
    counts, expect = [], docking.residents.arrivals.Arrivals.expect

    def counted(arrivals: Any, *args: Any) -> None:
        before = len(arrivals.expected)
        expect(arrivals, *args)
        counts.append((before, len(arrivals.expected)))

    monkeypatch.setattr(docking.residents.arrivals.Arrivals, "expect", counted)
    async with harbour("home", "beta", patience=PATIENCE) as (home, beta):
        joined = without_commits(home, beta)
        crowd = [await begin(home, LOGS, "beta") for _ in range(6)]
        while len(counts) < 6:
            await asyncio.sleep(0.002)
        assert all(after == min(before + 1, 2) for before, after in counts)
        joined()
        for agent in crowd:
            assert places(await agent.wait(PATIENCE)) == ["beta"]


@run
async def test_a_station_that_stops_meanwhile_gives_up_the_instance() -> None:
    async with harbour("home", "beta", patience=PATIENCE) as (home, beta):
        without_commits(home, beta)
        await begin(home, LOGS, "beta")
        berth = await expected(beta)
    assert berth.life is None


@run
async def test_an_image_that_was_not_rewritten_has_no_instance_in_advance() -> None:
    # Nothing says that making an instance of it runs no code.
    wat = """(module (import "portcall" "go_at" (func $go_at (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 0) "betathere")
      (func (export "_start") (drop (call $go_at (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 5))))
      (func (export "there")))"""
    opened: list[str] = []
    real = Berth.ready

    def ready(berth: Berth) -> None:
        real(berth)
        opened.append("instance" if berth.life is not None and berth.life.instance is not None else "none")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Berth, "ready", ready)
        async with harbour("home", "beta", patience=PATIENCE) as (home, beta):
            joined = without_commits(home, beta)
            agent = await home.launch(agents.pack(wat, profile="none"), ["beta"], owner=OWNER)
            while not opened:
                await asyncio.sleep(0.002)
            joined()
            report = await agent.wait(PATIENCE)
    assert report.exit_code == 0
    assert opened == ["none"]


@run
async def test_journeys_are_as_ever() -> None:
    async with harbour("home", "beta", patience=PATIENCE) as (home, _):
        report = await journey(home, LOGS, "beta")
        assert numbers(report, "n") == [7]


@run
async def test_a_station_that_stops_between_the_commit_and_the_first_turn_has_an_agent_that_arrived(
    tmp_path: Path,
) -> None:
    async with harbour("home") as (home,):
        async with station("beta", tmp_path / "beta") as beta:
            await meet(home, beta)
            joined = without_commits(home, beta)
            agent = await begin(home, TELLS, "beta")
            await expected(beta)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Workers, "submit", lambda workers, job: workers.queue.append(job))  # nobody is woken
                joined()
                while agent.key not in beta.core.here.berths:
                    await asyncio.sleep(0.002)
                assert len(beta.core.here.workers.queue) == 1
        async with station("beta", tmp_path / "beta") as beta:
            await meet(home, beta)
            report = await agent.wait(PATIENCE)
            assert numbers(report, "e") == [0]
            assert places(report) == ["beta"]


@run
async def test_the_loop_makes_only_what_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docking.residents.arrivals.Arrivals, "_quick", QUICK)
    monkeypatch.setattr(docking.residents.arrivals, "INLINE_START_S", 0.5)
    in_loop: list[bool] = []
    real = Berth.ready

    def ready(berth: Berth) -> None:
        in_loop.append(threading.current_thread() is threading.main_thread())
        real(berth)

    monkeypatch.setattr(Berth, "ready", ready)
    large = LOGS.replace('(memory (export "memory") 1', '(memory (export "memory") 17')
    async with harbour("home", "beta", patience=PATIENCE) as (home, beta):
        for wat in (LOGS, LOGS, large, large):  # what is not known yet is left to a thread
            await journey(home, wat, "beta")
        assert in_loop == [False, True, False, False]
        took = beta.core.arrivals.took_s
        assert len(took) == 2
        took.update(dict.fromkeys(took, 1.0))  # as it is with an image whose instances take long
        await journey(home, LOGS, "beta")
        assert not in_loop[-1]
