"""Journeys that are looked at again in the console, step by step, from what its stations have recorded.

Not here: what a journey is (`docking.replay`). To show a step, the agent's code is run again, sandboxed as ever, in a
thread, one at a time. Invariants: few journeys are open at once, and each is closed in the end; of the records of one
journey so many bytes are read; who comes while others wait is sent away.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from attrs import define, field

from agents.capsule import Capsule
from agents.credentials.keys import PublicKey, bytes_of
from agents.credentials.passport import verify_passport
from agents.credentials.upgrades import images_in
from agents.errors import PortcallError
from agents.image import AgentImage
from docking.aio.threads import in_thread
from docking.console.access import Denied
from docking.console.roster import Asked
from docking.errors import StationError
from docking.recordings.record import StayRecord
from docking.recordings.reel import Summary
from docking.replay.gathering import gather, visited
from docking.replay.journey import Journey

# Journeys that are open, and requests that wait for a step.
MAX_OPEN, MAX_WAITING = 2, 4
MAX_STAYS, MAX_RECORD_BYTES = 200, 128 << 20
# Steps that are listed around the one that is shown, and characters of each text.
AROUND, MAX_CHARS = 4, 300
MAX_IMAGES = 16  # of one agent, that are fetched
MAX_FRAMES = 50
_WHY = "it is at none of the stations of this console: portcall replay asks others, with the owner's key"


@define(eq=False, repr=False)
class Rewinds:
    """The journeys that are open in one console."""

    _stations: Sequence[Asked]
    _open: OrderedDict[str, Journey] = field(factory=OrderedDict)
    _turn: asyncio.Lock = field(factory=asyncio.Lock)
    _waiting: int = 0
    _closing: bool = False

    async def look(self, ident: str, found: dict[str, Any] | None, step: int) -> dict[str, Any]:
        """A step of an agent's journey.

        found: the answer to `capsule`, to read the journey anew; None to go on with the one that is open
        step: its index; the last for -1

        Raises `Denied`, `PortcallError`.
        """
        if self._waiting >= MAX_WAITING:
            raise Denied(503, "others look at journeys again: try again", 3)
        self._waiting += 1
        try:
            async with self._turn:
                if found is not None:
                    await self._read(ident, found)
                journey = self._open.get(ident)
                if journey is None:
                    raise Denied(409, "the journey is not open any more: read it again")
                self._open.move_to_end(ident)
                return await in_thread(_told, journey, step)
        finally:
            self._waiting -= 1
            if self._closing:
                self.close()

    def close(self) -> None:
        """Close all of them; at once, or when the step that is being made is there."""
        self._closing = self._turn.locked()
        while self._open and not self._closing:
            self._open.popitem()[1].close()

    async def _read(self, ident: str, found: dict[str, Any]) -> None:
        agent, capsule = bytes_of(found["agent"]), Capsule.decode(found["capsule"])
        digests = images_in(verify_passport(capsule.passport).body, capsule.trail.links)[:MAX_IMAGES]
        images, room = dict[bytes, bytes](), MAX_RECORD_BYTES
        kept: dict[PublicKey, dict[int, bytes]] = {}
        for station in self._stations:
            try:
                requests = station.requests()
                for digest in digests:
                    images[digest] = images.get(digest) or await _end(requests.answer("image", digest=digest))
                visits = []
                async for kind, value in requests.answer("recordings", agent=found["agent"]):
                    if kind == "item":
                        visits.append(Summary.of(value).visit)
                    else:
                        mine = kept.setdefault(PublicKey(_bytes(value, "key")), {})
                for visit in visits[-MAX_STAYS:]:
                    data = await _end(requests.answer("recording", agent=agent, visit=visit))
                    room -= len(data)
                    if data and room >= 0:
                        mine[visit] = data
            except StationError:
                continue  # it does not run, or does not know the agent
        if not images.get(digests[0]):
            raise StationError("the agent's image is at none of these stations")
        if not any(kept.values()):
            raise StationError("nothing of its journey was recorded: portcall station --record MIB, or [recordings]")
        names = found["names"]
        had = [images[each] for each in digests if images[each]]
        made = await in_thread(_journey, agent, capsule, had, kept, names)
        old = self._open.pop(ident, None)
        if old is not None:
            old.close()
        self._open[ident] = made
        while len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)[1].close()


def _journey(
    agent: bytes, capsule: Capsule, images: list[bytes], kept: dict[PublicKey, dict[int, bytes]], names: dict[str, str]
) -> Journey:
    own = {
        key: lambda visit, mine=mine: StayRecord.decode(mine[visit]) if visit in mine else None
        for key, mine in kept.items()
    }
    gathered = gather(agent, visited(capsule), own, None, _WHY)
    records, now = list(gathered.records.values()), time.time_ns() // 1_000_000
    first, *upgrades = map(AgentImage.unpack, images)
    return Journey(capsule, first, records, names=names, why_missing=gathered.missing, now=now, upgrades=upgrades)


def _told(journey: Journey, wanted: int) -> dict[str, Any]:
    """A step: the state there, and what changed since the one before."""
    total = len(journey.steps)
    index = min(max(wanted if wanted >= 0 else total + wanted, 0), total - 1)
    step = journey.steps[index]
    try:
        moment, changes = journey.state(index), journey.changes(index)
    except PortcallError as error:
        raise StationError(f"this step cannot be shown: {error}") from error
    around = journey.steps[max(index - AROUND, 0) : index + AROUND + 1]
    stay = next(each for each in journey.stays if each.first <= index <= each.last)
    value = changes.value()
    return {
        "steps": total,
        "index": index,
        "station": step.station[:MAX_CHARS],
        "line": step.line()[:MAX_CHARS],
        "around": [{"index": each.index, "line": each.line()[:MAX_CHARS]} for each in around],
        "stays": [
            {"station": each.station, "first": each.first, "missing": each.missing[:MAX_CHARS]}
            for each in journey.stays[-MAX_STAYS:]
        ],
        "notes": [note[:MAX_CHARS] for note in (*stay.notes, moment.note) if note],
        "waits": moment.waits[:MAX_CHARS],
        "memory": sum(moment.memory),
        "stack": moment.stack.cut(MAX_FRAMES).value(),
        "sources": journey.sources(index),
        "changes": {
            **{name: value[name][:20] for name in ("variables", "entered", "left", "results")},
            "files": dict(list(value["files"].items())[:20]),
            "memory_bytes": value["memory_bytes"],
            "grown": value["grown"],
        },
    }


async def _end(answer: Any) -> bytes:
    found = b""
    async for kind, value in answer:
        if kind == "end" and isinstance(value, bytes):
            found = value
    return found


def _bytes(value: object, name: str) -> bytes:
    return bytes(value[name]) if isinstance(value, dict) else b""
