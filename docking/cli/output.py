"""How commands print: plain columns for people, JSON for programs, and no control sequences.

Not here: the texts themselves. Invariant: text from elsewhere goes through `plain` before it reaches a terminal, since
escape sequences in a name could repaint the screen or type commands.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click


def plain(text: str, most: int = 200) -> str:
    """`text` as one printable line of at most `most` characters."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: most + 1])
    return shown if len(text) <= most else f"{shown[: most - 3]}..."


def escaped(text: str) -> str:
    """`text` with unprintable characters escaped as in Python: an agent's value may be binary, or several lines."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(text: str, err: bool = True) -> None:
    """Print a line, for a program that must go on when its terminal or pipe has been closed."""
    try:
        click.echo(text, err=err)
    except OSError:
        # The rest of the stream's buffer would fail again when Python exits.
        stream = sys.stderr if err else sys.stdout
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def print_json(value: Any) -> None:
    """Print `value` as indented JSON; keys without an order of their own are sorted."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_fields(fields: Iterable[tuple[str, object]], indent: int = 0) -> None:
    """Print one name and value per line, the values in one column."""
    rows = [(name, plain(str(value))) for name, value in fields]
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        click.echo(f"{' ' * indent}{name:<{width}}  {value}".rstrip())


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print columns under headings, numbers aligned right."""
    shown = [[plain(str(cell)) for cell in row] for row in rows]
    columns = list(zip(*shown, strict=True)) or [()] * len(headings)
    right = [bool(column) and all(c.replace(".", "", 1).isdigit() for c in column) for column in columns]
    widths = [max(map(len, (heading, *column))) for heading, column in zip(headings, columns, strict=True)]
    for row in [list(headings), *shown]:
        cells = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
        click.echo("  ".join(cells).rstrip())


def size_text(size: int) -> str:
    """A number of bytes for people: 812 B, 1.4 KiB, 64 MiB."""
    if size < 1024:
        return f"{size} B"
    value, units = size / 1024, ["GiB", "MiB", "KiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[:-1]
    return f"{value:.3g} {units[-1]}" if value < 999.5 else f"{value:.0f} {units[-1]}"
