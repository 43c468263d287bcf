"""What a hop costs between two stations: two processes on the loopback interface, agents that go back and forth.

    python -m tests.bench.hop [--quick] [--json FILE] [--only NAME ..] [--against CHECKOUT [--rounds N]]

Everything is on: signatures, sealing, admission, the ledger. A hop is the time from the moment at which an agent begins
to run at one station to the same moment at the next: its run, capture and encoding, the handoff, judgement, restoring.
Between one measurement and the next no agent waits for anything else. The state is noise that no compressor shortens
and that the agent makes anew before each hop, so none of it can have been there before.

The processor's time of both processes is given beside, since a machine that does other things stretches the first and
not the second. `two fdatasync` is what a durable handoff waits for at least: measured in the same run on the same disk,
in turns with what it is compared with.

With `--against`, hops of 64 KiB (or those of `--only`) are compared with another checkout's (`tests.bench.against`).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import click

import agents
from agents.image import AgentImage
from agents.sdk.sources import load_image, user_cache
from tests.bench.against import HEAD, compare
from tests.bench.place import Steered, stations

WARM = 20  # hops that are not counted: connections, compiled code, both ends of the trail
# {end}: bytes of noise, made anew before each hop; {hops}: how many
NOISE = """(module (import "portcall" "go" (func $go (param i32 i32) (result i32)))
  (memory (export "memory") {pages}) (data (i32.const 0) "next")
  (func (export "run") (local $at i32) (local $x i64) (local $n i32)
    (local.set $x (i64.const 88172645463325252))
    (loop $hop
      (local.set $at (i32.const 64))
      (loop $fill
        (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
        (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
        (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
        (i64.store (local.get $at) (local.get $x))
        (br_if $fill (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const {end}))))
      (if (call $go (i32.const 0) (i32.const 4)) (then unreachable))
      (br_if $hop (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {hops}))))))"""
SCRIPT = """
import portcall
class Node:
    def __init__(self, left, right): self.left, self.right = left, right
def tree(depth): return Node(tree(depth - 1), tree(depth - 1)) if depth else None
kept = [tree(7), {{str(i): i * i for i in range(200)}}, [i / 3 for i in range(300)]]
for hop in range({hops}):
    portcall.go("next")
"""


@attrs.frozen
class Case:
    """One subject. `state`: bytes of noise, or 0 for the Python agent; `hops` of each of `crowd` agents."""

    name: str
    state: int
    hops: int
    volatile: bool
    crowd: int = 1

    @property
    def title(self) -> str:
        """The name, and which store."""
        return f"{self.name} {'volatile' if self.volatile else 'durable'}"


@attrs.frozen
class Row:
    """What was measured. Times in ms; `wire`: bytes of a hop; `sync`: two fdatasync; `cpu`: of both processes."""

    name: str
    kind: str
    hops: int
    agents: int
    p50: float
    p99: float
    rate: float
    wire: float
    cpu: float
    sync: float | None
    aside: dict[str, float]


def image(case: Case, folder: Path) -> Path:
    """The agent of a case, packed."""
    path = folder / f"{case.name.replace(' ', '-')}-{case.hops}.agent"
    if case.state:
        pages = max(1, -(-case.state // 65536))
        packed = agents.pack(NOISE.format(pages=pages, end=case.state, hops=case.hops), name="bench")
    else:
        packed = python_agent(case.hops, folder)
    path.write_bytes(packed.pack())
    return path


def python_agent(hops: int, folder: Path) -> AgentImage:
    """The agent in Python."""
    source = folder / f"bench{hops}.py"
    source.write_text(SCRIPT.format(hops=hops))
    return load_image(source, cache=user_cache())


class Syncs:
    """Times of two fdatasync, each after a write of 4 KiB that makes the file longer, as a log does."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / "sync", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.times: list[float] = []

    def take(self, count: int) -> None:
        """A few more."""
        for _ in range(count):
            began = time.perf_counter()
            for _ in range(2):
                os.write(self._file, bytes(4096))
                os.fdatasync(self._file)
            self.times.append(1e3 * (time.perf_counter() - began))

    def close(self) -> None:
        """No more."""
        os.close(self._file)


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of the values are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@contextlib.contextmanager
def pair(folder: Path, volatile: bool, profile: Path | None = None) -> Iterator[tuple[Steered, Steered]]:
    """Two stations that know each other."""
    owner = secrets.token_bytes(32)

    def options(name: str) -> list[str]:
        given = ["--home", str(folder / f"{name}-{secrets.token_hex(4)}")]
        given += ["--volatile"] if volatile else []
        return given + (["--profile", f"{profile}.{name}"] if profile else [])

    found = stations(owner, ("alpha", "beta"), options)
    try:
        yield found["alpha"], found["beta"]
    finally:
        for station in found.values():
            station.end()


def measure(case: Case, folder: Path, profile: Path | None = None) -> Row:
    """One case, with stations of its own."""
    path = image(case, folder)
    syncs = Syncs(folder)
    with pair(folder, case.volatile, profile) as (alpha, beta):
        if not case.volatile:
            syncs.take(20)
        before = [each.ask("stamps") for each in (alpha, beta)]
        began = time.perf_counter()
        alpha.ask("launch", image=str(path), via=[beta.key, alpha.key], turns=case.hops, count=case.crowd)
        codes = alpha.ask("wait", timeout=900.0)
        took = time.perf_counter() - began
        after = [each.ask("stamps") for each in (alpha, beta)]
        if not case.volatile:
            syncs.take(20)
    syncs.close()
    if codes != [0] * case.crowd:
        raise click.ClickException(f"{case.name}: agents ended with {codes}")
    return judge(case, before, after, took, syncs.times)


def judge(case: Case, before: list[Any], after: list[Any], took: float, syncs: list[float]) -> Row:
    """The figures."""
    hops = case.hops * case.crowd
    turns = sorted((began, ended) for each in after for began, ended in each["stamps"])
    starts = [began / 1e6 for began, _ in turns]
    spans = [later - earlier for earlier, later in itertools.pairwise(starts)]
    aside: dict[str, float] = {}
    warm = min(WARM, hops // 3)
    if case.crowd == 1:
        assert len(turns) == hops + 1, (len(turns), hops)
        aside = journey(spans)
        aside["inside the agent's turn"] = percentile([(e - b) / 1e6 for b, e in turns[warm:]], 0.5)
        counted = spans[warm:]
        rate = 1e3 * len(counted) / sum(counted)
    else:
        counted = [0.0]
        rate = hops / took
    cpu = sum(b["cpu"] for b in after) - sum(b["cpu"] for b in before)
    wire = sum(b["wire"] for b in after) - sum(b["wire"] for b in before)
    return Row(
        case.name,
        "volatile" if case.volatile else "durable",
        hops,
        case.crowd,
        percentile(counted, 0.5),
        percentile(counted, 0.99),
        rate,
        wire / hops,
        1e3 * cpu / hops,
        percentile(syncs, 0.5) if syncs else None,
        aside,
    )


def journey(spans: list[float]) -> dict[str, float]:
    """The cost at three moments of a long journey: medians of the hops around them."""
    found = {}
    for number in (10, 100, 500, 2000):
        near = spans[max(0, number - 10) : number] if number <= 10 else spans[number - 50 : number]
        if number <= len(spans):
            found[f"hop {number}"] = percentile(near, 0.5)
    return found


def cases(quick: bool) -> list[Case]:
    """All of them."""
    found = []
    for volatile in (True, False):
        for name, state, hops in (
            ("4 KiB", 4 << 10, 2000),
            ("64 KiB", 64 << 10, 2000),
            ("1 MiB", 1 << 20, 400),
            ("16 MiB", 16 << 20, 60),
            ("MicroPython", 0, 400),
        ):
            found.append(Case(name, state, max(12, hops // 4) if quick else hops, volatile))
        for crowd in (8, 64):
            hops = (24 if quick else 160) * 8 // crowd
            found.append(Case(f"64 KiB, {crowd} at once", 64 << 10, hops, volatile, crowd))
    return found


def table(rows: list[Row]) -> str:
    """As Markdown."""
    lines = [
        "| state | store | hops | p50 ms | p99 ms | hops/s | MB/s | on the wire | CPU ms | 2 x fdatasync ms |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        one = row.agents == 1
        size = {"4 KiB": 4 << 10, "64 KiB": 64 << 10, "1 MiB": 1 << 20, "16 MiB": 16 << 20}.get(row.name)
        speed = f"{size / row.p50 / 1e3:.0f}" if size and one else ""
        lines.append(
            f"| {row.name} | {row.kind} | {row.hops} | {f'{row.p50:.2f}' if one else ''} | "
            f"{f'{row.p99:.2f}' if one else ''} | {row.rate:.0f} | {speed} | {row.wire:,.0f} | {row.cpu:.2f} | "
            f"{'' if row.sync is None else f'{row.sync:.2f}'} |"
        )
    return "\n".join(lines)


def long_table(rows: list[Row]) -> str:
    """What the length of a journey changes."""
    lines = ["| state | store | hop 10 | hop 100 | hop 500 | hop 2000 | of it inside the agent's turn |"]
    lines.append("|---|---|--:|--:|--:|--:|--:|")
    for row in rows:
        if row.agents == 1:
            cells = [row.aside.get(f"hop {n}") for n in (10, 100, 500, 2000)]
            cells.append(row.aside["inside the agent's turn"])
            shown = " | ".join("" if cell is None else f"{cell:.2f}" for cell in cells)
            lines.append(f"| {row.name} | {row.kind} | {shown} |")
    return "\n".join(lines)


@click.command()
@click.option("--quick", is_flag=True, help="A quarter of the hops.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write the figures here.")
@click.option("--only", multiple=True, help="Only cases whose name and store contain this.")
@click.option("--profile", type=click.Path(path_type=Path), help="Write profiles of the event loops.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the stations live; decides which disk it is.")
@click.option("--against", type=click.Path(path_type=Path, exists=True), help="Compare with this checkout.")
@click.option("--rounds", default=12, show_default=True, help="Journeys with each, for --against.")
def main(
    quick: bool,
    target: Path | None,
    only: tuple[str, ...],
    profile: Path | None,
    folder: Path | None,
    against: Path | None,
    rounds: int,
) -> None:
    """Measure hops between two stations."""
    place = Path(tempfile.mkdtemp(prefix="portcall-hop-", dir=folder))
    try:
        if against is not None:
            against_all(chosen(cases(quick), only or ("64 KiB volatile", "64 KiB durable")), against, place, rounds)
        else:
            measure_all(chosen(cases(quick), only), place, profile, target)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def chosen(found: list[Case], only: tuple[str, ...]) -> list[Case]:
    """Those whose name and store contain one of `only`, or all."""
    return [case for case in found if not only or any(part in case.title for part in only)]


def against_all(found: list[Case], other: Path, place: Path, rounds: int) -> None:
    """Compare with another checkout, and print it."""
    click.echo(HEAD)
    for case in found:
        one = attrs.evolve(case, hops=min(case.hops, 200), crowd=1)
        images = packed_there(one, other.resolve(), place), image(one, place)
        click.echo(compare(one.title, images, one.hops, one.volatile, other.resolve(), place, rounds).row())


def packed_there(case: Case, checkout: Path, folder: Path) -> Path:
    """The agent of a case as another checkout packs it: each runs its own, since stations may refuse newer ones."""
    own = checkout / ".venv" / "bin" / "python"
    there = folder / "there"
    there.mkdir(exist_ok=True)
    program = "import sys; from pathlib import Path; from tests.bench.hop import Case, image\n"
    program += "print(image(Case(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), True), Path(sys.argv[4])))"
    line = [str(own) if own.exists() else sys.executable, "-c", program]
    line += [case.name, str(case.state), str(case.hops), str(there)]
    made = subprocess.run(line, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True)
    return Path(made.stdout.strip())


def measure_all(found: list[Case], place: Path, profile: Path | None, target: Path | None) -> None:
    """Measure, and print it."""
    rows = []
    for case in found:
        click.echo(f"  {case.title}", err=True)
        rows.append(measure(case, place, profile))
    click.echo("## Hops between two stations on one machine\n")
    click.echo(table(rows))
    click.echo("\nMilliseconds of a hop, as the journey becomes longer:\n")
    click.echo(long_table(rows))
    click.echo(f"\nLoad average of the machine at the end: {os.getloadavg()[0]:.1f}, processors: {os.cpu_count()}.")
    if target is not None:
        target.write_text(json.dumps([attrs.asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
