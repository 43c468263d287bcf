"""What moving costs real programs: speed while nothing moves, and what the engine pays to compile them.

    python -m tests.bench.corpus [--quick] [--only NAME].. [--json FILE]

Lua, SQLite, QuickJS and Zstandard, each with a driver of ours (`tests/programs/corpus`) that prints what it computed,
packed without polls and with polls at loops, against the unmodified module in the same run. Sources come from pinned
source distributions (`.ci/locks/corpus.txt`), which are downloaded once and not installed. Ratios are printed, never
asserted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import attrs
import click

import agents
from agents.rewrite.options import Polls
from tests.programs import ROOT, build_directory, compile_c

from .compiling import FIELDS, measure
from .ratios import Ratio, compare, geometric_mean
from .running import ScriptRun, engine

LOCK = ROOT / ".ci/locks/corpus.txt"
DRIVERS = ROOT / "tests/programs/corpus"
POLLS: tuple[Polls, ...] = ("none", "loops")
COMMON = ("-target", "wasm32-wasi", "-O2", "-w")


@attrs.frozen
class RealProgram:
    """One program. `folder`, `sources` (a pattern), `without`: what is compiled of the source distribution."""

    name: str
    folder: str
    sources: str
    flags: tuple[str, ...] = ()
    without: frozenset[str] = frozenset()

    def build(self, sources: Path) -> bytes:
        """The module, compiled; raises `ToolMissing` without a compiler."""
        folder = sources / self.folder
        files = sorted(path for path in folder.glob(self.sources) if path.name not in self.without)
        return compile_c([DRIVERS / f"{self.name}.c", *files], (*COMMON, *self.flags, "-I", str(folder)))


NO_SETJMP = ("-I", str(DRIVERS / "lua_no_setjmp"), "-Dluai_jmpbuf=int")
NO_THROW = ("-DLUAI_THROW(L,c)=__builtin_trap()", "-DLUAI_TRY(L,c,a)=a")


def emulated(*names: str) -> tuple[str, ...]:
    """Flags for what WASI has not and its C library emulates."""
    libraries = [(each, each.lower().replace("_", "-")) for each in names]
    return tuple(
        flag for name, library in libraries for flag in (f"-D_WASI_EMULATED_{name}", f"-lwasi-emulated-{library}")
    )


LUA_FLAGS = (*NO_SETJMP, *NO_THROW, *emulated("SIGNAL", "PROCESS_CLOCKS"))
NO_THREADS = ("-DSQLITE_THREADSAFE=0", "-DSQLITE_OMIT_LOAD_EXTENSION", "-DSQLITE_OMIT_WAL")
SQLITE_FLAGS = (*NO_THREADS, *emulated("GETPID", "MMAN"))
LUA_LEFT_OUT = frozenset({"lua.c", "luac.c", "ltests.c", "linit.c", "liolib.c", "loslib.c", "loadlib.c", "ldblib.c"})
PROGRAMS = (
    RealProgram("lua", "lupa-2.6/third-party/lua54", "l*.c", LUA_FLAGS, LUA_LEFT_OUT),
    RealProgram("sqlite", "sqlean_py-3.50.4.5/sqlite", "sqlite3.c", SQLITE_FLAGS),
    RealProgram("quickjs", "dukpy-0.6.0/src/quickjs", "quickjs-amalgam.c", ("-D_GNU_SOURCE",)),
    RealProgram("zstd", "zstandard-0.25.0/zstd", "zstd.c"),
)


def sources() -> Path:
    """The folder with the unpacked sources; downloads what is missing. Raises `click.ClickException`."""
    folder = build_directory() / "corpus"
    stamp = folder / "lock.txt"
    if stamp.exists() and stamp.read_text() == LOCK.read_text():
        return folder
    click.echo("downloading the sources", err=True)
    line = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    line += ["--no-binary", ":all:", "--require-hashes", "-r", str(LOCK), "-d", str(folder)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"the sources cannot be downloaded:\n{done.stderr[-2000:]}")
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as tar:
            members = [each for each in tar if each.isfile() and each.name.endswith((".c", ".h", ".inc"))]
            for each in members:
                tar.extract(each, folder)  # pinned by its hash
    stamp.write_text(LOCK.read_text())
    return folder


@attrs.frozen
class Row:
    """One program: ratios of time by kind of polls; what compiling takes, in bytes, seconds and KiB, by module."""

    name: str
    speed: Mapping[str, Ratio]
    compiled: Mapping[str, Mapping[str, float]]

    def over(self, what: str, field: str) -> float:
        """A figure of compiling over that of the unmodified module."""
        return self.compiled[what][field] / self.compiled["unmodified"][field]


def measured(program: RealProgram, folder: Path, rounds: int) -> Row:
    """All figures of one program."""
    wasm = program.build(folder)
    images = {polls: agents.pack(wasm, polls=polls) for polls in POLLS}
    on = engine()
    baseline = ScriptRun(on, wasm)
    expected = baseline("")  # the drivers take no arguments
    assert expected.strip(), f"{program.name} prints nothing"
    subjects = {polls: ScriptRun(on, image.code).subject("", expected) for polls, image in images.items()}
    speed = compare(baseline.subject("", expected), subjects, rounds)
    compiled = {"unmodified": measure(wasm, 1)}
    for polls, image in images.items():
        compiled[polls] = measure(image.code, 1)
        assert image.resumption is not None
        compiled[f"{polls}, resumed"] = measure(image.resumption, 1)
    return Row(program.name, speed, compiled)


def line_of(row: Row, polls: str) -> str:
    """One line of the table."""
    ratio = row.speed[polls]
    figures = [row.over(polls, field) for field in FIELDS]
    figures.append(row.over(f"{polls}, resumed", "machine"))
    shown = " | ".join(f"{figure:.2f}" for figure in figures)
    return f"| {row.name} | {polls} | {ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f}) | {shown} |"


@click.command()
@click.option("--quick", is_flag=True, help="Few rounds.")
@click.option("--only", multiple=True, type=click.Choice([each.name for each in PROGRAMS]), help="Only these.")
@click.option("--json", "to", type=click.Path(path_type=Path), help="Write the figures here.")
def main(quick: bool, only: tuple[str, ...], to: Path | None) -> None:
    """Measure real programs, packed over unmodified."""
    folder = sources()
    click.echo("| program | polls | time | wasm | machine code | compile time | peak memory | resume module's code |")
    click.echo("|---|---|--:|--:|--:|--:|--:|--:|")
    rows = []
    for program in PROGRAMS:
        if only and program.name not in only:
            continue
        rows.append(measured(program, folder, 3 if quick else 11))
        for polls in POLLS:
            click.echo(line_of(rows[-1], polls))
    for polls in POLLS:
        mean = geometric_mean(row.speed[polls].median for row in rows)
        code = geometric_mean(row.over(polls, "machine") for row in rows)
        click.echo(f"geometric mean, polls {polls}: time {mean:.3f}, machine code {code:.2f}")
    click.echo(f"wasmtime {version('wasmtime')}, load {os.getloadavg()[0]:.1f}")
    if to is not None:
        to.write_text(json.dumps([attrs.asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
