"""Calls that are answered beside the agent: the same answers as in Python, and the same output in the same order."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import groupby
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import agents
from agents import AgentImage, engines
from agents.ambient import StandaloneHost
from agents.execution import Execution
from agents.hostcalls import CallContext, HostImport
from agents.outcomes import Finished, Suspended, Trapped, Waiting
from agents.snapshot import Snapshot
from agents.testing import Recording, Replaying, Seeded
from agents.waits import Woke
from agents.wasi import WasiLimits, WasiState
from agents.wasi.abi import E2BIG, EBADF, EFAULT, EINVAL, ENOSPC, FD_READ, FD_SEEK, FD_WRITE, FILE_RIGHTS
from agents.wasi.calls import SIGNATURES, WASI_MODULE
from agents.wasi.fast_path import BUFFERS, OUTPUT_BYTES, POOL_BYTES
from tests.thorough import examples

from .rig import DATA, PAGES, READ_WRITE, RESULT, VECTOR, Calls, Station, Virtual

T = TypeVar("T")
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


class Beside(Calls):
    """The calls of an agent, made while a host function runs."""

    def __init__(self, ctx: CallContext) -> None:
        self.ctx = ctx

    def raw(self, name: str, *args: int) -> Any:
        bits = [
            arg & (0xFFFFFFFF if letter == "i" else (1 << 64) - 1)
            for arg, letter in zip(args, SIGNATURES[name][0], strict=True)
        ]
        assert self.ctx.call is not None
        (error,) = self.ctx.call(name, *bits)
        return error

    def get(self, pointer: int, size: int) -> bytes:
        return bytes(self.ctx.memory.view[pointer : pointer + size])

    def put(self, pointer: int, data: bytes) -> None:
        self.ctx.memory.view[pointer : pointer + len(data)] = data

    def clock(self, which: int = 1) -> int:
        assert self.raw("clock_time_get", which, 1, RESULT) == 0
        return self.number(size=8)

    def warm_up(self) -> None:
        """Until the calls are answered beside it."""
        for _ in range(20):
            self.clock()


@cache
def calling() -> AgentImage:
    """An agent that calls the host's function, and exports every function of WASI as it imports it."""
    types = {"i": "i32", "I": "i64"}
    imports, exports = ['(import "test" "drive" (func $drive))'], []
    for name, (params, results) in SIGNATURES.items():
        if not results:
            continue
        typed = "".join(f" (param {types[p]})" for p in params) + " (result i32)"
        imports.append(f'(import "{WASI_MODULE}" "{name}" (func ${name}{typed}))')
        gets = " ".join(f"(local.get {index})" for index in range(len(params)))
        exports.append(f'(func (export "{name}"){typed} (call ${name} {gets}))')
    run = '(func (export "run") (call $drive))'
    text = "\n".join(["(module", *imports, f'(memory (export "memory") {PAGES})', *exports, run, ")"])
    return agents.pack(text, entry="run")


@cache
def engine() -> engines.Engine:
    return engines.load("wasmtime")


def drive(body: Callable[[Beside], T], host: StandaloneHost, wasi: WasiState | None = None) -> T:
    """What `body` returns, run as a host function of that agent."""
    answers: list[T] = []

    def driven(ctx: CallContext) -> None:
        answers.append(body(Beside(ctx)))

    imports = {("test", "drive"): HostImport("", "", driven)}
    with Execution(calling(), engine=engine(), ambient=host, wasi=wasi, imports=imports) as life:
        outcome = life.run()
        assert isinstance(outcome, Finished), outcome
    return answers[0]


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


def call(name: str, *args: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, tuple[Any, ...]]]:
    return st.tuples(st.just(name), st.tuples(*args))


writes = st.tuples(st.just("write"), st.tuples(fds, vectors, st.sampled_from([VECTOR, VECTOR, VECTOR, END - 8]), results))
steps = st.one_of(
    writes,
    writes,
    call("fd_seek", fds, offsets, st.integers(0, 3), results),
    call("fd_seek", st.just(4), offsets, st.integers(0, 1), st.just(RESULT)),
    call("clock_time_get", st.integers(0, 4), st.just(1), results),
    call("random_get", st.sampled_from([DATA, END - 16, END, 0xFFFFFFF0]), st.sampled_from([0, 1, 16, 17, 5000, 1 << 31])),
    st.tuples(st.just("read"), st.tuples(st.just(4), st.integers(0, 20))),
    call("fd_tell", fds, results),
    call("fd_fdstat_get", fds, results),
    call("fd_filestat_set_size", st.just(4), st.sampled_from([0, 9])),
    call("fd_fdstat_set_rights", fds, rights, st.just(0)),
    call("fd_fdstat_set_flags", fds, st.sampled_from([0, 1, 4])),
    call("fd_renumber", fds, fds),
    call("fd_close", st.sampled_from([1, 2, 4, 5])),
)


def perform(guest: Calls, name: str, args: tuple[Any, ...]) -> Any:
    if name == "read":
        return guest.read(*args)
    if name != "write":
        return guest.raw(name, *args)
    fd, vector, at, result = args
    records = b"".join(struct.pack("<II", *each) for each in vector)[: max(END - at, 0)]
    guest.put(at, records)
    return guest.raw("fd_write", fd, at, len(vector), result)


class Ordered(Station):
    """Keeps the order of what was written to both streams."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[int, bytes]] = []

    def output(self, fd: int, data: bytes) -> None:
        self.said.append((fd, data))

    def random(self, size: int) -> bytes:
        return bytes([CHANCE]) * size


def both(sequence: list[tuple[str, tuple[Any, ...]]], limits: WasiLimits) -> tuple[Machine, Ordered]:
    """Make the calls beside an agent, and in Python alone; the answers, the memories and the states must be the same."""
    machine, station = Machine(), Ordered()
    state = WasiState.launch(files={"f": b"0123456789"}, limits=limits)

    def body(here: Beside) -> None:
        here.warm_up()
        there = Virtual(station=station, files={"f": b"0123456789"}, limits=limits)
        here.put(0, bytes(END))
        for guest in (here, there):
            guest.put(DATA, bytes(range(256)) * 16)
            assert guest.open("f", 0, READ_WRITE) == (0, 4)
        for name, args in sequence:
            a, b = perform(here, name, args), perform(there, name, args)
            assert a == b, (name, args)
            if name == "clock_time_get" and a == 0:
                for guest in (here, there):
                    guest.put(args[2], bytes(8))
            assert here.get(0, END) == there.get(0, END), (name, args)
        assert merged(machine.said) == merged(station.said)
        assert state.logged == there.state.logged
        assert plain(state) == plain(there.state)

    drive(body, machine, state)
    return machine, station


def plain(state: WasiState) -> list[Any]:
    """The descriptors and what else is encoded, without times."""
    _, args, environ, _, descriptors, stdin, _, polling = state.encode()
    return [args, environ, descriptors, stdin, polling]


@settings(max_examples=examples(60), suppress_health_check=list(HealthCheck), derandomize=True, deadline=None)
@given(st.lists(steps, min_size=5, max_size=60), st.sampled_from([0, 300, 20_000, 1 << 24]))
def test_any_sequence_of_calls_does_the_same(sequence: list[tuple[str, tuple[Any, ...]]], log_bytes: int) -> None:
    both(sequence, WasiLimits(log_bytes=log_bytes))
