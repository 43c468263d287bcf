"""A station's counters, in the Prometheus text format (version 0.0.4).

Each module keeps its own counters; this one only formats them. Invariant: names and meanings of metrics are
stable; no label is an agent or a peer, so the number of series is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable

from docking.http.agent_requests import AgentRequests
from docking.http.client import Client
from docking.http.dispatch import Dispatcher
from docking.live.sessions import Sessions
from docking.residents.ahead import Ahead
from docking.residents.berth import Standing
from docking.residents.departures import Departures
from docking.residents.moves import Moves
from docking.residents.residents import Residents
from docking.residents.services import Services
from docking.residents.serving import Serving


def metrics(
    here: Residents,
    services: Services,
    departures: Departures,
    kept: int,
    dispatcher: Dispatcher | None,
    client: Client | None,
    serving: Serving,
    clients: AgentRequests | None,
    moves: Moves,
    ahead: Ahead,
    sessions: Sessions,
) -> str:
    """All metrics of a station. `kept`: agents here that could not be resumed."""
    berths = list(here.berths.values())
    standing = {each.value: 0 for each in Standing if each is not Standing.ENDED}
    for berth in berths:
        standing[berth.standing.value] = standing.get(berth.standing.value, 0) + 1
    load = here.load()
    lines: list[str] = []
    _family(lines, "agents", "gauge", "Agents here, by what they do.", "standing", standing.items())
    _single(lines, "agents_busy", "gauge", "Agents that run or queue for a thread.", load.busy)
    _single(lines, "agents_memory_bytes", "gauge", "Memory of the agents that have an instance.", load.memory_bytes)
    _single(lines, "handoffs_in_doubt", "gauge", "Agents held: their source does not answer.", len(here.in_doubt))
    _single(lines, "agents_kept", "gauge", "Agents here that could not be taken up at the start.", kept)
    failed = int(bool(here.failure))
    _single(lines, "store_failed", "gauge", "1: the store does not write, and nothing goes on.", failed)
    counts = sorted((kind, count) for kind, count in here.counts.items() if kind != "log")
    _family(lines, "events_total", "counter", "What happened, by kind.", "kind", counts)
    _single(lines, "service_calls_total", "counter", "Calls of services by agents.", services.calls)
    _single(lines, "service_failures_total", "counter", "Of these, failed.", services.failures)
    _single(lines, "state_sent_bytes_total", "counter", "State of agents that left.", departures.bytes_out)
    _single(lines, "letters_delivered_total", "counter", "Letters that other stations took.", here.outbox.delivered)
    _single(lines, "agent_requests_waiting", "gauge", "Requests of clients that wait for agents here.", serving.waiting)
    handled = sorted(serving.counts.items())
    _family(lines, "agent_requests_total", "counter", "Requests of clients, by what was done.", "done", handled)
    if clients is not None:
        answers = [(str(status), count) for status, count in sorted(clients.answered.items())]
        _family(lines, "agent_answers_total", "counter", "Answers to clients, by status.", "status", answers)
    _single(lines, "moves_under_way", "gauge", "Agents that are being moved by order.", moves.under_way)
    done = sorted(moves.counts.items())
    _family(lines, "moves_total", "counter", "Agents moved by order, by what came of it.", "ended", done)
    _single(lines, "moves_sent_bytes_total", "counter", "Memory sent ahead of moved agents.", moves.sent_bytes)
    _single(lines, "moves_downtime_us_total", "counter", "For how long they stood still.", moves.downtime_us)
    _single(lines, "ahead_agents", "gauge", "Agents that are sent ahead to their next stop.", ahead.under_way)
    _single(lines, "ahead_sent_bytes_total", "counter", "Memory sent ahead to next stops.", ahead.sent_bytes)
    _single(lines, "ahead_saved_bytes_total", "counter", "Of it, not sent when they went.", ahead.saved_bytes)
    _single(lines, "sessions", "gauge", "Agents on their way here that run elsewhere.", len(sessions.open))
    _single(lines, "sessions_bytes", "gauge", "Memory that is held for them.", sessions.held_bytes)
    peers = here.peers.all()
    _single(lines, "peers", "gauge", "Stations that are known.", len(peers))
    if dispatcher is not None:
        _single(lines, "http_received_bytes_total", "counter", "Bodies of requests.", dispatcher.received_bytes)
        _single(lines, "http_answered_bytes_total", "counter", "Bodies of answers.", dispatcher.sent_bytes)
        refused = [(str(status), count) for status, count in sorted(dispatcher.refused.items())]
        _family(lines, "http_refused_total", "counter", "Requests refused, by status.", "status", refused)
    if client is not None:
        _single(lines, "http_sent_bytes_total", "counter", "Requests to other stations.", client.sent_bytes)
    return "\n".join(lines) + "\n"


def _single(lines: list[str], name: str, kind: str, text: str, value: int) -> None:
    lines += [f"# HELP portcall_{name} {text}", f"# TYPE portcall_{name} {kind}", f"portcall_{name} {value}"]


def _family(lines: list[str], name: str, kind: str, text: str, label: str, values: Iterable[tuple[str, int]]) -> None:
    lines += [f"# HELP portcall_{name} {text}", f"# TYPE portcall_{name} {kind}"]
    lines += [f'portcall_{name}{{{label}="{key}"}} {value}' for key, value in values]
