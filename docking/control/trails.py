"""The trail of an agent for people: its visits with their durations, each signature with its verdict, its results.

Made of the capsule alone, as the end of a request `capsule` has it; nothing is believed that does not verify. Used by
`portcall trail` and the console.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.audit import Audit
from agents.capsule import Capsule
from agents.credentials import envelope
from agents.credentials.keys import PublicKey, text_of
from agents.credentials.passport import verify_passport
from agents.credentials.results import ReportEntry
from agents.credentials.trail import follow
from agents.credentials.trailpoint import launch_point
from agents.credentials.upgrades import read_upgrade
from agents.credentials.visits import Visit
from agents.errors import CredentialError

Names = Mapping[str, str]
"""Names of stations by their whole keys; others are shown by their ids."""


def named(key: PublicKey, names: Names) -> str:
    """The name of a station, or the id of its key."""
    return names.get(key.text, key.id)


def visits_of(audit: Audit, names: Names) -> list[dict[str, Any]]:
    """The visits of an audited trail. Times: ms, by the clock of each station."""
    return [
        {
            "visit": visit.index,
            "station": named(visit.station, names),
            "key": visit.station.text,
            "arrived": visit.arrived,
            "departed": visit.departed,
            "cpu_us": visit.used.cpu,
            "carried": visit.used.carried,
            "results": visit.results.count,
            "next": None if visit.next is None else named(visit.next, names),
        }
        for visit in audit.visits
        if isinstance(visit, Visit)
    ]


def upgrades_of(audit: Audit, names: Names) -> list[dict[str, Any]]:
    """When it got new code: during which visit, where, and the digest of its image from then on. Times: ms."""
    return [
        {
            "visit": each.index,
            "station": named(each.station, names),
            "time": each.time,
            "image": text_of(read_upgrade(each.statement)[1].new),
        }
        for each in audit.upgrades
    ]


def signatures_of(capsule: Capsule, names: Names) -> list[dict[str, Any]]:
    """Each signed statement of the passport and the trail, who must have signed it, and whether that holds.

    `holds` is None for those after the first that does not: they stand on it, and are not judged.
    """
    try:
        passport = verify_passport(capsule.passport)
    except CredentialError as error:
        return [{"what": "passport", "by": "its owner", "holds": False, "why": f"{error.code}: {error.reason}"}]
    rows: list[dict[str, Any]] = [_row("passport", f"its owner {passport.body.owner.id}")]
    if capsule.trail.start:
        return rows  # the beginning is not here: the audit as a whole has judged the rest
    point = launch_point(passport)
    for number, link in enumerate(capsule.trail.links):
        kind, by = "statement", point.holder
        try:
            kind = envelope.look(link).kind
            by = point.source if kind == "commit" else point.holder
            point, signed = follow(point, link)
        except CredentialError as error:
            rows.append(_row(kind, named(by, names), False, f"{error.code}: {error.reason}"))
            rows += [_row("statement", "", None) for _ in capsule.trail.links[number + 1 :]]
            break
        visit = getattr(signed.body, "index", point.index - 1)
        rows.append({**_row(kind, named(signed.signer, names)), "visit": visit})
    return rows


def _row(what: str, by: str, holds: bool | None = True, why: str = "") -> dict[str, Any]:
    return {"what": what, "by": by, "holds": holds, "why": why}


def entries_of(capsule: Capsule, names: Names) -> list[dict[str, Any]]:
    """The results in a capsule, still sealed: where and when each was reported, and its size in bytes."""
    found = []
    for data in capsule.results.entries[1 if capsule.results.start == 0 else 0 :]:
        try:
            body = envelope.verify(ReportEntry, data).body
        except CredentialError:
            break
        found.append(
            {"visit": body.index, "station": named(body.station, names), "time": body.time, "bytes": len(body.sealed)}
        )
    return found
