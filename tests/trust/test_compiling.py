"""Compiling is the time of the agent for which it is done, and nobody else's: not of arrivals, launches, or the end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import evolve

import agents
from agents import Exhausted, TimeBudget
from agents.engines.wasmtime import program as wasmtime_program
from agents.errors import CompilingTooCostly, CredentialError
from agents.rewrite.metadata import RESUME_SECTION
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module
from docking import Policy
from docking.handle import Agent
from docking.trust.images import COMPILING
from docking.trust.policy import DEFAULT_BUDGET
from tests.patience import PATIENCE
from tests.runtime.agents_at_work import place
from tests.station.harbour import OWNER, Watch, begin, harbour, journey, numbers, packed, program, run

SMALL = program("(call $tell (i32.const 110) (i32.const 1))")


def large(number: int) -> str:
    """A program of more code than is compiled in place; each number gives another one."""
    return program("(drop (i32.const 1))" * 4000 + f"(call $tell (i32.const 110) (i32.const {number}))")


def going(number: int) -> str:
    """One that goes to beta and tells its number there."""
    filler = "(drop (i32.const 1))" * 4000
    return program(f"{filler} (drop (call $go (s 0))) (call $tell (i32.const 110) (i32.const {number}))", "beta")


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasmtime_program, "open_cache", lambda cache: None)


@pytest.fixture
def held_up(no_cache: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Semaphore]:
    """Compiling in another process begins, and does not end before the test: released once for each that began."""
    began, end = threading.Semaphore(0), threading.Event()

    def compile_aside(*_: Any) -> bytes:
        began.release()
        end.wait(PATIENCE)
        raise CompilingTooCostly("cpu", "it took too long")

    monkeypatch.setattr(wasmtime_program, "compile_aside", compile_aside)
    yield began
    end.set()


def test_compiling_counts_as_the_agents_time_and_ends_with_its_budget(no_cache: None) -> None:
    engine = agents.engines.load("wasmtime", cache=None)
    image = agents.pack(large(1))
    outcome = agents.run(image, engine=engine, ambient=place(), budget=TimeBudget(cpu_ns=1_000_000))
    assert isinstance(outcome, Exhausted)
    assert (outcome.what, outcome.snapshot) == ("cpu", None)
    assert "compiling" in outcome.reason
    life = agents.Life(image, engine=engine, ambient=place())
    assert life.usage().cpu_ns > 1_000_000


@run
async def test_an_agent_pays_for_compiling_the_image_that_it_brings(no_cache: None) -> None:
    async with harbour("alpha", "beta") as [alpha, _]:
        report = await journey(alpha, large(2), "beta")
        assert numbers(report, "n") == [2]
        first = report.results
        again = await journey(alpha, large(2), "beta")
        assert len(again.results) == len(first)


@run
async def test_what_continues_agents_is_compiled_for_arrivals_and_not_for_launches(no_cache: None) -> None:
    image = packed(going(2))
    async with harbour("alpha", "beta") as [alpha, beta]:
        here, there = alpha.core.images, beta.core.images
        # Beta has the image from a launch of its own, so nothing of it comes with the arrival.
        await journey(beta, going(2))
        assert image.digest in there
        assert there.aside(image.digest, None) is not None
        assert numbers(await journey(alpha, going(2), "beta"), "n") == [2]
        assert there.aside(image.digest, None) is None
        assert here.aside(image.digest, None) is not None


@run
async def test_an_agent_that_could_not_go_on_is_refused_when_it_arrives(no_cache: None) -> None:
    image = packed(going(2))
    module = decode_module(image.code)
    customs = tuple(evolve(c, data=b"\0asm\1\0\0\0") if c.name == RESUME_SECTION else c for c in module.customs)
    forged = evolve(image, code=encode_module(evolve(module, customs=customs, source=None, offsets={})))
    async with harbour("alpha", "beta") as [alpha, beta]:
        watch = Watch(alpha)
        await alpha.launch(forged, via=["beta"], owner=OWNER)
        refused = await watch.until("refused")
        assert refused.text.startswith("bad-state: the agent cannot go on here")
        assert "other types" in refused.text
        assert not beta.core.here.berths


@run
async def test_an_image_that_takes_longer_to_compile_than_its_agents_may_run_is_refused(no_cache: None) -> None:
    policy = Policy(owners=[OWNER.public], budget=evolve(DEFAULT_BUDGET, cpu=1000))
    async with harbour("alpha", policy=policy) as [alpha]:
        with pytest.raises(CompilingTooCostly):
            await begin(alpha, large(3))


@run
async def test_other_agents_and_the_end_of_a_station_do_not_wait_for_compilers(held_up: threading.Semaphore) -> None:
    images = [packed(large(number)) for number in range(4, 4 + COMPILING)]
    async with harbour("alpha") as [alpha]:
        waiting: list[asyncio.Future[Agent]] = []
        for image in images:
            waiting.append(asyncio.ensure_future(alpha.launch(image, owner=OWNER)))
            while not held_up.acquire(blocking=False):
                await asyncio.sleep(0.005)
        with pytest.raises(CredentialError, match="busy"):
            await begin(alpha, large(4 + COMPILING))
        assert numbers(await journey(alpha, SMALL), "n") == [1]
    for each in waiting:
        each.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*waiting, return_exceptions=True)
