"""How long a message takes until its receiver has it, and a question until its answer is there.

    python -m tests.bench.messages [--quick] [--json FILE]

Stations with stores on the disk, over HTTP on this machine, in one process; agents in WAT. `local`: the agent that is
asked is at the station where it is asked; `between stations`: it rests at another one; `hopping`: it goes to and fro
between two others and takes what has come at each stop, without waiting. A time is that of two messages, a question and
its answer, each of which was stored with its receiver; the next question is asked when the answer is there.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import click

import agents
from docking import Budget, Permit, Policy, SecretKey, Station, Terms
from docking.aio.loops import run_loop

# Answers each question with what it was asked; {go} before each look.
ECHO = """(module
  (import "portcall" "go" (func $go (param i32 i32) (result i32)))
  (import "portcall" "recv" (func $recv (param i32 i32 i32) (result i32)))
  (import "portcall" "about" (func $about (param i32 i32) (result i32)))
  (import "portcall" "reply" (func $reply (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "next")
  (func $answer (param $wait i32) (result i32) (local $size i32) (local $n i32)
    (local.set $size (call $recv (i32.const 100) (i32.const 64) (local.get $wait)))
    (if (i32.lt_s (local.get $size) (i32.const 0)) (then (return (i32.const 0))))
    (local.set $n (call $about (i32.const 200) (i32.const 1000)))
    (if (i32.lt_s (local.get $n) (i32.const 128)) (then (return (i32.const 0))))
    ;; what `reply` takes is the last line, of 128 letters
    (drop (call $reply (i32.add (i32.const 72) (local.get $n)) (i32.const 128) (i32.const 100) (local.get $size)))
    (i32.const 1))
  (func (export "_start") (loop $more {go} (drop (call $answer (i32.const {wait}))) (br $more))))"""
TERMS = Terms(
    permit=Permit(Budget(cpu=3600 * 10**6, memory=1 << 26, carried=1 << 50, messages=10**9), ("host:*",)), hops=10**9
)


def quantiles(times: list[float]) -> dict[str, float]:
    """p50 and p99, in milliseconds."""
    ordered = sorted(times)
    return {
        "p50_ms": 1000 * ordered[len(ordered) // 2],
        "p99_ms": 1000 * ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
    }


async def measured(folder: Path, count: int) -> list[dict[str, Any]]:
    """All of it."""
    owner = SecretKey(bytes(range(32)))
    policy = Policy(owners=[owner.public], budget=TERMS.permit.budget)
    names = ("alpha", "beta", "gamma")
    stations = [Station(name, folder / name, policy=policy, host="127.0.0.1", mdns=False) for name in names]
    rows = []
    for each in stations:
        await each.start()
    try:
        for one in stations:
            for other in stations:
                if one is not other:
                    await one.introductions.call_on(other.url)
        alpha = stations[0]
        go = "(drop (call $go (i32.const 0) (i32.const 4)))"
        rests = ECHO.replace("{go}", "").replace("{wait}", "-1")
        kinds = {
            "local": (rests, ""),
            "between stations": (rests.replace("(loop $more", go + "(loop $more"), "beta"),
            "hopping": (ECHO.replace("{go}", go).replace("{wait}", "0"), "(beta,gamma)*100000"),
        }
        for kind, (wat, way) in kinds.items():
            agent = await alpha.launch(agents.pack(wat), way or (), owner=owner, terms=TERMS)
            await agent.ask("first", timeout=60)
            times = []
            for number in range(count):
                began = time.perf_counter()
                answer = await agent.ask(str(number), timeout=60)
                times.append(time.perf_counter() - began)
                assert answer == str(number).encode()
            rows.append({"kind": kind, "questions": count, **quantiles(times)})
            agent.dispose()
    finally:
        for each in stations:
            await each.close()
    return rows


@click.command()
@click.option("--quick", is_flag=True, help="A first impression.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to this file.")
def main(quick: bool, file: Path | None) -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory() as folder:
        rows = run_loop(measured(Path(folder), 100 if quick else 1000))
    for row in rows:
        click.echo(
            f"{row['kind']:20} {row['p50_ms']:8.2f} ms p50 {row['p99_ms']:8.2f} ms p99 for a question and its answer"
        )
    if file is not None:
        file.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
