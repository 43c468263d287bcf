"""AssemblyScript's compiler, where `.ci/toolchains` puts it, for all tests of this folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ASC = Path(__file__).resolve().parents[2] / "examples" / "assemblyscript" / "node_modules" / ".bin"


@pytest.fixture(autouse=True)
def with_asc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{ASC}")
