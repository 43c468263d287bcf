"""One agent as its station knows it: what it may use and has used, what it waits for, what it has not read yet.

Plain values, for the control channel and the console. Everything that an agent or its owner wrote is cut: labels are
short by their format, messages are shown by their beginnings.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from agents.credentials.keys import text_of
from agents.waits import Accept, Call, Go, GoAt, Wait
from docking.residents.berth import Berth
from docking.residents.queries import Queries
from docking.residents.residents import Residents

# Messages of an inbox that are shown, and characters of each.
SHOWN_MESSAGES, MESSAGE_CHARS = 50, 500
SHOWN_CAPABILITIES = 100


def portrait(here: Residents, queries: Queries, agent: bytes) -> dict[str, object]:
    """What is known of an agent: its row, and more where it is here. Raises `UnknownAgent`."""
    found = queries.row(agent)
    berth, journey = here.berths.get(agent), queries.journey(agent)
    if journey is not None:
        found |= {"owner": journey.owner.text, "launched": journey.launched, "expires": journey.expires}
        found["home"] = here.name
    return found if berth is None else {**found, **_resident(here, berth)}


def _resident(here: Residents, berth: Berth) -> dict[str, object]:
    body = berth.credentials.passport.body
    used, before = berth.used, berth.credentials.point.used
    terms, here_granted = berth.credentials.terms, berth.grant.budget
    budget = [
        {
            "name": name,
            "used": getattr(before, name) + getattr(used, name)
            if name != "memory"
            else max(before.memory, used.memory),
            "permit": getattr(terms.budget, name),
            "here": getattr(used, name),
            "granted": getattr(here_granted, name),
        }
        for name in ("cpu", "memory", "carried", "messages")
    ]
    return {
        "owner": body.owner.text,
        "home": here.peers.label(body.home.station) if body.home.station != here.key.public else here.name,
        "expires": terms.expires,
        "lease": terms.lease,
        "hops": terms.hops,
        "image": text_of(berth.image.digest),
        "program": berth.image.manifest.name[:200],
        "language": berth.image.manifest.language[:50],
        "capabilities": list(berth.grant.capabilities)[:SHOWN_CAPABILITIES],
        "budget": budget,
        "waits": "" if berth.wait is None else _waits(berth.wait),
        "until": berth.until,
        "order": "" if berth.order is None else berth.order.value,
        "unread": len(berth.inbox),
        "inbox": [_message(each.sender, each.body) for each in islice(berth.inbox, SHOWN_MESSAGES)],
    }


def _waits(wait: Wait) -> str:
    """What it waits for, in a few words."""
    match wait:
        case Go(host) | GoAt(host):
            return f"to go to {host[:200]}"
        case Call(service):
            return f"for the service {service[:200]}"
        case Accept():
            return "for requests of clients"
    words = {"Sleep": "for the time to pass", "Recv": "for a message", "Clone": "for its clone"}
    name = type(wait).__name__
    return words.get(name, f"for {name.lower()}")


def _message(sender: str, body: bytes) -> dict[str, Any]:
    text = body[: 4 * MESSAGE_CHARS].decode("utf-8", "replace")[:MESSAGE_CHARS]
    return {"from": sender[:200], "bytes": len(body), "text": text}
