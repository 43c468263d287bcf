"""What was written in a memory is told: by the kernel or by comparing, on real instances, also while they run."""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
import threading
import time

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import engines
from agents.canonical import digest
from agents.engines import Limits, userfault, writes
from agents.engines.pages import HOST_PAGE_BYTES
from agents.engines.raw import Gate, RawMemory
from agents.engines.writes import COMPARISON, USERFAULTFD
from agents.errors import EngineError
from tests.patience import PATIENCE
from tests.thorough import examples

PAGE = HOST_PAGE_BYTES
# `work` writes a counter to pages all over its first half a MiB, and to one more place each time; grows in the middle.
CODE = """(module (memory (export "m") 16 64) (data (i32.const 70000) "there from the start")
  (func (export "write") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
  (func (export "read") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "work") (param $turns i32) (local $at i32) (local $grown i32)
    (loop $again
      (local.set $at (i32.and (i32.mul (local.get $turns) (i32.const 40503)) (i32.const 0x7fff8)))
      (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (local.get $turns)))
      (if (i32.eqz (i32.and (local.get $turns) (i32.const 0xffff)))
        (then
          (local.set $grown (memory.grow (i32.const 1)))
          (if (i32.gt_s (local.get $grown) (i32.const 0))
            (then (i32.store (i32.shl (local.get $grown) (i32.const 16)) (local.get $turns))))))
      ;; written, and put back at once
      (i32.store (i32.const 0x90000) (local.get $turns))
      (i32.store (i32.const 0x90000) (i32.const 0))
      (br_if $again (local.tee $turns (i32.sub (local.get $turns) (i32.const 1)))))))"""


HERE = [name for name in engines.ENGINE_NAMES if name != "v8"]  # whose memories are in this process


@pytest.fixture(params=HERE)
def engine(request):
    if request.param not in engines.available():
        pytest.skip(f"{request.param} does not work on this Python")
    return engines.load(request.param, cache=None)


@pytest.fixture(params=[USERFAULTFD, COMPARISON])
def kind(request, monkeypatch):
    if request.param == COMPARISON:
        monkeypatch.setattr(writes, "kernel_tells", lambda: False)
    elif not writes.kernel_tells():
        pytest.skip("the kernel does not tell what is written here")
    return request.param


def start(engine, text=CODE, **limits):
    code = bytes(wasmtime.wat2wasm(text))
    return engine.program(code, digest(code)).instantiate(lambda index, args: 0, lambda: None, Limits(**limits))


def pages(runs):
    return [page for first, count in runs for page in range(first, first + count)]


class Follower:
    """A copy that is kept by what a watch reports: what the other side of a move has."""

    def __init__(self, watch, size):
        self.watch, self.copy = watch, bytearray()
        self.take([(0, size // PAGE)], size)

    def take(self, runs, size):
        self.copy.extend(bytes(size - len(self.copy)))
        with self.watch.contents() as contents:
            for first, count in runs:
                self.copy[first * PAGE : (first + count) * PAGE] = contents[first * PAGE : (first + count) * PAGE]

    def round(self, size):
        runs = self.watch.scan(size)
        self.take(runs, size)
        return pages(runs)


def test_a_copy_kept_by_scans_of_a_running_agent_is_its_memory_in_the_end(engine, kind):
    instance = start(engine)
    raw = instance.raw("m")
    rounds, ended, followers = [], threading.Event(), []

    def follow():
        watch = writes.watch_writes(raw)  # begins while the agent runs
        followers.append(Follower(watch, raw.size()))
        while not ended.is_set():
            rounds.append(followers[0].round(raw.size()))

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        until = time.monotonic() + PATIENCE
        while sum(map(bool, rounds)) < 3 and time.monotonic() < until:  # until some rounds came in between
            instance.call("work", [400_000])
    finally:
        ended.set()
        thread.join(PATIENCE)
    size, follower = len(instance.memory("m")), followers[0]
    assert follower.watch.kind == kind
    follower.round(size)
    assert size == raw.size() >= 22 << 16  # it has grown
    assert bytes(follower.copy) == bytes(instance.memory("m"))
    assert follower.round(size) == []
    assert sum(map(bool, rounds)) >= 3
    follower.watch.close()
    follower.watch.close()
    instance.close()


@given(
    st.lists(
        st.lists(
            st.one_of(
                st.tuples(st.just("write"), st.integers(0, (16 << 16) - 1), st.integers(0, 255)),
                st.tuples(st.just("read"), st.integers(0, (16 << 16) - 1), st.just(0)),
                st.tuples(st.just("host"), st.integers(0, (16 << 16) - 1), st.integers(0, 255)),
                st.tuples(st.just("grow"), st.integers(0, 3), st.just(0)),
            ),
            max_size=12,
        ),
        max_size=6,
    ),
    st.lists(st.integers(0, (16 << 16) - 1), max_size=6),
)
@settings(max_examples=examples(30), deadline=None)
@pytest.mark.parametrize("name", [name for name in HERE if name in engines.available()])
@pytest.mark.parametrize("by_kernel", [True, False])
def test_every_written_page_is_reported_and_no_other_that_is_known(name, by_kernel, rounds, before):
    if by_kernel and not writes.kernel_tells():
        pytest.skip("the kernel does not tell what is written here")
    instance = start(engines.load(name, cache=None))
    for at in before:
        instance.call("write", [at, 7])
    raw = instance.raw("m")
    watch = writes.KernelWatch(raw) if by_kernel else writes.ComparisonWatch(raw)
    follower = Follower(watch, raw.size())
    watched = raw.size() // PAGE
    for each in rounds:
        expected = set()
        for what, at, value in each:
            if what == "write":
                expected.add(at // PAGE)
                instance.call("write", [at, value])
            elif what == "host":
                expected.add(at // PAGE)
                instance.memory("m")[at] = value
            elif what == "read":
                instance.call("read", [at])
            else:
                instance.call("grow", [at])
        found = set(follower.round(raw.size()))
        if by_kernel:
            assert {page for page in found if page < watched} == expected
        else:
            assert found <= expected
        assert bytes(follower.copy) == bytes(instance.memory("m"))
        watched = raw.size() // PAGE
    watch.close()
    instance.close()


def test_a_watch_may_begin_at_any_time_and_again(engine, kind):
    instance = start(engine)
    instance.call("work", [70_000])
    for turn in range(3):
        watch = instance.watch_writes("m")
        assert watch.kind == kind
        size = len(instance.memory("m"))
        assert watch.scan(size) == []
        instance.call("write", [70_000, 100 + turn])  # a page of the initial contents
        instance.call("write", [size - 1, 100 + turn])
        assert pages(watch.scan(size)) == [70_000 // PAGE, size // PAGE - 1]
        watch.close()
    instance.close()


def test_a_copy_shows_what_was_compared_whatever_the_agent_does_since(engine, monkeypatch):
    monkeypatch.setattr(writes, "kernel_tells", lambda: False)
    instance = start(engine)
    watch = instance.watch_writes("m")
    size = len(instance.memory("m"))
    instance.call("write", [5, 1])
    assert watch.scan(size) == [(0, 1)]
    instance.call("write", [5, 2])
    with watch.contents() as contents:
        assert contents[5] == 1
    instance.call("write", [5, 1])  # put back: no scan finds that, and none has to
    assert watch.scan(size) == []
    instance.close()


def test_what_the_system_writes_for_the_host_is_seen(engine, kind):
    instance = start(engine)
    watch = instance.watch_writes("m")
    with tempfile.TemporaryFile(buffering=0) as file, instance.raw("m").writing() as memory:
        file.write(b"y" * 2 * PAGE)
        file.seek(0)
        file.readinto(memory[10 * PAGE : 12 * PAGE])
    assert watch.scan(16 << 16) == [(10, 2)]
    with instance.raw("m").reading() as memory:
        assert bytes(memory[10 * PAGE : 12 * PAGE]) == b"y" * 2 * PAGE
        with pytest.raises(TypeError):
            memory[0] = 1
    instance.close()


def test_large_pages_are_told_by_the_small_ones_that_were_written(engine, kind):
    instance = start(engine, CODE.replace('"m") 16 64', '"m") 128 256'))
    instance.expect("m", 0, 8 << 20)
    instance.memory("m")[:] = b"\1" * (8 << 20)
    watch = instance.watch_writes("m")
    for at in (3 << 20, (5 << 20) + 5000):
        instance.call("write", [at, 2])
    assert pages(watch.scan(8 << 20)) == [768, 1281]
    assert watch.scan(8 << 20) == []
    instance.close()


def test_a_second_watch_of_the_same_memory_compares(engine, kind):
    instance = start(engine)
    first, second = instance.watch_writes("m"), instance.watch_writes("m")
    assert (first.kind, second.kind) == (kind, COMPARISON)
    for turn in range(2):
        instance.call("write", [9 * PAGE + turn, 1])
        assert first.scan(16 << 16) == second.scan(16 << 16) == [(9, 1)]
    instance.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_changes_nothing_for_its_parent_and_misses_nothing_itself(engine, kind):
    instance = start(engine)
    watch = instance.watch_writes("m")
    instance.call("write", [3 * PAGE, 1])
    child = os.fork()
    if child == 0:
        status = 1
        try:
            instance.memory("m")[7 * PAGE] = 1
            found = pages(watch.scan(16 << 16))
            watch.close()
            status = 0 if {3, 7} <= set(found) else 2
        finally:
            os._exit(status)
    instance.call("write", [5 * PAGE, 1])
    assert os.waitpid(child, 0)[1] == 0
    assert watch.scan(16 << 16) == [(3, 1), (5, 1)]
    instance.call("write", [5 * PAGE, 2])
    assert watch.scan(16 << 16) == [(5, 1)]
    instance.close()


def test_what_is_mapped_anew_is_reported_as_a_whole_and_watched_again():
    if not writes.kernel_tells():
        pytest.skip("the kernel does not tell what is written here")
    instance = start(engines.load("wasmtime", cache=None))
    watch = instance.watch_writes("m")
    assert watch.kind == USERFAULTFD
    address = instance.memory_address("m")
    userfault.unregister(watch._descriptor, address + 4 * PAGE, PAGE)
    assert watch.scan(16 << 16) == [(0, 256)]
    instance.call("write", [4 * PAGE, 1])
    assert watch.scan(16 << 16) == [(4, 1)]
    instance.close()


def test_nothing_is_touched_once_the_instance_is_closed(engine, kind):
    instance = start(engine)
    raw, watch = instance.raw("m"), instance.watch_writes("m")
    inside, closed = threading.Event(), threading.Event()
    seen = []

    def read():
        with watch.contents() as contents:
            inside.set()
            until = time.monotonic() + PATIENCE
            while not raw._gate._closed and time.monotonic() < until:
                time.sleep(0.001)
            seen.append((closed.is_set(), contents[70_000]))

    reader = threading.Thread(target=read)
    reader.start()
    assert inside.wait(PATIENCE)
    instance.close()  # waits for the reader
    closed.set()
    reader.join(PATIENCE)
    assert seen == [(False, ord("t"))]
    for use in (raw.size, lambda: watch.scan(16 << 16), lambda: watch.contents().__enter__()):
        with pytest.raises(EngineError, match="closed"):
            use()
    watch.close()


def test_the_size_of_a_memory_is_known_while_it_grows(engine):
    instance = start(engine, memory=3 << 20)
    raw = instance.raw("m")
    assert (raw.size(), raw.limit) == (1 << 20, 3 << 20)
    for more, size in [(1, 17), (2, 19), (20, 39), (9, 48), (1, 48)]:
        instance.call("grow", [more])
        assert raw.size() == len(instance.memory("m")) == size << 16
        assert raw.address == instance.memory_address("m")
    instance.close()


def test_a_memory_that_may_move_has_no_raw_address():
    text = '(module (memory (export "m") i64 1) (func (export "grow") (param i64) (drop (memory.grow (local.get 0)))))'
    engine = engines.load("wasmtime", cache=None)
    with pytest.raises(EngineError, match="may move"):
        start(engine, text, memory=5 << 30).raw("m")
    instance = start(engine, text, memory=4 << 30)
    raw, address = instance.raw("m"), instance.memory_address("m")
    instance.call("grow", [(1 << 16) - 1])
    assert instance.memory_address("m") == raw.address == address
    assert raw.size() == raw.limit == 4 << 30
    instance.close()


def test_a_watch_that_is_closed_says_so(engine, kind):
    instance = start(engine)
    watch = instance.watch_writes("m")
    watch.close()
    with pytest.raises(ValueError, match="closed"):
        watch.scan(16 << 16)
    instance.close()


def test_descriptors_are_closed_on_exec():
    if not writes.kernel_tells():
        pytest.skip("the kernel does not tell what is written here")
    instance = start(engines.load("wasmtime", cache=None))
    watch = instance.watch_writes("m")
    assert not os.get_inheritable(watch._descriptor)
    instance.close()


def test_many_pages_are_found_in_several_answers_of_the_kernel():
    if not writes.kernel_tells():
        pytest.skip("the kernel does not tell what is written here")
    size = 4096 * PAGE
    mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    owner = ctypes.c_char.from_buffer(mapping)
    watch = writes.KernelWatch(RawMemory(Gate(), mapping, ctypes.addressof(owner), size, size))
    for page in range(0, 4096, 2):
        mapping[page * PAGE] = 1
    assert watch.scan(size) == [(page, 1) for page in range(0, 4096, 2)]
    mapping[: 2000 * PAGE] = b"\2" * (2000 * PAGE)
    assert watch.scan(size) == [(0, 2000)]
    watch.close()
