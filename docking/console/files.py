"""The page of the console: HTML, style, modules and icon, as they are in the package, read once.

Nothing is built and nothing is loaded from elsewhere. Invariant: only files that are in the folder `static` are served,
by exactly their names.
"""

from __future__ import annotations

from pathlib import Path

from attrs import field, frozen

from agents import canonical
from agents.brief import brief

STATIC = Path(__file__).with_name("static")
INDEX = "index.html"
TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}


@frozen
class File:
    """A file of the page. `tag`: changes when it does."""

    kind: bytes
    body: bytes = field(repr=brief)
    tag: bytes


def page_files() -> dict[str, File]:
    """The files by their names."""
    found = {}
    for path in sorted(STATIC.iterdir()):
        if path.suffix in TYPES:
            body = path.read_bytes()
            tag = b'"' + canonical.digest(body).hex()[:16].encode() + b'"'
            found[path.name] = File(TYPES[path.suffix], body, tag)
    return found
