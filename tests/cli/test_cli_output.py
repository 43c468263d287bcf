"""Output that cannot be written: a full disk is one line on stderr, a closed stream none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cli.shell import typed
from tests.programs import ROOT

PRINTS = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\\08\\00\\00\\00\\06\\00\\00\\00hello\\0a")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))))"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
def test_a_full_disk_and_a_closed_output(tmp_path: Path) -> None:
    source = tmp_path / "prints.wat"
    source.write_text(PRINTS)
    for words in (["run", source], ["inspect", "--help"], ["--help"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(typed(*words), stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
        assert (done.returncode, done.stderr) == (1, "portcall: input or output: No space left on device\n")
    shell = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *typed("run", source)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (shell.returncode, shell.stderr) == (0, "")
