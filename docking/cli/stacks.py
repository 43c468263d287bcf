"""How commands show the stack of a frozen agent: `agents.stack` as plain values, and as text for people."""

from __future__ import annotations

from typing import Any

import click

from agents.stack import Stack
from docking.cli.output import plain, print_fields

_TITLES = {"python": "Python stack", "webassembly": "stack"}


def described_stack(stack: Stack) -> dict[str, Any]:
    """A stack for JSON: its language, its frames with their variables, and the note if there is one."""
    frames = [
        {
            "function": frame.function,
            "file": frame.file,
            "line": frame.line,
            "variables": [{"name": each.name, "value": each.value} for each in frame.variables],
        }
        for frame in stack.frames
    ]
    return {"language": stack.language, "frames": frames, **({"note": stack.note} if stack.note else {})}


def called_at(frame: dict[str, Any]) -> str:
    """What is called, and where it is in the source, if that is known."""
    line = f":{frame['line']}" if frame.get("line") else ""
    return plain(frame["function"]) + (f" at {plain(frame['file'])}{line}" if frame.get("file") else "")


def print_stack(stack: dict[str, Any]) -> None:
    """Print what `described_stack` made."""
    frames = stack["frames"]
    count = f"{len(frames)} {'frame' if len(frames) == 1 else 'frames'}"
    click.echo(f"{_TITLES[stack['language']]}, innermost first ({count})")
    for number, frame in enumerate(frames):
        click.echo(f"  {number}  {called_at(frame)}")
        print_fields(((each["name"], each["value"]) for each in frame["variables"]), indent=7)
    if "note" in stack:
        click.echo(f"  ({plain(stack['note'])})")
