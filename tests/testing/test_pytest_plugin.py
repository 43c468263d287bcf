"""The fixtures `agent` and `stations`, in a pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.patience import PATIENCE
from tests.testing.test_play import STOCK, script

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
def test_played(agent):
    trial = agent("../script.py", via="alpha", services={"stock.count": "12"})
    assert trial.output == "12 nuts at alpha\\n"

def test_real(stations):
    alpha, beta = stations("alpha", "beta", services={"stock.count": "12"})
    report = stations.run("../script.py", via="beta")
    assert [result.text for result in report.results] == ["12"]

def test_wrong(agent):
    trial = agent("../script.py", via="alpha", services={"stock.count": "no number"})
    assert trial.exit_code == 0
"""


def test_fixtures_begin_in_the_folder_of_the_test(tmp_path: Path) -> None:
    script(tmp_path, STOCK)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_stock.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "docking.pytest_plugin", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert "2 passed" in done.stdout, done.stdout
    # pytest shows what the agent said, and where.
    assert "alpha: ValueError: invalid syntax for integer" in done.stdout


def test_pytest_finds_it_where_it_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"docking.pytest_plugin": "docking.pytest_plugin"}


def test_it_costs_other_tests_nothing() -> None:
    told = "import sys, docking.pytest_plugin; print([name for name in sys.modules if name.startswith('agents')])"
    done = subprocess.run(
        [sys.executable, "-c", told], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr
