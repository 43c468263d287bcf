"""`agents` in Pyodide, a Python in JavaScript: it packs to the same digest, and continues what wasmtime began."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import wasmtime

import agents
from agents.engines.v8.finding import find_node
from agents.errors import EngineError
from agents.outcomes import Departing
from tests.patience import PATIENCE
from tests.programs import ROOT, build_directory

from .agents_at_work import WANDERER, place

PYODIDE = build_directory() / "toolchains" / "pyodide"  # see .ci/toolchains
SCRIPT = """
import agents
from agents.ambient import StandaloneHost
from agents.budget import TimeBudget
from agents.image import AgentImage
from agents.waits import Arrived

image = agents.pack(open("{folder}/code.wasm", "rb").read(), entry="run")
host = StandaloneHost(lambda: 1_000, lambda: 2_000, bytes)
engine = agents.load("v8", cache=None)
ended = agents.run(image, engine=engine, ambient=host, snapshot=open("{folder}/snapshot", "rb").read(),
                   event=Arrived(), answer=lambda wait: Arrived(), hop_every=1)
spin = agents.pack(open("{folder}/spin.wasm", "rb").read(), entry="run")
spent = agents.run(spin, engine=engine, ambient=host, budget=TimeBudget(cpu_ns=100_000_000))
f"{{image.digest.hex()}} {{ended.values}} {{spent.what}}"
"""


def test_it_packs_to_the_same_digest_and_continues_a_snapshot_of_wasmtime(tmp_path: Path) -> None:
    if not (PYODIDE / "site").is_dir():
        pytest.skip("no Pyodide: .ci/toolchains brings it")
    try:
        node, _ = find_node()
    except EngineError as reason:
        pytest.skip(str(reason))
    code = bytes(wasmtime.wat2wasm(WANDERER))
    image = agents.pack(code, entry="run")
    outcome = agents.run(image, ambient=place(), args=(10,))
    assert isinstance(outcome, Departing)
    (tmp_path / "code.wasm").write_bytes(code)
    (tmp_path / "spin.wasm").write_bytes(bytes(wasmtime.wat2wasm('(module (func (export "run") (loop (br 0))))')))
    (tmp_path / "snapshot").write_bytes(outcome.snapshot.encode())
    (tmp_path / "script.py").write_text(SCRIPT.format(folder=tmp_path))
    shutil.copy(Path(__file__).with_name("pyodide.mjs"), tmp_path)
    command = [node, "pyodide.mjs", str(PYODIDE), str(ROOT), "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout.strip() == f"{image.digest.hex()} {(18, 10, 0.5 * 1.5**10)} cpu", done.stderr[-2000:]
