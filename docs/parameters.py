"""A docstring as Markdown: in the code a parameter has a line, `name: what it is`; on a page they are a list."""

from __future__ import annotations

import re

LINE = re.compile(r"^((?:`?[a-z_]\w*`?(?:\(\w*\))?)(?:, `?\w+`?)*): (.*)$")


def listed(text: str) -> str:
    """A docstring as Markdown: paragraphs of `name: ...` lines as lists."""
    return "\n\n".join(map(_paragraph, text.split("\n\n")))


def _paragraph(text: str) -> str:
    lines = text.split("\n")
    if not LINE.match(lines[0]) or text.startswith("    "):
        return text
    found: list[str] = []
    for line in lines:
        match = LINE.match(line)
        if match is not None:
            names = ", ".join(f"`{name.strip('` ')}`" for name in match[1].split(","))
            found.append(f"- {names}: {match[2]}")
        else:
            found.append(f"    {line.strip()}")
    return "\n".join(found)
