"""What an agent that runs alone writes: the bytes themselves, in the order in which all was written."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys

import agents
from agents.ambient import StandaloneHost, Terminal
from tests.patience import PATIENCE

# Writes "é" in two halves, then bytes that are no text, to descriptors 1 and 2.
WRITER = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "\\c3\\a9\\ff\\00\\80\\0d\\0a")
  (func $put (param $fd i32) (param $at i32) (param $size i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $size))
    (drop (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start")
    (call $put (i32.const 1) (i32.const 64) (i32.const 1))
    (call $put (i32.const 2) (i32.const 64) (i32.const 1))
    (call $put (i32.const 1) (i32.const 65) (i32.const 6))
    (call $put (i32.const 2) (i32.const 65) (i32.const 1))))"""
RUN = """
import sys, agents
print("before", end=" ")
agents.run(agents.pack(sys.argv[1]))
print(" after", end="")
"""


def test_bytes_come_out_as_they_went_in() -> None:
    done = subprocess.run([sys.executable, "-c", RUN, WRITER], capture_output=True, timeout=PATIENCE, check=True)
    assert done.stdout == b"before \xc3\xa9\xff\x00\x80\r\n after"
    assert done.stderr == b"\xc3\xa9"


def test_a_stream_of_text_gets_whole_characters() -> None:
    out, err = io.StringIO(newline=""), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        agents.run(agents.pack(WRITER))
    assert out.getvalue() == "é\ufffd\0\ufffd\r\n"
    assert err.getvalue() == "é"


def test_without_a_console_nothing_is_lost_but_the_text() -> None:
    place = StandaloneHost(lambda: 0, lambda: 0, bytes)
    assert isinstance(place.sink, Terminal)
    before = sys.stdout
    sys.stdout = None  # type: ignore[assignment]  # as pythonw has it
    try:
        place.output(1, b"unseen")
    finally:
        sys.stdout = before


def test_reports_of_an_agent_alone_are_bounded() -> None:
    image = agents.pack(
        """(module (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 17) (data (i32.const 0) "key")
        (func (export "run") (result i32) (local $status i32)
          (loop $again
            (br_if $again (i32.eqz (local.tee $status
              (call $report (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 1048576))))))
          (local.get $status)))"""
    )
    place = StandaloneHost(lambda: 0, lambda: 0, bytes)
    assert agents.run(image, ambient=place).values == (-51,)  # ENOSPC
    assert sum(len(value) for _, value in place.reports) < 64 << 20
