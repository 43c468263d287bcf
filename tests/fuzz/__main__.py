"""All fuzzers, one after the other: ``python -m tests.fuzz [--seconds N | --short] [--bytes N]``.

Each room that takes bytes from elsewhere has a ``fuzz`` module with a time budget; a fuzzer fails when something that
is not a declared error comes out, and names the seed or writes the input.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

TESTS = Path(__file__).resolve().parent.parent
SHORT = 8
# Those whose input is bytes; that of others is programs.
GIVE_BYTES = ("dwarf", "http", "live", "runtime", "serve", "station", "wasm")


@click.command()
@click.option("--seconds", default=60, show_default=True, help="For each fuzzer.")
@click.option("--short", is_flag=True, help=f"{SHORT} seconds for each.")
@click.option("--bytes", "least", default=0, help="Each that gives bytes goes on until it gave so many.")
def main(seconds: int, short: bool, least: int) -> None:
    """Run every fuzzer there is."""
    failed = []
    for path in sorted(TESTS.glob("*/fuzz.py")):
        module = f"tests.{path.parent.name}.fuzz"
        click.echo(f"{module}:")
        command = [sys.executable, "-m", module, "--seconds", str(SHORT if short else seconds)]
        if path.parent.name in GIVE_BYTES:
            command += ["--bytes", str(least)]
        if subprocess.run(command, cwd=TESTS.parent, check=False).returncode:
            failed.append(module)
    if failed:
        raise SystemExit("failed: " + ", ".join(failed))


if __name__ == "__main__":
    main()
