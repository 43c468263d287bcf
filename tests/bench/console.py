"""What an open console costs a station, and how soon a browser shows it.

    python -m tests.bench.console [--quick] [--agents N] [--json FILE]

Two stations, each a process with a store on the disk, and agents that commute between them, 1,000 hops a minute. In
turns, a real Chromium shows the console of one station, and does not; compared is the processor time of that station's
process for each hop. First paint is what the browser's own `PerformanceObserver` says (`first-contentful-paint`), in
windows that remember nothing. Last, with 10,000 sleeping agents: how soon a page of them is there, and the longest time
for which the station's event loop answered nobody while the browser looked.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click

import agents
from tests.bench.place import Steered, stations
from tests.bench.sleepers import BATCH, SLEEPER, asleep

# Rests {rest} ms at each stop, for ever.
COMMUTER = """(module (import "portcall" "go" (func $go (param i32 i32) (result i32)))
  (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "next")
  (func (export "run") (loop $hop (drop (call $sleep (i32.const {rest})))
    (if (call $go (i32.const 0) (i32.const 4)) (then unreachable)) (br $hop))))"""
COMMUTERS, HOPS_A_MINUTE = 20, 1000
CLOSED, MAP_OPEN, LIST_OPEN = (f"nobody else is answered for, {each}, ms" for each in ("closed", "map", "list"))
PAINT = """() => new Promise((done) => new PerformanceObserver((list) => {
  for (const each of list.getEntries()) if (each.name === 'first-contentful-paint') done(each.startTime)
}).observe({type: 'paint', buffered: true}))"""


def used(station: Steered, seconds: float) -> tuple[float, int]:
    """Processor time of a station, and the hops in which it took part, while so many seconds pass."""

    def now() -> tuple[float, int]:
        counts = station.ask("counts")
        return station.ask("stamps")["cpu"], counts.get("left", 0) + counts.get("arrived", 0)

    before, hops = now()
    time.sleep(seconds)  # nothing is awaited here: it is the measurement
    after, more = now()
    return after - before, more - hops


def open_and_shut(alpha: Steered, browser: Any, link: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Milliseconds of processor time for each hop, without and with an open console."""
    found: dict[str, list[float]] = {"without": [], "with": []}
    rates = []
    for _ in range(rounds):
        for how, times in found.items():
            page = browser.new_context(viewport={"width": 1280, "height": 860}).new_page()
            if how == "with":
                page.goto(link)
                page.wait_for_selector(".feed li[data-kind=left]")
            else:
                page.goto("about:blank")
            time.sleep(2)
            cpu, hops = used(alpha, seconds)
            times.append(1000 * cpu / hops)
            rates.append(60 * hops / seconds)
            page.context.close()
    without, beside = (statistics.median(times) for times in found.values())
    return {
        "hops a minute": statistics.median(rates),
        "processor ms of a hop": without,
        "processor ms of a hop, console open": beside,
        "the console takes": beside / without - 1,
        "rounds": found,
    }


def first_paints(browser: Any, link: str, count: int) -> list[float]:
    """Milliseconds from navigation to the first content, each in a fresh window."""
    found = []
    for _ in range(count):
        page = browser.new_context(viewport={"width": 1280, "height": 860}).new_page()
        page.goto(link)
        found.append(float(page.evaluate(PAINT)))
        page.wait_for_selector(".station")
        page.context.close()
    return found


def crowded(alpha: Steered, browser: Any, link: str, image: Path, count: int) -> dict[str, Any]:
    """The same station with many sleeping agents."""
    before = asleep(alpha)
    for _ in range(0, count, BATCH):
        alpha.ask("launch", image=str(image), via=[], count=min(BATCH, count))
    deadline = time.monotonic() + 300
    while asleep(alpha) < before + count - COMMUTERS and time.monotonic() < deadline:
        time.sleep(0.1)
    before_it = alpha.ask("stall", seconds=10.0)
    page = browser.new_context(viewport={"width": 1280, "height": 860}).new_page()
    page.goto(link)
    page.wait_for_selector(".station")
    still = alpha.ask("stall", seconds=10.0)
    page.click("nav a[data-view=agents]")
    page.wait_for_selector(".row .name")
    pages = []
    for number in range(30):
        pages.append(
            page.evaluate(
                "async (at) => { const began = performance.now();"
                " await (await fetch(`api/agents?offset=${at}&limit=100`)).json(); return performance.now() - began }",
                number * 300,
            )
        )
    busy = alpha.ask("stall", seconds=10.0)
    page.context.close()
    return {
        "agents": count,
        "a page of them, p50 ms": statistics.median(pages),
        "a page of them, worst ms": max(pages),
        CLOSED: 1000 * before_it,
        MAP_OPEN: 1000 * still,
        LIST_OPEN: 1000 * busy,
    }


def measure(quick: bool, count: int, seconds: float, folder: Path) -> dict[str, Any]:
    """All figures."""
    from playwright.sync_api import sync_playwright

    from tests.console.browsing import CHROMIUM

    if not CHROMIUM:
        raise click.ClickException("no chromium on the path: .ci/toolchains installs Debian's")
    rest = round(60_000 * COMMUTERS / HOPS_A_MINUTE - 6)
    commuter, sleeper = folder / "commuter.agent", folder / "sleeper.agent"
    commuter.write_bytes(agents.pack(COMMUTER.format(rest=rest), name="commuter").encode())
    sleeper.write_bytes(agents.pack(SLEEPER, name="sleeper").encode())
    places = stations(secrets.token_bytes(32), ("alpha", "beta"), lambda name: ("--home", str(folder / name)))
    alpha, beta = places["alpha"], places["beta"]
    try:
        with sync_playwright() as started:
            browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            link = alpha.ask("console")
            alpha.ask("launch", image=str(commuter), via=[beta.key, alpha.key], turns=10_000, count=COMMUTERS)
            time.sleep(3)
            found = open_and_shut(alpha, browser, link, seconds, 2 if quick else 3)
            paints = first_paints(browser, link, 5 if quick else 20)
            found["first paint, p50 ms"], found["first paint, worst ms"] = statistics.median(paints), max(paints)
            found["crowd"] = crowded(alpha, browser, link, sleeper, count)
            browser.close()
    finally:
        for each in places.values():
            each.end()
    return found


@click.command()
@click.option("--quick", is_flag=True, help="Shorter, and 2,000 agents instead of 10,000.")
@click.option("--agents", "count", type=click.IntRange(500), help="So many agents.")
@click.option("--seconds", type=click.FloatRange(5), help="Of each measurement: 60, or 10.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write the figures here.")
def main(quick: bool, count: int | None, seconds: float | None, target: Path | None) -> None:
    """Measure an open console."""
    folder = Path(tempfile.mkdtemp(prefix="portcall-console-"))
    try:
        found = measure(quick, count or (2000 if quick else 10_000), seconds or (10 if quick else 60), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    crowd = found["crowd"]
    click.echo("## The console, open in a browser\n\n| | |\n|---|--:|")
    for name, shown in (
        ("hops a minute in which the station took part", f"{found['hops a minute']:,.0f}"),
        ("its processor time for each", f"{found['processor ms of a hop']:.2f} ms"),
        ("the same with an open console", f"{found['processor ms of a hop, console open']:.2f} ms"),
        ("the console takes", f"{100 * found['the console takes']:.1f} %"),
        ("first paint, p50", f"{found['first paint, p50 ms']:.0f} ms"),
        ("first paint, worst", f"{found['first paint, worst ms']:.0f} ms"),
        (f"a page of {crowd['agents']:,} agents, p50", f"{crowd['a page of them, p50 ms']:.0f} ms"),
        ("the same, worst", f"{crowd['a page of them, worst ms']:.0f} ms"),
        ("longest the station answered nobody, no console", f"{crowd[CLOSED]:.0f} ms"),
        (
            "the same, map open",
            f"{crowd[MAP_OPEN]:.0f} ms",
        ),
        ("the same, list open", f"{crowd[LIST_OPEN]:.0f} ms"),
    ):
        click.echo(f"| {name} | {shown} |")
    click.echo(f"\nLoad average of the machine at the end: {os.getloadavg()[0]:.1f}, processors: {os.cpu_count()}.")
    if target is not None:
        target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
