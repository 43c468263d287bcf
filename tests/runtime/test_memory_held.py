"""What an agent took is free when its turn ends: without the garbage collector, and without what it never touched."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from agents import Life, Limits, Snapshot, TimeBudget, engines
from agents.engines import pages
from agents.errors import EngineError, LimitReached
from agents.hostcalls import HostImport
from agents.waits import Woke

from .agents_at_work import SPIN, packed, place

SETTINGS = [("wasmtime", "standard"), ("v8", "standard"), ("wasmer", "portable")]

WAITS = """(module (import "portcall" "sleep" (func $sleep (param i32) (result i32))) (memory (export "memory") 2)
  (func (export "run") (i64.store (i32.const 70000) (i64.const -1))
    (loop $l (drop (call $sleep (i32.const 5))) (br $l))))"""
DROPS = """(module (import "portcall" "go_at" (func $go_at (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 8) "beta") (data (i32.const 16) "run")
  (func (export "run") (drop (call $go_at (i32.const 8) (i32.const 4) (i32.const 16) (i32.const 3)))))"""
EXITS = """(module (import "portcall" "exit" (func $exit (param i32))) (memory (export "memory") 1)
  (func (export "run") (call $exit (i32.const 3))))"""
TRAPS = '(module (memory (export "memory") 1) (func (export "run") unreachable))'
FAILS = """(module (import "host" "fail" (func $fail (result i32))) (memory (export "memory") 1)
  (func (export "run") (drop (call $fail))))"""


def fail(ctx: Any) -> int:
    raise LimitReached("patience", "the host has had enough")


ENDS = {
    "waits": (WAITS, {}),
    "drops its stack": (DROPS, {}),
    "exits": (EXITS, {}),
    "traps": (TRAPS, {}),
    "meets a host function that fails": (FAILS, {"imports": {("host", "fail"): HostImport("", "i", fail)}}),
    "uses up its budget": (SPIN, {"budget": TimeBudget(cpu_ns=5_000_000)}),
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("end", ENDS, ids=lambda name: name.replace(" ", "-"))
@pytest.mark.parametrize(("name", "profile"), SETTINGS)
def test_an_execution_ends_without_the_garbage_collector(no_collector, name, profile, end):
    if name not in engines.available():
        pytest.skip(f"{name} does not work on this Python")
    text, options = ENDS[end]
    engine = engines.load(name, cache=None)
    image = packed(text, profile=profile)
    life = Life(image, engine=engine, ambient=place(), entry="run", **options)
    outcome = life.run()
    ended = [weakref.ref(life), weakref.ref(life.instance)]
    snapshot = getattr(outcome, "snapshot", None)
    if snapshot is not None:
        ended.append(weakref.ref(snapshot))
    del outcome, snapshot
    life.close()
    del life
    assert [each() for each in ended] == [None] * len(ended)


def test_a_snapshot_is_free_once_an_instance_has_its_state(no_collector):
    engine = engines.load("wasmtime", cache=None)
    image = packed(WAITS)
    with Life(image, engine=engine, ambient=place(), entry="run") as life:
        encoded = life.run().snapshot.encode()
    snapshot = Snapshot.decode(encoded)
    life = Life(image, engine=engine, ambient=place(), snapshot=snapshot)
    gone = weakref.ref(snapshot)
    del snapshot
    outcome = life.run(Woke())
    assert gone() is None
    assert outcome.snapshot.memories[0].size
    life.close()
    with pytest.raises(EngineError, match="closed"):
        life.snapshot()
    with pytest.raises(EngineError, match="closed"):
        life.run(Woke())


def test_capturing_counts_as_the_agents_time():
    text = WAITS.replace('"memory") 2', '"memory") 160')
    text = text.replace("(loop $l", "(memory.fill (i32.const 0) (i32.const 7) (i32.const 10000000)) (loop $l")
    life = Life(packed(text), engine=engines.load("wasmtime", cache=None), ambient=place(), entry="run")
    with life:
        life.advance()
        before = life.usage().cpu_ns
        life.snapshot()
        assert life.usage().cpu_ns > before


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux what is resident")
def test_a_sparse_memory_takes_no_more_than_what_is_in_it():
    if not pages.pagemap_works():
        pytest.skip("the kernel does not tell what was touched")
    text = """(module (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
      (memory (export "memory") 4096) (data (i32.const 100000000) "here")
      (func (export "run") (i32.store (i32.const 200000000) (i32.const 7))
        (loop $l (drop (call $sleep (i32.const 5))) (br $l))))"""
    engine = engines.load("wasmtime", cache=None)
    limits = Limits(memory=256 << 20)
    before = resident()
    with Life(packed(text), engine=engine, ambient=place(), entry="run", limits=limits) as life:
        encoded = life.run().snapshot.encode()
        assert resident() - before < 64 << 20
    with Life(packed(text), engine=engine, ambient=place(), snapshot=Snapshot.decode(encoded), limits=limits) as life:
        again = life.run(Woke()).snapshot
        assert resident() - before < 64 << 20
    assert again.memories[0].size == 4096
