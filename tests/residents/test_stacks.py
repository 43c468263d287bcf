"""The stack of an agent at a station: as it is now, whatever it does, and as it was stored where there is no other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from attrs import evolve

from agents.sdk.sources import load_image, user_cache
from agents.stack import Stack
from docking import Station, Terms
from docking.errors import AgentEnded, UnknownAgent
from docking.handle import Agent
from docking.launching import DEFAULT_PERMIT
from docking.residents import stacks
from docking.residents.berth import Standing
from tests.patience import PATIENCE
from tests.station.harbour import OWNER, Watch, begin, harbour, packed, program, run, settled

SCRIPT = """import sys
import portcall

def spin(start):
    total = start
    while not done:
        total += 1

def wait(how):
    hint = how + "!"
    if how == "recv":
        portcall.report("heard", portcall.recv())
    elif how == "sleep":
        portcall.sleep(3600)
    elif how == "call":
        portcall.report("heard", portcall.call("slow"))

done = False
if sys.argv[1] == "spin":
    spin(7)
wait(sys.argv[1])
"""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that runs has as long as it needs."""
    monkeypatch.setattr(stacks, "SUSPENDS_WITHIN_S", PATIENCE)


async def started(at: Station, folder: Path, how: str) -> Agent:
    source = folder / "agent.py"
    source.write_text(SCRIPT)
    return await at.launch(load_image(source, cache=user_cache()), owner=OWNER, args=[how])


def shown(stack: Stack, function: str) -> dict[str, str]:
    """The variables of a Python function in the stack."""
    assert (stack.language, stack.note) == ("python", "")
    (frame,) = (each for each in stack.frames if each.function == function and each.file == "/agent/agent.py")
    return {variable.name: variable.value for variable in frame.variables}


@run
async def test_an_agent_that_runs_is_read_and_goes_on(tmp_path: Path) -> None:
    async with harbour("home") as (home,):
        agent = await started(home, tmp_path, "spin")
        first = await agent.stack()
        while not {"total"} <= {each.name for frame in first.frames[:1] for each in frame.variables}:
            first = await agent.stack()
        assert agent.standing == "ready"
        before, after = (int(shown(each, "spin")["total"]) for each in (first, await agent.stack()))
        while after == before:
            after = int(shown(await agent.stack(), "spin")["total"])
        assert after > before
        agent.dispose()


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("how", ["recv", "sleep"])
def test_an_agent_that_waits(how: str, durable: bool, tmp_path: Path) -> None:
    @run
    async def main() -> None:
        async with harbour("home", home=tmp_path / "homes" if durable else None) as (home,):
            agent = await started(home, tmp_path, how)
            await settled(home, agent, Standing.WAITING)
            assert shown(await agent.stack(), "wait") == {"how": repr(how), "hint": repr(how + "!")}
            if how == "recv":
                agent.send("hello")
            else:
                agent.wake()
            report = await agent.wait()
            assert [result.text for result in report.results] == ["hello"] * (how == "recv")

    main()


@run
async def test_an_agent_in_a_service_call(tmp_path: Path) -> None:
    async with harbour("home") as (home,):
        asked, answer = asyncio.Event(), asyncio.Event()

        @home.service("slow")
        async def slow(request: bytes) -> bytes:
            asked.set()
            await answer.wait()
            return b"at last"

        agent = await started(home, tmp_path, "call")
        await asked.wait()
        for _ in range(2):
            assert shown(await agent.stack(), "wait") == {"how": "'call'", "hint": "'call!'"}
        answer.set()
        report = await agent.wait()
        assert [result.text for result in report.results] == ["at last"]


@run
async def test_an_agent_that_was_put_to_sleep_and_one_that_used_up_its_time(tmp_path: Path) -> None:
    async with harbour("home") as (home,):
        agent = await started(home, tmp_path, "spin")
        agent.sleep()
        await settled(home, agent, Standing.ASLEEP)
        stack = await agent.stack()
        assert (stack.language, stack.note) == ("python", "")
        short = evolve(DEFAULT_PERMIT, budget=evolve(DEFAULT_PERMIT.budget, cpu=30_000))
        endless = program("(loop $l (global.set $count (i32.add (global.get $count) (i32.const 1))) (br $l))")
        stopped = await begin(home, endless, terms=Terms(permit=short))
        with pytest.raises(AgentEnded):
            await stopped.wait(PATIENCE)
        stack = await stopped.stack()
        assert stack.note.startswith("it was stopped (cpu: ")
        assert len(stack.frames) == 1


@run
async def test_an_agent_that_does_not_suspend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "SUSPENDS_WITHIN_S", 0.001)
    long = """(loop $again
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (br_if $again (i32.ne (global.get $count) (i32.const 1000000000))))"""
    async with harbour("home") as (home,):
        agent = await home.launch(packed(program(long), polls="none"), owner=OWNER)
        while not home.core.here.berths[agent.key].begun:
            await asyncio.sleep(0)
        stack = await agent.stack()
        assert stack == Stack(note="it does not suspend, and this is its stack when it was last stored")
        await agent.wait(PATIENCE)


@run
async def test_an_agent_that_is_not_here() -> None:
    async with harbour("home", "beta") as (home, beta):
        watch = Watch(home)
        away = program(
            "(drop (call $go (s 0))) (drop (call $recv (i32.const 300) (i32.const 64) (i32.const -1)))", "beta"
        )
        agent = await begin(home, away, "beta")
        await watch.until("told")
        with pytest.raises(
            UnknownAgent, match="the agent is not at home: its stack is read at the station where it is"
        ):
            await agent.stack()
        there = beta.agent(agent.id)
        await settled(beta, agent, Standing.WAITING)
        assert len((await there.stack()).frames) == 1
        there.send("go on")
        await agent.wait()
        with pytest.raises(UnknownAgent, match=r"journey is over \(finished\), and nothing is left of its stack"):
            await agent.stack()
