"""A journey in a file: trail, image and records, to be looked at without any station.

    ["portcall journey", 1, {1: capsule, 2: image, 3: {key: name of a station}, 4: [records], 5: {visit: why missing}}]

It holds what the agent was told, in the clear: it is as secret as the agent is. Invariant: reading raises `BadRecord`
or `CredentialError` for everything that `write_journey` does not write.
"""

from __future__ import annotations

from typing import Any

from agents import canonical
from agents.capsule import Capsule
from agents.credentials.fields import COUNT, array, byte_string, uint
from agents.engines import Engine
from agents.errors import BadRecord, NotCanonical
from agents.image import AgentImage
from docking.recordings.record import MAX_STAY_BYTES, StayRecord
from docking.replay.journey import Journey

FORMAT, VERSION = "portcall journey", 1
MAX_FILE_BYTES = 1 << 30
MAX_RECORDS = 20_000
MAX_IMAGES = 100  # of one agent, after each other
_BOUNDS = canonical.DecodeBounds(MAX_FILE_BYTES, 4, 200_000)
# How such a file begins: what an array of three begins with, and the format's name.
FILE_MAGIC = canonical.encode([FORMAT])[1:]


def is_journey(data: bytes) -> bool:
    """Whether these bytes are such a file."""
    return data[1 : 1 + len(FILE_MAGIC)] == FILE_MAGIC


def write_journey(journey: Journey) -> bytes:
    """A journey as the contents of a file."""
    why = {stay.visit: stay.missing for stay in journey.stays if stay.missing}
    values: dict[int, Any] = {
        1: journey.capsule.encode(),
        2: journey.image.encode(),
        3: dict(journey.names),
        4: [journey.records[visit].encode() for visit in sorted(journey.records)],
        5: why,
    }
    others = [each.encode() for each in journey.images.values() if each.digest != journey.image.digest]
    if others:
        values[6] = others
    return canonical.encode([FORMAT, VERSION, values])


def read_journey(data: bytes, now: int, engine: Engine | None = None, clocks: bool = False) -> Journey:
    """The inverse of `write_journey`.

    data: contents of the file
    now: ms since 1970
    engine, clocks: see `Journey`

    Raises `BadRecord`, `CredentialError`, `FormatError`.
    """
    try:
        name, version, values = array(canonical.decode(data, _BOUNDS), "journey", 3)
        if name != FORMAT or type(version) is not int or version != VERSION or not isinstance(values, dict):
            raise BadRecord("not a journey, or of another version")
        if list(values) not in ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]):
            raise BadRecord("a journey with other fields")
        if not isinstance(values[3], dict) or not isinstance(values[5], dict):
            raise BadRecord("a journey with other fields")
        names = {str(key)[:100]: str(each)[:100] for key, each in values[3].items()}
        why = {uint(visit, "visit", COUNT): str(each)[:300] for visit, each in values[5].items()}
        capsule = Capsule.decode(byte_string(values[1], "capsule", 1, MAX_FILE_BYTES))
        image = AgentImage.unpack(byte_string(values[2], "image", 1, MAX_FILE_BYTES))
        others = array(values.get(6, []), "images", MAX_IMAGES)
        upgrades = [AgentImage.decode(byte_string(each, "image", 1, MAX_FILE_BYTES)) for each in others]
        rows = array(values[4], "records", MAX_RECORDS)
        records = [StayRecord.decode(byte_string(row, "record", 1, MAX_STAY_BYTES)) for row in rows]
    except (NotCanonical, ValueError, TypeError) as error:
        raise BadRecord(f"not a journey: {error}") from None
    return Journey(
        capsule,
        image,
        records,
        names=names,
        why_missing=why,
        engine=engine,
        clocks=clocks,
        now=now,
        upgrades=upgrades,
    )


__all__ = ["MAX_FILE_BYTES", "is_journey", "read_journey", "write_journey"]
