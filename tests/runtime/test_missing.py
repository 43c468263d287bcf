"""Pages that come while the agent runs: with real instances, a provider in another thread, and every way it can end."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import Life, Limits, engines
from agents.ambient import StandaloneHost
from agents.canonical import digest
from agents.engines import missing
from agents.engines.pages import HOST_PAGE_BYTES
from agents.errors import EngineError, MemoryMissing
from agents.hostcalls import GuestMemory, HostImport
from agents.outcomes import Finished
from agents.waits import Woke
from tests.patience import PATIENCE
from tests.thorough import examples

from .agents_at_work import packed

PAGE = HOST_PAGE_BYTES
SIZE = 16 << 16
CODE = """(module (import "host" "call" (func $call (param i32) (result i32)))
  (memory (export "m") 16 64) (data (i32.const 70000) "initial contents")
  (func (export "read") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "write") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
  (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "host") (param i32) (result i32) (call $call (local.get 0)))
  (func (export "for ever") (param i32) (loop $again
    (drop (call $call (i32.load8_u (local.get 0)))) (br $again)))
  (func (export "spin") (param i32)
    (drop (i32.load8_u (local.get 0))) (loop $again (br $again)))
  (func (export "sum") (param $at i32) (param $end i32) (result i32) (local $sum i32)
    (loop $again
      (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
      (br_if $again (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (local.get $end))))
    (local.get $sum)))"""


@pytest.fixture(scope="module", autouse=True)
def possible() -> None:
    if not missing.pages_can_be_missing():
        pytest.skip("this system cannot have pages that come later")


@pytest.fixture(scope="module")
def program():
    engine = engines.load("wasmtime", cache=None)
    code = bytes(wasmtime.wat2wasm(CODE))
    return engine.program(code, digest(code))


def start(program, host=lambda index, args: 0):
    return program.instantiate(host, lambda: None, Limits())


def contents(seed=1):
    return b"".join(bytes([(page * 7 + seed) % 251 + 1]) * PAGE for page in range(SIZE // PAGE))


@contextmanager
def provided(pages, source, asked) -> Iterator[None]:
    """A thread that provides what is waited for, as an event loop would."""
    ended = threading.Event()

    def serve():
        poll = select.poll()
        poll.register(pages.fileno(), select.POLLIN)
        while not ended.is_set():
            if poll.poll(10):
                for offset in pages.faults():
                    asked.append(offset // PAGE)
                    pages.provide(offset, source[offset : offset + PAGE])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(PATIENCE)


def wait_for(condition):
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_an_agent_runs_before_its_memory_is_there_and_never_knows(program):
    instance, source, asked = start(program), contents(), []
    pages = instance.owe("m", [(0, SIZE // PAGE)])
    assert pages.left == SIZE // PAGE
    with provided(pages, source, asked):
        assert instance.call("read", [70_000]) == (source[70_000],)  # where initial contents were
        assert instance.call("read", [SIZE - 1]) == (source[SIZE - 1],)
        instance.call("write", [5 * PAGE + 1, 0])
        assert instance.call("sum", [4 * PAGE, 8 * PAGE]) == (sum(source[4 * PAGE : 8 * PAGE]) - source[5 * PAGE],)
        instance.call("fill", [20 * PAGE - 5, 9, PAGE + 10])
    assert asked == [17, 255, 5, 4, 6, 7, 19, 20, 21]
    assert pages.left == 256 - 9
    pages.provide(0, source)
    assert pages.left == 0
    expected = bytearray(source)
    expected[5 * PAGE + 1] = 0
    expected[20 * PAGE - 5 : 21 * PAGE + 5] = b"\x09" * (PAGE + 10)
    assert bytes(instance.memory("m")) == bytes(expected)
    assert instance.missing("m") is None
    instance.close()


def test_only_what_is_owed_is_taken_away(program):
    instance, asked = start(program), []
    instance.memory("m")[3 * PAGE] = 33
    pages = instance.owe("m", [(1, 1), (5, 2), (200, 1)])
    assert pages.missing() == [(1, 1), (5, 2), (200, 1)]
    with provided(pages, contents(), asked):
        assert instance.call("read", [3 * PAGE]) == (33,)
        assert instance.call("read", [70_000]) == (ord("i"),)  # in the data that the module begins with
        assert instance.call("read", [4 * PAGE]) == instance.call("read", [190 * PAGE]) == (0,)  # never touched
        assert instance.call("read", [6 * PAGE]) == (contents()[6 * PAGE],)
        instance.call("grow", [2])
        instance.call("write", [SIZE + PAGE, 1])
    assert asked == [6]
    assert pages.missing() == [(1, 1), (5, 1), (200, 1)]
    instance.close()


def test_more_runs_than_the_system_has_mappings_for(program):
    instance, source, asked = start(program), contents(), []
    instance.call("grow", [48])
    size = SIZE * 4
    owed = [(page, 1) for page in range(0, size // PAGE, 2)]
    pages = instance.owe("m", owed)
    with provided(pages, source * 4, asked):
        for page in (0, 1, 2, 1000, 1001, 1023):
            expected = source[page * PAGE % SIZE] if page % 2 == 0 else 0
            if not 70_000 <= page * PAGE < 71_000:
                assert instance.call("read", [page * PAGE]) == (expected,)
    assert asked == [0, 2, 1000]
    instance.close()


@given(
    st.lists(st.booleans(), min_size=256, max_size=256),
    st.lists(
        st.one_of(
            st.tuples(st.just("provide"), st.integers(0, 255), st.integers(1, 64)),
            st.tuples(st.just("zero"), st.integers(0, 255), st.integers(1, 8)),
            st.tuples(st.just("write"), st.integers(0, SIZE - 1), st.integers(0, 255)),
            st.tuples(st.just("read"), st.integers(0, SIZE - 1), st.just(0)),
        ),
        max_size=30,
    ),
)
@settings(max_examples=examples(15), deadline=None)
def test_whatever_comes_in_whatever_order_each_page_is_provided_once(program, owed, steps):
    instance, source = start(program), contents(3)
    before = bytes([*range(1, 252)]) * (SIZE // 251 + 1)
    instance.memory("m")[:] = before[:SIZE]
    model, left = bytearray(before[:SIZE]), {page for page, is_owed in enumerate(owed) if is_owed}
    pages = instance.owe("m", [(page, 1) for page in sorted(left)])
    asked: list[int] = []
    with provided(pages, source, asked):
        for what, at, value in steps:
            if what in ("provide", "zero"):
                count = min(value, 256 - at)
                for page in left & set(range(at, at + count)):
                    part = source[page * PAGE : (page + 1) * PAGE] if what == "provide" else bytes(PAGE)
                    model[page * PAGE : (page + 1) * PAGE] = part
                left -= set(range(at, at + count))
                if what == "provide":
                    pages.provide(at * PAGE, source[at * PAGE : (at + count) * PAGE])
                else:
                    pages.zero(at * PAGE, count * PAGE)
                continue
            page = at // PAGE
            if page in left:
                model[page * PAGE : (page + 1) * PAGE] = source[page * PAGE : (page + 1) * PAGE]
                left.discard(page)
            if what == "write":
                instance.call("write", [at, value])
                model[at] = value
            else:
                assert instance.call("read", [at]) == (model[at],)
    assert pages.left == len(left)
    assert {page for first, count in pages.missing() for page in range(first, first + count)} == left
    for page in left:
        pages.provide(page * PAGE, source[page * PAGE : (page + 1) * PAGE])
        model[page * PAGE : (page + 1) * PAGE] = source[page * PAGE : (page + 1) * PAGE]
    assert bytes(instance.memory("m")) == bytes(model)
    instance.close()


def test_a_host_function_waits_for_what_it_touches(program):
    source, asked, seen = contents(), [], []

    def host(index, args):
        memory = GuestMemory(instance.memory("m"))
        memory.missing = instance.missing("m")
        seen.append(memory.read(args[0], 3 * PAGE))
        memory.write(args[0] + PAGE - 1, b"ab")
        return 7

    instance = start(program, host)
    pages = instance.owe("m", [(0, 256)])
    with provided(pages, source, asked):
        assert instance.call("host", [10 * PAGE + 1]) == (7,)
    assert asked == [10, 11, 12, 13]
    assert seen == [source[10 * PAGE + 1 : 13 * PAGE + 1]]
    assert pages.waiting() == []
    with provided(pages, source, asked):
        memory = GuestMemory(instance.memory("m"))
        memory.missing = pages
        assert (
            memory.view[11 * PAGE - 1 : 11 * PAGE + 3]
            == source[11 * PAGE - 1 : 11 * PAGE] + b"ab" + source[11 * PAGE + 2 : 11 * PAGE + 3]
        )
    assert pages.left == 0
    instance.close()


def test_an_agent_that_waits_can_be_given_up_and_nothing_of_it_gets_out(program):
    calls, ended = [], []

    def run(instance, name):
        try:
            instance.call(name, [9 * PAGE])
        except BaseException as error:
            ended.append(error)

    for name in ("for ever", "spin"):
        instance = start(program, lambda index, args: calls.append(args) or 0)
        pages = instance.owe("m", [(0, 256)])
        thread = threading.Thread(target=run, args=(instance, name))
        thread.start()
        wait_for(pages.faults)
        assert pages.waiting() == [9 * PAGE]
        pages.abandon()
        until = time.monotonic() + PATIENCE
        while thread.is_alive() and time.monotonic() < until:
            program.interrupt()  # as whoever runs an agent does while it runs
            thread.join(0.01)
        error = ended.pop()
        assert isinstance(error, MemoryMissing), error
        assert calls == []
        assert instance.missing("m") is pages
        with pytest.raises(MemoryMissing):
            pages.provide(0, bytes(PAGE))
        with pytest.raises(MemoryMissing):
            pages.make_present(0, 1)
        assert pages.faults() == []
        pages.abandon()
        instance.close()


def test_a_host_function_that_waits_is_given_up_too(program):
    def host(index, args):
        instance.missing("m").make_present(args[0], 1)
        return 0

    instance = start(program, host)
    pages = instance.owe("m", [(0, 256)])
    thread = threading.Timer(0, lambda: (wait_for(pages.waiting), pages.abandon()))
    thread.start()
    with pytest.raises(MemoryMissing):
        instance.call("host", [PAGE])
    thread.join()
    instance.close()
    assert pages.fileno() == -1


def test_nothing_reads_a_memory_that_is_not_whole(program):
    instance = start(program)
    pages = instance.owe("m", [(2, 1)])
    for use in (instance.raw, instance.changed, instance.watch_writes, lambda name: instance.owe(name, [(3, 1)])):
        with pytest.raises(EngineError, match=r"missing|later"):
            use("m")
    pages.zero(2 * PAGE, PAGE)
    assert instance.changed("m") == []
    watch = instance.watch_writes("m")
    instance.call("write", [2 * PAGE, 1])
    assert watch.scan(SIZE) == [(2, 1)]
    pages.close()
    pages.close()
    watch.close()
    instance.close()


def test_what_is_no_page_of_the_memory_is_refused(program):
    instance = start(program)
    for owed in ([(-1, 1)], [(256, 1)], [(0, 257)], [(3, 0)]):
        with pytest.raises(ValueError, match="outside"):
            instance.owe("m", owed)
    with pytest.raises(EngineError):
        instance.owe("nothing", [(0, 1)])
    pages = instance.owe("m", [(0, 256)])
    for offset, data in [(1, bytes(PAGE)), (0, bytes(PAGE + 1)), (-PAGE, bytes(PAGE)), (SIZE, bytes(PAGE))]:
        with pytest.raises(ValueError, match="pages"):
            pages.provide(offset, data)
    instance.close()
    with pytest.raises(EngineError):
        pages.provide(0, bytes(PAGE))


def userfaults() -> int:
    found = []
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one of the folder itself is gone by now
            found.append(os.readlink(f"/proc/self/fd/{entry}"))
    return found.count("anon_inode:[userfaultfd]")


def test_descriptors_and_instances_are_freed(program):
    gc.collect()  # of tests that failed
    before = userfaults()
    for _ in range(3):
        instance = start(program)
        pages = instance.owe("m", [(0, 256)])
        assert userfaults() == before + 1
        assert not os.get_inheritable(pages.fileno())
        instance.close()
        gone = weakref.ref(instance)
        del instance
        assert gone() is None
    assert userfaults() == before


def test_a_process_that_is_started_meanwhile_does_not_wait(program):
    instance, asked = start(program), []
    pages = instance.owe("m", [(0, 256)])
    assert subprocess.run([sys.executable, "-c", "print(5)"], stdout=subprocess.PIPE, check=True).stdout == b"5\n"
    with provided(pages, contents(), asked):
        assert instance.call("read", [0]) == (contents()[0],)
    instance.close()


def test_an_engine_that_holds_the_interpreter_lock_refuses():
    if "wasmer" not in engines.available():
        pytest.skip("wasmer does not work on this Python")
    engine = engines.load("wasmer", cache=None)
    code = bytes(wasmtime.wat2wasm(CODE))
    instance = engine.program(code, digest(code)).instantiate(lambda index, args: 0, lambda: None, Limits())
    with pytest.raises(EngineError, match="wasmtime"):
        instance.owe("m", [(0, 1)])
    assert instance.missing("m") is None


AGENT = """(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "portcall" "sleep" (func $sleep (param i32) (result i32))) (import "host" "see" (func $see (param i32)))
  (memory (export "memory") 4) (data (i32.const 131072) "initia")
  (data (i32.const 16) "\\00\\00\\02\\00\\06\\00\\00\\00")
  (func (export "run")
    (i32.store (i32.const 0x20000) (i32.const 0x6c6c6568)) (i32.store16 (i32.const 0x20004) (i32.const 0x0a6f))
    (drop (call $sleep (i32.const 5)))
    (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 0x30000)))
    (call $see (i32.load8_u (i32.const 0x20000)))
    (drop (call $sleep (i32.const 5)))))"""


@pytest.mark.parametrize("profile", ["standard", "portable"])
def test_a_whole_agent_goes_on_in_a_memory_that_is_not_there_yet(profile):
    seen, asked, written = [], [], []
    ambient = StandaloneHost(lambda: 1_000, lambda: 2_000, bytes, sink=lambda fd, data: written.append(bytes(data)))
    imports = {("host", "see"): HostImport("i", "", lambda ctx, byte: seen.append(byte))}
    engine = engines.load("wasmtime", cache=None)
    image = packed(AGENT, profile=profile)
    with Life(image, engine=engine, ambient=ambient, entry="run", imports=imports) as life:
        life.advance()
        before = bytes(life.instance.memory("portcall.memory.0"))
        pages = life.instance.owe("portcall.memory.0", [(0, len(before) // PAGE)])
        with provided(pages, before, asked):
            life.advance(Woke())
        assert seen == [ord("h")]
        assert b"".join(written) == b"hello\n"
        assert 0x20 in asked
        if pages.left:  # frames of the portable profile pass through the memory, so that all of it was asked for
            with pytest.raises(EngineError, match="missing"):
                life.snapshot()
            pages.provide(0, before)
        snapshot = life.snapshot()
    with Life(image, engine=engine, ambient=ambient, snapshot=snapshot, imports=imports) as life:
        assert isinstance(life.run(Woke()), Finished)
