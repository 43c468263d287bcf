"""How commands print the stack of a frozen agent, as `agents.stack.Stack.value` has it."""

from __future__ import annotations

from typing import Any

import click

from docking.cli.output import plain, print_fields

_TITLES = {"python": "Python stack", "webassembly": "stack"}


def print_stack(stack: dict[str, Any]) -> None:
    """Print a stack for people."""
    frames = stack["frames"]
    count = f"{len(frames)} {'frame' if len(frames) == 1 else 'frames'}"
    click.echo(f"{_TITLES[stack['language']]}, innermost first ({count})")
    for number, frame in enumerate(frames):
        place = frame["file"] and f" at {plain(frame['file'])}:{frame['line']}"
        click.echo(f"  {number}  {plain(frame['function'])}{place}")
        print_fields(((each["name"], each["value"]) for each in frame["variables"]), indent=7)
    if stack["note"]:
        click.echo(f"({plain(stack['note'])})")
