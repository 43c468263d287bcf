"""All benchmarks, one after the other, and one page with their tables and plots.

    python -m tests.bench [--quick] [--publish] [NAME ..]

A benchmark is a module of this package that can be run and takes ``--quick``; with ``--json FILE`` it writes its
figures there, one that has ``--json`` alone prints them. Each runs in a process of its own. Tables go to
``tests/bench/results/NAME.md``, figures to ``NAME.json``, what was run where and when to ``run.json``, and all of it
with plots to ``benchmarks.md``. A quick run does the same in ``tests/bench/results/quick``, which is not under git.

A full run of all then writes the short tables into README.md and docs/topics/performance.md. ``--publish`` does only
that, from the results that are there; with names it runs these first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from tests.bench import publishing, report

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
LIMIT = 3600  # seconds for one benchmark, so that a run ends


def benchmarks() -> list[str]:
    """Their names, in the order in which they run."""
    found = []
    for path in sorted(HERE.glob("[a-z]*.py")):
        source = path.read_text(encoding="utf-8")
        if '\nif __name__ == "__main__":' in source and '"--quick"' in source:
            found.append(path.stem)
    return found


def run(name: str, quick: bool, folder: Path) -> dict[str, Any] | None:
    """Run one; gives what is worth knowing of the run, None when it failed."""
    line = [sys.executable, "-m", f"{__package__}.{name}"]
    if quick:
        line.append("--quick")
    figures = folder / f"{name}.json"
    to_file = "@click.command" in (HERE / f"{name}.py").read_text(encoding="utf-8")
    line += ["--json", str(figures)] if to_file else ["--json"]
    before, began = os.getloadavg()[0], time.monotonic()
    try:
        done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        click.echo(f"{name} took longer than {LIMIT} s and was ended", err=True)
        return None
    if done.returncode != 0:
        click.echo(f"{name} ended with status {done.returncode}", err=True)
        return None
    page = done.stdout
    if not to_file:
        figures.write_text(page, encoding="utf-8")
        page = report.wasi(json.loads(page))
    (folder / f"{name}.md").write_text(page, encoding="utf-8")
    click.echo(page)
    seconds = time.monotonic() - began
    return {"quick": quick, "seconds": round(seconds), "load": [round(before, 2), round(os.getloadavg()[0], 2)]}


def note(folder: Path, ran: dict[str, dict[str, Any]]) -> None:
    """Add what was run to `run.json`; what another machine measured is forgotten."""
    path = folder / "run.json"
    there = report.machine()
    known: dict[str, Any] = {}
    if path.exists():
        last = json.loads(path.read_text(encoding="utf-8"))
        known = last["benchmarks"] if last["machine"] == there else {}
    known = {name: each for name, each in known.items() if (folder / f"{name}.json").exists()}
    noted = {"machine": there, "commit": report.commit(), "benchmarks": dict(sorted((known | ran).items()))}
    path.write_text(json.dumps(noted, indent=1) + "\n", encoding="utf-8")
    for old in folder.glob("*.*"):
        if old.stem not in noted["benchmarks"] and old.stem not in ("run", "benchmarks"):
            old.unlink()


def differs(folder: Path) -> list[str]:
    """In what this machine is another than the one whose results are there."""
    path = folder / "run.json"
    last = json.loads(path.read_text(encoding="utf-8"))["machine"] if path.exists() else {}
    return [f"{name} {value}, here {report.machine().get(name)}" for name, value in last.items()
            if value != report.machine().get(name)]  # fmt: skip


def draw(folder: Path) -> list[str]:
    """The plots, by name; none where matplotlib is not installed, which is said."""
    try:
        from tests.bench import plots
    except ImportError as error:
        click.echo(f"no plots: {error}", err=True)
        return []
    return plots.draw(report.load(folder), folder)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--quick", is_flag=True, help="A first impression, in less than five minutes for all.")
@click.option("--publish", is_flag=True, help="Write the short tables into README and documentation.")
def main(names: tuple[str, ...], quick: bool, publish: bool) -> None:
    """Run the benchmarks NAMES, or all, and write one page with their tables."""
    found = benchmarks()
    for name in names:
        if name not in found:
            raise click.UsageError(f"there is no benchmark {name!r}; there are: {', '.join(found)}")
    if publish and quick:
        raise click.UsageError("a quick run is a first impression: it is not published")
    folder = RESULTS / "quick" if quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    other = differs(folder)
    if names and other and not quick:
        said = f"the results that are there are of another machine ({'; '.join(other)}), and would go: run all"
        raise click.UsageError(said)
    failed = False
    if names or not publish:
        for name in names or found:
            click.echo(f"running {name}", err=True)
            done = run(name, quick, folder)
            failed = failed or done is None
            if done is not None:
                note(folder, {name: done})
    target = folder / "benchmarks.md"
    target.write_text(report.page(folder, draw(folder)), encoding="utf-8")
    click.echo(f"written to {os.path.relpath(target)}", err=True)
    if publish or not (names or quick or failed):
        for path in publishing.publish(report.tables(report.load(folder))):
            click.echo(f"its tables are in {os.path.relpath(path)}", err=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
