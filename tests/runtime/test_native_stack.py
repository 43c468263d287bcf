"""How deep agents may recurse: as far as the thread's stack allows, and never so far that the process dies."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agents
from agents.engines import load, native_stack
from agents.errors import EngineError, ToolchainMissing
from agents.sdk import quickjs
from tests.patience import PATIENCE
from tests.programs import ROOT
from tests.station.harbour import harbour, journey, numbers, program, run

COUNTS = """(func $f (param i32) (result i32)
  (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0))
    (else (i32.add (i32.const 1) (call $f (i32.sub (local.get 0) (i32.const 1)))))))"""
MODULE = f'(module {COUNTS} (func (export "run") (param i32) (result i32) (call $f (local.get 0))))'
DEPTH = 100_000


def in_thread(work: Callable[[], Any]) -> Any:
    """What a new thread gives for this."""
    found: list[Any] = []

    def called() -> None:
        try:
            found.append(work())
        except EngineError as error:
            found.append(error)

    thread = threading.Thread(target=called)
    thread.start()
    thread.join()
    return found[0]


def counted(stack: int) -> agents.Outcome:
    return agents.run(agents.pack(MODULE), args=[DEPTH], engine=load("wasmtime", stack=stack))


@pytest.mark.parametrize("stack", [8 << 20, 1 << 30])
def test_a_stack_that_the_thread_does_not_have_is_refused_with_a_sentence(stack: int) -> None:
    before = threading.stack_size(4 << 20)
    try:
        refused = in_thread(lambda: counted(stack))
    finally:
        threading.stack_size(before)
    assert isinstance(refused, EngineError)
    assert f"too few for the engine's {stack >> 10} KiB" in str(refused)


def test_a_stack_that_it_has_is_used() -> None:
    with native_stack.deep_threads():
        thread_bytes = in_thread(native_stack.thread_bytes)
    assert thread_bytes >= native_stack.DEEP + native_stack.MARGIN

    def deep() -> agents.Outcome:
        return counted(native_stack.DEEP)

    with native_stack.deep_threads():
        outcome = in_thread(deep)
    assert isinstance(outcome, agents.Finished)
    assert outcome.results == (DEPTH,)
    too_deep = in_thread(lambda: counted(1 << 20))
    assert isinstance(too_deep, agents.Exhausted)
    assert too_deep.what == "stack"


def test_threads_made_elsewhere_are_as_they_were() -> None:
    before = in_thread(native_stack.thread_bytes)
    with native_stack.deep_threads():
        pass
    assert in_thread(native_stack.thread_bytes) == before


@run
async def test_agents_at_stations_recurse_deep() -> None:
    deep = program(f"(call $tell (i32.const 110) (call $f (i32.const {DEPTH})))").replace(
        "(memory", COUNTS + "(memory", 1
    )
    async with harbour("home") as (home,):
        assert numbers(await journey(home, deep), "n") == [DEPTH]


def test_javascript_recurses_until_its_own_error(tmp_path: Path) -> None:
    try:
        quickjs.interpreter()
    except ToolchainMissing as reason:
        pytest.skip(str(reason))
    script = tmp_path / "deep.js"
    script.write_text(
        """const nest = (n) => (n === 0 ? null : { next: nest(n - 1) });
        const depth = (o) => (o === null ? 0 : 1 + depth(o.next));
        console.log(depth(nest(1000)));
        const endless = () => 1 + endless();
        try { endless(); } catch (error) { console.log("caught", error.name); }"""
    )
    for more in ([], ["--hop-every", "20000"]):
        command = [sys.executable, "-m", "docking.cli", "run", str(script), *more]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE, check=False)
        assert ended.stdout == "1000\ncaught RangeError\n", ended.stderr
