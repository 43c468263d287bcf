"""What `.ci/toolchains` has installed beside the environment, for all tests of this folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ASC = ROOT / "examples" / "assemblyscript" / "node_modules" / ".bin"
QUICKJS = ROOT / "build" / "toolchains" / "quickjs"


@pytest.fixture(autouse=True)
def with_toolchains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{ASC}")
    monkeypatch.syspath_prepend(QUICKJS)
