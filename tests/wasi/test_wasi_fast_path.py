"""Calls that are answered beside the agent: the same answers as in Python, and the same output in the same order."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Generator, Sequence
from functools import cache
from itertools import groupby
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import agents
from agents import AgentImage, engines
from agents.ambient import StandaloneHost
from agents.budget import TimeBudget
from agents.engines import Rebound
from agents.execution import Execution
from agents.hostcalls import CallContext, GuestMemory, HostImport
from agents.outcomes import Finished, Suspended, Trapped, Waiting
from agents.snapshot import Snapshot
from agents.waits import Woke
from agents.wasi import WasiLimits, WasiState
from agents.wasi.abi import E2BIG, FD_READ, FD_SEEK, FD_WRITE, FILE_RIGHTS
from agents.wasi.calls import SIGNATURES, WASI_MODULE
from agents.wasi.fast_path import BUFFERS, OUTPUT, OUTPUT_BYTES, POOL_BYTES, ROOM, SHOWN, USED, FastPath
from agents.wasi.fd_calls import fd_write
from tests.patience import PATIENCE
from tests.thorough import examples

from .rig import DATA, PAGES, PATH, READ_WRITE, RESULT, VECTOR, Calls, Station, Virtual

END = PAGES << 16
CHANCE = 0x5A


class Machine(StandaloneHost):
    """A station that lets the engine answer for it; `said` is what it was given, `asked` how often its clocks were."""

    def __init__(self, native: bool = True) -> None:
        self.said: list[tuple[int, bytes]] = []
        self.asked = 0
        super().__init__(
            self._wall,
            self._monotonic,
            lambda size: bytes([CHANCE]) * size,
            sink=lambda fd, data: self.said.append((fd, data)),
            native=native,
        )

    def _wall(self) -> int:
        self.asked += 1
        return time.time_ns()

    def _monotonic(self) -> int:
        self.asked += 1
        return time.monotonic_ns()

    def joined(self) -> list[tuple[int, bytes]]:
        """What it was given, whatever the pieces."""
        return merged(self.said)


def merged(said: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    pieces = ((fd, b"".join(data for _, data in group)) for fd, group in groupby(said, lambda each: each[0]))
    return [piece for piece in pieces if piece[1]]


Step = tuple[str, tuple[int, ...]]  # a function and its arguments
NAMES = (
    "clock_time_get", "fd_write", "fd_seek", "random_get", "fd_read", "fd_tell", "fd_fdstat_get", "fd_close",
    "fd_renumber", "fd_filestat_set_size", "fd_fdstat_set_rights", "fd_fdstat_set_flags", "path_open", "poll_oneoff",
    "sched_yield",
)  # fmt: skip
RECORDS, RECORD_BYTES = 6 << 16, 96  # which function, its answer, and ten arguments of 8 bytes
CLOCK = 4096  # where the time is put


def calling(polls: str = "loops") -> AgentImage:
    """An agent that makes the calls that lie in its memory, and then the host's function for more of them."""
    return _calling(polls)


@cache
def _calling(polls: Any) -> AgentImage:
    types = {"i": "i32", "I": "i64"}
    imports, cases = ['(import "test" "next" (func $next (result i32)))'], []
    for index, name in enumerate(NAMES):
        params, _ = SIGNATURES[name]
        typed = "".join(f" (param {types[each]})" for each in params) + " (result i32)"
        imports.append(f'(import "{WASI_MODULE}" "{name}" (func ${name}{typed}))')
        gets = " ".join(f"({types[each]}.load offset={16 + 8 * at} (local.get $at))" for at, each in enumerate(params))
        called = f"(i32.store offset=8 (local.get $at) (call ${name} {gets}))"
        cases.append(f"(if (i32.eq (i32.load (local.get $at)) (i32.const {index})) (then {called}))")
    text = f"""(module {" ".join(imports)}
      (memory (export "memory") {PAGES})
      (func $batch (param $n i32) (local $at i32)
        (local.set $at (i32.const {RECORDS}))
        (block $end (loop $each
          (br_if $end (i32.eqz (local.get $n)))
          {" ".join(cases)}
          (local.set $at (i32.add (local.get $at) (i32.const {RECORD_BYTES})))
          (local.set $n (i32.sub (local.get $n) (i32.const 1)))
          (br $each))))
      (func (export "run") (local $n i32)
        (loop $more
          (local.set $n (call $next))
          (call $batch (local.get $n))
          (br_if $more (local.get $n)))))"""
    return agents.pack(text, entry="run", polls=polls)


@cache
def engine() -> engines.Engine:
    return engines.load("wasmtime")


def encoded(steps: Sequence[Step]) -> bytes:
    records = bytearray()
    for name, args in steps:
        params, _ = SIGNATURES[name]
        bits = [arg & (0xFFFFFFFF if each == "i" else (1 << 64) - 1) for each, arg in zip(params, args, strict=True)]
        record = struct.pack(f"<IIQ{len(bits)}Q", NAMES.index(name), 0, 0, *bits)
        records += record.ljust(RECORD_BYTES, b"\0")
    return bytes(records)


class Memory(Calls):
    """The memory of an agent, wherever it goes on."""

    ctx: CallContext

    def get(self, pointer: int, size: int) -> bytes:
        return bytes(self.ctx.memory.view[pointer : pointer + size])

    def put(self, pointer: int, data: bytes) -> None:
        self.ctx.memory.view[pointer : pointer + len(data)] = data


Batches = Generator[list[Step], None, None]


def following(batches: Callable[[Memory], Batches]) -> dict[tuple[str, str], HostImport]:
    """The host's function: puts the next steps into the agent's memory. The generator goes on when they were made."""
    here = Memory()
    running = batches(here)

    def following_batch(ctx: CallContext) -> int:
        here.ctx = ctx
        steps = next(running, [])
        here.put(RECORDS, encoded(steps))
        return len(steps)

    return {("test", "next"): HostImport("", "i", following_batch)}


def answers(here: Memory, count: int) -> list[int]:
    """What the calls of the last batch returned."""
    return [here.number(RECORDS + RECORD_BYTES * index + 8) for index in range(count)]


WARM: list[Step] = [("clock_time_get", (1, 1, CLOCK))] * 20  # from then on the calls are answered beside the agent


def drive(batches: Callable[[Memory], Batches], host: StandaloneHost, **options: Any) -> None:
    """Run the agent until there are no more batches."""
    with Execution(calling(), engine=engine(), ambient=host, imports=following(batches), **options) as life:
        outcome = life.run()
        assert isinstance(outcome, Finished), outcome


LINE = b"a line\n"
PRINT: Step = ("fd_write", (1, VECTOR, 1, RESULT))
CRY: Step = ("fd_write", (2, VECTOR, 1, RESULT))
YIELD: Step = ("sched_yield", ())


def with_line(here: Memory) -> None:
    """Put a line where `PRINT` and `CRY` find it."""
    here.put(VECTOR, struct.pack("<II", DATA, len(LINE)))
    here.put(DATA, LINE)


# --- the same answers ---

fds = st.sampled_from([1, 1, 1, 2, 4, 4, 4, 5, 3, 0, 99])
results = st.sampled_from([RESULT, RESULT, RESULT, DATA, END - 8, END - 7, END - 4, END - 3, 0xFFFFFFFC])
offsets = st.sampled_from([0, 1, 7, -1, -7, 100, (1 << 63) - 1, -(1 << 63), 1 << 62])
buffers = st.tuples(
    st.sampled_from([DATA, DATA + 3, END - 5, END, 0xFFFFFFF0]), st.sampled_from([0, 1, 5, 6, 200, 0xFFFFFFFF])
)
vectors = st.one_of(
    st.lists(st.tuples(st.just(DATA), st.integers(0, 40)), min_size=1, max_size=3),
    st.lists(st.tuples(st.just(DATA), st.integers(0, 40)), min_size=1, max_size=3),
    st.lists(buffers, max_size=4),
    st.lists(st.tuples(st.just(DATA), st.just(3)), min_size=BUFFERS - 1, max_size=BUFFERS + 2),
    st.lists(st.tuples(st.just(DATA), st.just(OUTPUT_BYTES // 2)), min_size=1, max_size=4),
)
rights = st.sampled_from([FILE_RIGHTS, FILE_RIGHTS & ~FD_SEEK, FILE_RIGHTS & ~FD_WRITE, FD_READ])


def call(name: str, *args: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(name), st.tuples(*args))


# Where the vector of a write is, is said below.
write = call("fd_write", fds, st.just(0), st.just(1), results)
print_ = call("fd_write", st.just(1), st.just(0), st.just(1), st.just(RESULT))
seek = call("fd_seek", st.just(4), offsets, st.integers(0, 3), results)
draw = call(
    "random_get", st.sampled_from([DATA, DATA, END - 16, 0xFFFFFFF0]), st.sampled_from([0, 1, 16, 17, 2000, 5000])
)
clock = call(
    "clock_time_get", st.integers(0, 4), st.just(1), st.sampled_from([CLOCK, CLOCK, CLOCK, END - 7, 0xFFFFFFF8])
)
other = st.one_of(
    call("fd_seek", fds, offsets, st.integers(0, 3), results),
    call("fd_read", st.just(4), st.just(VECTOR), st.just(1), st.just(RESULT)),
    call("fd_tell", fds, results),
    call("fd_filestat_set_size", st.just(4), st.sampled_from([0, 9])),
    call("fd_fdstat_set_rights", fds, rights, st.just(0)),
    call("fd_fdstat_set_flags", fds, st.sampled_from([0, 1, 4])),
    call("fd_renumber", fds, fds),
    call("fd_close", st.sampled_from([1, 2, 4, 5])),
)


def burst(step: st.SearchStrategy[Step]) -> st.SearchStrategy[list[tuple[Step, list[tuple[int, int]]]]]:
    """Several like it, so that those after the first are answered beside the agent."""
    return st.lists(st.tuples(step, vectors), min_size=2, max_size=6)


bursts = st.one_of(*(burst(each) for each in (write, print_, seek, draw, clock, st.one_of(print_, seek))), burst(other))
batches = st.lists(
    st.lists(bursts, min_size=1, max_size=5).map(lambda found: [step for each in found for step in each]),
    min_size=1,
    max_size=4,
)
Batch = list[tuple[Step, list[tuple[int, int]]]]


class Ordered(Station):
    """Keeps the order of what was written to both streams."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[int, bytes]] = []

    def output(self, fd: int, data: bytes) -> None:
        self.said.append((fd, data))

    def random(self, size: int) -> bytes:
        return bytes([CHANCE]) * size


VECTORS = 5 << 16


def laid_out(batch: Batch, guests: Sequence[Calls]) -> list[Step]:
    """Put the vectors of the batch's writes into the memories; returns its calls."""
    found = []
    for index, ((name, args), vector) in enumerate(batch):
        if name == "fd_write":
            at = VECTORS + 256 * index if args[3] != END - 4 else END - 8 * len(vector[:1])
            for guest in guests:
                guest.put(at, b"".join(struct.pack("<II", *each) for each in vector)[: END - at])
            args = (args[0], at, len(vector), args[3])
        found.append((name, args))
    return found


def compare(given: list[Batch], limits: WasiLimits) -> None:
    """The same calls beside an agent and in Python alone: answers, memories and states must be the same."""
    machine, station = Machine(), Ordered()
    files = {"f": b"0123456789"}
    state = WasiState.launch(files=files, limits=limits)
    there = Virtual(station=station, files=files, limits=limits)

    def body(here: Memory) -> Batches:
        there.put_path("f")
        here.put_path("f")
        opening: Step = ("path_open", (3, 0, PATH, 1, 0, READ_WRITE, READ_WRITE, 0, RESULT))
        yield [opening, *WARM]
        assert there.raw(opening[0], *opening[1]) == 0
        for guest in (here, there):
            guest.put(0, bytes(END))
            guest.put(DATA, bytes(range(256)) * 16)
            guest.put(VECTOR, struct.pack("<II", DATA + 5000, 20))
        for batch in given:
            calls = laid_out(batch, (here, there))
            yield calls
            expected = [there.raw(name, *args) for name, args in calls]
            assert answers(here, len(calls)) == expected, calls
            for guest in (here, there):
                guest.put(CLOCK, bytes(8))
                guest.put(RECORDS, bytes(RECORD_BYTES * len(calls)))
            assert here.get(0, END) == there.get(0, END), calls
            assert plain(state) == plain(there.state), calls
        assert merged(machine.said) == merged(station.said)
        assert state.logged == there.state.logged

    drive(body, machine, wasi=state)


def plain(state: WasiState) -> list[Any]:
    """The descriptors and what else is encoded, without times."""
    _, args, environ, _, descriptors, stdin, _, polling = state.encode()
    return [args, environ, descriptors, stdin, polling]


ROOMY = WasiLimits()
ONE = [(DATA, 24)]
LENT: Batch = [
    (("fd_write", (1, 0, 1, RESULT)), ONE),
    (("random_get", (DATA + 8192, 16)), ONE),
    (("fd_seek", (4, 5, 0, RESULT)), ONE),
    (("fd_write", (1, 0, 1, RESULT)), ONE),
    (("fd_seek", (4, 1, 1, RESULT)), ONE),
]
POINTERS = [RESULT, DATA, END - 8, END - 7, END - 5, END - 4, END - 3, END, 0xFFFFFFFC, 0xFFFFFFFF]
EDGES: Batch = [
    *[(("fd_write", (1, 0, 1, pointer)), ONE) for pointer in POINTERS],
    *[(("fd_write", (1, 0, 1, RESULT)), vector) for vector in (
        [], [(DATA, 0)], [(END - 5, 5)], [(END - 5, 6)], [(END, 0)], [(END + 1, 0)],
        [(0xFFFFFFF0, 5)], [(0xFFFFFFF0, 32)],
        [(DATA, 0xFFFFFFFF)], [(DATA, 5), (END - 5, 6)], [(DATA, 5), (DATA + 1, 7), (DATA + 2, 0), (DATA, 1)],
        [(DATA, 3)] * (BUFFERS - 1), [(DATA, 3)] * BUFFERS, [(DATA, 3)] * (BUFFERS + 1),
        [(DATA, OUTPUT_BYTES - 24)], [(DATA, OUTPUT_BYTES - 23)], [(DATA, OUTPUT_BYTES)], [(DATA, OUTPUT_BYTES + 1)],
        [(DATA, OUTPUT_BYTES)] * 3,
    )],
    *[(("fd_seek", (4, offset, whence, RESULT)), ONE)
      for whence in range(4) for offset in (0, 1, -1, -6, -7, 100, (1 << 63) - 1, -(1 << 63), 1 << 62)],
    *[(("fd_seek", (4, 2, 0, pointer)), ONE) for pointer in POINTERS],
    *[(("random_get", (pointer, size)), ONE)
      for pointer in (DATA + 8192, END - 16, END - 15, END, 0xFFFFFFF0)
      for size in (0, 1, 16, POOL_BYTES - 16, POOL_BYTES, POOL_BYTES + 1)],
    *[(("clock_time_get", (which, 1, CLOCK)), ONE) for which in (*range(5), 0x80000000, 0xFFFFFFFF)],
    *[(("clock_time_get", (1, 1, pointer)), ONE) for pointer in POINTERS if pointer > END - 8],
    *[((name, (fd, *args)), ONE) for fd in (0, 2, 3, 5, 0xFFFFFFFF)
      for name, args in (("fd_write", (0, 1, RESULT)), ("fd_seek", (1, 0, RESULT)))],
]  # fmt: skip


def test_what_is_at_the_edge_is_as_in_python() -> None:
    compare([[*LENT, edge, edge, *LENT] for edge in EDGES], ROOMY)


CHANGES: list[Step] = [
    ("fd_close", (1,)),
    ("fd_close", (4,)),
    ("fd_renumber", (1, 4)),
    ("fd_renumber", (4, 1)),
    ("fd_renumber", (2, 1)),
    ("fd_renumber", (2, 4)),
    ("fd_fdstat_set_rights", (1, 0, 0)),
    ("fd_fdstat_set_rights", (4, FD_READ | FD_WRITE, 0)),
    ("fd_fdstat_set_rights", (4, FD_SEEK, 0)),
    ("fd_fdstat_set_flags", (4, 1)),
    ("fd_filestat_set_size", (4, 3)),
    ("fd_read", (4, VECTOR, 1, RESULT)),
    ("fd_tell", (4, RESULT)),
    ("fd_write", (4, VECTOR, 1, RESULT)),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda step: "-".join(map(str, (step[0], *step[1]))))
def test_python_knows_what_was_done_before_and_what_it_does_is_known_after(change: Step) -> None:
    read: Step = ("fd_read", (4, VECTOR, 1, RESULT))
    after = [*LENT, (read, ONE), *LENT, (read, ONE), *reversed(LENT), (("fd_tell", (4, RESULT)), ONE)]
    compare([[*LENT, (change, ONE), *after], after], ROOMY)


@pytest.mark.parametrize("limits", [
    WasiLimits(log_bytes=0),
    WasiLimits(log_bytes=24 * 25),
    WasiLimits(log_bytes=24 * 25 + 1),
    WasiLimits(log_bytes=OUTPUT_BYTES + 5),
    WasiLimits(io_bytes=10),
    WasiLimits(buffers=3),
], ids=lambda limits: f"{limits.log_bytes}-{limits.io_bytes}-{limits.buffers}")  # fmt: skip
def test_bounds_of_output_hold(limits: WasiLimits) -> None:
    line: Step = ("fd_write", (1, 0, 1, RESULT))
    compare([[(line, vector)] * 30 for vector in (ONE, [(DATA, 400)], [(DATA, 1)] * 3, [(DATA, 1)] * 4)], limits)


@settings(max_examples=examples(40), suppress_health_check=list(HealthCheck), derandomize=True, deadline=None)
@given(batches, st.sampled_from([0, 300, 20_000, 1 << 24]))
def test_any_sequence_of_calls_does_the_same(given: list[Batch], log_bytes: int) -> None:
    compare(given, WasiLimits(log_bytes=log_bytes))


# --- output ---

PRINTS = 40
PRINTING = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "portcall" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\08\\00\\00\\00\\07\\00\\00\\00a line\\n")
  (func $print (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64))))
  (func $prints (local $n i32) (local.set $n (i32.const 40))
    (loop $each (call $print) (br_if $each (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
  (func (export "spins") (call $prints) (loop $ever (br $ever)))
  (func (export "traps") (call $prints) unreachable)
  (func (export "logs") (call $prints) (call $log (i32.const 2) (i32.const 8) (i32.const 6)) (call $prints))
  (func (export "prints") (loop $ever (call $print) (br $ever))))"""


@cache
def printing(entry: str, polls: Any = "loops") -> AgentImage:
    return agents.pack(PRINTING, entry=entry, polls=polls)


def run(image: AgentImage, host: Machine, enough: int | None = None) -> Any:
    """Run it; ask it to leave once it has written so many bytes."""
    budget = TimeBudget(wall_ns=int(PATIENCE * 1e9))
    with Execution(image, engine=engine(), ambient=host, budget=budget) as life:

        def take(fd: int, data: bytes) -> None:
            host.said.append((fd, data))
            if enough is not None and sum(len(data) for _, data in host.said) >= enough:
                life.suspend()

        host.sink = take
        return life.run()


def test_what_an_agent_writes_is_shown_while_it_computes() -> None:
    host = Machine()
    assert isinstance(run(printing("spins"), host, PRINTS * len(LINE)), Suspended)
    assert host.joined() == [(1, LINE * PRINTS)]
    assert len(host.said) < PRINTS


def test_a_trap_loses_no_output() -> None:
    host = Machine()
    assert isinstance(run(printing("traps"), host), Trapped)
    assert host.joined() == [(1, LINE * PRINTS)]


def test_output_comes_before_what_follows_it() -> None:
    host = Machine()
    assert isinstance(run(printing("logs"), host), Finished)
    assert host.joined() == [(1, LINE * PRINTS), (2, b"info: a line\n"), (1, LINE * PRINTS)]

    def body(here: Memory) -> Batches:
        with_line(here)
        yield WARM
        yield [PRINT, PRINT, CRY, CRY, PRINT, PRINT, CRY]

    host = Machine()
    drive(body, host)
    assert host.joined() == [(1, LINE * 2), (2, LINE * 2), (1, LINE * 2), (2, LINE)]


@pytest.mark.parametrize("polls", ["none", "loops"])
def test_an_agent_that_prints_for_ever_leaves_when_asked(polls: str) -> None:
    host = Machine()
    assert isinstance(run(printing("prints", polls), host, 100_000), Suspended)
    assert set(host.joined()[0][1].splitlines(keepends=True)) == {LINE}


def test_an_error_of_the_station_about_output_ends_the_run() -> None:
    class Broken(Machine):
        def output(self, fd: int, data: bytes) -> None:
            if len(data) > len(LINE):  # not from a single call
                raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError):
        agents.run(printing("traps"), ambient=Broken())


def test_output_taken_between_two_instructions_counts() -> None:
    state = WasiState.launch(limits=WasiLimits(log_bytes=1000))
    host = Machine()
    memory = memoryview(bytearray(1 << 16))
    fast = FastPath(Rebound(memory, 0), CallContext(GuestMemory(memoryview(b"")), host, state))
    fast.returns(fd_write, [1, 0, 1, 0], True)
    cells = memory[:64].cast("i")
    assert cells[ROOM] == 1000
    memory[OUTPUT : OUTPUT + 600] = b"x" * 600
    cells[USED] = 600
    fast.flush()
    assert (cells[USED], cells[ROOM]) == (0, 400)
    assert (host.said, state.logged, state.table.get(1).offset) == ([(1, b"x" * 600)], 600, 600)
    fast.flush()
    assert len(host.said) == 1


# --- clocks and random bytes ---


def test_the_clocks_are_the_stations_and_never_go_back() -> None:
    seen: list[tuple[int, int, int]] = []
    host = Machine()
    state = WasiState.launch()

    def body(here: Memory) -> Batches:
        yield WARM
        before = host.asked
        for which in (0, 1) * 20:
            earlier = time.time_ns() if which == 0 else state.elapsed_ns
            yield [("clock_time_get", (which, 1, CLOCK))]
            shown = here.number(CLOCK, 8)
            later = time.time_ns() if which == 0 else time.monotonic_ns() - state.origin(host)
            seen.append((earlier, shown, later))
        assert host.asked == before  # Python was not

    drive(body, host, wasi=state)
    for earlier, shown, later in seen[1::2]:
        assert 1_000_000_000 <= earlier <= shown <= later
    monotonic = [shown for _, shown, _ in seen[1::2]]
    assert monotonic == sorted(monotonic)
    for earlier, shown, later in seen[::2]:
        assert earlier - 10**9 <= shown <= later + 10**9  # a wall clock may be set meanwhile, though not by much


def test_the_clock_shows_no_less_than_python_showed() -> None:
    state = WasiState.launch()
    memory = memoryview(bytearray(1 << 16))
    fast = FastPath(Rebound(memory, 0), CallContext(GuestMemory(memoryview(b"")), Machine(), state))
    shown = state.monotonic(Machine())
    fast.returns(fd_write, [1, 0, 1, 0], False)
    assert memory[:64].cast("q")[SHOWN] == shown


def test_a_clock_beyond_all_years_is_left_to_python() -> None:
    state = WasiState.launch()
    state.elapsed_ns = (1 << 64) - 1
    seen = []

    def body(here: Memory) -> Batches:
        yield WARM
        seen.append(here.number(CLOCK, 8))
        yield [("clock_time_get", (0, 1, CLOCK))]
        seen.append(here.number(CLOCK, 8))

    drive(body, Machine(), wasi=state)
    assert seen[0] == (1 << 64) - 1
    assert seen[1] < 1 << 63


def test_bytes_drawn_in_advance_stay_where_they_were_drawn() -> None:
    class Counting(Machine):
        def random(self, size: int) -> bytes:
            self.asked += 1
            return bytes([self.asked & 0xFF]) * size

    draw: Step = ("random_get", (DATA, 2))
    seen: list[bytes] = []

    def body(here: Memory) -> Batches:
        yield [*WARM, draw, draw]
        before = host.asked
        yield [draw] * 100
        assert host.asked == before
        seen.append(here.get(DATA, 2))
        yield [YIELD, draw]
        seen.append(here.get(DATA, 2))

    host = Counting()
    imports = following(body)
    with Execution(calling(), engine=engine(), ambient=host, imports=imports) as life:
        outcome = life.run()
    assert isinstance(outcome, Waiting)
    host.asked = 100
    snapshot = Snapshot.decode(outcome.snapshot.encode())
    with Execution(calling(), engine=engine(), ambient=host, imports=imports, snapshot=snapshot) as life:
        assert isinstance(life.run(Woke()), Finished)
    assert seen[1] >= bytes([100]) * 2 > seen[0]


# --- who is asked ---


def test_the_state_travels_as_it_would_without() -> None:
    def body(here: Memory) -> Batches:
        with_line(here)
        here.put_path("f")
        yield [("path_open", (3, 0, PATH, 1, 1, READ_WRITE, READ_WRITE, 0, RESULT)), *WARM]
        yield [PRINT, ("fd_write", (4, VECTOR, 1, RESULT)), ("fd_seek", (4, 2, 0, RESULT)), PRINT, CRY] * 3 + [YIELD]
        yield [("fd_seek", (4, 1, 1, RESULT)), PRINT, YIELD]

    found = []
    for native in (True, False):
        host = Machine(native)
        snapshots = []
        imports = following(body)
        with Execution(calling(), engine=engine(), ambient=host, imports=imports) as life:
            outcome = life.run()
            while isinstance(outcome, Waiting):
                assert life.wasi is not None
                snapshots.append(plain(WasiState.read(outcome.snapshot.wasi)))
                outcome = life.run(Woke())
        assert isinstance(outcome, Finished)
        assert len(snapshots) == 2
        found.append((snapshots, host.joined()))
    assert found[0] == found[1]


def test_a_station_that_does_not_let_the_engine_answer_is_asked_each_time() -> None:
    def body(here: Memory) -> Batches:
        with_line(here)
        yield WARM
        before, said = host.asked, len(host.said)
        yield [PRINT, ("clock_time_get", (0, 1, CLOCK))] * 50
        counts.append((host.asked - before, len(host.said) - said))

    counts: list[tuple[int, int]] = []
    for native in (False, True):
        host = Machine(native)
        drive(body, host)
    assert counts[0] == (50, 50)
    assert counts[1][0] == 0
    assert counts[1][1] < 50  # the first write, then what came together; on a busy machine in pieces


def test_a_function_that_was_given_is_called() -> None:
    called = []

    def own(ctx: CallContext, *args: int) -> int:
        called.append(args)
        return E2BIG

    def body(here: Memory) -> Batches:
        yield [*WARM, PRINT, PRINT]
        assert answers(here, 22)[20:] == [E2BIG, E2BIG]

    imports = following(body) | {(WASI_MODULE, "fd_write"): HostImport("iiii", "i", own)}
    with Execution(calling(), engine=engine(), ambient=Machine(), imports=imports) as life:
        assert isinstance(life.run(), Finished)
    assert called == [PRINT[1]] * 2
