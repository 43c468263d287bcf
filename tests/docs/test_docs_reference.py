"""What the hand-written reference pages say in numbers and names is what the code says."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from agents import image, snapshot
from agents.image import AgentImage, Manifest
from agents.snapshot import Snapshot

FILES = Path(__file__).resolve().parents[2] / "docs" / "reference" / "files.md"
MIB, GIB = 1 << 20, 1 << 30


def rows(page: Path) -> dict[str, str]:
    """The first two cells of each row of the page's tables."""
    found = {}
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) >= 2:
            found[cells[0]] = cells[1]
    return found


@pytest.mark.parametrize(
    ("row", "bound", "unit"),
    [
        ("code", image.MAX_CODE, (MIB, "MiB")),
        ("luggage", image.MAX_LUGGAGE, (MIB, "MiB")),
        ("each text of the manifest", image.TEXT_MAX, (1, "bytes")),
        ("a snapshot", snapshot.MAX_BYTES, (GIB, "GiB")),
        ("its WASI state", snapshot.MAX_WASI, (MIB, "MiB")),
        ("memories", snapshot.MAX_MEMORIES, (1, "")),
    ],
)
def test_bounds_of_files(row: str, bound: int, unit: tuple[int, str]) -> None:
    size, name = unit
    assert rows(FILES)[row] == f"{bound // size} {name}".strip()


def test_fields_of_files() -> None:
    named = {name.strip("` ") for row in rows(FILES) for name in row.split(",")}
    assert {field.name for field in attrs.fields(Manifest)} <= named
    assert {field.name for field in attrs.fields(Snapshot)} - {"wasi"} <= named


def test_first_lines_of_files() -> None:
    text = FILES.read_text(encoding="utf-8")
    for magic in (image.IMAGE, image.PACKED, snapshot.MAGIC):
        assert f'"{magic.decode()[:-1]}\\n"' in text
    assert AgentImage(Manifest(), b"").pack().startswith(image.PACKED)
