"""What the console's page is told, and what is done for it: the requests of the commands, put together for one look.

Nothing is found out here that a command could not (`docking.control.requests`). Invariants: an agent is named by its
whole id; what takes long (verifying a trail, reading a stack) runs in a thread, and only so often at once; what an
agent wrote is cut, and goes out as JSON text, never as markup.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from attrs import define, field

from agents import audit as auditing
from agents.capsule import Capsule
from agents.credentials.keys import SecretKey
from agents.errors import PortcallError
from docking.aio.threads import in_thread
from docking.console.access import Denied
from docking.console.rewinds import Rewinds
from docking.console.roster import FRESH_S, FRESH_TIMES, Asked, Roster
from docking.control.trails import entries_of, signatures_of, visits_of
from docking.errors import StationError, UnknownAgent

# Visits, signatures, results and lines that are told of one agent: the latest.
MAX_VISITS, MAX_SIGNATURES, MAX_RESULTS, MAX_LINES = 300, 300, 200, 300
MAX_CHARS, MAX_RESULT_CHARS = 1000, 4000
# Of all requests of one console: trails and stacks that are read, and orders that are carried out, at once.
READ_AT_ONCE, DONE_AT_ONCE = 2, 8
KEPT_JOURNEYS = 16
ORDERS = ("sleep", "wake", "retract", "dispose", "clone")
MAX_STATIONS = 256
_AGENT = re.compile(r"[a-z2-7]{52}\Z")
_STATION = re.compile(r"[ -~]{1,200}\Z")


@define(eq=False, repr=False)
class Answers:
    """The answers of one console. `owners`: keys that open results."""

    _stations: Sequence[Asked]
    roster: Roster
    rewinds: Rewinds
    _owners: Sequence[SecretKey]
    _reading: asyncio.Semaphore = field(factory=lambda: asyncio.Semaphore(READ_AT_ONCE))
    _doing: int = 0
    # When each was asked for and until when it is good, in seconds, and what was told.
    _judged: OrderedDict[str, tuple[float, float, dict[str, Any]]] = field(factory=OrderedDict)

    async def overview(self) -> dict[str, Any]:
        """The stations, and the agents at them."""
        places = await self.roster.places()
        stations: dict[str, dict[str, Any]] = {}
        doubts = []
        for each in self._stations:
            try:
                status = await self._end(each, "status")
                peers = [item async for item in self._items(each, "stations")]
                async for doubt in self._items(each, "doubts"):
                    if doubt["doubt"]:
                        doubts.append({"at": each.name, **doubt})
            except StationError:
                stations[each.name] = {"name": each.name, "own": True, "present": False}
                continue
            stations[each.name] = {**status, "own": True, "present": True}
            for peer in peers:
                if "refused" not in peer and len(stations) < MAX_STATIONS:
                    stations.setdefault(peer["name"], {**peer, "own": False})
        for name, place in places.items():
            if name in stations:
                stations[name].update(place)
            elif len(stations) < MAX_STATIONS and _travelling(place):
                stations[name] = {"name": name, "own": False, "present": False, **place}
        return {
            "stations": sorted(stations.values(), key=lambda each: (not each["own"], each["name"])),
            "doubts": doubts[:MAX_STATIONS],
            "now": _now(),
            **self.roster.age(),
        }

    async def agent(self, ident: str) -> dict[str, Any]:
        """All that is shown of one agent at once, without its trail and its stack."""
        found = await self._first(ident, "agent")
        lines = await self._lines(ident)
        return {**found, "log": lines, "now": _now(), "opens": bool(self._owners)}

    async def journey(self, ident: str) -> dict[str, Any]:
        """Its visits, the verdict on each signature, its results.

        A trail of thousands of signatures takes seconds, and a page asks after each hop: an answer is good for some
        time, as the rows of the roster are.
        """
        async with self._reading:
            known = self._judged.get(ident)
            if known is None or known[1] <= time.monotonic():
                began = time.monotonic()
                told = await in_thread(self._audited, await self._first(ident, "capsule"))
                now = time.monotonic()
                known = (began, now + max(FRESH_S, FRESH_TIMES * (now - began)), told)
                self._judged[ident] = known
                self._judged.move_to_end(ident)
                while len(self._judged) > KEPT_JOURNEYS:
                    self._judged.popitem(last=False)
        began, until, told = known
        now = time.monotonic()
        return {**told, "age_ms": round(1000 * (now - began)), "again_ms": max(round(1000 * (until - now)), 0)}

    def _audited(self, found: dict[str, Any]) -> dict[str, Any]:
        names, capsule = found["names"], Capsule.decode(found["capsule"])
        audit = auditing.audit(capsule)
        visits = visits_of(audit, names)
        signatures = signatures_of(capsule, names)
        entries = entries_of(capsule, names)
        opened = self._opened(capsule, audit, names) if audit.code is None else None
        return {
            "agent": found["agent"],
            "holds": audit.code is None,
            "code": audit.code or "",
            "reason": (audit.reason or "")[:MAX_CHARS],
            "checks": [{"name": name, "holds": verdict} for name, verdict in audit.checks],
            "ended": audit.ended,
            "whole": audit.whole,
            "visits": visits[-MAX_VISITS:],
            "earlier_visits": max(len(visits) - MAX_VISITS, 0),
            "signatures": signatures[-MAX_SIGNATURES:],
            "earlier_signatures": max(len(signatures) - MAX_SIGNATURES, 0),
            "results": (entries if opened is None else opened)[-MAX_RESULTS:],
            "result_count": len(entries),
            "opened": opened is not None,
        }

    def _opened(self, capsule: Capsule, audit: auditing.Audit, names: dict[str, str]) -> list[dict[str, Any]] | None:
        """The results, opened; None without the key of their owner."""
        wanted = None if audit.passport is None else audit.passport.results
        key = next((each for each in self._owners if each.public.box() == wanted), None)
        if key is None:
            return None
        return [
            {
                "visit": report.entry.index,
                "station": names.get(report.entry.station.text, report.entry.station.id),
                "time": report.entry.time,
                "bytes": len(report.value),
                "key": report.key[:MAX_CHARS],
                "value": report.value[: 4 * MAX_RESULT_CHARS].decode("utf-8", "backslashreplace")[:MAX_RESULT_CHARS],
            }
            for report in auditing.reports(capsule, key.box())[-MAX_RESULTS:]
        ]

    async def stack(self, ident: str) -> dict[str, Any]:
        """Its stack, with the sources of its files."""
        async with self._reading:
            return await self._first(ident, "stack", sources=True)

    async def rewind(self, ident: str, step: int, again: bool) -> dict[str, Any]:
        """A step of its journey, as its stations have recorded it. `again`: read the records first."""
        found = await self._first(ident, "capsule") if again else None
        return await self.rewinds.look(ident, found, step)

    async def _lines(self, ident: str) -> list[dict[str, Any]]:
        """What it has printed at these stations."""
        found: list[dict[str, Any]] = []
        for each in self._stations:
            try:
                found += [{"station": each.name, **item} async for item in self._items(each, "logs", agent=ident)]
            except PortcallError:
                continue
        found.sort(key=lambda line: int(line["time"]))
        return [{**line, "text": str(line["text"])[:MAX_CHARS]} for line in found[-MAX_LINES:]]

    async def order(self, ident: str, what: object) -> dict[str, Any]:
        """Carry out an order."""
        if what not in ORDERS:
            raise Denied(400, "there is no such order")
        return await self._done(ident, "order", what=what)

    async def move(self, ident: str, to: object, on_timeout: object = "cancel") -> dict[str, Any]:
        """Move an agent while it runs."""
        if not isinstance(to, str) or not _STATION.match(to):
            raise Denied(400, "say the name of the station, next or home")
        if on_timeout not in ("cancel", "force", "post-copy"):
            raise Denied(400, "on_timeout is cancel, force or post-copy")
        return await self._done(ident, "move", to=to, on_timeout=on_timeout)

    async def _done(self, ident: str, request: str, /, **arguments: object) -> dict[str, Any]:
        if self._doing >= DONE_AT_ONCE:
            raise Denied(503, "so much is being done already: try again", 5)
        self._doing += 1
        try:
            return await self._first(ident, request, **arguments)
        finally:
            self._doing -= 1
            self.roster.forget()

    async def _first(self, ident: str, request: str, /, **arguments: object) -> dict[str, Any]:
        """The answer of the station that knows the agent best. Raises `PortcallError`, `Denied`."""
        if not _AGENT.match(ident):
            raise Denied(404, "an agent has an id of 52 letters and digits")
        problem: PortcallError = UnknownAgent("no agent with this id is known here")
        for station in await self._knowing(ident):
            try:
                return await self._end(station, request, agent=ident, **arguments)
            except UnknownAgent as error:
                problem = error
            except StationError as error:
                if request not in ("agent", "capsule"):
                    raise  # it is done at one station, or nowhere
                problem = error
        raise problem

    async def _knowing(self, ident: str) -> list[Asked]:
        row = (await self.roster.rows()).get(ident)
        best = "" if row is None else row["by"]
        return sorted(self._stations, key=lambda each: each.name != best)

    @staticmethod
    async def _items(station: Asked, request: str, /, **arguments: object) -> Any:
        async for kind, value in station.requests().answer(request, **arguments):
            if kind == "item":
                yield value

    @staticmethod
    async def _end(station: Asked, request: str, /, **arguments: object) -> dict[str, Any]:
        end: Any = {}
        async for kind, value in station.requests().answer(request, **arguments):
            if kind == "end":
                end = value
        return dict(end)


def _travelling(place: dict[str, Any]) -> bool:
    return bool(place["some"])


def _now() -> int:
    return time.time_ns() // 1_000_000
