"""The oracle on generated programs, and the pass on arbitrary modules, as long as you like.

    python -m tests.rewrite.fuzz --seconds 60 [--seed N]

A third of the time, programs of our own generator hop at every opportunity and must end as they do undisturbed. Another
third, such programs have their pointers spilled: at each hop, what lives must be in the shadow stack. The last third,
modules of ``wasm-tools smith`` are rewritten in every way; what comes out must be valid, or refused by name.
"""

from __future__ import annotations

import subprocess
import time
from random import Random

import click
import wasmtime

from agents.errors import MalformedModule, UnsupportedFeature
from agents.rewrite import Options, rewrite
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module
from tests.wasm.tools import wasm_tools

from .generator import Generator
from .journey import ENGINE, travelling, undisturbed
from .visible import watched

POLLS = ("none", "loops", "calls")
SMITH = (
    *("smith", "--threads-enabled=false", "--gc-enabled=false", "--exceptions-enabled=true", "--memory64-enabled=true"),
    *("--max-memories=3", "--tail-call-enabled=true", "--simd-enabled=true", "--compact-imports-enabled=false"),
    *("--wide-arithmetic-enabled=false", "--custom-page-sizes-enabled=false", "--max-imports=3", "--min-funcs=2"),
)


def programs(end: float, seed: int) -> str:
    """Generated programs that travel, until ``end``; what was done."""
    count = hops = 0
    while time.monotonic() < end:
        wasm = encode_module(Generator(seed, size=40 + seed % 80).module())
        expected = undisturbed(wasm, seed % 7)
        for polls in POLLS:
            ending, taken = travelling(wasm, seed % 7, Options(polls=polls, suspending=None))  # type: ignore[arg-type]
            if ending != expected:
                raise SystemExit(f"seed {seed}, polls {polls}: {ending!r} is not {expected!r}")
            hops += taken
        count += 1
        seed += 1
    return f"{count} generated programs, {hops} hops, 0 differ"


def spilled(end: float, seed: int) -> str:
    """Generated programs with spilled pointers, until ``end``; what was seen."""
    count = hops = values = 0
    while time.monotonic() < end:
        seen = watched(seed, size=40 + seed % 80)
        if seen.unseen:
            raise SystemExit(f"seed {seed}: not in the shadow stack: {seen.unseen[:3]}")
        count, hops, values, seed = count + 1, hops + seen.hopped, values + seen.values, seed + 1
    return f"{count} programs with spilled pointers, {hops} hops, {values} values, 0 unseen"


def modules(end: float, seed: int) -> str:
    """Arbitrary modules, until ``end``; what was done."""
    tool = wasm_tools()
    if tool is None:
        return "arbitrary modules: not run, wasm-tools is not installed"
    valid = refused = 0
    while time.monotonic() < end:
        rng = Random(seed)
        raw = rng.randbytes(rng.randrange(200, 6000))
        seed += 1
        made = subprocess.run([tool, *SMITH], input=raw, capture_output=True, check=False)
        if made.returncode:
            continue
        for polls in POLLS:
            try:
                module = decode_module(made.stdout)
                packed = encode_module(rewrite(module, Options(polls=polls, suspending=None)))  # type: ignore[arg-type]
            except (UnsupportedFeature, MalformedModule):
                refused += 1
                continue
            try:
                wasmtime.Module.validate(ENGINE, packed)
            except wasmtime.WasmtimeError as error:
                raise SystemExit(f"smith seed {seed - 1}, polls {polls}: {error}") from error
            valid += 1
    return f"{valid} arbitrary modules rewritten and valid, {refused} refused by name"


@click.command()
@click.option("--seconds", default=30.0, help="How long to go on.")
@click.option("--seed", default=0, help="Where to begin.")
def main(seconds: float, seed: int) -> None:
    """Fuzz the rewriting."""
    start = time.monotonic()
    click.echo(programs(start + seconds / 3, seed))
    click.echo(spilled(start + seconds * 2 / 3, seed))
    click.echo(modules(start + seconds, seed))


if __name__ == "__main__":
    main()
