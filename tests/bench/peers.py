"""Hops beside a peer's: the same journey with Portcall's stations and with hosts of paglets, in turns.

    python -m tests.bench.peers [--quick] [--json FILE]

Two processes on the loopback interface, one agent that goes back and forth, its state noise that it makes anew before
each hop. A hop is the time from the moment at which the agent begins to run at one place to the same at the next.
What is compared is not the same thing, and the table says so: Portcall moves the stack too, runs foreign code in a
sandbox, signs, seals and checks, and with a durable store it has written the agent to two disks before it runs; paglets
moves a dataclass between hosts that have the agent's class already and trust each other, and starts a process for it.

Without paglets (see `.ci/peers`) nothing is measured, and that is what is printed.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import attrs
import click

from tests.bench import hop
from tests.bench.place import ROOT

PEER = ROOT / "build" / "peers" / "paglets" / "bin" / "python"
SIZES = {"4 KiB": 4 << 10, "64 KiB": 64 << 10, "1 MiB": 1 << 20}
WARM = 5  # of the peer's hops, not counted
LIMIT = 600  # seconds for one journey of the peer


@attrs.frozen
class Row:
    """One subject at one size: `hops` that were counted; times in ms."""

    subject: str
    state: str
    hops: int
    p50: float
    p99: float
    rate: float


def version() -> str | None:
    """The peer's version; None where it is not installed."""
    asked = "from importlib.metadata import version; print(version('paglets'))"
    if not PEER.exists():
        return None
    done = subprocess.run([PEER, "-c", asked], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def journey(size: int, hops: int, folder: Path) -> list[float]:
    """Milliseconds of each hop of one agent of paglets. Raises `click.ClickException`."""
    command = [str(PEER), "-m", "tests.bench.paglets_peer"]
    beta = _start([*command, "beta", str(folder / "beta")])
    try:
        assert beta.stdout is not None
        url = json.loads(beta.stdout.readline())["url"]
        options = ["--hops", str(hops), "--size", str(size), "--to", url]
        alpha = subprocess.run(
            [*command, "alpha", str(folder / "alpha"), *options],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=LIMIT, check=True,
        )  # fmt: skip
        stamps = json.loads(alpha.stdout)["stamps"]
    except (subprocess.SubprocessError, ValueError, LookupError) as error:
        raise click.ClickException(f"paglets did not bring its agent home: {error}") from error
    finally:
        _, _ = beta.communicate(timeout=60)
    return [(later - earlier) / 1e6 for earlier, later in itertools.pairwise(stamps)]


def _start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ours(name: str, size: int, volatile: bool, hops: int, folder: Path) -> list[float]:
    """Milliseconds of each hop of one agent of ours."""
    case = hop.Case(name, size, hops, volatile)
    path = hop.image(case, folder)
    with hop.pair(folder, volatile) as (alpha, beta):
        for station in (alpha, beta):
            station.ask("stamps")
        alpha.ask("launch", image=str(path), via=[beta.key, alpha.key], turns=hops, count=1)
        if alpha.ask("wait", timeout=float(LIMIT)) != [0]:
            raise click.ClickException(f"{name}: the agent failed")
        turns = sorted(began for each in (alpha, beta) for began, _ in each.ask("stamps")["stamps"])
    return [(later - earlier) / 1e6 for earlier, later in itertools.pairwise(turns)]


def row(subject: str, state: str, spans: list[float]) -> Row:
    """The figures of all rounds together."""
    rate = 1e3 * len(spans) / sum(spans)
    return Row(subject, state, len(spans), hop.percentile(spans, 0.5), hop.percentile(spans, 0.99), rate)


def measure(quick: bool, folder: Path) -> list[Row]:
    """All rows, round after round in turns, so that both see the same machine."""
    rounds, theirs, mine = (1, 15, 60) if quick else (3, 45, 300)
    rows = []
    for state, size in SIZES.items():
        found: dict[str, list[float]] = {"Portcall, durable": [], "Portcall, volatile": [], "paglets": []}
        for number in range(rounds):
            click.echo(f"  {state}, round {number + 1} of {rounds}", err=True)
            place = Path(tempfile.mkdtemp(dir=folder))
            for subject, volatile in (("Portcall, durable", False), ("Portcall, volatile", True)):
                found[subject] += ours(state, size, volatile, mine, place)[hop.WARM :]
            found["paglets"] += journey(size, theirs, place)[WARM:]
        rows += [row(subject, state, spans) for subject, spans in found.items()]
    return rows


def table(rows: list[Row], peer: str) -> str:
    """As Markdown."""
    lines = ["| | state | hops | p50 ms | p99 ms | hops/s |", "|---|---|--:|--:|--:|--:|"]
    for each in rows:
        name = f"paglets {peer}" if each.subject == "paglets" else each.subject
        lines.append(f"| {name} | {each.state} | {each.hops} | {each.p50:.2f} | {each.p99:.2f} | {each.rate:.1f} |")
    return "\n".join(lines)


@click.command()
@click.option("--quick", is_flag=True, help="One short round of each.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write the figures here.")
def main(quick: bool, target: Path | None) -> None:
    """Measure hops beside those of paglets."""
    click.echo("## Hops beside a peer's\n")
    peer = version()
    found: dict[str, Any] = {"paglets": peer, "rows": []}
    if peer is None:
        click.echo("paglets is not installed here (`.ci/peers` does it): nothing was compared.")
    else:
        place = Path(tempfile.mkdtemp(prefix="portcall-peers-"))
        try:
            rows = measure(quick, place)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        click.echo(table(rows, peer))
        found["rows"] = [attrs.asdict(each) for each in rows]
    if target is not None:
        target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
