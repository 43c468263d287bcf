"""The corpora through the product: `agents.pack` and `agents.run`, snapshots as bytes, the virtual WASI,
engines in turn.

    python -m tests.oracle.through_runtime [--every N] [--engines wasmtime,wasmer] [--budget SECONDS] [NAME ..]

`tests.oracle.journeys` is the same for the rewriting alone, on the ABI. Both compare with the undisturbed
run of the unmodified module under a third host, `tests.oracle.small_wasi`.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Sequence

import click

import agents
from agents import AgentImage
from agents.ambient import StandaloneHost
from agents.errors import EngineError, UnsupportedFeature
from agents.rewrite.options import Polls, Profile
from agents.waits import Event, Wait, Woke
from agents.wasi.state import WasiState
from tests.programs import Program, ToolMissing

from .journeys import Ended, corpus, load, undisturbed
from .traveller import Compiler


@functools.lru_cache(maxsize=4)
def image_of(wasm: bytes, profile: Profile, polls: Polls) -> AgentImage:
    """The program packed; the interpreter of many scripts only once."""
    return agents.pack(wasm, profile=profile, polls=polls)


def here_it_is(wait: Wait) -> Event:
    """What the corpora wait for: a sleep ends, a yield returns."""
    return Woke()


def travel(program: Program, image: AgentImage, engines: Sequence[str], every: int, hops: int) -> Ended:
    """Run the image with a hop at every Nth opportunity, at most `hops`."""
    out = {1: bytearray(), 2: bytearray()}
    snapshots: list[int] = []
    outcome = agents.run(
        image,
        engine=list(engines),
        ambient=StandaloneHost(lambda: 0, lambda: 0, bytes, sink=lambda fd, data: out[fd].extend(data)),
        wasi=WasiState.launch((program.name, *program.arguments), dict(program.environment), stdin=program.stdin),
        hop_every=every,
        hops=hops,
        answer=here_it_is,
        on_hop=lambda snapshot: snapshots.append(len(snapshot)),
    )
    end = str(outcome)
    if isinstance(outcome, agents.Finished):
        end = f"exit {outcome.exit_code or 0}"
    return Ended(bytes(out[1]), bytes(out[2]), end, len(snapshots) * every, len(snapshots))


@click.command()
@click.argument("names", nargs=-1)
@click.option("--every", default=1000, show_default=True, help="Hop at every Nth opportunity.")
@click.option("--hops", default=100_000, show_default=True, help="At most this many in one run.")
@click.option("--engines", default="wasmtime", show_default=True, help="Taken in turn at each hop.")
@click.option("--profile", type=click.Choice(["standard", "portable"]), default="standard", show_default=True)
@click.option("--polls", type=click.Choice(["none", "loops", "calls"]), default="loops", show_default=True)
@click.option("--budget", default=600.0, show_default=True, help="Seconds.")
def main(
    names: tuple[str, ...], every: int, hops: int, engines: str, profile: Profile, polls: Polls, budget: float
) -> None:
    """Run the corpora through the product, with hops."""
    deadline, compiler, failed = time.monotonic() + budget, Compiler(), 0
    for name in names or corpus():
        if time.monotonic() > deadline:
            break
        try:
            program = load(name)
            image = image_of(program.wasm, profile, polls)
        except (ToolMissing, UnsupportedFeature, EngineError) as reason:
            click.echo(f"{name}: skipped, {reason}")
            continue
        expected = undisturbed(compiler, program)
        found = travel(program, image, engines.split(","), every, hops)
        failed += found != expected
        click.echo(f"{name}: {'same' if found == expected else 'DIFFERENT'}, {found.hops} hops, {found.end}")
        if found != expected:
            click.echo(f"expected {expected}\nfound    {found}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
