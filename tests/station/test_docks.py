"""Docks: agents and messages wait there, sealed, for a station that is away or cannot be called."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from agents import canonical
from agents.credentials.keys import PublicKey
from docking import Policy
from docking.docks import StationDocks
from docking.residents import docks, queued
from docking.residents.berth import Standing
from docking.station import Station
from tests.station.harbour import (
    OWNER,
    Watch,
    begin,
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

HOUR_MS = 3_600_000
TO_LAPTOP = program(
    f"""(call $tell (i32.const 110) (call $go_wait (s 0) (i32.const {HOUR_MS}))) (call $tell_here)""",
    "laptop",
)
LISTENS = program(
    f"""(drop (call $go_wait (s 0) (i32.const {HOUR_MS})))
    (call $tell (i32.const 110) (call $recv (i32.const 300) (i32.const 100) (i32.const -1)))""",
    "laptop",
)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docks, "ROUND_S", 0.05)
    monkeypatch.setattr(queued, "FIRST_S", 0.05)


def of(each: Station) -> StationDocks:
    assert each._docks is not None
    return each._docks


async def until(true: Callable[[], Any]) -> None:
    while not true():
        await asyncio.sleep(0.01)


def laptop_at(dock: Station, home: Path | None = None, **options: Any) -> Station:
    """A station that nobody can call: it calls, and names its dock."""
    key = {} if home is None else {"key": key_of("laptop")}
    return station("laptop", home, port=None, docks=[dock.url], **key, **options)


@contextlib.asynccontextmanager
async def shore(tmp_path: Path | None = None) -> AsyncIterator[tuple[Station, Station]]:
    """A station with agents, and the dock of the laptop."""
    policy = Policy(owners=[OWNER.public], dock_for=[key_of("laptop").public])
    place = None if tmp_path is None else tmp_path / "dock"
    async with station("home") as home, station("dock", place, policy=policy) as dock:
        await meet(home, dock)
        yield home, dock


async def acquainted(home: Station, laptop: Station) -> None:
    await laptop.introductions.call_on(home.url)
    await until(lambda: of(home).deposits.has(laptop.key))


async def was_there(home: Station, dock: Station) -> None:
    """The laptop was there, told `home` of its dock, and is away again."""
    async with laptop_at(dock) as laptop:
        await until(lambda: of(laptop).docked.own)
        await acquainted(home, laptop)


def kept(dock: Station) -> int:
    return dock.core.here.store.kept_for(key_of("laptop").public.raw, "docked")[0]


@run
async def test_an_agent_reaches_a_station_that_nobody_can_call() -> None:
    async with shore() as (home, dock), laptop_at(dock) as laptop:
        await until(lambda: of(laptop).docked.own)
        await acquainted(home, laptop)
        agent = await begin(home, TO_LAPTOP, "laptop")
        report = await agent.wait()
        assert (numbers(report, "n"), places(report)) == ([0], ["laptop"])
        assert [stay.station for stay in report.trail] == ["home", "laptop"]
        await until(lambda: kept(dock) == 0)
        assert laptop.core.here.counts["arrived"] == 1


@run
async def test_it_waits_sealed_at_the_dock_while_the_laptop_is_closed(tmp_path: Path) -> None:
    async with shore(tmp_path) as (home, dock):
        async with laptop_at(dock, tmp_path / "laptop") as laptop:
            await until(lambda: of(laptop).docked.own)
            await acquainted(home, laptop)
        agent = await begin(home, TO_LAPTOP, "laptop")
        await until(lambda: kept(dock))
        letter = dock.core.here.store.first_kept(laptop.key.raw, "docked", 0)
        assert letter is not None
        assert agent.key not in letter.body  # the dock knows from whom and for whom it is, and no more
        assert home.core.here.berths[agent.key].standing is Standing.LEAVING
        url = dock.url
        await dock.close()  # and across a restart of the dock
        again = station("dock", tmp_path / "dock", policy=dock.policy, port=int(url.rpartition(":")[2]))
        async with again as dock, laptop_at(dock, tmp_path / "laptop") as laptop:
            report = await agent.wait()
            assert places(report) == ["laptop"]
            assert laptop.core.here.counts["arrived"] == 1


@pytest.mark.parametrize("order", ["dispose", "sleep"])
def test_an_agent_whose_offer_waits_at_a_dock_obeys(order: str) -> None:
    @run
    async def main() -> None:
        async with shore() as (home, dock):
            await was_there(home, dock)
            agent = await begin(home, TO_LAPTOP, "laptop")
            await until(lambda: kept(dock))
            if order == "dispose":
                watch = Watch(home)
                agent.dispose()
                await watch.until("home")
            else:
                agent.sleep()
                await settled(home, agent, Standing.ASLEEP)
            async with laptop_at(dock) as laptop:  # the offer comes, and nothing follows from it
                await until(lambda: of(laptop).docked.fetched)
                await until(lambda: not laptop.core.here.store.unfinished())
                assert laptop.core.here.berths == {}

    main()


@run
async def test_an_order_while_the_offer_is_given_to_the_dock_reaches_the_laptop() -> None:
    """The dock has the offer, and its answer is not there yet: what takes the offer back must wait there too."""
    async with shore() as (home, dock):
        await was_there(home, dock)
        letter, answered = of(home).deposits._letter, asyncio.Event()

        async def slow(peer: PublicKey, value: Any) -> Any:
            answer = await letter(peer, value)
            await answered.wait()
            return answer

        of(home).deposits._letter = slow
        agent = await begin(home, TO_LAPTOP, "laptop")
        await until(lambda: kept(dock))
        agent.sleep()
        await settled(home, agent, Standing.ASLEEP)
        await until(lambda: kept(dock) == 2)
        answered.set()


@pytest.mark.parametrize("order", [None, "sleep"])
def test_a_laptop_that_has_forgotten_everybody_finds_who_sent_it_an_agent(order: str | None) -> None:
    @run
    async def main() -> None:
        async with shore() as (home, dock):
            await was_there(home, dock)
            agent = await begin(home, TO_LAPTOP, "laptop")
            await until(lambda: kept(dock))
            if order is not None:  # the laptop asks what became of the offer that it finds
                of(home).deposits._offered.clear()
                agent.sleep()
                await settled(home, agent, Standing.ASLEEP)
                assert kept(dock) == 1
            async with laptop_at(dock) as laptop:
                assert not laptop.introductions.peers.addresses(home.key)
                if order is None:
                    assert places(await agent.wait()) == ["laptop"]
                await until(lambda: of(laptop).docked.fetched)
                await until(lambda: not laptop.core.here.store.unfinished())

    main()


@run
async def test_messages_for_agents_there_wait_too() -> None:
    async with shore() as (home, dock), laptop_at(dock) as laptop:
        await until(lambda: of(laptop).docked.own)
        await acquainted(home, laptop)
        agent = await begin(home, LISTENS, "laptop")
        await until(lambda: agent.key in laptop.core.here.berths)
        await settled(laptop, laptop.agent(agent.id), Standing.WAITING)
        agent.send("hello")
        assert numbers(await agent.wait(), "n") == [5]


@run
async def test_results_come_home_to_a_laptop_that_only_its_passport_tells_of() -> None:
    wat = program("(drop (call $go (s 0))) (drop (call $go (s 0))) (call $tell_here)", "next")
    async with shore() as (home, dock), station("other") as other, laptop_at(dock) as laptop:
        await until(lambda: of(laptop).docked.own)
        await meet(home, other)
        await laptop.introductions.call_on(home.url)
        agent = await laptop.launch(packed(wat), [home.key, other.key], owner=OWNER)
        report = await agent.wait()  # `other` was never told of the laptop
        assert places(report) == ["other"]
        assert not any(peer.key == laptop.key and peer.proven for peer in other.introductions.peers.all())


@run
async def test_a_dock_keeps_for_whom_its_policy_names_and_no_more_than_it_says() -> None:
    async with shore() as (home, dock):
        laptop, wire = key_of("laptop").public, home.introductions.wire

        async def deposit(to: PublicKey, size: int, ident: int = 0) -> Any:
            content = [to.raw, "letter", bytes(16), bytes(size), 2**50, []]
            return await wire.letter(dock.key, ["deposit", bytes(31) + bytes([ident]), content])

        assert (await deposit(home.key, 10))[:2] == ["refused", "no-dock"]
        assert (await deposit(laptop, 0))[0] == "refused"
        for kind, urls in (("hello", []), ("letter", [""]), ("letter", ["http://h"] * 9), ("letter", 1)):
            content = [laptop.raw, kind, bytes(16), b"x", 1, urls]
            assert (await wire.letter(dock.key, ["deposit", bytes(32), content]))[0] == "refused"
        await dock.replace_policy(evolve(dock.policy, dock_letters=2, dock_bytes=4000))
        assert await deposit(laptop, 10) == ["taken"]
        assert (await deposit(laptop, 3000))[0] == "later"  # more than one may fill in an hour
        assert await deposit(laptop, 10, 1) == ["taken"]
        assert (await deposit(laptop, 10, 2))[0] == "later"
        assert await wire.letter(dock.key, ["collect", bytes(32), [0, 0, [1, 2]]]) == ["taken", []]  # not for this one
        assert kept(dock) == 2


def test_a_hostile_dock_achieves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives what it likes, again, in any order, and says that others sent it."""
    seen: list[Any] = []
    taken = docks.Docked.taken

    async def spy(self: docks.Docked, content: Any) -> list[object]:
        seen.append(content)
        return await taken(self, content)

    @run
    async def main() -> None:
        async with shore() as (home, dock), laptop_at(dock) as laptop:
            await until(lambda: of(laptop).docked.own)
            await acquainted(home, laptop)
            with monkeypatch.context() as patch:
                patch.setattr(docks.Docked, "taken", spy)
                await (await begin(home, TO_LAPTOP, "laptop")).wait()
            assert seen
            take = of(laptop).docked._take
            for sender, kind, salt, sealed, urls in seen:  # whatever it kept, once more; then bent
                await take(canonical.encode([bytes(32), [sender, kind, salt, sealed, urls]]))
                for bent in (
                    [dock.key.raw, kind, salt, sealed, urls],
                    [sender, "letter" if kind == "handoff" else "handoff", salt, sealed, urls],
                    [sender, kind, bytes(16), sealed, urls],
                    [sender, kind, salt, sealed[:-1], urls],
                    [sender, kind, salt, sealed + b"x", urls],
                    [sender, kind, salt, sealed],
                    [sender, kind, salt, sealed, ["http://h"] * 9],
                    [sender, kind, salt, sealed, ["a\nb"]],
                    [b"", kind, salt, sealed, urls],
                    "nothing",
                ):
                    assert await take(canonical.encode([bytes(32), bent]))
            assert await take(b"\xff")
            assert laptop.core.here.counts["arrived"] == 1
            assert laptop.core.here.berths == {}

    main()


@run
async def test_an_agent_at_the_dock_itself_goes_to_the_laptop() -> None:
    async with shore() as (_, dock), laptop_at(dock) as laptop:
        await until(lambda: of(laptop).docked.own)
        await acquainted(dock, laptop)
        agent = await begin(dock, TO_LAPTOP, "laptop")
        report = await agent.wait()
        assert (numbers(report, "n"), places(report)) == ([0], ["laptop"])
