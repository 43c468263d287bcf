"""What the engine takes to compile a program: as it was, packed (at launch), and its resume module (at the first hop).

    python -m tests.bench.compiling [--json FILE] [--rounds N]

Processor time is of one thread, the least of the rounds; each round is a process of its own. Memory is the peak of that
process while it compiles, over what it had before. Bytes of machine code are those of the serialized module, which is
what a station caches.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import wasmtime

import agents
from agents.rewrite.options import Polls
from tests import programs

FUNCTIONS, CALLS = 2000, 12
POLLS: tuple[Polls, ...] = ("none", "loops")
FIELDS = ("wasm", "machine", "cpu_s", "peak_kib")


def generated() -> bytes:
    """Many functions of a dozen calls in one loop, all of which may be on the stack when the agent sleeps."""
    functions = []
    for number in range(FUNCTIONS):
        calls = ""
        for turn in range(CALLS):
            call = f"(call {1 + (number * 5 + turn * 17) % FUNCTIONS} (local.get {turn % 5}))"
            other = f"(i32.add (local.get {(turn + 3) % 5}) (i32.const {turn}))"
            calls += f"(local.set {1 + turn % 4} (i32.xor {call} {other}))"
        asleep = "(drop (call $sleep (i32.const 0)))" if number % 40 == 0 else ""
        functions.append(
            f"(func (param i32) (result i32) (local i32 i32 i32 i32) (loop {calls}"
            f" (br_if 0 (i32.lt_u (local.get 1) (local.get 2)))) {asleep} (local.get 4))"
        )
    sleep = '(import "portcall" "sleep" (func $sleep (param i32) (result i32)))'
    run = '(func (export "run") (result i32) (call 1 (i32.const 1)))'
    return bytes(wasmtime.wat2wasm(f"(module {sleep} {''.join(functions)} {run})"))


def measure(code: bytes, rounds: int) -> dict[str, float]:
    """Sizes in bytes, seconds, KiB: the least of the rounds."""
    found: list[list[float]] = []
    for _ in range(rounds):
        line = [sys.executable, "-m", "tests.bench.compiling", "--child"]
        done = subprocess.run(line, input=code, stdout=subprocess.PIPE, check=True)
        found.append(json.loads(done.stdout))
    return dict(zip(FIELDS, [len(code), *map(min, zip(*found, strict=True))], strict=True))


def _child() -> None:
    code = sys.stdin.buffer.read()
    config = wasmtime.Config()
    config.wasm_exceptions = True
    config.cranelift_opt_level = "speed"
    config.parallel_compilation = False
    engine = wasmtime.Engine(config)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before, began = _peak_kib(), time.process_time()
    module = wasmtime.Module(engine, code)
    took, peak = time.process_time() - began, _peak_kib() - before
    json.dump([len(module.serialize()), took, peak], sys.stdout)


def _peak_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def rows(rounds: int) -> Iterator[dict[str, object]]:
    """Each program: as it was, and for each kind of polls both of its modules."""
    for name, source in (("2000 functions, generated", generated()), ("MicroPython", programs.micropython())):
        yield {"program": name, "what": "unmodified", **measure(source, rounds)}
        for polls in POLLS:
            image = agents.pack(source, polls=polls)
            assert image.resumption is not None
            yield {"program": name, "what": f"launch, polls {polls}", **measure(image.code, rounds)}
            yield {"program": name, "what": f"first resumption, polls {polls}", **measure(image.resumption, rounds)}


@click.command()
@click.option("--json", "to", type=click.Path(path_type=Path), help="Write the figures here.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--child", is_flag=True, hidden=True)
def main(to: Path | None, rounds: int, child: bool) -> None:
    """Measure what compiling takes."""
    if child:
        _child()
        return
    found = []
    click.echo("| program | what | wasm | machine code | processor time | peak memory |\n|---|---|--:|--:|--:|--:|")
    for row in rows(rounds):
        found.append(row)
        wasm, machine, cpu, peak = (float(str(row[field])) for field in FIELDS)
        click.echo(
            f"| {row['program']} | {row['what']} | {wasm / 1e6:.2f} MB | {machine / 1e6:.2f} MB"
            f" | {cpu:.2f} s | {peak / 1024:.0f} MiB |"
        )
    if to is not None:
        to.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
