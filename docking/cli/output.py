"""How commands print: plain columns for people, JSON for programs, and nothing that a terminal would obey.

Not the words themselves. Invariant: text that came from elsewhere goes through `plain` before a terminal sees
it, since escape sequences in a name could repaint the screen or type commands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click


def plain(text: str, most: int = 200) -> str:
    """`text` as one printable line of at most `most` characters."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: most + 1])
    return shown if len(text) <= most else f"{shown[: most - 3]}..."


def escaped(text: str) -> str:
    """`text` with what cannot be printed as Python writes it: a value of an agent may be bytes, or have lines."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_json(value: Any) -> None:
    """`value` as JSON, indented, with sorted keys where they have no order of their own."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_fields(fields: Iterable[tuple[str, object]], indent: int = 0) -> None:
    """A name and a value a line, the values in one column."""
    rows = [(name, plain(str(value))) for name, value in fields]
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        click.echo(f"{' ' * indent}{name:<{width}}  {value}".rstrip())


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns under headings; numbers to the right."""
    shown = [[plain(str(cell)) for cell in row] for row in rows]
    columns = list(zip(*shown, strict=True)) or [()] * len(headings)
    right = [bool(column) and all(c.replace(".", "", 1).isdigit() for c in column) for column in columns]
    widths = [max(map(len, (heading, *column))) for heading, column in zip(headings, columns, strict=True)]
    for row in [list(headings), *shown]:
        cells = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
        click.echo("  ".join(cells).rstrip())


def amount(size: int) -> str:
    """A number of bytes for people: 812 B, 1.4 KiB, 64 MiB."""
    value = float(size)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.3g} {unit}" if unit != "B" else f"{size} B"
        value /= 1024
    return f"{value:.3g} GiB"
