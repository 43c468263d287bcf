"""The oracle on generated programs, as long as you like: ``python -m tests.rewrite.fuzz --seconds 60 [--seed N]``."""

from __future__ import annotations

import time

import click

from agents.errors import UnsupportedFeature
from agents.rewrite import Options
from agents.wasm.encode import encode_module

from .generator import Generator
from .journey import travelling, undisturbed


@click.command()
@click.option("--seconds", default=30.0, help="How long to go on.")
@click.option("--seed", default=0, help="The first program.")
def main(seconds: float, seed: int) -> None:
    """Compare generated programs that hop at every opportunity with their undisturbed runs."""
    end = time.monotonic() + seconds
    programs = hops = refused = 0
    while time.monotonic() < end:
        wasm = encode_module(Generator(seed, size=40 + seed % 80).module())
        expected = undisturbed(wasm, seed % 7)
        for polls in ("none", "loops", "calls"):
            try:
                ending, taken = travelling(wasm, seed % 7, Options(polls=polls, suspending=None))  # type: ignore[arg-type]
            except UnsupportedFeature:
                refused += 1
                continue
            if ending != expected:
                raise SystemExit(f"seed {seed}, polls {polls}: {ending!r} is not {expected!r}")
            hops += taken
        programs += 1
        seed += 1
    print(f"{programs} generated programs, {hops} hops, {refused} refused, 0 differ")


if __name__ == "__main__":
    main()
