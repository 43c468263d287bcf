"""The examples of stations inside other programs, run by the command that their README shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
EXPECTED = "it ended with 0\nit reported: degrees = 21.5 at greenhouse\n"


@pytest.mark.parametrize(("folder", "needs"), [("script", "json"), ("fastapi", "fastapi"), ("django", "django")])
def test_the_command_of_the_readme(folder: str, needs: str) -> None:
    pytest.importorskip(needs)
    readme = (EXAMPLES / folder / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^    python (\S+)$", readme, re.MULTILINE)
    assert len(readme.strip().splitlines()) <= 7
    run = subprocess.run(
        [sys.executable, "-W", "error", command],
        cwd=EXAMPLES / folder,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (run.returncode, run.stdout) == (0, EXPECTED), run.stderr
    assert run.stderr == ""


def test_one_agent_for_all() -> None:
    agents = {(EXAMPLES / folder / "survey.py").read_bytes() for folder in ("script", "fastapi", "django")}
    assert len(agents) == 1


def test_the_laptop_story() -> None:
    page = (EXAMPLES.parent / "docs" / "how-to" / "travel.md").read_text(encoding="utf-8")
    told = page.split("$ python laptop.py\n")[1].split("```")[0]
    run = subprocess.run(
        [sys.executable, "laptop.py"],
        cwd=EXAMPLES / "laptop",
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (run.returncode, run.stdout) == (0, told), run.stderr
