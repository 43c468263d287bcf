"""What a move costs an agent that goes on running: downtime and total time, against stopping it first.

    python -m tests.bench.live [--quick] [--json FILE] [--against CHECKOUT] [--only PART]

Three stations, each a process, on the loopback interface. The agent has memory of noise that no compressor shortens,
and writes so many bytes a second, at random over so many pages of 64 KiB. Its downtime is what it sees itself: the gap
between two looks at the clock, after which the station has another name. All figures are medians of several moves;
those of pre-copy and of stopping it first are taken in turns.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import click

import agents
from tests.bench.against import compare
from tests.bench.hop import Case as Case64
from tests.bench.hop import image, packed_there
from tests.bench.live_fleet import Case, fleet_of, moves, p50
from tests.bench.live_requests import Clients, service
from tests.bench.live_series import as_table, series, speed_while_copied
from tests.bench.place import ROOT

MOVES = 7  # of each kind
PRECOPY: dict[str, Any] = {}
STOP: dict[str, Any] = {"precopy": False}
EARLIER = "8478fd3"  # the last commit before there were live moves: its hops are what ours are compared with


def sizes(folder: Path, count: int, durable: bool) -> dict[str, float]:
    """Downtime and total time of 256 MiB, against stopping it first, and of 1 GiB."""
    with fleet_of(folder, durable) as fleet:
        both = moves(fleet, Case(256), folder, [STOP, PRECOPY] * count)
        idle = moves(fleet, Case(256, idle=True), folder, [STOP, PRECOPY] * count)
        large = moves(fleet, Case(1024), folder, [PRECOPY] * count)
    stopped, ahead = (p50([each.downtime_ms for each in found]) for found in (both[::2], both[1::2]))
    totals = [p50([each.report["total_us"] for each in found]) for found in (idle[::2], idle[1::2])]
    giant = p50([each.downtime_ms for each in large])
    return {
        "stop_ms_256": stopped,
        "downtime_ms_256": ahead,
        "downtime_ratio_256": ahead / stopped,
        "downtime_ms_1024": giant,
        "downtime_1024_over_256": giant / ahead,
        "total_idle_ratio_256": totals[1] / totals[0],
    }


def requests(folder: Path, mib: int) -> dict[str, float]:
    """Clients of an agent that is moved ten times."""
    path = folder / "service.agent"
    path.write_bytes(agents.pack(service(mib), name="service").pack())
    with fleet_of(folder, durable=False) as fleet:
        via = [place.key for place in (*fleet.places[1:], fleet.places[0])]
        (fleet.agent,) = fleet.places[0].ask("launch", image=str(path), via=via, turns=10_000)
        downtimes: list[float] = []

        def ten() -> None:
            time.sleep(2)
            for number in range(10):
                report = fleet.places[number % 3].ask("move", agent=fleet.agent, to="next")
                downtimes.append(report["downtime_us"] / 1000)
                time.sleep(0.5)

        time.sleep(3)  # it fills its memory
        answered = Clients(fleet.places[0].url, fleet.agent).during(ten)
    for why in answered.failed[:5]:
        click.echo(f"failed: {why}", err=True)
    return {
        "requests": len(answered.numbers),
        "requests_failed": len(answered.failed),
        "requests_doubled": answered.doubled,
        "slowest_ms": answered.slowest_ms,
        "slowest_over_downtime_ms": answered.slowest_ms - max(downtimes),
    }


def later(folder: Path, count: int) -> dict[str, float]:
    """Moves of an agent that rewrites 64 MiB/s over 16 of its 64 MiB; all of that comes after it (post-copy)."""
    case = Case(64, hot=16 << 20, rate=64 << 20)
    with fleet_of(folder, durable=False) as fleet:
        found = moves(fleet, case, folder, [{"on_timeout": "post-copy", "timeout_s": 0}] * count)
        waits = [wait for place in fleet.places for wait in place.ask("waits")]
    return {
        "later_downtime_ms": p50([each.report["downtime_us"] / 1000 for each in found]),
        "later_gap_ms": p50([each.downtime_ms for each in found]),
        "later_faults": len(waits) / count,
        "later_fault_p50_ms": p50(waits) if waits else 0.0,
    }


def hops(folder: Path, against: Path, rounds: int) -> float:
    """Hops of 64 KiB, without any pre-copy, over those of another checkout."""
    case = Case64("64 KiB", 64 << 10, 200, True)
    images = packed_there(case, against.resolve(), folder), image(case, folder)
    return compare(case.title, images, case.hops, True, against.resolve(), folder, rounds).p50.median


def earlier(folder: Path) -> Path | None:
    """The checkout before there were live moves, from this repository's own history; None without that."""
    there = folder / "earlier"
    there.mkdir()
    found = subprocess.run(["git", "archive", EARLIER], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if found.returncode:
        return None
    subprocess.run(["tar", "-x", "-C", str(there)], input=found.stdout, check=True)
    return there


PARTS = ["sizes", "requests", "speed", "later", "series", "hops"]


@click.command()
@click.option("--quick", is_flag=True, help="Fewer moves.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write the figures here.")
@click.option("--against", type=click.Path(path_type=Path, exists=True), help=f"Not {EARLIER} for the hops.")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Not everything.")
def main(quick: bool, target: Path | None, against: Path | None, only: tuple[str, ...]) -> None:
    """Measure moves between stations."""
    folder = Path(tempfile.mkdtemp(prefix="portcall-live-"))
    figures: dict[str, float] = {}
    found: dict[str, Any] = {}
    try:
        if not only or "sizes" in only:
            figures |= sizes(folder, 3 if quick else MOVES, durable=False)
            durable = sizes(folder, 3 if quick else MOVES, durable=True)
            figures |= {f"durable_{name}": value for name, value in durable.items()}
        if not only or "requests" in only:
            figures |= requests(folder, 256)
        if not only or "speed" in only:
            figures |= speed_while_copied(folder, quick)
        if not only or "later" in only:
            figures |= later(folder, 3 if quick else MOVES)
        if not only or "series" in only:
            found = series(folder, quick)
        if not only or "hops" in only:
            other = against or earlier(folder)
            if other is None:
                click.echo(
                    f"hops are not compared: there is no commit {EARLIER} here; --against names a checkout", err=True
                )
            else:
                figures["hop_ratio_64k"] = hops(folder, other, 12 if quick else 40)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for name, value in figures.items():
        click.echo(f"{name}: {value:.3f}")
    for (name, rows), unit in zip(found.items(), ("MiB", "MiB/s"), strict=False):
        click.echo(f"\ndowntime over {name}\n\n{as_table(rows, unit)}")
    if target is not None:
        target.write_text(json.dumps({**figures, "downtime": found} if found else figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
