"""All benchmarks, one after the other, and one page with their tables.

    python -m tests.bench [--quick] [NAME ..]

A benchmark is a module of this package that can be run and takes ``--quick``; it may take ``--json
FILE``. Each runs in a process of its own. What they print goes to ``tests/bench/results/NAME.md``, their
figures to ``NAME.json``, and all of it to ``benchmarks.md``. The directory is not under git.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import click

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


def benchmarks() -> dict[str, str]:
    """Their sources by name."""
    sources = {path.stem: path.read_text(encoding="utf-8") for path in sorted(HERE.glob("[a-z]*.py"))}
    return {
        name: source
        for name, source in sources.items()
        if '\nif __name__ == "__main__":' in source and '"--quick"' in source
    }


def run(name: str, quick: bool) -> str | None:
    """Run one; gives what it printed, None when it failed."""
    line = [sys.executable, "-m", f"{__package__}.{name}"]
    if quick:
        line.append("--quick")
    command = getattr(importlib.import_module(f"{__package__}.{name}"), "main", None)
    if isinstance(command, click.Command) and any("--json" in param.opts for param in command.params):
        line += ["--json", str(RESULTS / f"{name}.json")]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        click.echo(f"{name} ended with status {done.returncode}", err=True)
        return None
    (RESULTS / f"{name}.md").write_text(done.stdout, encoding="utf-8")
    return done.stdout


@click.command()
@click.argument("names", nargs=-1)
@click.option("--quick", is_flag=True, help="A first impression, in a minute or two for each.")
def main(names: tuple[str, ...], quick: bool) -> None:
    """Run the benchmarks NAMES, or all, and write one page with their tables."""
    found = benchmarks()
    for name in names:
        if name not in found:
            raise click.UsageError(f"there is no benchmark {name!r}; there are: {', '.join(found)}")
    RESULTS.mkdir(exist_ok=True)
    pages, failed = [], False
    for name in names or found:
        click.echo(f"running {name}", err=True)
        page = run(name, quick)
        failed = failed or page is None
        if page is not None:
            click.echo(page)
            pages.append(page)
    target = RESULTS / "benchmarks.md"
    target.write_text("# Benchmarks\n\n" + "\n".join(pages), encoding="utf-8")
    click.echo(
        f"written to {target.relative_to(Path.cwd())}" if target.is_relative_to(Path.cwd()) else target, err=True
    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
