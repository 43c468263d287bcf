"""The peer of the benchmarks of hops: a run ends, whatever the peer does, and what it did not do is said."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import pytest

from tests.bench import peers, report
from tests.bench.__main__ import differs


def test_what_did_not_come_home_is_below_the_table() -> None:
    rows = [
        peers.row("Portcall, durable", "4 KiB", [4.0, 6.0]),
        peers.row("paglets", "4 KiB", [100.0, 300.0]),
        peers.row("paglets", "1 MiB", []),
    ]
    lost = [peers.Lost("1 MiB", 105.0, 4, 45)]
    table = peers.table(rows, "2.0.0", lost)
    assert "| Portcall, durable | 4 KiB | 2 | 6.00 | 6.00 | 200.0 |" in table
    assert "| paglets 2.0.0 | 1 MiB | 0 | did not come home | | |" in table
    assert table.endswith("One agent with 1 MiB did not come home within 105 s: it made 4 of 45 hops.")
    assert "did not come home" not in peers.table(rows[:2], "2.0.0", [])


def test_a_host_that_does_not_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PEER", Path(sys.executable))  # which has no paglets
    with pytest.raises(click.ClickException, match="a host of paglets did not start"):
        peers.journey(16, 1, tmp_path, 10.0)


@pytest.mark.skipif(peers.version() is None, reason="paglets is installed by .ci/peers")
def test_a_journey_of_the_peer_has_an_end(tmp_path: Path) -> None:
    made = peers.journey(4096, 2, tmp_path / "short", 60.0)
    assert made.home
    assert len(made.spans) == 2
    endless = peers.journey(4096, 10**6, tmp_path / "endless", 3.0)
    assert not endless.home
    assert len(endless.spans) < 1000


def test_results_of_another_machine_are_told_from_ours(tmp_path: Path) -> None:
    assert differs(tmp_path) == []
    there = report.machine() | {"python": "3.9.0"}
    (tmp_path / "run.json").write_text(json.dumps({"machine": there}))
    assert differs(tmp_path) == [f"python 3.9.0, here {report.machine()['python']}"]
