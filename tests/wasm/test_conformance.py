"""The specification's own scripts: every binary module in them is judged as the specification says."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conformance import judge_script
from .tools import spec_folder, spec_scripts, wasm_tools

pytest.importorskip("wasmtime")

_folder = spec_folder()
if _folder is None:
    pytest.skip("no folder of specification scripts: set PORTCALL_WASM_SPEC", allow_module_level=True)
if wasm_tools() is None:
    pytest.skip("the program wasm-tools is not installed", allow_module_level=True)

# What these need is garbage collection or a proposal; all others have to pass without a refusal.
_REFUSED = {
    "binary.wast": 2,
    "bulk-memory/table_init.wast": 1,
    "exceptions/tag.wast": 3,
    "memory64/table_init64.wast": 1,
    "ref_null.wast": 2,
    "type-canon.wast": 2,
    "type-equivalence.wast": 12,
    "type-rec.wast": 22,
}


@pytest.mark.parametrize("script", spec_scripts(), ids=lambda path: str(path.relative_to(_folder)))
def test_script(script: Path, tmp_path: Path) -> None:
    """No module of the script fails, and no more are refused than need a refused feature."""
    verdicts = judge_script(script, tmp_path)
    failed = [f"line {v.command.line}: {v.command.kind}: {v.what}" for v in verdicts if v.outcome == "failed"]
    assert failed == []
    refused = sum(v.outcome == "refused" for v in verdicts)
    assert refused == _REFUSED.get(str(script.relative_to(_folder)), 0)
