"""Output that cannot be written: a full disk is one line on stderr, a closed stream none. Sizes as people read them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from docking.cli.output import size_text
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


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (999 << 10, "999 KiB"),
        (1010 << 10, "1010 KiB"),
        (1 << 20, "1 MiB"),
        (1_500_000, "1.43 MiB"),
        (1023 << 20, "1023 MiB"),
        (5000 << 30, "5000 GiB"),
    ],
)
def test_a_size(size: int, text: str) -> None:
    assert size_text(size) == text
