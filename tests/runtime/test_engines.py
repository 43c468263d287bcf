"""What every engine must do: calls, state, limits. Each test runs on all engines that work here."""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from pathlib import Path

import pytest
import wasmtime

import agents
from agents import engines
from agents.budget import spent_ns
from agents.canonical import digest
from agents.engines import CompileLimits, Limits, codecache
from agents.engines.codecache import CodeCache
from agents.engines.wasmtime import compiling, program
from agents.errors import CompilingTooCostly, EngineError, LimitReached, WasmTrap
from agents.outcomes import Exhausted, Finished, Trapped
from tests.patience import PATIENCE

CHANGING_TABLE = '(func (export "run") (table.set $t (i32.const 0) (ref.null func)))'
WORKING = [name for name in engines.ENGINE_NAMES if name in engines.available()]


@pytest.fixture(params=engines.ENGINE_NAMES)
def engine(request, tmp_path):
    if request.param not in engines.available():
        pytest.skip(f"{request.param} does not work on this Python")
    return engines.load(request.param, cache=tmp_path / "code")


def start(engine, text, host=None, tick=lambda: None, limits=Limits(), compiling=None, **options):  # noqa: B008
    code = bytes(wasmtime.wat2wasm(text))
    program = engine.program(code, digest(code), limits=compiling, **options)
    return program.instantiate(host or (lambda index, args: 0), tick, limits)


STATE = """(module
  (memory (export "m") 1 3)
  (global (export "i") (mut i32) (i32.const -1)) (global (export "I") (mut i64) (i64.const -2))
  (global (export "f") (mut f32) (f32.const nan:0x200001)) (global (export "F") (mut f64) (f64.const nan:0x1234))
  (global (export "c") i32 (i32.const 7))
  (func (export "add") (param i32 i64) (result i64) (i64.add (i64.extend_i32_s (local.get 0)) (local.get 1)))
  (func (export "two") (param i32) (result i32 f64) (local.get 0) (global.get 3))
  (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0))))"""


def test_numbers_cross_as_bits(engine):
    instance = start(engine, STATE)
    assert instance.get_global("i") == ("i", 0xFFFFFFFF)
    assert instance.get_global("I") == ("I", 0xFFFFFFFFFFFFFFFE)
    assert instance.get_global("f") == ("f", 0x7FA00001)
    assert instance.get_global("F") == ("F", 0x7FF0000000001234)
    assert instance.call("add", [0xFFFFFFFF, 3]) == (2,)
    assert instance.call("two", [0x80000000]) == (0x80000000, 0x7FF0000000001234)
    for name, bits in [("i", 0x80000001), ("I", 1 << 63), ("f", 0xFFA00002), ("F", 0xFFF0000000005678)]:
        instance.set_global(name, bits)
        assert instance.get_global(name)[1] == bits


def test_memory_is_seen_from_both_sides_and_grows_within_limits(engine):
    instance = start(engine, STATE, limits=Limits(memory=2 << 16))
    instance.memory("m")[100] = 42
    assert instance.call("peek", [100]) == (42,)
    assert len(instance.memory("m")) == 65536
    instance.memory_grow("m", 2)
    assert instance.memory_pages("m") == 2
    assert len(instance.memory("m")) == 131072
    with pytest.raises(LimitReached) as caught:
        instance.memory_grow("m", 3)
    assert caught.value.what == "memory"


@pytest.mark.parametrize("name", ["nothing", "m", "i"])
def test_a_call_of_what_is_no_function_is_an_engine_error(engine, name):
    with pytest.raises(EngineError):
        start(engine, STATE).call(name)


def test_wrong_use_of_exports_is_an_engine_error(engine):
    instance = start(engine, STATE)
    for use in (
        lambda: instance.call("add", [1]),
        lambda: instance.get_global("m"),
        lambda: instance.get_global("none"),
        lambda: instance.set_global("c", 1),
        lambda: instance.memory("i"),
        lambda: instance.memory_pages("none"),
        lambda: instance.functions("m"),
    ):
        with pytest.raises(EngineError):
            use()


HOST = """(module (import "a" "f" (func $f (param i32 i64 f32 f64) (result i64))) (import "a" "n" (func $n))
  (import "a" "f" (func $again (param i32 i64 f32 f64) (result i64)))
  (func (export "run") (result i64)
    (call $f (i32.const -1) (i64.const -2) (f32.const 1) (f64.const nan:0x4444)))
  (func (export "none") (call $n))
  (func (export "again") (result i64)
    (call $again (i32.const 1) (i64.const 2) (f32.const 1) (f64.const 1))))"""


def test_host_functions_get_and_give_bits(engine):
    seen = []

    def host(index, args):
        seen.append((index, tuple(args)))
        return None if index == 1 else -5

    instance = start(engine, HOST, host)
    assert instance.call("run") == (2**64 - 5,)
    assert instance.call("none") == ()
    assert instance.call("again") == (2**64 - 5,)
    # The same function imported twice may answer under either index.
    assert [index in (0, 2) for index, _ in seen] == [True, False, True]
    assert seen[0][1] == (2**32 - 1, 2**64 - 2, 0x3F800000, 0x7FF0000000004444)
    assert seen[1] == (1, ())


class Oops(Exception):
    pass


def test_an_exception_of_a_host_function_comes_out_of_the_call_and_the_instance_lives_on(engine):
    def host(index, args):
        raise Oops(index)

    instance = start(engine, HOST, host)
    for _ in range(3):
        with pytest.raises(Oops):
            instance.call("run")
    with pytest.raises(Oops):
        instance.call("none")


def test_host_functions_can_call_back(engine):
    depth = []

    def host(index, args):
        if args[0] == 0:
            return 10
        depth.append(args[0])
        return instance.call("down", [args[0] - 1])[0] + 1

    instance = start(
        engine,
        """(module (import "a" "f" (func $f (param i32) (result i32)))
             (func (export "down") (param i32) (result i32) (call $f (local.get 0))))""",
        host,
    )
    assert instance.call("down", [5]) == (15,)
    assert depth == [5, 4, 3, 2, 1]


TRAPS = [
    ("unreachable", "unreachable"),
    ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", "division"),
    ("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", "integer-overflow"),
    ("(drop (i32.trunc_f32_s (f32.const nan)))", "conversion"),
    ("(drop (i32.load (i32.const 70000)))", "memory-bounds"),
    ("(call_indirect (i32.const 9))", "table-bounds"),
    ("(call_indirect (i32.const 0))", "null"),
    ("(call_indirect (i32.const 1))", "signature"),
]


@pytest.mark.parametrize(("body", "code"), TRAPS)
def test_each_trap_has_its_word(engine, body, code):
    instance = start(
        engine,
        f"""(module (memory 1) (table 2 funcref) (elem (i32.const 1) $x)
              (func $x (param i32)) (func (export "run") {body}))""",
    )
    for _ in range(2):
        with pytest.raises(WasmTrap) as caught:
            instance.call("run")
        # V8 has one message for both.
        assert caught.value.code == ("signature" if code == "null" and engine.name == "v8" else code)
        assert caught.value.reason


def test_deep_recursion_is_a_limit_and_the_process_goes_on(engine):
    instance = start(
        engine,
        """(module (func $f (export "f") (param i32) (result i32)
             (if (result i32) (local.get 0)
               (then (i32.add (i32.const 1) (call $f (i32.sub (local.get 0) (i32.const 1)))))
               (else (i32.const 0)))))""",
    )
    assert instance.call("f", [1000]) == (1000,)
    for _ in range(2):
        with pytest.raises(LimitReached) as caught:
            instance.call("f", [0xFFFFFFFF])
        assert caught.value.what == "stack"
    assert instance.call("f", [1000]) == (1000,)


def test_deep_recursion_in_a_thread(engine):
    caught = []

    def work():
        instance = start(engine, '(module (func $f (export "f") (call $f) (call $f)))')
        try:
            instance.call("f")
        except LimitReached as error:
            caught.append(error.what)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert caught == ["stack"]


LOOP = '(module (func (export "run") (loop $l (br $l))))'


def test_a_runaway_loop_is_stopped_by_its_tick(engine):
    ticks = []

    def tick():
        ticks.append(None)
        if len(ticks) == 3:
            raise LimitReached("wall", "enough")
        engine.watch.after(1_000_000, instance.program.interrupt)

    instance = start(engine, LOOP, tick=tick)
    engine.watch.after(1_000_000, instance.program.interrupt)
    with pytest.raises(LimitReached, match="enough"):
        instance.call("run")
    assert len(ticks) == 3


def test_an_initial_memory_beyond_the_limit_is_refused(engine):
    with pytest.raises(LimitReached) as caught:
        start(engine, "(module (memory 1000))", limits=Limits(memory=1 << 20))
    assert caught.value.what == "memory"


def test_growing_memory_or_table_beyond_the_limit_fails_in_the_agent(engine):
    text = """(module (memory (export "m") 1) (table $t (export "t") 1 funcref)
      (func (export "memory") (result i32) (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
        (memory.size))
      (func (export "table") (result i32)
        (loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 64)) (i32.const -1)))) (table.size $t)))"""
    instance = start(engine, text, limits=Limits(memory=1 << 20, table_elements=500))
    assert instance.call("memory") == (16,)
    assert instance.call("table")[0] <= 500


def test_a_trap_while_instantiating_is_a_trap(engine):
    with pytest.raises(WasmTrap):
        start(engine, '(module (memory 1) (data (i32.const 65536) "x"))')
    with pytest.raises(WasmTrap):
        start(engine, "(module (func $s unreachable) (start $s))")


@pytest.mark.parametrize(
    "text",
    [
        '(module (import "a" "m" (memory 1)))',
        '(module (import "a" "g" (global i32)))',
        '(module (import "a" "f" (func (param v128))))',
        '(module (import "a" "f" (func (param externref))))',
    ],
)
def test_imports_that_cannot_cross_are_refused(engine, text):
    with pytest.raises(EngineError):
        start(engine, text)


@pytest.mark.parametrize("code", [b"", b"\0asm", b"\0asm\1\0\0\0\3\2\xff\xff", b"\0asm\1\0\0\0\1\5\1\x60\0\1\x77"])
def test_bytes_that_are_no_module_are_refused(engine, code):
    with pytest.raises(EngineError):
        engine.program(code, digest(code))


def test_too_many_memories_or_tables_are_refused(engine):
    with pytest.raises(EngineError):
        start(engine, "(module" + "(table 1 funcref)" * 40 + ")")


def test_vector_and_reference_exports_do_no_harm(engine):
    instance = start(
        engine,
        """(module (func (export "v") (param v128) (result v128) (local.get 0))
             (func (export "r") (param externref) (result i32) (i32.const 1))
             (func (export "ok") (result i32) (i32.const 3)))""",
    )
    assert instance.call("ok") == (3,)
    with pytest.raises(EngineError):
        instance.call("r", [0])


def test_after_close_nothing_can_be_reached(engine):
    instance = start(engine, STATE)
    instance.close()
    instance.close()
    for use in (lambda: instance.call("add", [1, 2]), lambda: instance.get_global("i"), lambda: instance.memory("m")):
        with pytest.raises(EngineError):
            use()


def test_programs_are_kept_in_memory_and_their_code_on_disk(engine, tmp_path):
    code = bytes(wasmtime.wat2wasm(STATE))
    program = engine.program(code, digest(code))
    assert engine.program(code, digest(code)) is program
    files = os.listdir(tmp_path / "code")
    assert len(files) == 1
    assert digest(code).hex() in files[0]
    fresh = engines.load(engine.name, cache=tmp_path / "code").program(code, digest(code))
    assert fresh.instantiate(lambda i, a: 0, lambda: None, Limits()).call("add", [1, 2]) == (3,)


def test_compiled_code_that_was_altered_is_not_used(engine, tmp_path):
    code = bytes(wasmtime.wat2wasm(STATE))
    engine.program(code, digest(code))
    (file,) = (tmp_path / "code").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert CodeCache(tmp_path / "code").load(file.name) is None
    fresh = engines.load(engine.name, cache=tmp_path / "code").program(code, digest(code))
    assert fresh.instantiate(lambda i, a: 0, lambda: None, Limits()).call("add", [1, 2]) == (3,)
    assert CodeCache(tmp_path / "code").load(file.name) is not None


# Not small, and compiled in no time.
LARGE = '(module (func (export "run") (result i32)' + "(drop (i32.const 1))" * 3000 + "(i32.const 7)))"


@pytest.fixture
def wasmtime_engine(tmp_path):
    return engines.load("wasmtime", cache=tmp_path / "code")


def test_a_large_module_is_compiled_in_another_process_and_cached(wasmtime_engine, tmp_path, monkeypatch):
    before = spent_ns()
    instance = start(wasmtime_engine, LARGE, compiling=CompileLimits())
    assert instance.call("run") == (7,)
    assert spent_ns() > before
    monkeypatch.setattr(program, "compile_aside", lambda *_: pytest.fail("it was compiled again"))
    other = engines.load("wasmtime", cache=tmp_path / "code")
    assert start(other, LARGE, compiling=CompileLimits()).call("run") == (7,)


@pytest.mark.parametrize(
    "text",
    [
        "(module (func (local" + " i32" * 2001 + ")))",
        "(module" + "(func (local i64 i64 i64))" * 700 + ")",
        "(module (func (param" + " i32" * 17 + ")))",
        "(module (func (result" + " i64" * 17 + ") unreachable))",
        "(module (type (func)) (type (func (param f64) (result" + " f64" * 20 + "))))",
        LARGE,
    ],
    ids=["locals", "locals of all functions", "parameters", "results", "a type of nothing", "code"],
)
def test_what_could_take_long_to_compile_is_not_small(text):
    assert not compiling.is_small(bytes(wasmtime.wat2wasm(text)))


def test_a_module_within_all_bounds_is_small():
    text = "(module (func (param" + " i32" * 16 + ") (local" + " (ref null func)" * 1000 + ")" + "(nop)" * 7000 + "))"
    assert compiling.is_small(bytes(wasmtime.wat2wasm(text)))
    assert compiling.is_small(bytes(wasmtime.wat2wasm(STATE)))


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
@pytest.mark.parametrize(
    ("limits", "what"), [(CompileLimits(cpu_ns=1_000_000), "cpu"), (CompileLimits(memory=100 << 20), "memory")]
)
def test_compiling_is_given_up_when_it_takes_more_than_it_may(wasmtime_engine, limits, what):
    text = "(module (func (local i32)" + "(loop (br_if 0 (local.get 0)))" * 1500 + "))"
    if what == "memory":
        text = "(module (type $t (func (param" + " i32" * 900 + ") (result" + " i32" * 900 + ")))"
        text += "(func (type $t)" + "".join(f"(local.get {n})" for n in range(900)) + "(call 0)" * 100 + "))"
    with pytest.raises(CompilingTooCostly) as caught:
        start(wasmtime_engine, text, limits=Limits(), compiling=limits)
    assert caught.value.what == what


def test_what_two_threads_want_at_once_is_compiled_once(wasmtime_engine, monkeypatch):
    code = bytes(wasmtime.wat2wasm(LARGE))
    entered, go_on = threading.Event(), threading.Event()
    compiled = []

    def aside(*args):
        entered.set()
        go_on.wait(PATIENCE)
        compiled.append(compiling.compile_aside(*args))
        return compiled[-1]

    monkeypatch.setattr(program, "compile_aside", aside)
    found = []
    threads = [
        threading.Thread(
            target=lambda: found.append(wasmtime_engine.program(code, digest(code), limits=CompileLimits()))
        )
        for _ in "ab"
    ]
    threads[0].start()
    entered.wait(PATIENCE)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert found[0] is found[1]
    assert len(compiled) == 1


def test_a_module_that_the_compiler_refuses_is_refused_by_the_process_too(wasmtime_engine):
    with pytest.raises(EngineError, match="cannot compile"):
        start(wasmtime_engine, LARGE.replace("(i32.const 7)", "(i64.const 7)"), compiling=CompileLimits())


def test_without_limits_a_module_is_compiled_in_place(wasmtime_engine, monkeypatch):
    monkeypatch.setattr(program, "compile_aside", lambda *_: pytest.fail("nobody set a limit"))
    assert start(wasmtime_engine, LARGE).call("run") == (7,)


def test_a_cache_that_others_could_write_is_refused(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o700)
    cache = CodeCache(shared)
    cache.store("key", b"code")
    assert bytes(cache.load("key") or b"") == b"code"
    assert cache.load("other") is None
    (shared / "key").chmod(0o622)
    assert cache.load("key") is None
    shared.chmod(0o770)
    with pytest.raises(EngineError, match="0700"):
        CodeCache(shared)
    link = tmp_path / "link"
    shared.chmod(0o700)
    link.symlink_to(shared)
    with pytest.raises(EngineError):
        CodeCache(link)
    (shared / "file").symlink_to(shared / "key")
    (shared / "key").chmod(0o600)
    assert cache.load("key") is not None
    assert cache.load("file") is None


def test_unknown_engines_are_refused():
    with pytest.raises(EngineError, match="known are"):
        engines.load("nothing")


def test_a_table_of_millions_is_refused_before_it_is_read() -> None:
    image = agents.pack(f"(module (table $t 100000000 funcref) {CHANGING_TABLE})")
    with pytest.raises(EngineError, match="tables that begin with 100000000 elements"):
        agents.run(image)


@pytest.mark.parametrize("table", ["", "(table $t 1 funcref)"])
def test_segments_out_of_bounds_are_a_trap_whatever_else_is_there(table: str) -> None:
    run = CHANGING_TABLE if table else '(func (export "run"))'
    outcome = agents.run(agents.pack(f'(module (memory 1) {table} (data (i32.const 65536) "x") {run})'))
    assert isinstance(outcome, Trapped)
    assert outcome.code == "memory-bounds"


def test_a_memory_is_bounded_by_the_station_and_nothing_else() -> None:
    """Tables that change are read in an instance of their own: its bounds are not the agent's."""
    image = agents.pack(f"(module (memory 5000) (table $t 1 funcref) {CHANGING_TABLE})")
    outcome = agents.run(image)
    assert isinstance(outcome, Exhausted)
    assert outcome.what == "memory"
    assert isinstance(agents.run(image, limits=agents.Limits(memory=1 << 30)), Finished)


@pytest.mark.skipif("wasmer" not in WORKING, reason="wasmer does not work on this Python")
def test_a_compiler_that_panics_refuses(tmp_path: Path) -> None:
    params, gives = "(param " + "i64 " * 1000 + ")", "(drop)" * 999
    code = f"(module (func $f {params} (result {'i64 ' * 1000}) {''.join(f'(local.get {i})' for i in range(1000))})"
    code += f'(func (export "run") (result i64) {"(i64.const 1)" * 1000} (call $f) {gives}))'
    with pytest.raises(EngineError, match="wasmer cannot compile"):
        agents.run(agents.pack(code, profile="portable"), engine=agents.load("wasmer", cache=tmp_path / "code"))


REBOUND = """(module
  (import "host" "clock_time_get" (func (param i32 i64 i32) (result i32)))
  (import "host" "fd_seek" (func (param i32 i64 i32 i32) (result i32)))
  (import "host" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "host" "random_get" (func (param i32 i32) (result i32)))
  (import "late" "table" (table 4 funcref))
  (import "agent" "memory" (memory $agent 0))
  (import "agent" "frames" (memory 1))
  (import "native" "clock_time_get" (func $now (param i32 i64 i32) (result i32)))
  (memory $own (export "memory") 1)
  (func $own_write (param i32 i32 i32 i32) (result i32)
    (drop (call $now (i32.const 1) (i64.const 0) (i32.const 8)))
    (i32.store $agent (i32.const 0) (i32.load $own (i32.const 0)))
    (i32.add (i32.const 100) (call $write (local.get 0) (local.get 1) (local.get 2) (local.get 3))))
  (elem (i32.const 2) func $own_write))"""
IMPORTING = """(module
  (import "portcall" "go" (func $go (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $again (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func $odd (param i32) (result i32)))
  (memory (export "memory") 1) {}
  (func (export "write") (result i32) (call $write (i32.const 1) (i32.const 2) (i32.const 3) (i32.const 4)))
  (func (export "again") (result i32) (call $again (i32.const 1) (i32.const 2) (i32.const 3) (i32.const 4)))
  (func (export "odd") (result i32) (call $odd (i32.const 9))))"""
FRAMES = '(memory (export "portcall.frames") 1)'


def test_imports_can_be_bound_anew_while_an_instance_runs(engine):
    called = []

    def host(index, args):
        called.append((index, tuple(args)))
        return 7

    if engine.name != "wasmtime":
        instance = start(engine, IMPORTING.format(""), host)
        assert instance.rebind(REBOUND) is None
        return
    instance = start(engine, IMPORTING.format(FRAMES), host)
    assert [instance.call(name) for name in ("write", "again", "odd")] == [(7,), (7,), (7,)]
    before = time.monotonic_ns()
    rebound = instance.rebind(REBOUND)
    assert before <= rebound.origin <= time.monotonic_ns()
    rebound.memory[0] = 42
    assert [instance.call(name) for name in ("write", "again", "odd")] == [(107,), (107,), (7,)]
    assert instance.memory("memory")[0] == 42
    assert 0 < int.from_bytes(rebound.memory[8:16], "little") <= time.monotonic_ns() - rebound.origin
    assert [args for _, args in called] == [(1, 2, 3, 4), (1, 2, 3, 4), (9,)] * 2
    other = instance.program.instantiate(host, lambda: None, Limits())
    assert other.call("write") == (7,)  # each instance for itself
    instance.close()
    assert instance.rebind(REBOUND) is None


@pytest.mark.parametrize("frames", ["", FRAMES.replace("1", "i64 1"), FRAMES.replace("1", "0")])
def test_an_instance_that_was_not_packed_is_not_bound_anew(engine, frames):
    if engine.name == "wasmer" and frames:
        pytest.skip("wasmer has one memory")
    instance = start(engine, IMPORTING.format(frames), lambda index, args: 7)
    assert instance.rebind(REBOUND) is None
    assert instance.call("write") == (7,)


def test_a_limit_of_tables_is_the_agents(engine):
    if engine.name == "wasmer":
        pytest.skip("wasmer has one memory")
    limits = Limits(table_elements=0)
    assert start(engine, IMPORTING.format(FRAMES), lambda index, args: 7, limits=limits).call("write") == (7,)
    with pytest.raises(LimitReached):
        start(engine, IMPORTING.format(FRAMES + "(table 5 funcref)"), limits=limits)


def test_machine_code_of_another_processor_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = bytes(wasmtime.wat2wasm(STATE))
    for target in ("linux-x86_64-000000000000", "linux-aarch64-000000000000"):
        monkeypatch.setattr(program, "target", lambda target=target: target)
        engines.load("wasmtime", cache=tmp_path / "code").program(code, digest(code))
    assert len(os.listdir(tmp_path / "code")) == 2
    assert target in sorted(os.listdir(tmp_path / "code"))[0]
    assert codecache.target() == codecache.target()
    assert platform.machine().lower() in codecache.target()
