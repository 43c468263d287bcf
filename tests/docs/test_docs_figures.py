"""No page says a figure that was not measured: tables are those of the results, and a missing result is no table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.bench import overhead, publishing, report

RESULTS = Path(report.__file__).parent / "results"
RUN: dict[str, Any] = {
    "machine": {
        "processor": "Abacus",
        "processors": 1,
        "memory_gib": 0.5,
        "system": "Linux",
        "python": "3.10.0",
        "wasmtime": "50.0.0",
    },
    "commit": None,
    "benchmarks": {"hop": {"quick": False, "seconds": 1, "load": [0.1, 0.2]}},
}


@pytest.mark.parametrize("page", publishing.PAGES, ids=lambda page: page.name)
def test_the_tables_of_the_pages_are_those_of_the_results(page: Path) -> None:
    """After a change of either: `make bench ARGS=--publish`."""
    text = page.read_text(encoding="utf-8")
    assert (
        len(re.findall("<!-- figures: ", text)) == text.count("<!-- end -->") == (2 if page.name == "README.md" else 4)
    )
    assert publishing.filled(text, report.tables(report.load(RESULTS))) == text


def test_results_are_of_full_runs_and_name_no_place() -> None:
    run = json.loads((RESULTS / "run.json").read_text())
    assert not any(each["quick"] for each in run["benchmarks"].values())
    text = "".join(path.read_text(encoding="utf-8") for path in RESULTS.glob("*.*"))
    assert not re.search(r"/home/|/root/|/work/|/tmp/", text)


def test_what_was_not_measured_is_in_no_table() -> None:
    assert set(report.tables({"run": RUN})) == {"machine"}
    hop = {"name": "4 KiB", "kind": "durable", "agents": 1, "p50": 5.0, "p99": 9.0, "rate": 190.0, "aside": {}}
    tables = report.tables({"run": RUN, "hop": [hop]})
    assert set(tables) == {"machine", "hops"}
    assert "| 4 KiB of noise, two stores on disk | 5.0 | 9.0 | 190 |" in tables["hops"]
    assert "| peer: paglets | not measured | | |" in tables["hops"]
    peer = {"paglets": "2.0.0", "rows": [{"subject": "paglets", "state": "1 MiB", "p50": 7.0, "p99": 8.0, "rate": 3.0}]}
    tables = report.tables({"run": RUN, "hop": [hop], "peers": peer})
    assert "not measured" not in tables["hops"]
    assert "paglets 2.0.0" in tables["hops"]
    nothing: dict[str, Any] = {"subject": "paglets", "state": "1 MiB", "p50": None, "p99": None, "rate": None}
    tables = report.tables({"run": RUN, "hop": [hop], "peers": {"paglets": "2.0.0", "rows": [nothing]}})
    assert "hosts that trust each other | did not come home | | |" in tables["hops"]


def test_a_mean_is_of_all_programs_or_says_why_not() -> None:
    assert report.NO_BINARYEN == overhead.NO_BINARYEN

    def kernel(name: str, missing: str | None, *ratios: float) -> dict[str, Any]:
        names = ("none", "loops", "asyncify", "asyncify+polls")
        found = {variant: {"median": ratio} for variant, ratio in zip(names, ratios, strict=False)}
        return {"name": name, "ratios": found, "missing": {each: missing for each in names if each not in found}}

    both = kernel("a", None, 1.0, 2.0, 4.0, 8.0)
    figures = {"kernels": [both, kernel("b", "no tail calls", 4.0, 8.0)], "scripts": [], "sizes": [], "packing": []}
    table = report.tables({"run": RUN, "overhead": figures})["overhead"]
    assert "| 1 kernels that Asyncify takes | 1.00 | 2.00 | 4.00 | 8.00 |" in table
    assert "| all 2 kernels | 2.00 | 4.00 | refused | refused |" in table
    figures["kernels"] = [kernel("b", "no wasm-opt", 4.0, 8.0)]
    assert (
        "| 4.00 | 8.00 | not measured | not measured |" in report.tables({"run": RUN, "overhead": figures})["overhead"]
    )


def test_a_quick_run_is_called_so() -> None:
    quick = RUN | {"benchmarks": {"hop": {"quick": True, "seconds": 1, "load": [0.1, 0.2]}}}
    assert "first impression" in report.circumstances({"run": quick})
    assert "first impression" not in report.circumstances({"run": RUN})


def test_plots_depend_on_the_figures_alone(tmp_path: Path) -> None:
    plots = pytest.importorskip("tests.bench.plots", reason="matplotlib is in the dependency group `bench`")
    hop = {"name": "4 KiB", "kind": "durable", "agents": 1, "p50": 5.0, "p99": 9.0, "rate": 190.0, "aside": {}}
    found = {"run": RUN, "hop": [hop]}
    assert plots.draw(found, tmp_path) == ["hops.svg"]  # and none without figures
    first = (tmp_path / "hops.svg").read_bytes()
    assert b"Portcall, two stores on disk" in first
    plots.draw(found, tmp_path)
    assert (tmp_path / "hops.svg").read_bytes() == first


def test_the_table_in_short_says_what_the_long_ones_say() -> None:
    made = report.tables(report.load(RESULTS))
    figures = set(re.findall(r"\d+\.\d+", made["summary"])) - {"2.0"}
    long = made["overhead"] + made["hops"] + made["others"]
    assert figures <= set(re.findall(r"\d+\.\d+", long)), figures
    assert report.summary({"run": RUN}) is None
    hop = {"name": "64 KiB", "kind": "durable", "agents": 1, "p50": 5.0, "p99": 9.0, "rate": 190.0, "aside": {}}
    assert "| 5.0 ms; 190 | not measured |" in str(report.summary({"run": RUN, "hop": [hop]}))
