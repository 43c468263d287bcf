"""What an act shows: lines for people, as it happens, and the same as values for programs.

An act calls `title`, `say`, `code`, `table` and `holds`; between two of its steps it calls `pause`, which waits for
Enter where a person watches. Invariant: a claim that does not hold ends the act with `LessonFailed`; no act goes on
as if it did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import define, field

from docking.errors import StationError

BOLD, DIM, GREEN = "1", "2", "32"


class LessonFailed(StationError):
    """Something that an act shows was not so: a fault of Portcall, or a machine on which it cannot be shown."""


def nowhere(text: str) -> None:
    """Shows nothing."""


def at_once() -> None:
    """Waits for nobody."""


@define(eq=False, repr=False)
class Stage:
    """Where an act is shown.

    write: called with each line
    pause: called between two steps; waits until the reader wants to go on
    colour: whether lines may be in colour
    steps: what was shown, as values: `{"kind": "title" | "say" | "code" | "table" | "holds", ...}`
    """

    write: Callable[[str], None] = nowhere
    pause: Callable[[], None] = at_once
    colour: bool = False
    steps: list[dict[str, Any]] = field(factory=list)

    def paint(self, text: str, *codes: str) -> str:
        """`text` in colours, if colours are on."""
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self.colour and text else text

    def title(self, text: str) -> None:
        """The heading of a step, after an empty line."""
        if self.steps:
            self.write("")
        self.steps.append({"kind": "title", "text": text})
        self.write(self.paint(text, BOLD))

    def say(self, text: str) -> None:
        """A sentence."""
        self.steps.append({"kind": "say", "text": text})
        self.write(text)

    def code(self, text: str, at: int | None = None) -> None:
        """A program, or its stack; an arrow points to the line `at`, from 1."""
        lines = text.rstrip("\n").split("\n")
        self.steps.append({"kind": "code", "text": text, "line": at})
        for number, line in enumerate(lines, 1):
            shown = f"{'->' if number == at else '  '}  {line}".rstrip()
            self.write(self.paint(shown, BOLD) if number == at else shown)

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Columns under headings."""
        shown = [[str(cell) for cell in row] for row in rows]
        self.steps.append({"kind": "table", "rows": [dict(zip(headings, row, strict=True)) for row in shown]})
        self._columns(headings, shown)

    def row(self, headings: Sequence[str], widths: Sequence[int], cells: Sequence[object], first: bool) -> None:
        """One row of a table that is shown while it grows; `first`: with its headings."""
        shown = [str(cell) for cell in cells]
        if first:
            self.steps.append({"kind": "table", "rows": []})
            self.write("  " + self.paint(_line(headings, widths), DIM))
        self.steps[-1]["rows"].append(dict(zip(headings, shown, strict=True)))
        self.write("  " + _line(shown, widths))

    def _columns(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
        self.write("  " + self.paint(_line(headings, widths), DIM))
        for row in rows:
            self.write("  " + _line(row, widths))

    def holds(self, text: str, so: bool) -> None:
        """A claim that was checked. Raises `LessonFailed` if it is not so."""
        self.steps.append({"kind": "holds", "text": text, "so": so})
        if not so:
            raise LessonFailed(f"this does not hold here: {text}")
        self.write(f"{self.paint('ok', GREEN, BOLD)}  {text}")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
