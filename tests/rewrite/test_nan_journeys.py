"""A program full of NaNs, float hashes and relaxed vector instructions, moved between engines and processors."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from agents import engines
from agents.image import AgentImage
from agents.snapshot import Snapshot
from tests.patience import PATIENCE
from tests.programs import ROOT, build_directory
from tests.thorough import THOROUGH

from .nan_journey import leg, packed, travelled

PART = 1 if THOROUGH else 23
AARCH64 = build_directory() / "toolchains" / "aarch64" / "python"  # see .ci/aarch64
HOPS = 5  # in each place


@pytest.fixture(scope="module")
def image() -> AgentImage:
    return packed(PART)


def test_it_shows_the_same_in_v8_and_on_the_way_between_engines(image: AgentImage) -> None:
    if "v8" not in engines.available():
        pytest.skip("no Node.js that is new enough")
    expected, _ = travelled(image, ["wasmtime"])
    assert travelled(image, ["v8"]) == (expected, 0)
    found, hops = travelled(image, ["wasmtime", "v8"])
    assert found == expected
    assert hops > 100


@pytest.mark.skipif(not AARCH64.exists(), reason="no Python for aarch64: .ci/aarch64 brings one")
def test_it_shows_the_same_on_another_processor_and_on_the_way_there_and_back(tmp_path: Path) -> None:
    image = packed(5 * PART)  # emulation is slow
    (tmp_path / "image").write_bytes(image.encode())
    last = tmp_path / "snapshot"
    command = [str(AARCH64), "-m", "tests.rewrite.nan_journey", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen(command, **pipes) as there:
        timer = threading.Timer(PATIENCE, there.kill)
        timer.start()
        try:
            assert there.stdin is not None
            assert there.stdout is not None

            def ask(what: str) -> str:
                print(what, file=there.stdin, flush=True)
                return there.stdout.readline().strip()

            expected, _ = travelled(image, ["wasmtime"])
            assert ask("undisturbed") == f"{expected:016x}"
            state = leg(image, None, "wasmtime", HOPS)
            for engine in ("v8" if "v8" in engines.available() else "wasmtime", "wasmtime"):
                assert isinstance(state, Snapshot)
                last.write_bytes(state.encode())
                assert ask(str(HOPS)) == "goes on"
                state = leg(image, Snapshot.decode(last.read_bytes()), engine, HOPS)
            assert isinstance(state, Snapshot)
            assert leg(image, state, "wasmtime", None) == expected
            there.stdin.close()
            assert there.wait() == 0
        finally:
            timer.cancel()
            there.kill()
