"""Reads the fenced blocks of a Markdown page, so that a test can run what the page shows.

What a block means:

- a block with `title="trip.py"` is a file: it is written where the page's commands run;
- `console` blocks hold commands after `$ ` (a line that ends with a backslash goes on) and, below each, what
  it prints: `...` alone stands for any lines, inside a line for any text, and where it shows the space between two
  columns, that may be of any width; nothing shown: not compared;
- class `.fails` (```` ```{ .console .fails } ````) says that the block's last command ends with an error;
- class `.again` says that a person would look again if it is not so yet: the block's commands are repeated;
- a `python` block without a title runs as a script, all of a page's such blocks as one;
- class `.part` marks a piece of a file that is shown elsewhere as a whole: the piece must occur in one of the
  page's files or in the file of the repository named by its `title`; it is not run by itself;
- other languages (`text`, `mermaid`, ...) are pictures.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import attrs

FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^`]*)$")
RUNNABLE = {"console", "python"}


@attrs.frozen
class Block:
    """One fenced block: its line in the page (from 1), language, classes, title and text."""

    line: int
    language: str
    classes: frozenset[str]
    title: str | None
    text: str


@attrs.frozen
class Command:
    """One command: its line in the page, what it prints (None: not shown), whether it fails, and may be repeated."""

    line: int
    command: str
    output: tuple[str, ...] | None
    fails: bool
    again: bool


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order. Raises `ValueError` for a block that is never closed."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        match = FENCE.match(lines[at])
        at += 1
        if match is None:
            continue
        start, indent, body = at, len(match["indent"]), []
        closing = re.compile(rf"^ {{0,{indent}}}{match['ticks']}`*\s*$")
        while at < len(lines) and not closing.match(lines[at]):
            body.append(lines[at][indent:])
            at += 1
        if at == len(lines):
            raise ValueError(f"{page}:{start}: this block is never closed")
        at += 1
        language, classes, title = _info(match["info"])
        found.append(Block(start, language, classes, title, "".join(f"{line}\n" for line in body)))
    return found


def _info(info: str) -> tuple[str, frozenset[str], str | None]:
    words = shlex.split(info.replace("{", " ").replace("}", " "))
    classes = [word[1:] for word in words if word.startswith(".")]
    title = next((word[6:] for word in words if word.startswith("title=")), None)
    plain = [word for word in words if not word.startswith(".") and "=" not in word]
    language = plain[0] if plain else (classes.pop(0) if classes else "")
    return language, frozenset(classes), title


def commands(block: Block) -> list[Command]:
    """The commands of a `console` block."""
    found: list[Command] = []
    lines = block.text.splitlines()
    at = 0
    while at < len(lines):
        if not lines[at].startswith("$ "):
            raise ValueError(f"line {block.line + at + 1}: output before the first command")
        line, command = block.line + at + 1, lines[at][2:]
        at += 1
        while command.endswith("\\") and at < len(lines):
            command += "\n" + lines[at].removeprefix("> ")
            at += 1
        start = at
        while at < len(lines) and not lines[at].startswith("$ "):
            at += 1
        output = tuple(text.rstrip() for text in lines[start:at])
        while output and not output[-1]:
            output = output[:-1]
        last = at >= len(lines)
        fails, again = last and "fails" in block.classes, "again" in block.classes
        found.append(Command(line, command, output or None, fails, again))
    return found


def matches(expected: tuple[str, ...], printed: list[str]) -> bool:
    """Whether what was printed is what the page shows, `...` standing for anything."""
    if not expected:
        return not printed
    if expected[0] == "...":
        return any(matches(expected[1:], printed[skip:]) for skip in range(len(printed) + 1))
    if not printed:
        return False
    pattern = ".*".join(_words(piece) for piece in expected[0].split("..."))
    return re.fullmatch(pattern, printed[0].rstrip()) is not None and matches(expected[1:], printed[1:])


def _words(text: str) -> str:
    """A pattern for a piece of a line: how wide a column is depends on what else is in the table."""
    indent = len(text) - len(text.lstrip())
    return " " * indent + " {2,}".join(map(re.escape, re.split(" {2,}", text[indent:])))
