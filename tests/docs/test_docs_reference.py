"""What the hand-written reference pages say in numbers and names is what the code says."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from agents import image, snapshot
from agents.credentials.ways import Way
from agents.errors import WayError
from agents.image import AgentImage, Manifest
from agents.snapshot import Snapshot
from docking.errors import ConfigError
from docking.trust.policy import Policy, read_policy
from tests.credentials.journeys import public

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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
        ("code", image.MAX_CODE_BYTES, (MIB, "MiB")),
        ("luggage", image.MAX_LUGGAGE_BYTES, (MIB, "MiB")),
        ("each text of the manifest", image.MAX_TEXT_BYTES, (1, "bytes")),
        ("a snapshot", snapshot.MAX_SNAPSHOT_BYTES, (GIB, "GiB")),
        ("its WASI state", snapshot.MAX_WASI_BYTES, (MIB, "MiB")),
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
    for magic in (image.IMAGE_MAGIC, image.PACKED_MAGIC, snapshot.SNAPSHOT_MAGIC):
        assert f'"{magic.decode()[:-1]}\\n"' in text
    assert AgentImage(Manifest(), b"").pack().startswith(image.PACKED_MAGIC)


def of_docs(name: str) -> Any:
    """A module of the folder `docs`: what writes pages is in no package."""
    spec = importlib.util.spec_from_file_location(f"{name}_of_docs", FILES.parents[1] / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_what_is_travelled_in_the_diagram_of_ways_is_read() -> None:
    """Only the bounds are not drawn, and where tasks may stand together."""
    random, railway = Random("ways"), of_docs("railway")
    for _ in range(300):
        text = railway.way().walk(random, 0)
        try:
            assert Way.read(str(Way.read(text))) == Way.read(text)
        except WayError as error:
            assert re.search("deeper|more than|names tasks|two stops in a row", error.reason), (text, error)


def test_every_sign_of_ways_is_drawn() -> None:
    text = 'alpha,beta?|{gamma*10,"a,name"},(any|any@me,roam)?,beta<2026-12-01T12:00Z'
    assert str(Way.read(text)) == text
    assert str(Way.read("alpha:count,beta:tell")) == "alpha:count,beta:tell"
    drawn = set(re.findall(r">([^<>]+)</text>", of_docs("railway").draw()))
    assert {",", "|", "?", "*", "(", ")", "{", "}", "any", "any@", "roam", "&lt;", ":"} <= drawn


def policy_page() -> str:
    """The page as the site has it."""
    return str(of_docs("hooks").policy_page())


def test_the_policy_that_is_shown_is_one_and_has_every_default() -> None:
    """The page is made of what stands above the code: it must be readable by it, and say what holds without it."""
    (shown,) = re.findall(r"```toml\n(.*?)```", policy_page(), re.DOTALL)
    tables = tomllib.loads(shown)
    assert set(tables) == known_words("")
    for name, table in tables.items():
        inner = next(iter(table.values())) if name == "directories" else table
        assert set(inner[0] if isinstance(inner, list) else inner) <= known_words(name)
    for name in ("limits", "station", "wasi"):
        assert set(tables[name]) == known_words(name)
        text = "".join(f"{word} = {json.dumps(value)}\n" for word, value in tables[name].items())
        assert read_policy(f"[{name}]\n{text}") == Policy()


def known_words(table: str) -> set[str]:
    """The words that are read there, from the error that an unknown one gives."""
    head = {
        "": "",
        "owner": f'[[owner]]\nkey = "{public("alice").text}"',
        "directories": '[directories.x]\npath = "/x"',
    }
    with pytest.raises(ConfigError, match="absent-word") as caught:
        read_policy(f"{head.get(table, f'[{table}]')}\nabsent-word = 1\n")
    return set(str(caught.value).rpartition("; known are ")[2].split(", "))


def test_every_variable_of_the_environment_is_on_the_page_of_commands() -> None:
    root = FILES.parents[2]
    page = (root / "docs" / "hooks.py").read_text(encoding="utf-8")
    read = set()
    for package in ("agents", "docking"):
        for path in (root / package).rglob("*.py"):
            read |= set(re.findall(r"\bPORTCALL_[A-Z]+\b", path.read_text(encoding="utf-8")))
    assert len(read) >= 3
    assert {name for name in read if f"| `{name}` |" not in page} == set()
