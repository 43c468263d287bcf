"""What `.ci/toolchains` has installed beside the environment, for all tests of this folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
ASC = ROOT / "examples" / "assemblyscript" / "node_modules" / ".bin"
INSTALLED = [ROOT / "build" / "toolchains" / name for name in ("quickjs", "go")]


@pytest.fixture(autouse=True)
def with_toolchains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{ASC}")
    for folder in INSTALLED:
        monkeypatch.syspath_prepend(folder)
    # Go's own library is compiled once for all tests, whatever their home.
    monkeypatch.setenv("GOCACHE", str(ROOT / "build" / "go-cache"))
    # The first C program builds the C library, and the machine may be busy.
    monkeypatch.setattr("agents.sdk.toolchains.COMPILE_TIMEOUT_S", PATIENCE)
