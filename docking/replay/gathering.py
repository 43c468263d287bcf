"""Brings together what stations kept of a journey: of the user's own stations, and of others, for the agent's owner.

Invariants: a stay is asked for at the station that signed it, and nowhere else; what cannot be had is said why, and
keeps nothing else from being shown; as much is taken as fits into `MAX_GATHERED_BYTES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from attrs import define, field

from agents.capsule import Capsule
from agents.credentials import envelope
from agents.credentials.keys import PublicKey
from agents.credentials.passport import verify_passport
from agents.credentials.visits import Visit
from agents.errors import BadRecord, CredentialError, PortcallError
from docking.recordings.record import StayRecord
from docking.recordings.requests import Owner

MAX_GATHERED_BYTES = 1 << 30


@define(eq=False, repr=False)
class Gathered:
    """What was found. `missing`: why the rest was not, by visit."""

    records: dict[int, StayRecord] = field(factory=dict)
    missing: dict[int, str] = field(factory=dict)
    size: int = 0

    def add(self, record: StayRecord) -> None:
        """Take a record, if there is room."""
        self.size += len(record.state) + len(record.tape)
        if self.size > MAX_GATHERED_BYTES:
            self.missing[record.visit] = f"more than {MAX_GATHERED_BYTES >> 20} MiB were kept of this journey"
        else:
            self.records[record.visit] = record


def visited(capsule: Capsule) -> dict[int, PublicKey]:
    """The stations of a trail, by visit, with the one where the agent went last. Nothing is verified."""
    found: dict[int, PublicKey] = {0: verify_passport(capsule.passport).body.home.station}
    for link in capsule.trail.links:
        if envelope.look(link).kind == Visit.KIND:
            body = envelope.verify(Visit, link).body
            found[body.index] = body.station
            if body.next is not None:
                found[body.index + 1] = body.next
    return found


def gather(
    agent: bytes,
    stations: dict[int, PublicKey],
    own: Mapping[PublicKey, Callable[[int], StayRecord | None]],
    owner: Owner | None,
    said: str = "",
) -> Gathered:
    """What can be had of the stays of an agent.

    agent: its id
    stations: where it was, by visit
    own: the stations of this user: what they kept of a visit
    owner: asks the other ones; None where the owner's key is not here
    said: why the other ones are not asked then
    """
    found = Gathered()
    elsewhere: dict[PublicKey, list[int]] = {}
    for visit, key in sorted(stations.items()):
        if key not in own:
            elsewhere.setdefault(key, []).append(visit)
            continue
        try:
            record = own[key](visit)
        except PortcallError as error:
            found.missing[visit] = str(error)
            continue
        if record is None:
            found.missing[visit] = "this station kept nothing of the stay: --record, or [recordings] of its policy"
        else:
            found.add(record)
    for key, visits in elsewhere.items():
        if owner is None:
            found.missing |= dict.fromkeys(visits, said)
        else:
            _ask(found, agent, key, visits, owner)
    return found


def _ask(found: Gathered, agent: bytes, key: PublicKey, visits: Iterable[int], owner: Owner) -> None:
    try:
        there = {each.visit for each in owner.visits(agent, key)}
    except PortcallError as error:
        found.missing |= dict.fromkeys(visits, _why(error))
        return
    for visit in visits:
        if visit not in there:
            found.missing[visit] = "the station kept nothing of this stay"
            continue
        try:
            record = owner.record(agent, key, visit)
            if record.visit != visit:
                raise BadRecord("the station gives another stay")
            found.add(record)
        except PortcallError as error:
            found.missing[visit] = _why(error)


def _why(error: PortcallError) -> str:
    reason = error.reason if isinstance(error, CredentialError) else str(error)
    return f"the station does not give what it kept: {reason}"[:300]
