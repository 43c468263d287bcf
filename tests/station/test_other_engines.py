"""Stations whose agents run in V8: between them and others, and when the process of the engine dies."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from agents import engines
from docking import Agent, AgentEnded, Station
from docking.residents.berth import Berth, Standing
from docking.residents.lifecycle import MAX_LOST
from tests.station.harbour import begin, journey, meet, numbers, places, program, run, settled, station

if "v8" not in engines.available():
    pytest.skip("no Node.js that is new enough", allow_module_level=True)

from agents.engines.v8.process import the_node

# Through two stations and back, with a value in a local, one in a global, one in memory.
TOUR = program(
    """
    (loop $tour
      (drop (call $go (i32.add (i32.const 1000) (i32.mul (local.get $n) (i32.const 100))) (i32.const 4)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (global.set $count (i32.add (global.get $count) (local.get $n)))
      (call $tell_here)
      (call $tell (i32.const 110) (global.get $count))
      (br_if $tour (i32.lt_s (local.get $n) (i32.const 3))))""",
    "beta|home|beta",
    "(local $n i32)",
)
# Waits for a moment, which is durable, and then computes for ever.
SPINS = program("(call $tell (i32.const 110) (i32.const 1)) (drop (call $sleep (i32.const 300))) (loop (br 0))")


@pytest.mark.parametrize("there", ["v8", "wasmtime"])
def test_an_agent_goes_from_one_engine_to_the_other_and_back(there: str) -> None:
    @run
    async def travels() -> None:
        here = "wasmtime" if there == "v8" else "v8"
        async with station("home", engine=here) as home, station("beta", engine=there) as beta:
            await meet(home, beta)
            report = await journey(home, TOUR, "beta", "home", "beta")
        assert report.exit_code == 0
        assert places(report) == ["beta", "home", "beta"]
        assert numbers(report, "n") == [1, 3, 6]

    travels()


async def spinning(home: Station, agent: Agent) -> Berth:
    """It computes, having been stored."""
    while not (berth := home.core.here.berths[agent.key]).running or berth.life is None:
        await asyncio.sleep(0.01)
    await home.core.here.journal.write([], True)
    return home.core.here.berths[agent.key]


@run
async def test_when_the_process_dies_agents_go_on_from_where_they_were_stored_last(tmp_path: Path) -> None:
    async with station("home", tmp_path / "home", engine="v8") as home:
        agent = await begin(home, SPINS)
        await settled(home, agent, Standing.WAITING)
        for lost in range(MAX_LOST + 1):
            berth = await spinning(home, agent)
            assert berth.lost == lost
            state = home.core.here.state_of(berth)
            os.kill(the_node().process_id, signal.SIGKILL)
            while home.core.here.berths[agent.key] is berth and berth.standing is not Standing.STOPPED:
                await asyncio.sleep(0.01)
            if lost < MAX_LOST:
                assert any("goes on from where it was stored last" in line for line in agent.logs())
        # Perhaps it is the agent that kills it: it is stopped, and its last state is there.
        with pytest.raises(AgentEnded, match=r"stopped at home: .*the engine v8 was ended by signal 9"):
            await agent.wait()
        assert home.core.here.state_of(home.core.here.berths[agent.key]) == state
        report = await journey(home, program("(call $tell (i32.const 110) (i32.const 5))"))  # in the next process
        assert numbers(report, "n") == [5]
