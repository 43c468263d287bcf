"""The engine v8: what only an engine in another process can meet, and what JavaScript would lose."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import wasmtime

import agents
from agents import engines
from agents.budget import TimeBudget
from agents.canonical import digest
from agents.engines import Limits
from agents.errors import EngineError, LimitReached
from agents.outcomes import Exhausted, Finished, Suspended
from agents.runtime import Execution
from tests.patience import PATIENCE

from .agents_at_work import SPIN, packed, place

if "v8" not in engines.available():
    pytest.skip("no Node.js that is new enough", allow_module_level=True)

from agents.engines.v8 import finding, process


@pytest.fixture(scope="module")
def engine():
    return engines.load("v8", cache=None)


def start(engine, text, host=lambda index, args: 0, limits=Limits()):  # noqa: B008
    code = bytes(wasmtime.wat2wasm(text))
    return engine.program(code, digest(code)).instantiate(host, lambda: None, limits)


BITS = """(module (import "a" "f" (func $f (param f32 f64) (result f32)))
  (import "a" "f" (func $other (param i32) (result i32)))
  (global (export "f") f32 (f32.const nan:0x200001)) (global (export "v") (mut v128) (v128.const i64x2 1 -2))
  (table funcref (elem $f)) (type $t (func (param f32 f64) (result f32)))
  (func (export "direct") (param f32 f64) (result f32) (call $f (local.get 0) (local.get 1)))
  (func (export "table") (param f32 f64) (result f32)
    (call_indirect (type $t) (local.get 0) (local.get 1) (i32.const 0)))
  (func (export "tail") (param f32 f64) (result f32) (return_call $f (local.get 0) (local.get 1)))
  (export "itself" (func $f))
  (func (export "other") (result i32) (call $other (i32.const 7)))
  (func (export "swap") (param v128 f32 v128) (result v128 f32 v128) (local.get 2) (local.get 1) (local.get 0)))"""
SIGNALLING = 0x7FA00001, 0xFFF0000000001234


def test_no_bit_of_a_float_or_vector_changes_on_its_way(engine):
    seen = []

    def host(index, args):
        seen.append((index, args))
        return 0xFF812345 if index == 0 else args[0] + 1

    instance = start(engine, BITS, host)
    for name in ("direct", "table", "tail", "itself"):
        assert instance.call(name, SIGNALLING) == (0xFF812345,), name
    assert seen == [(0, SIGNALLING)] * 4
    assert instance.call("other") == (8,)  # of the same name as the other import, with another type
    low, high = (1 << 128) - 3, 0x0123456789ABCDEF << 64
    assert instance.call("swap", [low, SIGNALLING[0], high]) == (high, SIGNALLING[0], low)
    assert instance.get_global("f") == ("f", 0x7FA00001)
    assert instance.get_global("v") == ("v", ((1 << 64) - 2) << 64 | 1)
    instance.set_global("v", high | 5)
    assert instance.get_global("v") == ("v", high | 5)


STUBBORN = """(module (import "host" "stop" (func $stop))
  (func (export "run") (block (try_table (catch_all 0) (call $stop))) (loop (br 0))))"""


def test_agent_code_cannot_catch_that_it_is_stopped(engine):
    def stop(index, args):
        raise LimitReached("patience", "enough")

    with pytest.raises(LimitReached, match="enough"):
        start(engine, STUBBORN, stop).call("run")


def test_nor_that_its_stack_is_used_up(engine):
    deep = """(module (func $f (call $f) (call $f))
      (func (export "run") (block (try_table (catch_all 0) (call $f))) (loop (br 0))))"""
    with pytest.raises(LimitReached) as caught:
        start(engine, deep).call("run")
    assert caught.value.what == "stack"


def test_a_host_call_at_the_end_of_the_stack_is_made_or_not(engine):
    """Not half: what the agent's code and its host say to each other stays in step."""
    calls = []
    instance = start(
        engine,
        f"""(module (import "a" "f" (func $f (param i32) (result i32))) (func $down (export "down") (param i32)
             (local {"v128 " * 100})
             (drop (call $f (local.get 0))) (call $down (i32.add (local.get 0) (i32.const 1)))))""",
        lambda index, args: calls.append(args[0]) or 0,
    )
    for _ in range(2):
        calls.clear()
        with pytest.raises(LimitReached) as caught:
            instance.call("down", [0])
        assert caught.value.what == "stack"
        assert calls == list(range(len(calls)))
        assert len(calls) > 100


def test_its_time_is_the_agents(engine):
    with Execution(packed(SPIN), engine=engine, ambient=place(), budget=TimeBudget(cpu_ns=200_000_000)) as life:
        outcome = life.outcome(life.advance())
    assert isinstance(outcome, Exhausted)
    assert outcome.what == "cpu"
    assert outcome.usage.cpu_ns >= 200_000_000
    assert outcome.snapshot is not None


def test_an_agent_that_computes_is_suspended_and_goes_on_in_wasmtime_and_back(engine):
    image, snapshot = packed(SPIN), None
    for other in (engine, engines.load("wasmtime", cache=None), engine):
        with Execution(image, engine=other, ambient=place(), snapshot=snapshot) as life:
            timer = threading.Timer(0.05, life.suspend)
            timer.start()
            outcome = life.outcome(life.advance())
            timer.join()
        assert isinstance(outcome, Suspended)
        snapshot = outcome.snapshot


def test_what_the_host_writes_is_taken_back_and_nothing_else(engine):
    instance = start(
        engine,
        """(module (import "a" "f" (func $f)) (memory (export "m") 4) (data (i32.const 0) "abc")
             (func (export "run") (param i32) (result i32)
               (i32.store8 (i32.const 70000) (i32.const 1)) (call $f) (i32.load8_u (local.get 0))))""",
        lambda index, args: write(),
    )

    def write():
        memory, later = instance.on_demand("m")
        later.make_present(70000, 2)
        assert memory[70000] == 1
        memory[70001] = 9
        memory[4096] = 5  # was not made present: says nothing

    assert instance.call("run", [70001]) == (9,)
    assert instance.call("run", [4096]) == (0,)
    assert bytes(instance.memory("m")[:3]) == b"abc"
    assert instance.changed("m") == [(17, 1)]


def test_memories_that_cannot_be_read_meanwhile_say_so(engine):
    instance = start(engine, '(module (memory (export "m") 1))')
    for use in (instance.raw, instance.watch_writes, lambda name: instance.owe(name, [(0, 1)])):
        with pytest.raises(EngineError, match="use wasmtime"):
            use("m")


def test_when_the_process_dies_each_agent_gets_an_error_and_the_next_runs():
    engine = engines.load("v8", cache=None)
    image, ended, running = packed(SPIN), [], threading.Barrier(4)

    def run():
        life = Execution(image, engine=engine, ambient=place())
        with life:
            life.open()
            running.wait(PATIENCE)
            try:
                ended.append(life.advance())
            except EngineError as error:
                ended.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    running.wait(PATIENCE)
    os.kill(process.the_node().process_id, signal.SIGKILL)
    for thread in threads:
        thread.join(PATIENCE)
    assert len(ended) == 3
    for each in ended:
        assert "the engine v8 was ended by signal 9; what ran in it is lost" in str(each)
    outcome = agents.run(packed('(module (func (export "run") (result i32) (i32.const 7)))'), engine=engine)
    assert isinstance(outcome, Finished)
    assert outcome.values == (7,)


def test_a_fork_has_a_process_of_its_own(engine, monkeypatch):
    """Played, since a fork of a process with threads may stop anywhere."""
    mine = process.the_node()
    monkeypatch.setattr(mine, "owner", os.getppid())
    other = process.the_node()
    assert other.process_id != mine.process_id
    mine.stop()  # is another's
    os.kill(mine.process_id, 0)
    assert start(engine, '(module (func (export "run") (result i32) (i32.const 8)))').call("run") == (8,)


def test_threads_are_used_again(engine):
    first = start(engine, '(module (func (export "run")))')
    first.close()
    before = process.the_node().threads
    for _ in range(3):
        instance = start(engine, '(module (func (export "run")))')
        instance.call("run")
        instance.close()
    assert process.the_node().threads == before


@pytest.mark.parametrize(
    ("said", "refused"),
    [("echo v20.20.2", "which is v20.20.2"), ("echo no", "does not run"), ("exit 1", "does not run")],
)
def test_a_node_that_is_too_old_is_told(tmp_path: Path, monkeypatch, said, refused):
    node = tmp_path / "node"
    node.write_text(f"#!/bin/sh\n{said}\n")
    node.chmod(0o700)
    monkeypatch.setenv(finding.VARIABLE, str(node))
    with pytest.raises(EngineError, match=f"needs Node.js 22 or newer.*{refused}"):
        finding.find_node()


def test_where_there_is_none_it_says_how_to_get_one(tmp_path: Path, monkeypatch):
    monkeypatch.delenv(finding.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(finding.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"none is installed: pip install 'portcall\[v8\]'"):
        finding.find_node()
