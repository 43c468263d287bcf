"""Code that extends an instance: it uses the instance's state, defines none, and cannot have more than that one had."""

from __future__ import annotations

import itertools
import os

import attrs
import pytest
import wasmtime

import agents
from agents import engines
from agents.budget import TimeBudget
from agents.canonical import digest
from agents.engines import Limits
from agents.engines.interface import extension_interface, interface
from agents.errors import EngineError, LimitReached
from agents.outcomes import Exhausted, Finished, Waiting
from agents.rewrite.metadata import RESUME_SECTION
from agents.waits import Woke
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module
from agents.wasm.syntax import Custom

from .agents_at_work import place

TYPES = "(type $n (func (param i32) (result i32))) (type $v (func))"
BASE = f"""(module {TYPES}
  (memory (export "m") 1) (global (export "g") (mut i32) (i32.const 5)) (global (export "c") i32 (i32.const 6))
  (table (export "t") 1 1 funcref) (elem (i32.const 0) $f)
  (func $f (export "f") (type $n) (global.set 0 (i32.add (global.get 0) (local.get 0))) (global.get 0)))"""
MEMORY = '(import "portcall" "m" (memory 1))'
GLOBAL = '(import "portcall" "g" (global $g (mut i32)))'
TABLE = '(import "portcall" "t" (table 1 1 funcref))'
USES = f"""(module {TYPES} (import "portcall" "f" (func $f (type $n))) {TABLE} {MEMORY} {GLOBAL}
  (func (export "add") (type $n) (i32.store (i32.const 8) (local.get 0))
    (call_indirect (type $n) (local.get 0) (i32.const 0)))
  (func (export "direct") (type $n) (call $f (local.get 0)))
  (func (export "grow") (type $n) (memory.grow (local.get 0)))
  (func (export "turn") (type $v) (loop (br 0))))"""


@pytest.fixture(params=engines.ENGINE_NAMES)
def engine(request, tmp_path):
    if request.param not in engines.available():
        pytest.skip(f"{request.param} does not work on this Python")
    return engines.load(request.param, cache=tmp_path / "code")


def start(engine, extension, base=BASE, tick=lambda: None, limits=Limits()):  # noqa: B008
    code, added = bytes(wasmtime.wat2wasm(base)), bytes(wasmtime.wat2wasm(extension))
    program = engine.program(code, digest(code))
    found = engine.extension(program, added, digest(added))
    assert engine.extension(program, added, digest(added)) is found
    instance = program.instantiate(lambda index, args: 0, tick, limits)
    instance.extend(found)
    return program, instance


def test_an_extension_works_on_the_state_of_its_instance(engine):
    program, instance = start(engine, USES)
    assert instance.call("add", [37]) == (42,)
    assert instance.get_global("g") == ("i", 42)
    assert instance.memory("m")[8] == 37
    assert instance.call("f", [1]) == (43,)
    assert instance.call("direct", [2]) == (45,)
    assert instance.has("add")
    assert "add" not in program.exports
    other = program.instantiate(lambda index, args: 0, lambda: None, Limits())
    assert other.get_global("g") == ("i", 5)
    assert not other.has("add")
    for use in (lambda: other.call("add", [1]), lambda: instance.get_global("add")):
        with pytest.raises(EngineError):
            use()
    instance.close()
    with pytest.raises(EngineError):
        instance.call("add", [1])


def test_an_instance_is_extended_once(engine):
    program, instance = start(engine, USES)
    code = bytes(wasmtime.wat2wasm(USES))
    with pytest.raises(EngineError):
        instance.extend(engine.extension(program, code, digest(code)))


def test_the_limits_of_an_instance_are_those_of_its_extension(engine):
    _, instance = start(engine, USES, limits=Limits(memory=3 << 16))
    assert instance.call("grow", [2]) == (1,)
    assert instance.call("grow", [1]) == (0xFFFFFFFF,)


def test_an_extension_that_never_returns_can_be_stopped(engine):
    ticks = itertools.count()

    def tick():
        if next(ticks) > 2:
            raise LimitReached("cpu", "enough")

    program, instance = start(engine, USES, tick=tick)
    alarm = engine.watch.after(1_000_000, program.interrupt, 1_000_000)
    try:
        with pytest.raises(LimitReached, match="enough"):
            instance.call("turn")
    finally:
        alarm.cancel()


@pytest.mark.parametrize(
    "body",
    [
        "(memory 1)",
        "(global i32 (i32.const 1))",
        "(table 1 funcref)",
        '(import "portcall" "m" (memory 1)) (data (i32.const 0) "x")',
        f"{TABLE} (func $x) (elem (i32.const 0) $x)",
        "(tag)",
        "(func $x) (start $x)",
        '(import "portcall" "f" (func (type $v)))',
        '(import "env" "m" (memory 1))',
        '(import "portcall" "none" (memory 1))',
        '(import "portcall" "m" (memory 1 2))',
        '(import "portcall" "m" (memory 0))',
        '(import "portcall" "g" (global i32))',
        '(import "portcall" "c" (global (mut i32)))',
        '(import "portcall" "g" (global (mut i64)))',
        '(import "portcall" "g" (memory 1))',
        '(import "portcall" "g" (func (type $n)))',
        '(import "portcall" "t" (table 1 funcref))',
        f'{MEMORY} (export "x" (memory 0))',
        '(func (export "f") (type $n) (local.get 0))',
        "(func (param i64))",
        '(func (export "x") (result i32) (i64.const 1))',
    ],
)
def test_an_extension_that_brings_or_takes_anything_else_is_refused(engine, body):
    with pytest.raises(EngineError):
        start(engine, f"(module {TYPES} {body})")


# What it is for: the code that continues an agent.

NAP = '(import "portcall" "sleep" (func $sleep (param i32) (result i32)))'
QUIET = f'(module {NAP} (func (export "run") (param i32) (if (local.get 0) (then (drop (call $sleep (i32.const 0)))))))'
LARGE = f"""(module {NAP} (func (export "run") (param $n i32) (result i32)
    {"(local.set $n (i32.add (local.get $n) (call $sleep (i32.const 0))))" * 900} (local.get $n)))"""


def test_the_code_that_continues_an_agent_is_compiled_when_it_first_goes_on(tmp_path):
    image = agents.pack(QUIET, polls="none")
    engine = engines.load(cache=tmp_path / "code")
    assert isinstance(agents.run(image, engine=engine, ambient=place(), args=[0]), Finished)
    asleep = agents.run(image, engine=engine, ambient=place(), args=[1])
    assert isinstance(asleep, Waiting)
    (first,) = os.listdir(tmp_path / "code")
    assert image.code_digest.hex() in first
    ended = agents.run(image, engine=engine, ambient=place(), snapshot=asleep.snapshot, event=Woke())
    assert isinstance(ended, Finished)
    (second,) = set(os.listdir(tmp_path / "code")) - {first}
    assert image.resumption_digest.hex() in second


def test_compiling_it_is_time_of_the_agent_that_goes_on(tmp_path):
    image = agents.pack(LARGE, polls="none")
    engine = engines.load(cache=tmp_path / "code")
    asleep = agents.run(image, engine=engine, ambient=place(), args=[0])
    budget = TimeBudget(cpu_ns=2_000_000)
    ended = agents.run(image, engine=engine, ambient=place(), snapshot=asleep.snapshot, event=Woke(), budget=budget)
    assert isinstance(ended, Exhausted)
    assert ended.what == "cpu"
    assert "compiling" in ended.reason
    life = agents.Life(image, engine=engine, ambient=place(), snapshot=asleep.snapshot, budget=TimeBudget(10**11))
    with life:
        life.outcome(life.advance(Woke()))
        assert life.usage().cpu_ns > 2_000_000


def test_an_image_with_another_module_for_that_is_refused_when_it_goes_on():
    image = agents.pack(QUIET, polls="none")
    module = decode_module(image.code)
    calls = bytes(
        wasmtime.wat2wasm(f'(module {NAP} (func (export "portcall.resume") (drop (call $sleep (i32.const 0)))))')
    )
    customs = tuple(Custom(c.name, calls, c.after) if c.name == RESUME_SECTION else c for c in module.customs)
    forged = attrs.evolve(image, code=encode_module(attrs.evolve(module, customs=customs, source=None, offsets={})))
    asleep = agents.run(forged, ambient=place(), args=[1])
    with pytest.raises(EngineError, match="other types"):
        agents.run(forged, ambient=place(), snapshot=asleep.snapshot, event=Woke())


def test_an_extension_has_the_type_of_what_it_imports():
    """Elsewhere a type may be an empty one, where only the module or only the extension uses it."""
    base = interface(bytes(wasmtime.wat2wasm('(module (type (func (param i32))) (func (export "f") (type 0) nop))')))

    def read(types: str, call: str) -> set[str]:
        text = f'(module {types} (import "portcall" "f" (func (type 0))) (func (export "g") (type 0) {call}))'
        return set(extension_interface(bytes(wasmtime.wat2wasm(text)), base).exports)

    assert read("(type (func (param i32)))", "(call 0 (i32.const 1))") == {"g"}
    with pytest.raises(EngineError, match="another type"):
        read("(type (func))", "(call 0)")
    with pytest.raises(EngineError, match="other types"):
        read("(type (func (param i64)))", "(call 0 (i64.const 1))")
