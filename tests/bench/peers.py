"""Hops beside a peer's: the same journey with Portcall's stations and with hosts of paglets, in turns.

    python -m tests.bench.peers [--quick] [--json FILE]

Two processes on the loopback interface, one agent that goes back and forth, its state noise that it makes anew before
each hop. A hop is the time from the moment at which the agent begins to run at one place to the same at the next.
What is compared is not the same thing, and the table says so: Portcall moves the stack too, runs foreign code in a
sandbox, signs, seals and checks, and with a durable store it has written the agent to two disks before it runs; paglets
moves a dataclass between hosts that have the agent's class already and trust each other, and starts a process for it.

Each journey of the peer has a bounded time. One that takes longer is ended, counts with the hops that it made, and is
said below the table. Without paglets (see `.ci/peers`) nothing is measured, and that is what is printed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import click

from tests.bench import hop
from tests.bench.place import ROOT

PEER = ROOT / "build" / "peers" / "paglets" / "bin" / "python"
SIZES = {"4 KiB": 4 << 10, "64 KiB": 64 << 10, "1 MiB": 1 << 20}
WARM = 5  # of the peer's hops, not counted
LIMIT = 600.0  # seconds for one journey of ours
START = 60.0  # seconds for a host of the peer to start, and for one to stop
PATIENCE = 1.0  # seconds for one hop of the peer, on average; ten times what it takes on an idle machine


@attrs.frozen
class Journey:
    """One agent of the peer: milliseconds of each hop that it made, and whether it came home in time."""

    spans: list[float]
    home: bool


@attrs.frozen
class Lost:
    """A journey of the peer that did not end in time: after how many hops of how many."""

    state: str
    seconds: float
    hops: int
    planned: int

    def __str__(self) -> str:
        journey = f"{self.hops} of {self.planned} hops"
        return f"One agent with {self.state} did not come home within {self.seconds:.0f} s: it made {journey}."


@attrs.frozen
class Row:
    """One subject at one size: `hops` that were counted; times in ms, none where there is no hop."""

    subject: str
    state: str
    hops: int
    p50: float | None
    p99: float | None
    rate: float | None


def version() -> str | None:
    """The peer's version; None where it is not installed."""
    asked = "from importlib.metadata import version; print(version('paglets'))"
    if not PEER.exists():
        return None
    done = subprocess.run([PEER, "-c", asked], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def patience(hops: int) -> float:
    """Seconds that one journey of the peer may take."""
    return START + PATIENCE * hops


def journey(size: int, hops: int, folder: Path, seconds: float) -> Journey:
    """One agent of paglets. Raises `click.ClickException` where its hosts do not start."""
    told = folder / "alpha" / "stamps"
    with _host("beta", folder) as url, _host("alpha", folder, "--hops", hops, "--size", size, "--to", url):
        until = time.monotonic() + seconds
        stamps = _stamps(told)
        while len(stamps) <= hops and time.monotonic() < until:
            time.sleep(0.05)
            stamps = _stamps(told)
    spans = [(later - earlier) / 1e6 for earlier, later in itertools.pairwise(stamps)]
    return Journey(spans, home=len(stamps) > hops)


def _stamps(told: Path) -> list[int]:
    try:
        return [int(line) for line in told.read_text(encoding="ascii").split("\n")[:-1]]
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def _host(name: str, folder: Path, *options: object) -> Iterator[str]:
    """A host of the peer, its URL; with its agents' processes it has a group of its own, which is ended with it."""
    line = [str(PEER), "-m", "tests.bench.paglets_peer", name, str(folder / name), *map(str, options)]
    with subprocess.Popen(
        line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as host:
        try:
            assert host.stdin is not None
            assert host.stdout is not None
            ready, _, _ = select.select([host.stdout], [], [], START)
            try:
                url = json.loads(host.stdout.readline())["url"] if ready else None
            except (ValueError, LookupError):
                url = None
            if not isinstance(url, str):
                raise click.ClickException(f"a host of paglets did not start within {START:.0f} s")
            yield url
            host.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                host.wait(START)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(host.pid, signal.SIGKILL)


def ours(name: str, size: int, volatile: bool, hops: int, folder: Path) -> list[float]:
    """Milliseconds of each hop of one agent of ours."""
    case = hop.Case(name, size, hops, volatile)
    path = hop.image(case, folder)
    with hop.pair(folder, volatile) as (alpha, beta):
        for station in (alpha, beta):
            station.ask("stamps")
        alpha.ask("launch", image=str(path), via=[beta.key, alpha.key], turns=hops, count=1)
        if alpha.ask("wait", timeout=LIMIT) != [0]:
            raise click.ClickException(f"{name}: the agent failed")
        turns = sorted(began for each in (alpha, beta) for began, _ in each.ask("stamps")["stamps"])
    return [(later - earlier) / 1e6 for earlier, later in itertools.pairwise(turns)]


def row(subject: str, state: str, spans: list[float]) -> Row:
    """The figures of all rounds together."""
    if not spans:
        return Row(subject, state, 0, None, None, None)
    rate = 1e3 * len(spans) / sum(spans)
    return Row(subject, state, len(spans), hop.percentile(spans, 0.5), hop.percentile(spans, 0.99), rate)


def measure(quick: bool, folder: Path) -> tuple[list[Row], list[Lost]]:
    """All rows, round after round in turns, so that both see the same machine; and what did not come home."""
    rounds, theirs, mine = (1, 15, 60) if quick else (3, 45, 300)
    rows, lost = [], []
    for state, size in SIZES.items():
        found: dict[str, list[float]] = {"Portcall, durable": [], "Portcall, volatile": [], "paglets": []}
        for number in range(rounds):
            click.echo(f"  {state}, round {number + 1} of {rounds}", err=True)
            place = Path(tempfile.mkdtemp(dir=folder))
            for subject, volatile in (("Portcall, durable", False), ("Portcall, volatile", True)):
                found[subject] += ours(state, size, volatile, mine, place)[hop.WARM :]
            seconds = patience(theirs)
            made = journey(size, theirs, place, seconds)
            found["paglets"] += made.spans[WARM:]
            if not made.home:
                lost.append(Lost(state, seconds, len(made.spans), theirs))
                click.echo(f"  {lost[-1]}", err=True)
        rows += [row(subject, state, spans) for subject, spans in found.items()]
    return rows, lost


def table(rows: list[Row], peer: str, lost: list[Lost]) -> str:
    """As Markdown; below it, which journeys of the peer did not end."""
    lines = ["| | state | hops | p50 ms | p99 ms | hops/s |", "|---|---|--:|--:|--:|--:|"]
    for each in rows:
        name = f"paglets {peer}" if each.subject == "paglets" else each.subject
        if each.p50 is None:
            lines.append(f"| {name} | {each.state} | 0 | did not come home | | |")
        else:
            lines.append(f"| {name} | {each.state} | {each.hops} | {each.p50:.2f} | {each.p99:.2f} | {each.rate:.1f} |")
    if lost:
        lines += ["", *(f"- paglets: {each}" for each in lost)]
    return "\n".join(lines)


@click.command()
@click.option("--quick", is_flag=True, help="One short round of each.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write the figures here.")
def main(quick: bool, target: Path | None) -> None:
    """Measure hops beside those of paglets."""
    click.echo("## Hops beside a peer's\n")
    peer = version()
    found: dict[str, Any] = {"paglets": peer, "rows": [], "lost": []}
    if peer is None:
        click.echo("paglets is not installed here (`.ci/peers` does it): nothing was compared.")
    else:
        place = Path(tempfile.mkdtemp(prefix="portcall-peers-"))
        try:
            rows, lost = measure(quick, place)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        click.echo(table(rows, peer, lost))
        found |= {"rows": [attrs.asdict(each) for each in rows], "lost": [attrs.asdict(each) for each in lost]}
    if target is not None:
        target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
