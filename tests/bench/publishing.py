"""Writes the short tables of the benchmarks between markers of pages: ``<!-- figures: NAME -->`` to ``<!-- end -->``.

Nothing else of a page is touched. A test compares the pages with the results, so that no page says what was not
measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "docs" / "topics" / "performance.md")
MARKED = re.compile(r"(<!-- figures: (\w+) -->\n).*?(\n?<!-- end -->)", re.DOTALL)


def filled(text: str, tables: Mapping[str, str]) -> str:
    """The page with these tables. Raises `KeyError` for a name that no table has."""

    def replace(match: re.Match[str]) -> str:
        table = tables[match[2]]
        return f"{match[1]}\n{table}\n\n<!-- end -->" if table.startswith("|") else f"{match[1]}{table}\n<!-- end -->"

    return MARKED.sub(replace, text)


def publish(tables: Mapping[str, str]) -> list[Path]:
    """Fill all pages; gives those that changed."""
    changed = []
    for path in PAGES:
        before = path.read_text(encoding="utf-8")
        after = filled(before, tables)
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path)
    return changed
