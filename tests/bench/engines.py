"""The engines beside each other: what mobility costs in each, how fast each is, and a hop from one to another.

    python -m tests.bench.engines [--quick] [--engines wasmtime,v8] [--json FILE]

Each kernel runs in each engine as stations run it (V8 with the code that limits it), unmodified and packed with polls
in loops, in turns. A time is that of the processor, in whichever process, without what an engine compiles in the
background meanwhile. A hop is the time from the end of a turn to the moment at which the agent could go on: capture,
bytes, a fresh instance, restoring; without a network. Ratios are printed, never asserted.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import click

import agents
from agents.budget import spent_ns
from agents.engines import Engine, Limits
from agents.execution import Execution
from agents.outcomes import Asked
from tests import programs
from tests.programs import ToolMissing
from tests.rewrite.nan_journey import place

from .ratios import geometric_mean

PLAIN, PACKED = "unmodified", "packed"
FEW = ("callvm", "matmul", "simd", "sort")  # for a first impression
# Memory of so many bytes of noise, and a loop that can be left.
STATE = """(module (memory (export "memory") 2) (func (export "run") (local $at i32) (local $x i64)
  (local.set $x (i64.const 88172645463325252))
  (loop $fill
    (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
    (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
    (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
    (i64.store (local.get $at) (local.get $x))
    (br_if $fill (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 65536))))
  (loop $on (br $on))))"""


@attrs.frozen
class Report:
    """Nanoseconds of each kernel by engine and variant, and of hops from one engine to another: the median."""

    kernels: Mapping[str, Mapping[str, float]]
    hops: Mapping[str, float]


def measure_kernel(name: str, engines: Sequence[Engine], rounds: int, share: float) -> dict[str, float]:
    """The least time of each engine and variant. `share`: of the kernel's usual number of turns."""
    kernel = programs.kernel(name)
    turns = max(1, int(kernel.turns * share))
    runs = {}
    for engine in engines:
        for variant in (PLAIN, PACKED):
            profile = "none" if variant == PLAIN else "standard"
            image = agents.pack(kernel.wasm, entry="run", profile=profile)  # type: ignore[arg-type]
            program = engine.program(image.code, image.code_digest)
            runs[f"{engine.name} {variant}"] = program.instantiate(_no_host, _no_tick, Limits())
    found: dict[str, list[int]] = {each: [] for each in runs}
    results = set()
    for turn in range(rounds + 2):  # the first two let engines compile what is hot
        for each, instance in runs.items():
            began = spent_ns()
            results.add(instance.call("run", [turns]))
            if turn > 1:
                found[each].append(spent_ns() - began)
    assert len(results) == 1, f"{name} gives {results}"
    for instance in runs.values():
        instance.close()
    return {each: min(times) for each, times in found.items()}


def _no_host(index: int, args: Sequence[int]) -> int:
    raise AssertionError("a kernel called its host")


def _no_tick() -> None:
    return None


def measure_hops(source: Engine, target: Engine, hops: int) -> float:
    """The median of hops from one engine to the other, in nanoseconds of wall-clock time."""
    image, times = agents.pack(STATE), []
    with Execution(image, engine=source, ambient=place()) as life:
        life.always = True
        for _ in range(2 * 8192 + 2):  # until the memory is full
            assert isinstance(life.advance(), Asked)
        for number in range(2 * hops + 4):
            forth = number % 2 == 0
            began = time.perf_counter_ns()
            life.hop(target if forth else source)
            life.open()
            if forth and number > 3:
                times.append(time.perf_counter_ns() - began)
            life.advance()
    return statistics.median(times)


def measure(engines: Sequence[Engine], quick: bool) -> Report:
    """All of it."""
    kernels = {}
    for name in FEW if quick else programs.kernel_names():
        try:
            kernels[name] = measure_kernel(name, engines, 3 if quick else 7, 0.3 if quick else 1.0)
        except ToolMissing as reason:
            click.echo(f"{name}: {reason}", err=True)
    hops = {}
    for source, target in itertools.product(engines, repeat=2):
        hops[f"{source.name} to {target.name}"] = measure_hops(source, target, 20 if quick else 300)
    return Report(kernels, hops)


def markdown(report: Report, engines: Sequence[Engine]) -> str:
    """Tables."""
    first, names = engines[0].name, [engine.name for engine in engines]
    heads = [f"packed over unmodified, {name}" for name in names]
    heads += [f"packed, {name} over {first}" for name in names[1:]]
    lines = [f"| kernel | {' | '.join(heads)} |", "|---|" + "--:|" * len(heads)]
    columns: list[list[float]] = [[] for _ in heads]
    for kernel, times in report.kernels.items():
        row = [times[f"{name} {PACKED}"] / times[f"{name} {PLAIN}"] for name in names]
        row += [times[f"{name} {PACKED}"] / times[f"{first} {PACKED}"] for name in names[1:]]
        for column, value in zip(columns, row, strict=True):
            column.append(value)
        lines.append(f"| {kernel} | " + " | ".join(f"{value:.2f}" for value in row) + " |")
    lines.append("| geometric mean | " + " | ".join(f"{geometric_mean(each):.2f}" for each in columns) + " |")
    lines += ["", "| a hop with 64 KiB of memory | ms, median |", "|---|--:|"]
    lines += [f"| {way} | {time_ / 1e6:.2f} |" for way, time_ in report.hops.items()]
    return "\n".join(lines)


@click.command()
@click.option("--quick", is_flag=True, help="A first impression.")
@click.option("--engines", "names", default="wasmtime,v8", show_default=True, help="The first one is the measure.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write the figures here.")
def main(quick: bool, names: str, target: Path | None) -> None:
    """Measure engines beside each other."""
    working = agents.engines.available()
    for name in names.split(","):
        if name not in working:
            click.echo(f"{name} is not installed, or does not work here: left out", err=True)
    engines = [agents.load(name) for name in names.split(",") if name in working]
    report = measure(engines, quick)
    click.echo(markdown(report, engines))
    if target is not None:
        target.write_text(json.dumps(attrs.asdict(report), indent=1) + "\n")


if __name__ == "__main__":
    main()
