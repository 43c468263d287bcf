"""A process with stations and an application that traces: run by the tests, with the receiver's address."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from agents.sdk.sources import load_image
from docking import Station
from tests.station.harbour import OWNER, meet, station

AGENT = """
import portcall
for place in ["beta", "gamma", "home"]:
    portcall.go(place)
    if place != "home":
        print(portcall.call("count", place))
        try:
            portcall.call("broken", "")
        except OSError:
            pass
portcall.send(portcall.me(), "to myself")
print(portcall.recv())
"""

SLOW = """
import portcall
portcall.go("beta")
print(portcall.recv())
portcall.go("home")
"""


async def main(url: str, folder: Path) -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": "harbour"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
    trace.set_tracer_provider(provider)
    tracer = trace.get_tracer("application")
    folder.mkdir(exist_ok=True)
    (folder / "agent.py").write_text(AGENT)
    image = load_image(folder / "agent.py")
    made = [station(name, folder / name) for name in ("alpha", "beta", "gamma")]
    alpha, beta, gamma = made

    async def count(request: bytes) -> bytes:
        with tracer.start_as_current_span("count in the database"):
            return b"12"

    def count_in_thread(request: bytes) -> bytes:
        with tracer.start_as_current_span("count in a thread"):
            return b"13"

    def broken(request: bytes) -> bytes:
        raise ValueError("broken")

    beta.offer("count", count)
    gamma.offer("count", count_in_thread)
    for each in (beta, gamma):
        each.offer("broken", broken)
    async with alpha, beta, gamma:
        await meet(*made)
        with tracer.start_as_current_span("order"):
            agent = await alpha.launch(image, via=["beta", "gamma", "alpha"], owner=OWNER)
        report = await agent.wait(60)
        assert report.exit_code == 0
        await asyncio.sleep(0)
        # One that no application traces: a trace of its own.
        alone = await alpha.launch(image, via=["beta", "gamma", "alpha"], owner=OWNER)
        await alone.wait(60)
        await restarted(alpha, beta, folder, tracer)
    provider.shutdown()


async def restarted(alpha: Station, beta: Station, folder: Path, tracer: trace.Tracer) -> None:
    """An agent that waits at beta while that is started again."""
    (folder / "slow.py").write_text(SLOW)
    watch = beta.subscribe(lambda event: event.kind == "arrived")
    with tracer.start_as_current_span("slow order"):
        agent = await alpha.launch(load_image(folder / "slow.py"), via=["beta", "alpha"], owner=OWNER)
    await anext(watch)
    await beta.close()
    await beta.start()
    await meet(alpha, beta)
    agent.send("go on")
    assert (await agent.wait(60)).exit_code == 0


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
