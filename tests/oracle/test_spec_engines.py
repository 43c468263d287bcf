"""A few of the specification's scripts through the product, between wasmtime and V8 at every opportunity.

`python -m tests.oracle.spec_engines` runs all.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import agents
from agents import engines
from tests.patience import PATIENCE
from tests.wasm.tools import spec_folder, wasm_tools

CHOSEN = ["exceptions/throw", "fac", "if", "memory64/memory_grow64", "simd/simd_select", "switch", "traps"]

pytestmark = [
    pytest.mark.skipif(spec_folder() is None, reason="the specification's scripts are absent"),
    pytest.mark.skipif(wasm_tools() is None, reason="wasm-tools is not installed"),
    pytest.mark.skipif("v8" not in engines.available(), reason="no Node.js that is new enough"),
]


@pytest.mark.parametrize("name", CHOSEN)
def test_a_script_between_two_engines_gives_what_it_expects(name: str) -> None:
    from .spec_engines import Script

    folder = spec_folder()
    assert folder is not None
    loaded = [agents.load(each) for each in ("v8", "wasmtime")]
    tally = Script(Path(folder, f"{name}.wast"), loaded, 20, time.monotonic() + PATIENCE).run()
    assert tally.failures == []
    assert tally.passed > 0
    assert tally.hops > 0
