"""Sources that lie: sessions that are filled, that never end, that are others', whose blocks are not what is signed."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve

from agents import canonical
from agents.blocks import BATCH_BLOCKS, BLOCK_BYTES, BLOCKS_PER_PAGE, BlockBatch, BlockTree
from agents.errors import BadSnapshot
from agents.snapshot import MemoryRoot, Snapshot
from agents.wasi.file_blocks import room_for
from docking import Policy, Station
from docking.errors import CarrierError, StationError
from docking.handle import Agent
from docking.handoff.refusal import Refusal
from docking.live import sessions, wire
from docking.residents import sending
from tests.live.movers import TERMS, accountant, policy
from tests.live.test_moves import SLOW, SMALL, ended, running
from tests.station.harbour import begin, harbour, meet, run, station
from tests.station.test_disk_full import small_disk


@define
class Liar:
    """A source with an agent that it may announce, and what it says to the destination."""

    alpha: Station
    omega: Station
    agent: Agent

    async def ask(self, request: wire.Request) -> Any:
        """What the destination answers."""
        introductions = self.alpha.introductions
        return wire.read_answer(await introductions.session(self.omega.key, wire.write_request(request)))

    async def open(self, pages: int = 16 * SMALL + 1) -> Any:
        """A session, or why there is none."""
        core = self.alpha.core
        offer = core.departures.announcement(core.here.berths[self.agent.key], self.omega.key, True, False)
        return await self.ask(wire.Prepare(offer, (pages,)))


@contextlib.asynccontextmanager
async def liar(program: str = SLOW) -> AsyncIterator[Liar]:
    async with harbour("alpha", "omega", policy=policy()) as (alpha, omega):
        agent = await begin(alpha, program, "omega", terms=TERMS)
        await running(alpha, agent)
        yield Liar(alpha, omega, agent)


@contextlib.asynccontextmanager
async def liar_at(omega: Station, name: str) -> AsyncIterator[Liar]:
    """The same, from another station to one that runs."""
    async with harbour(name, policy=policy()) as (alpha,):
        await meet(alpha, omega)
        agent = await begin(alpha, SLOW, "omega", terms=TERMS)
        await running(alpha, agent)
        yield Liar(alpha, omega, agent)


@contextlib.asynccontextmanager
async def station_on_a_small_disk(folder: Path) -> AsyncIterator[Station]:
    with small_disk(folder / "disk", "16m") as disk:
        async with station("omega", disk / "omega", policy=policy(disk=0)) as omega:
            free = os.statvfs(disk)
            (disk / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - (1 << 20)))
            yield omega


def batch(first: int, count: int = 1, memory: int = 0, pages: int = 16 * SMALL + 1) -> BlockBatch:
    return BlockBatch.of(memory, pages, list(range(first, first + count)), b"x" * BLOCK_BYTES * count)


@run
async def test_the_honest_way() -> None:
    async with liar() as it:
        opened = await it.open()
        assert isinstance(opened, wire.Opened)
        assert await it.ask(wire.Blocks(opened.session, batch(4, BATCH_BLOCKS))) is None
        session = it.omega.core.sessions.open[opened.session]
        assert session.trees[0][4] == session.trees[0][5] != bytes(32)
        assert it.omega.core.here.load().memory_bytes >= SMALL << 20  # it counts as held
        assert await it.ask(wire.Cancel(opened.session)) is None
        assert it.omega.core.sessions.open == {}


@run
async def test_a_new_session_for_an_agent_ends_the_one_before() -> None:
    async with liar() as it:
        first, second = await it.open(), await it.open()
        assert set(it.omega.core.sessions.open) == {second.session} != {first.session}


@run
async def test_no_station_fills_the_sessions_of_another() -> None:
    async with liar() as it:
        others = [await begin(it.alpha, SLOW, "omega", terms=TERMS) for _ in range(sessions.MAX_OF_PEER)]
        for other in others:
            await running(it.alpha, other)
        found = [await Liar(it.alpha, it.omega, other).open() for other in (it.agent, *others)]
        assert [isinstance(each, wire.Opened) for each in found] == [True] * sessions.MAX_OF_PEER + [False]
        assert (found[-1].code, found[-1].retry_after > 0) == ("busy", True)


@pytest.mark.parametrize(
    ("pages", "code"),
    [(wire.MAX_PAGES, "bad-state"), (1 << 14 | 1, "bad-state"), (0, "")],
    ids=["beyond a memory", "beyond the permit", "smaller than it begins"],
)
@run
async def test_memory_beyond_what_the_agent_may_have_is_refused(pages: int, code: str) -> None:
    async with liar() as it:
        opened = await it.open(pages)
        assert (opened.code if isinstance(opened, Refusal) else "") == code
        assert bool(it.omega.core.sessions.open) == (not code)


@run
async def test_blocks_that_cannot_be_end_the_session() -> None:
    async with liar() as it:
        for wrong in (
            batch(0, memory=2),
            batch(0, memory=1, pages=room_for(Policy().wasi.luggage_bytes) // BLOCKS_PER_PAGE + 1),  # of its files
            batch(0, pages=1 << 15),
            BlockBatch(0, 33, (0,), (), b"not zstd"),
            BlockBatch(0, 33, (0, 1), (), batch(0).data),
        ):
            opened = await it.open()
            answer = await it.ask(wire.Blocks(opened.session, wrong))
            assert isinstance(answer, Refusal)
            assert answer.code == "bad-state"
            assert it.omega.core.sessions.open == {}
            assert (await it.ask(wire.Blocks(opened.session, batch(0)))).code == "no-session"


@run
async def test_a_session_takes_no_more_than_some_rounds() -> None:
    async with liar() as it:
        opened = await it.open()
        session = it.omega.core.sessions.open[opened.session]
        most = TERMS.permit.budget.memory // BLOCK_BYTES + room_for(Policy().wasi.luggage_bytes)
        assert session.left == sessions.MAX_ROUNDS * most
        session.left = BATCH_BLOCKS
        assert await it.ask(wire.Blocks(opened.session, batch(0, BATCH_BLOCKS))) is None
        assert (await it.ask(wire.Blocks(opened.session, batch(0)))).code == "bad-state"
        assert it.omega.core.sessions.open == {}


@run
async def test_sessions_of_all_stations_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 1)
    async with liar() as it, liar_at(it.omega, "beta") as other:
        assert isinstance(await it.open(), wire.Opened)
        full = await other.open()
        assert (full.code, full.retry_after > 0) == ("busy", True)
        assert isinstance(await it.open(), wire.Opened)  # its own, in the place of the first


@run
async def test_blocks_that_cannot_be_written_are_refused_as_they_come() -> None:
    async with liar() as it:
        opened = await it.open()
        good = batch(2, 2)
        last = 4 * (16 * SMALL + 1)
        for blocks, initial in (((2, 2), ()), ((3, 2), ()), ((2, 3), (3,)), ((last,), ()), (range(65), ()), ((), ())):
            wrong = BlockBatch(0, 16 * SMALL + 1, tuple(blocks), initial, good.data)
            with pytest.raises(CarrierError):  # no message of the protocol
                await it.ask(wire.Blocks(opened.session, wrong))
        assert await it.ask(wire.Blocks(opened.session, good)) is None


@run
async def test_a_disk_without_room_ends_the_session(tmp_path: Path) -> None:
    async with station_on_a_small_disk(tmp_path) as omega, liar_at(omega, "alpha") as it:
        opened = await it.open()
        assert isinstance(opened, wire.Opened)
        noise, answer, first = os.urandom(BLOCK_BYTES * BATCH_BLOCKS), None, 0
        while answer is None:  # until the disk is full
            blocks = BlockBatch.of(0, 33, range(first, first + BATCH_BLOCKS), noise)
            answer, first = await it.ask(wire.Blocks(opened.session, blocks)), first + BATCH_BLOCKS
        assert isinstance(answer, Refusal)
        assert (answer.code, answer.retry_after > 0) == ("storage", True)
        assert omega.core.sessions.open == {}
        assert list(tmp_path.rglob("*.blocks/*")) == []  # what it had taken is free again
        assert isinstance(await it.open(), wire.Opened)


@run
async def test_a_session_is_used_once() -> None:
    async with liar(accountant(SMALL, last="zeta", hot=1, pause=1)) as it:
        moving = asyncio.ensure_future(it.agent.move("omega"))
        while not it.omega.core.sessions.open:
            await asyncio.sleep(0)
        (name,) = it.omega.core.sessions.open
        await moving
        before = it.omega.core.here.berths[it.agent.key]
        assert (await it.ask(wire.Blocks(name, batch(4)))).code == "no-session"
        assert await it.ask(wire.Cancel(name)) is None
        assert it.omega.core.here.berths[it.agent.key] is before
        while not before.begun:
            await asyncio.sleep(0.01)


@run
async def test_of_two_offers_in_one_session_one_is_held_and_nothing_is_written_any_more() -> None:
    async with liar() as it:
        opened = await it.open()
        session = it.omega.core.sessions.open[opened.session]
        image = it.alpha.core.here.berths[it.agent.key].image

        def offered(fill: bytes) -> tuple[Snapshot, wire.Rest]:
            """A state, and what lacks of its memory."""
            rest = BlockBatch.of(0, 16 * SMALL + 1, [7], fill * BLOCK_BYTES)
            tree = BlockTree(16 * SMALL + 1)
            tree[7] = canonical.digest(fill * BLOCK_BYTES)
            return Snapshot(image.digest, "", roots=(MemoryRoot(tree.pages, tree.root()),)), wire.Rest(
                b"s" * 16, (rest,)
            )

        offers = {bytes([n]) * 32: offered(bytes([n])) for n in range(1, 9)}

        def complete(hid: bytes) -> bytes | None:
            try:
                session.complete(hid, *offers[hid])
            except BadSnapshot:
                return None
            return hid

        (held,) = set(await asyncio.gather(*(asyncio.to_thread(complete, hid) for hid in offers))) - {None}
        assert held is not None
        instance = session.life.instance
        assert instance is not None
        memory = instance.memory("memory")
        assert bytes(memory[7 * BLOCK_BYTES : 8 * BLOCK_BYTES]) == held[:1] * BLOCK_BYTES
        assert complete(held) == held  # the same offer again: nothing changes
        assert (await it.ask(wire.Blocks(opened.session, batch(7)))).code == "no-session"
        with pytest.raises(BadSnapshot, match="offered already"):  # one that was on its way
            session.take(batch(7))
        assert bytes(memory[7 * BLOCK_BYTES : 8 * BLOCK_BYTES]) == held[:1] * BLOCK_BYTES
        it.omega.core.sessions.dropped(bytes(32))
        assert session.name in it.omega.core.sessions.open
        it.omega.core.sessions.dropped(held)
        assert session.name not in it.omega.core.sessions.open


@run
async def test_a_session_that_nothing_comes_for_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "IDLE_S", 0.2)
    async with liar() as it:
        opened = await it.open()
        while opened.session in it.omega.core.sessions.open:
            await asyncio.sleep(0.01)
        monkeypatch.setattr(sessions, "LIFETIME_S", -1.0)
        opened = await it.open()
        while opened.session in it.omega.core.sessions.open:  # messages do not help
            await it.ask(wire.Blocks(opened.session, batch(0)))


@run
async def test_a_session_is_its_source_s() -> None:
    async with liar() as it, harbour("mallory", policy=policy()) as (mallory,):
        await mallory.introductions.call_on(it.omega.url)
        opened = await it.open()
        thief = Liar(mallory, it.omega, it.agent)
        assert (await thief.ask(wire.Blocks(opened.session, batch(0)))).code == "no-session"
        assert await thief.ask(wire.Cancel(opened.session)) is None
        assert opened.session in it.omega.core.sessions.open
        core = it.alpha.core
        offer = core.departures.announcement(core.here.berths[it.agent.key], it.omega.key, True, False)
        assert (await thief.ask(wire.Prepare(offer, (33,)))).code == "stranger"


@run
async def test_what_is_no_request_is_refused_and_the_station_goes_on() -> None:
    async with liar() as it:
        for junk in (b"\x80", b"\x82\x66blocks\x40", b"\xff", bytes(100)):
            with pytest.raises(CarrierError):
                await it.alpha.introductions.session(it.omega.key, [junk])
        assert isinstance(await it.open(), wire.Opened)


@pytest.mark.parametrize("lie", ["a block is left out", "a block is another", "a larger root", "another session"])
@run
async def test_an_agent_whose_blocks_are_not_those_that_are_signed_stays(
    lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest_of = sending.Sending.rest

    def lying(it: Any, found: list[list[int]]) -> Any:
        rest, snapshot = rest_of(it, found)
        (root,) = snapshot.roots
        if lie == "a block is left out":
            it.memories[0].tree[9] = b"other contents, never sent to it"
            root = MemoryRoot(root.pages, it.memories[0].tree.root())
        elif lie == "a block is another":
            rest = wire.Rest(rest.session, (*rest.batches, batch(20)))
        elif lie == "a larger root":
            root = MemoryRoot(root.pages + 1, root.root)
        else:
            rest = wire.Rest(bytes(16), rest.batches)
        return rest, evolve(snapshot, roots=(root,))

    async with liar() as it:
        monkeypatch.setattr(sending.Sending, "rest", lying)
        code = "no-session" if lie == "another session" else "bad-blocks"
        with pytest.raises(StationError, match=code):
            await it.agent.move("omega")
        monkeypatch.undo()
        assert it.agent.where() == "alpha"
        assert it.agent.key not in it.omega.core.here.berths
        while it.omega.core.sessions.open:
            await asyncio.sleep(0.01)
        await it.agent.move("omega")
        await ended(it.agent, "omega")


@run
async def test_a_destination_that_forgets_the_session_gets_the_agent_at_the_next_try() -> None:
    async with liar(accountant(SMALL, hot=1, pause=1)) as it:

        async def forget() -> None:
            while not it.omega.core.sessions.open:
                await asyncio.sleep(0)
            (name,) = it.omega.core.sessions.open
            it.omega.core.sessions._drop(it.omega.core.sessions.open[name])

        forgetting = asyncio.ensure_future(forget())
        with contextlib.suppress(StationError):
            await it.agent.move("omega")
            pytest.fail("the session was dropped")
        await forgetting
        assert it.agent.where() == "alpha"
        await it.agent.move("omega")
        await ended(it.agent, "omega")


@run
async def test_a_session_whose_agent_was_not_held_after_all_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "IDLE_S", 0.2)
    async with liar() as it:
        opened = await it.open()
        it.omega.core.sessions.open[opened.session].handoffs.add(
            bytes(32)
        )  # and then its writing failed: the ledger has nothing
        while opened.session in it.omega.core.sessions.open:
            await asyncio.sleep(0.01)
