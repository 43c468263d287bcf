"""Agents that serve: requests a second, and how long one takes.

    python -m tests.bench.serve [--quick] [--json FILE]

One station with a store on the disk, an agent in MicroPython and one in WAT that answer every request alike, and
clients in processes of their own that keep their connections. `cpu_ms` is the processor time of the whole station for
each request, which a busy machine changes little: 1000 / cpu_ms requests a second are what one processor can answer.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from asyncio import to_thread
from pathlib import Path
from typing import Any

import click

import agents
from agents.image import AgentImage
from agents.sdk.sources import load_image, user_cache
from docking import Budget, Permit, Policy, SecretKey, Station, Terms
from docking.aio.loops import run_loop

PYTHON = """
import portcall

answered = 0

def handler(request):
    global answered
    answered += 1
    return str(answered)

portcall.serve(handler)
"""
# The id of a request is the value of its last header: 85 bytes before the empty line.
WAT = r"""(module
  (import "portcall" "accept" (func $accept (param i32 i32 i32) (result i32)))
  (import "portcall" "reply" (func $reply (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "HTTP/1.1 200 OK\r\n\r\nhello")
  (func (export "run") (result i32)
    (loop $next
      (drop (call $reply
        (i32.add (i32.const 939) (call $accept (i32.const 1028) (i32.const 8192) (i32.const -1))) (i32.const 85)
        (i32.const 0) (i32.const 24)))
      (br $next))
    (i32.const 0)))"""
BUDGET = Budget(cpu=10**12, memory=64 << 20, carried=1 << 30, messages=1000)


def ask(port: int, name: str, count: int, times: Any) -> None:
    """One client: the seconds of each request."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        connection.request("GET", f"/portcall/1/agents/{name}/")
        response = connection.getresponse()
        response.read()
        taken.append(time.perf_counter() - began)
        assert response.status == 200, response.status
    times.put(taken)


def measure_clients(port: int, name: str, clients: int, count: int) -> dict[str, float]:
    """Requests of so many clients at once."""
    times: Any = multiprocessing.Queue()
    each = max(1, count // clients)
    processes = [multiprocessing.Process(target=ask, args=(port, name, each, times)) for _ in range(clients)]
    used, began = time.process_time(), time.perf_counter()
    for process in processes:
        process.start()
    taken = sorted(seconds for _ in processes for seconds in times.get())
    seconds, used = time.perf_counter() - began, time.process_time() - used
    for process in processes:
        process.join()
    return {
        "clients": clients,
        "requests_per_s": len(taken) / seconds,
        "p50_ms": 1000 * taken[len(taken) // 2],
        "p99_ms": 1000 * taken[len(taken) * 99 // 100],
        "cpu_ms": 1000 * used / len(taken),
    }


async def measure(count: int, folder: Path) -> dict[str, list[dict[str, float]]]:
    """All figures, by agent."""
    script = folder / "service.py"
    script.write_text(PYTHON, encoding="utf-8")
    images: dict[str, AgentImage] = {"MicroPython": load_image(script, cache=user_cache()), "WAT": agents.pack(WAT)}
    me = SecretKey(os.urandom(32))
    policy = Policy(owners=[me.public], budget=BUDGET)
    found = {}
    async with Station("alpha", folder / "alpha", policy=policy, host="127.0.0.1", mdns=False) as alpha:
        assert alpha.port is not None
        for name, image in images.items():
            terms = Terms(permit=Permit(BUDGET, ["host:serve"]), label=name)
            agent = await alpha.launch(image, owner=me, terms=terms)
            await to_thread(measure_clients, alpha.port, name, 1, 50)
            found[name] = [await to_thread(measure_clients, alpha.port, name, each, count) for each in (1, 8)]
            agent.dispose()
    return found


@click.command()
@click.option("--quick", is_flag=True, help="500 requests instead of 5,000.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write the figures here.")
def main(quick: bool, target: Path | None) -> None:
    """Measure agents that serve."""
    folder = Path(tempfile.mkdtemp(prefix="portcall-serve-"))
    try:
        found = run_loop(measure(500 if quick else 5000, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    click.echo("## Agents that serve\n")
    click.echo("| agent | clients | requests/s | p50 ms | p99 ms | processor ms a request |\n|---|--:|--:|--:|--:|--:|")
    for name, rows in found.items():
        for row in rows:
            shown = f"{row['requests_per_s']:.0f} | {row['p50_ms']:.2f} | {row['p99_ms']:.2f} | {row['cpu_ms']:.2f}"
            click.echo(f"| {name} | {row['clients']} | {shown} |")
    click.echo(f"\nLoad average of the machine at the end: {os.getloadavg()[0]:.1f}, processors: {os.cpu_count()}.")
    if target is not None:
        target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
