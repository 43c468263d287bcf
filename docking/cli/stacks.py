"""How commands show the stack of a frozen agent, as `agents.stack.Stack.value` has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docking.cli.output import plain

_TITLES = {"python": "Python stack", "webassembly": "stack"}


def called_at(frame: dict[str, Any]) -> str:
    """What is called, and where it is in the source, if that is known."""
    line = f":{frame['line']}" if frame.get("line") else ""
    return plain(frame["function"]) + (f" at {plain(frame['file'])}{line}" if frame.get("file") else "")


def stack_lines(stack: dict[str, Any]) -> Iterator[str]:
    """A stack for people, line by line."""
    frames = stack["frames"]
    count = f"{len(frames)} {'frame' if len(frames) == 1 else 'frames'}"
    yield f"{_TITLES[stack['language']]}, innermost first ({count})"
    for number, frame in enumerate(frames):
        yield f"  {number}  {called_at(frame)}"
        rows = [(plain(each["name"]), plain(each["value"])) for each in frame["variables"]]
        width = max((len(name) for name, _ in rows), default=0)
        yield from (f"       {name:<{width}}  {value}".rstrip() for name, value in rows)
    if stack["note"]:
        yield f"({plain(stack['note'])})"
