"""Agents that are sent ahead to their one next stop: `go` sends the rest, and no write is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agents.blocks import BLOCK_BYTES
from docking import Station
from docking.handle import Agent
from docking.live import sessions
from docking.residents import ahead
from docking.residents.berth import Standing
from tests.live.movers import TERMS, accountant, policy
from tests.patience import PATIENCE
from tests.station.harbour import begin, harbour, numbers, places, run

MIB = 1 << 20


def goer(mib: int, to: str = "next") -> str:
    """As `accountant`, and goes when the service `gate` says something."""
    at = "          (drop (call $here (i32.const 200) (i32.const 64)))\n"
    go = f"""          (if (i32.gt_s
              (call $call (i32.const 400) (i32.const 4) (i32.const 400) (i32.const 4) (i32.const 300) (i32.const 64))
              (i32.const 0))
            (then (drop (call $go (i32.const 410) (i32.const {len(to)})))))
"""
    wat = accountant(mib, hot=1, pause=1).replace(at, go + at)
    imports = """(import "portcall" "call" (func $call (param i32 i32 i32 i32 i32 i32) (result i32)))
      (import "portcall" "go" (func $go (param i32 i32) (result i32)))
      (import "portcall" "here\""""
    data = f'(data (i32.const 400) "gate")\n      (data (i32.const 410) "{to}")\n      (global $sum'
    return wat.replace('(import "portcall" "here"', imports, 1).replace("(global $sum", data, 1)


class Gate:
    """Whether agents are to go from a station."""

    def __init__(self, at: Station) -> None:
        self.open, self.asked = False, 0
        at.offer("gate", self.answer)

    def answer(self, request: bytes, visitor: object) -> bytes:
        self.asked += 1
        return b"go" if self.open else b""


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "LOOK_S", 0.05)
    monkeypatch.setattr(ahead, "REST_RATIO", 0.0)


async def there(at: Station, agent: Agent, gate: Gate) -> None:
    """It has filled its memory, and all but its last writes has been sent ahead."""
    while not gate.asked or agent.key not in at.core.ahead._going:
        await asyncio.sleep(0.01)
    going = at.core.ahead._going[agent.key]
    rounds = going.sending.rounds
    while going.sending.rounds < rounds + 3 or sum(map(len, going.behind)) * BLOCK_BYTES > MIB:
        await asyncio.sleep(0.01)


async def ended(agent: Agent) -> None:
    """It ended at omega, and knows of no write that was lost."""
    report = await agent.wait(PATIENCE)
    assert (report.exit_code, numbers(report, "d"), places(report)) == (0, [0, 0], ["omega"])


@pytest.mark.parametrize("durable", [False, True])
def test_go_sends_only_a_small_rest(tmp_path: Path, durable: bool) -> None:
    @run
    async def main() -> None:
        home = tmp_path if durable else None
        async with harbour("alpha", "omega", home=home, policy=policy(), ahead_mib=8) as (alpha, omega):
            gate = Gate(alpha)
            agent = await begin(alpha, goer(32), "omega", terms=TERMS)
            await there(alpha, agent, gate)
            (row,) = omega.core.sessions.rows()
            assert (row["agent"], row["from"], row["held"]) == (agent.id, alpha.key.text, False)
            assert row["bytes"] >= 32 * MIB  # type: ignore[operator]
            assert "\nportcall_sessions 1\n" in omega.metrics()
            assert "\nportcall_ahead_agents 1\n" in alpha.metrics()
            gate.open = True
            await ended(agent)
            assert alpha.core.ahead.saved_bytes >= 29 * MIB
            assert alpha.core.departures.bytes_out < MIB  # of state beside the blocks
            assert not omega.core.sessions.open
            assert (alpha.core.ahead.under_way, [stay.station for stay in agent.trail()]) == (0, ["alpha", "omega"])

    main()


@run
async def test_a_session_that_is_lost_costs_bytes_only() -> None:
    async with harbour("alpha", "omega", policy=policy(), ahead_mib=1) as (alpha, omega):
        gate = Gate(alpha)
        agent = await begin(alpha, goer(4), "omega", terms=TERMS)
        await there(alpha, agent, gate)
        for session in tuple(omega.core.sessions.open.values()):
            omega.core.sessions._drop(session)
        gate.open = True
        await ended(agent)
        assert alpha.core.departures.bytes_out >= MIB  # all of it, compressed


@run
async def test_one_that_does_not_go_there_travels_as_a_whole_later() -> None:
    async with harbour("alpha", "omega", policy=policy(), ahead_mib=1) as (alpha, omega):
        gate = Gate(alpha)
        agent = await begin(alpha, goer(4, "nowhere"), "omega", terms=TERMS)
        await there(alpha, agent, gate)
        gate.open = True  # its `go` fails, and it goes on here
        while alpha.core.ahead.under_way or omega.core.sessions.open:
            await asyncio.sleep(0.01)
        gate.open, berth = False, alpha.core.here.berths[agent.key]
        asked = gate.asked
        while gate.asked < asked + 2 or berth.standing is Standing.LEAVING:
            await asyncio.sleep(0.01)
        assert (await agent.move("omega")).to == "omega"
        await ended(agent)


@run
async def test_an_order_to_move_comes_first() -> None:
    async with harbour("alpha", "omega", policy=policy(), ahead_mib=1) as (alpha, _):
        gate = Gate(alpha)
        agent = await begin(alpha, goer(4), "omega", terms=TERMS)
        await there(alpha, agent, gate)
        assert (await agent.move("omega")).rounds >= 1
        await ended(agent)
        assert alpha.core.ahead.under_way == 0


@pytest.mark.parametrize("least", [1, 8])
def test_small_agents_and_those_without_a_next_stop_are_left_alone(least: int) -> None:
    @run
    async def main() -> None:
        async with harbour("alpha", "omega", policy=policy(), ahead_mib=least) as (alpha, omega):
            gate = Gate(alpha)
            agent = await begin(alpha, goer(4), *(["omega"] if least > 4 else []), terms=TERMS)
            while not gate.asked or alpha.core.ahead._tasks:
                await asyncio.sleep(0.01)
            alpha.core.ahead._look()
            assert not alpha.core.ahead._tasks
            assert not omega.core.sessions.open
            agent.dispose()

    main()


@run
async def test_a_session_that_is_silent_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_OF_PEER", 1)
    monkeypatch.setattr(sessions, "YIELDS_S", 0.0)
    async with harbour("alpha", "omega", policy=policy(), ahead_mib=1) as (alpha, omega):
        gate = Gate(alpha)
        first = await begin(alpha, goer(4), "omega", terms=TERMS)
        await there(alpha, first, gate)
        alpha.core.ahead.close()
        (session,) = omega.core.sessions.open
        second = await begin(alpha, accountant(2, hot=1, pause=1), "omega", terms=TERMS)
        while alpha.core.here.berths[second.key].memory_bytes < 2 * MIB:
            await asyncio.sleep(0.01)
        assert (await second.move("omega")).rounds >= 1
        assert session not in omega.core.sessions.open
        gate.open = True
        await ended(first)
