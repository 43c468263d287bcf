"""Time travel: what a step of a replay takes, forward and backward, and what recording and tracing cost a hop.

    python -m tests.bench.replay [--quick] [--json FILE]

An agent in MicroPython hops a hundred times between two stations of one process, with stores on the disk; at each it
prints, calls a service and draws random bytes. Its journey is then stepped through: each step is the state (stack with
variables, files, globals) and what changed since the step before, memory included. Backward begins with nothing known.

The hop is that of the same agent, in the same stations: neither recorded nor traced, recorded, and traced (with
OpenTelemetry's SDK, whose spans go nowhere), in turns; the medians of the rounds, and their ratio to the first.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from attrs import evolve

import docking
from agents.image import AgentImage
from agents.sdk.sources import load_image
from docking.replay import Journey
from docking.replay.files import read_journey, write_journey
from docking.trust.keeping import Keeping

AGENT = """
import os, portcall
seen = []
while portcall.next_stop():
    portcall.go(portcall.next_stop())
    seen.append(portcall.here())
    print("hop", len(seen), "at", seen[-1])
    portcall.call("echo", str(len(seen)))
    os.urandom(4)
"""
MODES = ("neither", "recorded", "traced")


def _trace() -> None:
    """Set up the SDK."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)


async def _journeys(folder: Path, hops: int, rounds: int) -> tuple[dict[str, list[float]], bytes, dict[str, Any]]:
    """Seconds of a hop in each mode, a recorded journey as a file, and what was stored."""
    me = docking.SecretKey(os.urandom(32))
    policy = docking.Policy(owners=[me.public])
    (folder / "trip.py").write_text(AGENT)
    image: AgentImage = load_image(folder / "trip.py")
    _trace()
    took: dict[str, list[float]] = {mode: [] for mode in MODES}
    network = docking.Network(host="127.0.0.1", mdns=False)
    async with docking.Station("alpha", folder / "alpha", policy=policy, network=network) as alpha:
        other = evolve(network, peers=[alpha.url])
        async with docking.Station("beta", folder / "beta", policy=policy, network=other) as beta:
            via = ["beta", "alpha"] * (hops // 2)
            for each in (alpha, beta):
                each.offer("echo", lambda request: request)
            while not (alpha.introductions.peers.all() and beta.introductions.peers.all()):
                await asyncio.sleep(0.01)
            for mode in ["neither", *MODES * rounds]:
                kept = Keeping(bytes=1 << 30 if mode == "recorded" else 0)
                for each in (alpha, beta):
                    await each.replace_policy(evolve(policy, recordings=kept))
                    each.core.tracing.off = mode != "traced"
                began = time.perf_counter()
                agent = await alpha.launch(image, via=via, owner=me)
                await agent.wait(600)
                took[mode].append((time.perf_counter() - began) / hops)
                if mode == "recorded":
                    last = agent
            stored = sum(each.core.archive.size for each in (alpha, beta) if each.core.archive is not None)
            journey = await alpha.replay(last.id, me)
            data = write_journey(journey)
            wrong = [each for each in (journey.check(stay.visit) for stay in journey.stays) if each]
            journey.close()
    took["neither"] = took["neither"][1:]
    return took, data, {"stored per hop": stored / (rounds * hops), "wrong": wrong}


def _stepped(data: bytes, backward: bool) -> tuple[list[float], list[float]]:
    """Seconds of each step, and of processor time, of a journey of which nothing is known yet."""
    journey: Journey = read_journey(data, time.time_ns() // 1_000_000)
    order = [step.index for step in journey.steps]
    took, spent = [], []
    for index in reversed(order) if backward else order:
        began, before = time.perf_counter(), time.thread_time()
        journey.state(index)
        journey.changes(index)
        took.append(time.perf_counter() - began)
        spent.append(time.thread_time() - before)
    journey.close()
    return took, spent


def measure(hops: int, rounds: int) -> dict[str, Any]:
    """All figures: seconds and bytes."""
    with tempfile.TemporaryDirectory() as folder:
        took, data, more = asyncio.run(_journeys(Path(folder), hops, rounds))
    began = time.perf_counter()
    steps = len(read_journey(data, time.time_ns() // 1_000_000).steps)
    opened = time.perf_counter() - began
    backward, spent = _stepped(data, True)
    first = backward.pop(0), spent.pop(0)
    forward, _ = _stepped(data, False)
    return {
        "hops": hops,
        "steps": steps,
        "file": len(data),
        "opened": opened,
        "forward p50": statistics.median(forward),
        "forward max": max(forward),
        "backward p50": statistics.median(backward),
        "backward p99": sorted(backward)[int(len(backward) * 0.99)],
        "backward max": max(backward),
        "backward max, processor": max(spent),
        "first": first[0],
        "ratio": sum(backward) / sum(forward),
        "hop": {mode: statistics.median(each) for mode, each in took.items()},
        **more,
    }


def page(found: dict[str, Any]) -> str:
    """The figures as a table."""
    hop = found["hop"]
    rows = [
        (f"a journey of {found['hops']} hops and {found['steps']} steps: reading it", found["opened"]),
        ("a step forward, p50", found["forward p50"]),
        ("a step forward, longest", found["forward max"]),
        ("a step backward, p50", found["backward p50"]),
        ("a step backward, p99", found["backward p99"]),
        ("a step backward, longest", found["backward max"]),
        ("the same, processor time", found["backward max, processor"]),
        ("the first step backward, with compiling", found["first"]),
        *((f"a hop, {mode}", hop[mode]) for mode in MODES),
    ]
    lines = ["| | ms |", "|---|--:|", *(f"| {name} | {1000 * value:.2f} |" for name, value in rows)]
    ratios = [f"backward over forward: {found['ratio']:.2f}"]
    ratios += [f"{mode} over neither: {hop[mode] / hop['neither']:.2f}" for mode in MODES[1:]]
    right = "all stays replay to what was signed" if not found["wrong"] else f"WRONG: {found['wrong'][:3]}"
    size = f"{found['stored per hop'] / 1024:.1f} KiB are stored per hop, {found['file'] / 1024:.0f} KiB in the file"
    return "\n".join([*lines, "", f"{'; '.join(ratios)}. {size}; {right}."])


@click.command()
@click.option("--quick", is_flag=True, help="Fewer hops, one round.")
@click.option("--json", "to", type=click.Path(path_type=Path), help="Write the figures to this file.")
def main(quick: bool, to: Path | None) -> None:
    """Measure, and print a table."""
    found = measure(20 if quick else 100, 1 if quick else 5)
    click.echo(page(found))
    if to is not None:
        to.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
