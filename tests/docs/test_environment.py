"""What `make` says where it cannot make its environment: the script that all targets begin with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a shell script")


def said(*words: str) -> str:
    """What it says, when it fails, without uv."""
    environment = {**os.environ, "PORTCALL_NO_UV": "1"}
    done = subprocess.run(
        ["sh", str(ROOT / ".ci" / "env"), *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done
    assert done.stderr.startswith("portcall: ")
    return done.stderr


def test_a_python_that_is_too_old_or_not_there(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")  # as the question whether it is new enough ends there
    old.chmod(0o755)
    for python in (str(old), str(tmp_path / "none")):
        sentence = said("run", python, str(tmp_path / "venv"))
        assert f"{python} does not run or is older than Python 3.10; name another one" in sentence
        assert "make PYTHON=python3.12" in sentence
    assert not (tmp_path / "venv").exists()


def test_a_folder_that_is_somebody_elses() -> None:
    assert "clone the repository into a folder of your own" in said("run", sys.executable, "/proc/venv")


def test_a_level_that_is_not_known() -> None:
    assert "the levels are: run test bench ci" in said("everything")


def test_every_target_of_the_makefile_is_told() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())  # type: ignore[index]
    listed = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=False).stdout
    assert set(re.findall(r"^  make (\w+)", listed, re.MULTILINE)) == targets
    pages = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md"))
    assert {target for target in targets if f"make {target}" not in pages} <= {"help"}


def test_the_map_of_the_readme_is_of_this_house() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [row.split("|")[1:5] for row in re.findall(r"^\|.*\|$", text, re.MULTILINE)]
    first = next(at for at, row in enumerate(rows) if row[0].strip() == "`agents/`")
    for agents, _, docking, _ in rows[first + 2 : first + 8]:
        for folder, cell in (("agents", agents), ("docking", docking)):
            names = re.findall(r"`([^`]+)`", cell)
            assert names
            assert all((ROOT / folder / name).exists() for name in names), names
