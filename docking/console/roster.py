"""All agents that the stations of a console know, each once, and how many of them are where.

Ten thousand rows are made at most so often that it takes a twentieth of the time, whoever asks; a page of them is cut
here, so that a browser never gets more than it shows. Invariant: an agent that is at one of these stations is shown as
that station knows it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import define, evolve, field, frozen

from docking.control.requests import Requests
from docking.errors import StationError

Row = dict[str, Any]
# Seconds for which rows are good, at least; and how many times as long as it took to make them.
FRESH_S, FRESH_TIMES = 0.4, 20
MAX_PAGE, MAX_SEARCH_CHARS = 200, 100
SORTS = ("since", "label", "station", "standing", "hop")
KEPT_SEARCHES = 8
# Agents of each station that a map shows one by one.
SHOWN_EACH = 40


@frozen(eq=False, repr=False)
class Asked:
    """A station that can be asked. `requests()`: raises `StationError` while it does not run."""

    name: str
    requests: Callable[[], Requests]


@frozen
class Search:
    """Which agents are asked for. Empty: any."""

    text: str = ""
    station: str = ""
    standing: str = ""
    sort: str = "since"
    offset: int = 0
    limit: int = 100

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Search:
        """What a query string asks for; nonsense is left out."""

        def number(name: str, other: int, most: int) -> int:
            text = query.get(name, "")
            return min(int(text), most) if text.isdecimal() and text.isascii() and len(text) < 10 else other

        sort = query.get("sort", "since")
        return cls(
            text=query.get("q", "").strip().lower()[:MAX_SEARCH_CHARS],
            station=query.get("station", "")[:MAX_SEARCH_CHARS],
            standing=query.get("standing", "")[:MAX_SEARCH_CHARS],
            sort=sort if sort in SORTS else "since",
            offset=number("offset", 0, 10_000_000),
            limit=number("limit", 100, MAX_PAGE),
        )

    def takes(self, row: Row) -> bool:
        """Whether a row is among them."""
        if self.station and row["station"] != self.station:
            return False
        if self.standing and row["standing"] != self.standing:
            return False
        return not self.text or self.text in str(row["label"]).lower() or row["agent"].startswith(self.text)

    def among(self, rows: Iterable[Row]) -> list[Row]:
        """Those that are asked for, in their order."""
        found, key = [row for row in rows if self.takes(row)], self.sort
        if key in ("since", "hop"):
            found.sort(key=lambda row: (-row[key], row["agent"]))
        else:
            found.sort(key=lambda row: (str(row[key]).lower(), row["agent"]))
        return found


@define(eq=False, repr=False)
class Roster:
    """The agents of these stations. `now()`: seconds."""

    _stations: Sequence[Asked]
    _now: Callable[[], float] = time.monotonic
    _rows: dict[str, Row] = field(factory=dict)
    _until: float = 0.0
    _made: float = 0.0
    _found: OrderedDict[Search, list[Row]] = field(factory=OrderedDict)  # of the rows as they are now
    _at: dict[str, dict[str, Any]] | None = None
    _making: asyncio.Task[None] | None = None  # all that ask wait for the same

    async def rows(self) -> dict[str, Row]:
        """The agents by their ids, not older than a moment."""
        if self._making is None and self._now() >= self._until:
            self._making = asyncio.get_running_loop().create_task(self._make())
        if self._making is not None:
            await asyncio.shield(self._making)
        return self._rows

    def forget(self) -> None:
        """Something was done: the next who asks gets new rows."""
        self._until = 0.0

    async def _make(self) -> None:
        began = self._now()
        try:
            found: dict[str, Row] = {}
            for station in self._stations:
                try:
                    answer = station.requests().answer("agents")
                except StationError:
                    continue
                async for kind, row in answer:
                    if kind == "item" and isinstance(row, dict):
                        row["by"] = station.name
                        old = found.get(row["agent"])
                        if old is None or _newer(row, old):
                            found[row["agent"]] = row
            self._rows, self._made = found, began
            self._found.clear()
            self._at = None
        finally:
            self._making = None
            self._until = self._now() + max(FRESH_S, FRESH_TIMES * (self._now() - began))

    async def page(self, search: Search) -> dict[str, Any]:
        """The rows that a search finds, those of its page, and how many there are."""
        rows = await self.rows()
        whole = evolve(search, offset=0, limit=0)
        found = self._found.get(whole)
        if found is None:
            found = self._found[whole] = search.among(rows.values())
            while len(self._found) > KEPT_SEARCHES:
                self._found.popitem(last=False)
        page = found[search.offset : search.offset + search.limit]
        return {"total": len(rows), "found": len(found), "offset": search.offset, "rows": page, **self.age()}

    def age(self) -> dict[str, int]:
        """How old the rows are, and when there will be newer ones: what happened since then is not in them."""
        now = self._now()
        return {"age_ms": round(1000 * (now - self._made)), "again_ms": max(round(1000 * (self._until - now)), 0)}

    async def places(self) -> dict[str, dict[str, Any]]:
        """By the names of stations: how many agents are there, of which standing, and some of them."""
        rows = await self.rows()
        if self._at is None:
            self._at = _places(rows.values())
        return self._at


def _newer(row: Row, old: Row) -> bool:
    """Whether a row says more than another of the same agent: where it is, it is known best."""
    if row["here"] != old["here"]:
        return bool(row["here"])
    return bool(row["hop"] > old["hop"])


def _places(rows: Iterable[Row]) -> dict[str, dict[str, Any]]:
    standings: dict[str, Counter[str]] = {}
    shown: dict[str, list[Row]] = {}
    for row in rows:
        place = row["station"]
        standings.setdefault(place, Counter())[row["standing"]] += 1
        if row["here"] or row["standing"] == "travelling":
            some = shown.setdefault(place, [])
            if len(some) < SHOWN_EACH:
                some.append({name: row[name] for name in ("agent", "label", "standing")})
    return {place: {"standings": dict(counted), "some": shown.get(place, [])} for place, counted in standings.items()}
