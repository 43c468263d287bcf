"""Some modules of wasm-smith's, undisturbed and on a journey; `python -m tests.oracle.generated` makes more."""

from __future__ import annotations

import pytest

from tests.wasm.tools import wasm_tools

from .generated import check, module_of
from .traveller import Compiler

pytestmark = pytest.mark.skipif(wasm_tools() is None, reason="wasm-tools is not installed")


@pytest.mark.parametrize("first", range(1000, 1100, 25))
def test_generated_modules_do_not_notice_their_hops(first: int) -> None:
    calls = hops = 0
    for seed in range(first, first + 25):
        wasm = module_of(seed)
        if wasm is not None:
            found = check(Compiler(), wasm, seed % 2 == 1, hops=100)
            calls += found.calls
            hops += found.hops
    assert calls > 0
    assert hops > 0
