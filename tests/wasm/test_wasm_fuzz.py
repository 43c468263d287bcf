"""A short run of the fuzz test; `python -m tests.wasm.fuzz` is the long one."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.fuzz.amount import Amount

from .fuzz import run
from .tools import wasm_tools


@pytest.mark.parametrize("seed", range(4))
def test_only_declared_errors_and_the_engine_agrees(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 modules for each seed, damaged, changed, or random, with an engine's judgement where there is one."""
    monkeypatch.chdir(tmp_path)
    try:
        import wasmtime  # noqa: F401
    except ImportError:
        engine = False
    else:
        engine = True
    counts = run(Random(seed), [], seed == 3 and wasm_tools() is not None, Amount(tries=500), engine)
    assert sum(counts.values()) == 500
    # A run in which everything falls at the first hurdle tests nothing.
    assert counts["valid"] > 50
    assert counts["invalid"] > 50
    assert counts["malformed"] > 50
