"""What a station counts, in the text format of Prometheus (version 0.0.4).

Counters are kept where things happen; here they are only written out. Invariant: names and meanings of metrics are
stable; none is labelled by agent or peer, so their number is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from docking.berth import Standing

if TYPE_CHECKING:
    from docking.http.client import Client
    from docking.http.reception import Reception
    from docking.station import Office


def metrics(office: Office, reception: Reception | None, client: Client | None) -> str:
    """All metrics of a station."""
    berths = list(office.berths.values())
    standing = {each.value: 0 for each in Standing if each is not Standing.ENDED}
    for berth in berths:
        standing[berth.standing.value] = standing.get(berth.standing.value, 0) + 1
    load = office.load()
    lines: list[str] = []
    _family(lines, "agents", "gauge", "Agents here, by what they do.", "standing", standing.items())
    _single(lines, "agents_busy", "gauge", "Agents that run or queue for a thread.", load.busy)
    _single(lines, "agents_memory_bytes", "gauge", "Memory of the agents that have an instance.", load.memory)
    _single(lines, "handoffs_in_doubt", "gauge", "Agents held: their source does not answer.", len(office.in_doubt))
    kept = len(office.arrivals.kept)
    _single(lines, "agents_kept", "gauge", "Agents here that could not be taken up at the start.", kept)
    failed = int(bool(office.failure))
    _single(lines, "store_failed", "gauge", "1: the store does not write, and nothing goes on.", failed)
    counts = sorted((kind, count) for kind, count in office.counts.items() if kind != "log")
    _family(lines, "events_total", "counter", "What happened, by kind.", "kind", counts)
    _single(lines, "service_calls_total", "counter", "Calls of services by agents.", office.pages.calls)
    _single(lines, "service_failures_total", "counter", "Of these, failed.", office.pages.failures)
    _single(lines, "state_sent_bytes_total", "counter", "State of agents that left.", office.departures.bytes_out)
    _single(lines, "letters_delivered_total", "counter", "Letters that other stations took.", office.mailbox.delivered)
    peers = office.peers.all()
    _single(lines, "peers", "gauge", "Stations that are known.", len(peers))
    if reception is not None:
        _single(lines, "http_received_bytes_total", "counter", "Bodies of requests.", reception.received_bytes)
        _single(lines, "http_answered_bytes_total", "counter", "Bodies of answers.", reception.sent_bytes)
        refused = [(str(status), count) for status, count in sorted(reception.refused.items())]
        _family(lines, "http_refused_total", "counter", "Requests refused, by status.", "status", refused)
    if client is not None:
        _single(lines, "http_sent_bytes_total", "counter", "Requests to other stations.", client.sent_bytes)
    return "\n".join(lines) + "\n"


def _single(lines: list[str], name: str, kind: str, text: str, value: int) -> None:
    lines += [f"# HELP portcall_{name} {text}", f"# TYPE portcall_{name} {kind}", f"portcall_{name} {value}"]


def _family(lines: list[str], name: str, kind: str, text: str, label: str, values: Iterable[tuple[str, int]]) -> None:
    lines += [f"# HELP portcall_{name} {text}", f"# TYPE portcall_{name} {kind}"]
    lines += [f'portcall_{name}{{{label}="{key}"}} {value}' for key, value in values]
