"""Agents that run at their destination before all of their memory is there."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from agents.blocks import BLOCK_BYTES, BlockBatch
from agents.engines.missing import pages_can_be_missing
from docking import Agent, Station
from docking.errors import StationError
from docking.handoff.refusal import Refusal
from docking.live import block_fetcher, block_server
from docking.live.block_server import BlockServer
from docking.live.wire import Answer, Contents, Fetch, Settled
from docking.residents.berth import Berth
from tests.live.movers import TERMS, accountant, policy
from tests.patience import PATIENCE
from tests.station.harbour import OWNER, begin, harbour, meet, run, station

from .test_moves import ended, running

pytestmark = pytest.mark.skipif(not pages_can_be_missing(), reason="the kernel hands out no faults here")
LARGE = 8  # MiB
WRITER = accountant(LARGE, hot=16 * LARGE, pause=1)
AWAY = Refusal("storage", "the blocks cannot be read here")


async def settled(*stations: Station) -> None:
    """All blocks have been fetched, and forgotten where they were."""
    while any(each.core.fetcher.open or each.core.sessions.served.open for each in stations):
        await asyncio.sleep(0.01)


async def sent_off(agent: Agent, to: str = "omega", timeout_s: float = 0) -> None:
    report = await agent.move(to, downtime_ms=0, timeout_s=timeout_s, on_timeout="post-copy")
    assert report.to == to
    assert report.owed_bytes > 1 << 20


async def writing(alpha: Station, *stops: str) -> Agent:
    """An agent that has filled its memory, and writes."""
    agent = await begin(alpha, WRITER, *stops or ("omega",), terms=TERMS)
    await running(alpha, agent)
    return agent


class Shutter:
    """What a source gives away of the blocks that it has: nothing, while it is shut."""

    def __init__(self, patch: pytest.MonkeyPatch, shown: Callable[[Contents], Contents] | None = None) -> None:
        """`shown`: what it says instead of the truth."""
        self.shut, self.asked, honest = True, 0, BlockServer.handle

        async def handle(server: BlockServer, sender: bytes, request: Fetch | Settled) -> Answer:
            self.asked += 1
            if self.shut and isinstance(request, Fetch):
                answer = AWAY if shown is None else await honest(server, sender, request)
                return shown(answer) if shown is not None and isinstance(answer, Contents) else answer
            return await honest(server, sender, request)

        patch.setattr(BlockServer, "handle", handle)

    async def tried(self, omega: Station, agent: Agent) -> Berth:
        """The agent waits for blocks, and was told that there are none."""
        berth = omega.core.here.berths[agent.key]
        while berth.owed is None or not berth.owed.why:
            await asyncio.sleep(0.01)
        return berth


@pytest.mark.parametrize("timeout_s", [0, 0.2])
@pytest.mark.parametrize("durable", [False, True])
@run
async def test_no_write_is_lost(tmp_path: Path, durable: bool, timeout_s: float) -> None:
    home = tmp_path if durable else None
    async with harbour("alpha", "omega", home=home, policy=policy()) as (alpha, omega):
        agent = await writing(alpha)
        await sent_off(agent, timeout_s=timeout_s)
        await ended(agent, "omega")
        await settled(alpha, omega)
        assert omega.core.fetcher.faults > 0
        while list(tmp_path.glob("alpha/*.owed/*")):
            await asyncio.sleep(0.01)


@run
async def test_it_stands_still_while_its_source_is_away_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with harbour("alpha", "omega", policy=policy()) as (alpha, omega):
        agent, shutter = await writing(alpha), Shutter(monkeypatch)
        await sent_off(agent)
        berth = await shutter.tried(omega, agent)
        (row,) = omega.core.queries.rows()
        assert berth.owed is not None
        assert row["owed_bytes"] == berth.owed.left_bytes > LARGE << 19
        assert "KiB of its memory from alpha: alpha refuses: the blocks cannot be read here" in str(row["text"])
        here = omega.agent(agent.id)
        for order in (here.retract, here.sleep, here.clone):
            with pytest.raises(StationError, match=r"waits for .* KiB of its memory from alpha"):
                order()
        with pytest.raises(StationError, match="try again when all are here"):
            await here.move("alpha")
        # Others run meanwhile, however many threads there are.
        other = await begin(omega, accountant(1, last="o"), terms=TERMS)
        await ended(other, "omega")
        shutter.shut = False
        await ended(agent, "omega")
        await settled(alpha, omega)


GOER = """(module (import "portcall" "here" (func $here (param i32 i32) (result i32)))
  (import "portcall" "go" (func $go (param i32 i32) (result i32)))
  (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (memory (export "memory") 65) (data (i32.const 8) "next")
  (func (export "_start") (local $at i32)
    (loop $fill
      (i64.store (local.get $at) (i64.or (i64.extend_i32_u (local.get $at)) (i64.load (local.get $at))))
      (br_if $fill (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 4259840))))
    (loop $on
      (drop (call $sleep (i32.const 1)))
      (drop (call $here (i32.const 200) (i32.const 64)))
      (br_if $on (i32.eq (i32.load8_u (i32.const 200)) (i32.const 97))))
    (if (call $go (i32.const 8) (i32.const 4)) (then unreachable))
    (if (i64.ne (i64.load (i32.const 4000000)) (i64.const 4000000)) (then unreachable))))"""


@pytest.mark.parametrize("goes", [False, True])
@run
async def test_an_agent_that_goes_waits_for_its_memory(monkeypatch: pytest.MonkeyPatch, goes: bool) -> None:
    """And is disposed of meanwhile, or goes when all is there."""
    async with harbour("alpha", "beta", "omega", policy=policy()) as (alpha, beta, omega):
        agent = await begin(alpha, GOER, "beta", "omega", terms=TERMS)
        while agent.key not in alpha.core.here.berths or not alpha.core.here.berths[agent.key].begun:
            await asyncio.sleep(0.01)
        shutter = Shutter(monkeypatch)
        await sent_off(agent, "beta")
        berth = await shutter.tried(beta, agent)
        if goes:
            shutter.shut = False
            report = await agent.wait(PATIENCE)
            assert report.exit_code == 0
            assert [stay.station for stay in agent.trail()] == ["alpha", "beta", "omega"]
        else:
            beta.agent(agent.id).dispose()
            while agent.key in beta.core.here.berths:
                await asyncio.sleep(0.01)
        assert berth.life is None
        await settled(alpha, beta, omega)


@run
async def test_it_is_disposed_of_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async with harbour("alpha", "omega", policy=policy()) as (alpha, omega):
        agent, shutter = await writing(alpha), Shutter(monkeypatch)
        await sent_off(agent)
        await shutter.tried(omega, agent)
        omega.agent(agent.id).dispose()
        while agent.key in omega.core.here.berths:
            await asyncio.sleep(0.01)
        await settled(alpha, omega)


@pytest.mark.parametrize("durable", [False, True])
@run
async def test_it_leaves_when_all_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool) -> None:
    home = tmp_path if durable else None
    async with harbour("alpha", "beta", "omega", home=home, policy=policy()) as (alpha, beta, omega):
        agent, shutter = await writing(alpha, "beta", "omega"), Shutter(monkeypatch)
        await sent_off(agent, "beta")
        await shutter.tried(beta, agent)
        shutter.shut = False
        while beta.core.here.berths[agent.key].owed is not None:
            await asyncio.sleep(0.01)
        await beta.agent(agent.id).move("omega", timeout_s=0.2, downtime_ms=0, on_timeout="post-copy")
        await ended(agent, "omega")
        await settled(alpha, beta, omega)


@run
async def test_a_crash_of_the_destination_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with harbour("alpha", home=tmp_path, policy=policy()) as (alpha,):
        shutter = Shutter(monkeypatch)
        async with station("omega", tmp_path / "omega", policy=policy()) as omega:
            await meet(alpha, omega)
            agent = await writing(alpha)
            shutter.shut = False
            monkeypatch.setattr(block_fetcher, "LONGEST_RETRY_S", 0.1)
            honest = block_fetcher.BlockFetcher._next
            monkeypatch.setattr(block_fetcher.BlockFetcher, "_next", lambda own, found: honest(own, found)[:1])
            await sent_off(agent)
            while not omega.core.fetcher.fetched_bytes:
                await asyncio.sleep(0.001)
            shutter.shut = True
            berth = await shutter.tried(omega, agent)
            assert berth.owed is not None
            left = berth.owed.left_bytes
            await omega.core.here.journal.write([], True)
            shutil.copytree(tmp_path / "omega", tmp_path / "copy")  # as a crash would leave it
            for each in (tmp_path / "copy").glob("control.sock"):
                each.unlink()
        async with station("omega", tmp_path / "copy", policy=policy()) as again:
            await meet(alpha, again)
            berth = await shutter.tried(again, agent)
            assert berth.owed is not None
            assert 0 < berth.owed.left_bytes <= left  # what had come is not fetched again
            assert not berth.begun
            shutter.shut = False
            await ended(agent, "omega")
            await settled(alpha, again)


@run
async def test_a_restart_of_the_source_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with harbour("omega", home=tmp_path, policy=policy()) as (omega,):
        shutter = Shutter(monkeypatch)
        async with station("alpha", tmp_path / "alpha", policy=policy()) as alpha:
            await meet(alpha, omega)
            agent = await writing(alpha)
            await sent_off(agent)
            await shutter.tried(omega, agent)
            (folder,) = (tmp_path / "alpha").glob("*.owed")
            (folder / ("ab" * 16)).write_bytes(b"junk")  # it does not keep the others from being served
        shutter.shut = False
        async with station("alpha", tmp_path / "alpha", policy=policy()) as alpha:
            await meet(alpha, omega)
            await ended(alpha.agent(agent.id, owner=OWNER), "omega")
            await settled(alpha, omega)


@run
async def test_a_handoff_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """The destination forgets the session before the agent is offered."""
    async with harbour("alpha", "omega", home=tmp_path, policy=policy()) as (alpha, omega):
        agent = await writing(alpha)
        honest = BlockServer.serve

        def serve(server: BlockServer, served: block_server.ServedAgent) -> None:
            honest(server, served)
            for session in tuple(omega.core.sessions.open.values()):
                omega.core.sessions._drop(session)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BlockServer, "serve", serve)
            with pytest.raises(StationError, match="no-session"):
                await sent_off(agent)
        while list(tmp_path.glob("alpha/*.owed/*")):
            await asyncio.sleep(0.01)
        assert not alpha.core.sessions.served.open
        berth = alpha.core.here.berths[agent.key]
        while berth.life is None:  # it goes on here first: without an instance there is nothing to leave behind
            await asyncio.sleep(0.01)
        await sent_off(agent)
        await ended(agent, "omega")


@run
async def test_a_volatile_source_waits_before_it_stops() -> None:
    async with harbour("omega", policy=policy()) as (omega,):
        async with station("alpha", policy=policy()) as alpha:
            await meet(alpha, omega)
            agent = await writing(alpha)
            await sent_off(agent)
        berth = omega.core.here.berths.get(agent.key)
        assert berth is None or berth.owed is None or not berth.owed.left_bytes


def altered(answer: Contents) -> Contents:
    """Other contents."""
    batch = answer.batch
    contents = bytes(BLOCK_BYTES * len(batch.blocks))
    return Contents(BlockBatch.of(batch.memory, batch.pages, batch.blocks, contents))


def others(answer: Contents) -> Contents:
    """Other blocks."""
    batch = answer.batch
    return Contents(evolve(batch, blocks=tuple(block + 1 for block in batch.blocks)))


def cut(answer: Contents) -> Contents:
    """Data that cannot be read."""
    return Contents(evolve(answer.batch, data=answer.batch.data[:-1]))


@pytest.mark.parametrize(
    ("lie", "said"),
    [(altered, "sends other blocks than the agent had"), (others, "something else"), (cut, "cannot be read")],
)
@run
async def test_what_a_source_makes_up_is_not_used(
    monkeypatch: pytest.MonkeyPatch, lie: Callable[[Contents], Contents], said: str
) -> None:
    async with harbour("alpha", "omega", policy=policy()) as (alpha, omega):
        agent, shutter = await writing(alpha), Shutter(monkeypatch, lie)
        await sent_off(agent)
        berth = await shutter.tried(omega, agent)
        assert berth.owed is not None
        assert said in berth.owed.why
        shutter.shut = False
        await ended(agent, "omega")


@run
async def test_blocks_are_given_to_the_destination_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with harbour("alpha", "beta", "omega", policy=policy()) as (alpha, beta, omega):
        agent, shutter = await writing(alpha), Shutter(monkeypatch)
        await sent_off(agent)
        await shutter.tried(omega, agent)
        served = alpha.core.sessions.served
        ((session, agent_there),) = served.open.items()
        shutter.shut = False
        stranger = beta.key.raw
        for request in (Fetch(session, 0, (0,)), Fetch(bytes(16), 0, (0,))):
            answer = await served.handle(stranger, request)
            assert isinstance(answer, Refusal)
            assert answer.code == "no-session"
        assert await served.handle(stranger, Settled(session)) is None
        assert session in served.open
        peer = served.open[session].peer
        agent_there.left = False  # as before the commit: what stays is not to be given up
        assert isinstance(await served.handle(peer, Settled(session)), Refusal)
        agent_there.left = True
        for memory, block in ((5, 0), (0, 1 << 19)):
            answer = await served.handle(peer, Fetch(session, memory, (block,)))
            assert isinstance(answer, Refusal)
            assert answer.code == "storage"
        await ended(agent, "omega")


@run
async def test_it_is_refused_where_it_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    async with harbour("alpha", "omega", policy=policy()) as (alpha, _):
        agent = await writing(alpha)
        for module, name in ((block_fetcher, "MAX_FROM_PEER"), (block_server, "MAX_AT_PEER")):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, name, 0)
                with pytest.raises(StationError, match="no-post-copy: what is left of its memory cannot come later"):
                    await sent_off(agent)
        await sent_off(agent)
        await ended(agent, "omega")
