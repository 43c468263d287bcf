"""From the launch of an agent in CPython to its first line, started when it was packed or when it is launched.

    python -m tests.bench.started BUILD [--rounds N]

BUILD is a WASI build of CPython. A station with its code compiled; in turns, the agent as it is packed, and the same
without the state that had started. Times in ms, from `launch` to the line in the station's events.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import attrs
import click

from agents.image import AgentImage
from agents.sdk.sources import Choices, load_image, user_cache
from tests.station.harbour import OWNER, Watch, station


async def measure(image: AgentImage, rounds: int) -> tuple[list[float], list[float]]:
    """Times of both, in turns; the first of each is not counted."""
    images = (image, attrs.evolve(image, started=b""))
    times: tuple[list[float], list[float]] = ([], [])
    async with station("home") as home:
        for _ in range(rounds + 1):
            for each, found in zip(images, times, strict=True):
                watch = Watch(home)
                began = time.perf_counter()
                agent = await home.launch(each, owner=OWNER)
                await watch.until("log")
                found.append(1e3 * (time.perf_counter() - began))
                await agent.wait()
    return times[0][1:], times[1][1:]


@click.command()
@click.argument("build", type=click.Path(path_type=Path, exists=True))
@click.option("--rounds", default=15, show_default=True)
def main(build: Path, rounds: int) -> None:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "agent.py"
        script.write_text("print('the first line')\n")
        image = load_image(script, Choices(python=build), cache=user_cache())
    packed, launched = asyncio.run(measure(image, rounds))
    ratio = statistics.median(map(lambda one, other: one / other, packed, launched))
    click.echo(
        f"started when packed {statistics.median(packed):.1f} ms, when launched {statistics.median(launched):.1f} ms"
    )
    click.echo(f"ratio of the pairs, median {ratio:.3f}")


if __name__ == "__main__":
    main()
