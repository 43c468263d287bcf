"""How commands print the stack of a frozen agent, as `agents.stack.Stack.value` has it."""

from __future__ import annotations

from typing import Any

import click

from docking.cli.output import plain, print_fields

_TITLES = {"python": "Python stack", "webassembly": "stack"}


def called_at(frame: dict[str, Any]) -> str:
    """What is called, and where it is in the source, if that is known."""
    line = f":{frame['line']}" if frame.get("line") else ""
    return plain(frame["function"]) + (f" at {plain(frame['file'])}{line}" if frame.get("file") else "")


def print_stack(stack: dict[str, Any]) -> None:
    """Print a stack for people."""
    frames = stack["frames"]
    count = f"{len(frames)} {'frame' if len(frames) == 1 else 'frames'}"
    click.echo(f"{_TITLES[stack['language']]}, innermost first ({count})")
    for number, frame in enumerate(frames):
        click.echo(f"  {number}  {called_at(frame)}")
        print_fields(((each["name"], each["value"]) for each in frame["variables"]), indent=7)
    if stack["note"]:
        click.echo(f"({plain(stack['note'])})")
