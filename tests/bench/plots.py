"""The figures as plots, in SVG. Needs matplotlib (the dependency group `bench`).

What was not measured is not drawn. The files depend on the figures alone: same figures, same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams |= {"svg.hashsalt": "portcall", "svg.fonttype": "none", "font.size": 9}

from matplotlib import pyplot as plt  # noqa: E402  # after the choice of its output

Figures = dict[str, Any]
NAMES = {
    "none": "packed",
    "loops": "packed, with polls",
    "asyncify": "Asyncify",
    "asyncify+polls": "Asyncify, with polls",
}
COLOURS = {"none": "#2b6cb0", "loops": "#90cdf4", "asyncify": "#c05621", "asyncify+polls": "#fbd38d"}


def overhead(found: Figures, axes: Any) -> bool:
    """Running time of each kernel over the unmodified one's."""
    rows = found.get("overhead", {}).get("kernels", [])
    width = 0.8 / len(NAMES)
    for place, (variant, name) in enumerate(NAMES.items()):
        there = [
            (at + place * width, row["ratios"][variant]["median"])
            for at, row in enumerate(rows)
            if variant in row["ratios"]
        ]
        if there:
            xs, ys = zip(*there, strict=True)
            axes.bar(xs, ys, width, label=name, color=COLOURS[variant])
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_xticks(
        [at + 1.5 * width for at in range(len(rows))], [row["name"] for row in rows], rotation=60, ha="right"
    )
    axes.set_ylabel("running time / unmodified")
    axes.set_title(f"What it costs to be movable: {len(rows)} kernels (no bar: refused, or not measured)")
    return bool(rows)


def hops(found: Figures, axes: Any) -> bool:
    """p50 and p99 of a hop over the size of the state, and the peer's."""
    sizes = {"4 KiB": 4, "64 KiB": 64, "1 MiB": 1024, "16 MiB": 16384}
    subjects: dict[str, list[tuple[int, float, float]]] = {}
    for row in found.get("hop", []):
        if row["agents"] == 1 and row["name"] in sizes:
            kind = "two stores on disk" if row["kind"] == "durable" else "in memory only"
            subjects.setdefault(f"Portcall, {kind}", []).append((sizes[row["name"]], row["p50"], row["p99"]))
    peer = found.get("peers", {})
    for row in peer.get("rows", []):
        if row["subject"] == "paglets" and row["p50"] is not None:
            name = f"paglets {peer['paglets']}"
            subjects.setdefault(name, []).append((sizes[row["state"]], row["p50"], row["p99"]))
    for name, points in subjects.items():
        xs, p50, p99 = zip(*sorted(points), strict=True)
        (line,) = axes.plot(xs, p50, marker="o", label=f"{name}: p50")
        axes.plot(xs, p99, marker=".", linestyle=":", color=line.get_color(), label=f"{name}: p99")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(list(sizes.values()), list(sizes))
    axes.set_xlabel("state: bytes that were made anew before each hop")
    axes.set_ylabel("ms")
    axes.set_title("One hop between two processes on one machine")
    return bool(subjects)


def journey(found: Figures, axes: Any) -> bool:
    """A hop's cost as the journey becomes longer."""
    shown = False
    for row in found.get("hop", []):
        points = [(int(key[4:]), value) for key, value in row["aside"].items() if key.startswith("hop ")]
        if row["agents"] == 1 and len(points) > 2:
            xs, ys = zip(*sorted(points), strict=True)
            axes.plot(xs, ys, marker="o", label=f"{row['name']}, {row['kind']}")
            shown = True
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("number of the hop")
    axes.set_ylabel("ms, median")
    axes.set_title("Does a long journey become expensive?")
    return shown


def calls(found: Figures, axes: Any) -> bool:
    """WASI calls beside wasmtime's own."""
    rows = found.get("wasi", [])
    at = range(len(rows))
    axes.barh(
        [y - 0.2 for y in at], [row["ours"] for row in rows], 0.4, label="Portcall's virtual WASI", color="#2b6cb0"
    )
    axes.barh([y + 0.2 for y in at], [row["theirs"] for row in rows], 0.4, label="wasmtime's own", color="#c05621")
    axes.set_yticks(list(at), [row["what"] for row in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("µs")
    axes.set_title("WASI calls")
    return bool(rows)


def _downtimes(rows: list[Figures], axes: Any, unit: str) -> bool:
    ways = dict.fromkeys(row["way"] for row in rows if row["downtime_ms"] is not None)
    places = sorted({row["at"] for row in rows})
    for way in ways:
        points = [(places.index(r["at"]), r["downtime_ms"]) for r in rows if r["way"] == way and r["downtime_ms"]]
        xs, ys = zip(*sorted(points), strict=True)
        axes.plot(xs, ys, marker="o", label=way)
    axes.set_yscale("log")
    axes.set_xticks(range(len(places)), [f"{place} {unit}" for place in places])
    axes.set_ylabel("ms, median")
    return bool(ways)


def downtime_over_size(found: Figures, axes: Any) -> bool:
    """How long an agent stands still that is moved, by its size."""
    axes.set_title("Downtime of an agent that writes 1 MiB a second in 64 KiB")
    return _downtimes(found.get("live", {}).get("downtime", {}).get("size", []), axes, "MiB")


def downtime_over_rate(found: Figures, axes: Any) -> bool:
    """The same, by what it writes."""
    axes.set_title("Downtime of an agent with 64 MiB, by what it writes over 16 of them")
    return _downtimes(found.get("live", {}).get("downtime", {}).get("rate", []), axes, "MiB/s")


PLOTS: dict[str, tuple[Callable[[Figures, Any], bool], tuple[float, float]]] = {
    "overhead": (overhead, (10, 4.2)),
    "hops": (hops, (8, 4.6)),
    "journey": (journey, (8, 4.2)),
    "wasi": (calls, (8, 3.6)),
    "live-size": (downtime_over_size, (8, 4.2)),
    "live-rate": (downtime_over_rate, (8, 4.2)),
}


def draw(found: Figures, folder: Path) -> list[str]:
    """Write the plots that there are figures for; gives the names of the files."""
    written = []
    for name, (plot, size) in PLOTS.items():
        target = folder / f"{name}.svg"
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        try:
            if plot(found, axes):
                figure.legend(loc="outside lower center", ncols=4, fontsize=7)
                figure.savefig(target, metadata={"Date": None})
                written.append(target.name)
            else:
                target.unlink(missing_ok=True)
        finally:
            plt.close(figure)
    return written
