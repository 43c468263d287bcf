"""The demonstration's output: one line per event, each station in its own colour.

Only text and colours. No colours if the output is not a terminal, or `NO_COLOR` is set.
"""

from __future__ import annotations

import os
import time
from typing import Any, TextIO

from docking.cli.output import plain

_COLOURS = {"alpha": "36", "beta": "33", "gamma": "35"}
_BOLD, _DIM, _GREEN, _RED = "1", "2", "32", "31"


class Show:
    """The output. `began`: seconds, from which times are counted."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._colour = out.isatty() and "NO_COLOR" not in os.environ
        self.began = time.time()
        self._left: dict[str, int] = {}

    def paint(self, text: str, *codes: str) -> str:
        """`text` in colours, if colours are on."""
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self._colour else text

    def say(self, text: str = "") -> None:
        """Print a line of the conductor."""
        self._out.write(text + "\n")
        self._out.flush()

    def title(self, text: str) -> None:
        """Print the heading of a part."""
        self.say(self.paint(text, _BOLD))

    def line(self, station: str, mark: str, text: str, when: int | None = None) -> None:
        """Print a line about a station. `when`: ms since 1970."""
        seconds = (time.time() if when is None else when / 1000) - self.began
        clock = self.paint(f"{max(0.0, seconds):6.2f} s", _DIM)
        name = self.paint(f"{station:<6}", _COLOURS.get(station, _BOLD), _BOLD)
        self.say(f"{clock}  {name} {mark} {text}")

    def event(self, station: str, event: dict[str, Any]) -> None:
        """Print an event at a station."""
        kind, place, text = event["kind"], event["place"], plain(event["text"])
        when = event["time"]
        if kind == "launched":
            self.line(station, "*", self.paint(f"the agent {event['label']} begins its journey here", _BOLD), when)
        elif kind == "log":
            self.line(station, "|", text, when)
        elif kind == "call":
            failed = f": {text}" if text else ""
            self.line(station, "?", self.paint(f"it calls the service {place}{failed}", _DIM), when)
        elif kind == "leaving":
            self._left[event["agent"]] = when
            if place == station:
                return
            self.line(station, ">", self.paint(f"go({place!r}) in the middle of its loop", _DIM), when)
        elif kind == "arrived":
            took = when - self._left.get(event["agent"], when)
            word = self.paint(f"arrived from {place}, {took} ms after it said go", _BOLD)
            self.line(station, "<", f"{word}: signed, sealed, checked, stored", when)
        elif kind == "finished":
            self.line(station, "=", self.paint("the agent has ended; its whole trail is home", _BOLD), when)
        elif kind in ("refused", "stopped", "alarm"):
            self.line(station, "!", self.paint(f"{kind}: {text}", _RED), when)

    def good(self, text: str) -> None:
        """Print a check that passed."""
        self.say(f"{self.paint('ok', _GREEN, _BOLD)}  {text}")

    def table(self, headings: list[str], rows: list[list[str]]) -> None:
        """Print columns under headings."""
        shown = [[plain(cell) for cell in row] for row in rows]
        widths = [max(len(heading), *(len(row[i]) for row in shown)) for i, heading in enumerate(headings)]
        head = "  ".join(heading.ljust(width) for heading, width in zip(headings, widths, strict=True))
        self.say("    " + self.paint(head.rstrip(), _DIM))
        for row in shown:
            self.say("    " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
