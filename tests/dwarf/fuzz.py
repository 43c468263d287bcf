"""Damaged debug information, tables of lines and names of functions against what reads them, as long as you like.

    python -m tests.dwarf.fuzz --seconds 60 [--seed N]

Sections written by hand, and those of a program in Zig where its compiler is installed, are damaged. What must hold:
places or `BadDwarf`, a table or `FormatError`, a name; and never another exception. A failure names its seed.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random

import click

from agents.demangle import readable
from agents.dwarf.places import source_places
from agents.errors import BadDwarf, FormatError, ToolchainMissing
from agents.lines.table import decode_lines
from agents.packing import pack
from agents.sdk.toolchains import compile_zig
from agents.wasm.decode import decode_module
from agents.wasm.names import module_names
from tests.fuzz.amount import Amount, options
from tests.runtime.fuzz import damage

from . import made

ZIG = """const portcall = @import("portcall");
pub fn main() void {
    for ([_][]const u8{ "alpha", "beta" }) |station| portcall.go(station) catch continue;
}
"""


@cache
def program() -> bytes | None:
    """A module with debug information; None without the compiler."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "trip.zig"
        source.write_text(ZIG)
        try:
            return compile_zig(source)
        except ToolchainMissing:
            return None


@cache
def seeds() -> tuple[tuple[dict[str, bytes], tuple[int, ...]], ...]:
    """Sections, and addresses to ask for."""
    found = [(made.sections(version), tuple(made.PLACES)) for version in (2, 3, 4, 5)]
    wasm = program()
    if wasm is not None:
        customs = {each.name: each.data for each in decode_module(wasm).customs if each.name.startswith(".debug_")}
        found.append((customs, tuple(range(0, 2000, 7))))
    return tuple(found)


@cache
def tables() -> tuple[bytes, ...]:
    """Tables of lines."""
    wasm = program()
    section = None if wasm is None else decode_module(pack(wasm).code).custom("portcall.lines")
    return (b"",) if section is None else (section,)


@cache
def names() -> tuple[str, ...]:
    """Names of functions."""
    wasm = program()
    given = () if wasm is None else tuple(module_names(decode_module(wasm)).functions.values())
    return (*given, "_RNvMs2_NtCslNYArtu3iFV_5alloc7raw_vecNtB5_11RawVecInner10deallocateCs1_1m", "_ZN4trip4main17hE")


def attempt(rng: Random, amount: Amount) -> str:
    """One damage and its outcome."""
    kind = rng.randrange(10)
    if kind == 0:
        name = amount.give(damage(rng, rng.choice(names()).encode())).decode(errors="replace")
        return "name" if readable(name) else "no name"
    if kind == 1:
        try:
            lines = decode_lines(amount.give(damage(rng, rng.choice(tables()))))
        except FormatError:
            return "no table"
        for resume in range(len(lines.sites)):
            lines.places(resume, rng.randrange(1, 4))
        return "table"
    sections, addresses = rng.choice(seeds())
    changed = dict(sections)
    for name in rng.sample(sorted(sections), rng.choice((1, 1, 2))):
        changed[name] = amount.give(damage(rng, sections[name]))
    try:
        return "places" if source_places(changed, addresses) else "no places"
    except BadDwarf:
        return "refused"


def run(amount: Amount, seed: int) -> Counter[str]:
    """Try until it is enough."""
    outcomes: Counter[str] = Counter()
    while amount.more():
        try:
            outcomes[attempt(Random(seed), amount)] += 1
        except Exception:
            click.echo(f"failed with seed {seed}", err=True)
            raise
        seed += 1
    return outcomes


@click.command()
@options
@click.option("--seed", default=0, show_default=True, help="The first; each try has the next.")
def main(seconds: float, least: int, seed: int) -> None:
    """Damage debug information."""
    click.echo(dict(run(Amount(seconds, least), seed)))


if __name__ == "__main__":
    sys.exit(main())
