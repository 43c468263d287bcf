"""A part of the specification's scripts with a hop at every opportunity.

Chosen: what the rewriting touches (control, calls, tail calls, exceptions, references, tables, globals,
memories), and a few scripts of plain arithmetic, where a hop must change nothing. `python -m
tests.oracle.spec_scripts` runs all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wasm.tools import spec_folder, wasm_tools

# fmt: off
CHOSEN = [
    "block", "br", "br_if", "br_on_null", "br_table", "bulk-memory/memory_init",
    "bulk-memory/table_copy", "call", "call_indirect", "call_ref", "exceptions/throw",
    "exceptions/throw_ref", "exceptions/try_table", "fac", "float_memory", "func", "func_ptrs",
    "global", "if", "int_exprs", "labels", "left-to-right", "local_set", "local_tee", "loop",
    "memory_grow", "memory64/memory_grow64", "memory64/table_set64", "multi-memory/memory_size0", "nop",
    "ref_func", "ref_is_null", "return", "return_call", "return_call_indirect", "return_call_ref",
    "select", "simd/simd_conversions", "simd/simd_lane", "simd/simd_load", "simd/simd_select",
    "simd/simd_store", "stack", "start", "switch", "table_grow", "table_set", "traps", "unreachable",
    "unwind",
]
# fmt: on

pytestmark = [
    pytest.mark.skipif(spec_folder() is None, reason="the specification's scripts are absent"),
    pytest.mark.skipif(wasm_tools() is None, reason="wasm-tools is not installed"),
]


@pytest.mark.parametrize("name", CHOSEN)
def test_a_script_with_a_hop_at_every_opportunity_gives_what_it_expects(name: str) -> None:
    from .spec_scripts import run_script

    folder = spec_folder()
    assert folder is not None
    tally = run_script(Path(folder, f"{name}.wast"), hops=100)
    assert tally.failures == []
    assert tally.passed > 0
