"""`portcall run --hop-every 1` as its users run it, on programs that take seconds: not one byte differs.

All programs, in half an hour: `python -m tests.oracle.every --all`. The scripts hop here at each opportunity of a
stretch in their middle, since their interpreter alone has ten thousands before the first line.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.ambient import StandaloneHost
from agents.engines import load as engine
from agents.execution import Execution
from agents.outcomes import Asked, Finished
from agents.waits import Woke
from agents.wasi.state import WasiState
from tests.patience import PATIENCE
from tests.programs import ToolMissing

from .every import Subject, examine, subjects
from .journeys import Ended, load, undisturbed
from .through_runtime import image_of
from .traveller import Compiler

pytestmark = pytest.mark.sweep

# A few hundred opportunities each.
QUICK = ["examples/hello/hello.wat", "examples/wat/trip.wat", "examples/zig/trip.zig", "examples/c/trip.c"]
QUICK += ["c/lines", "c/unwinding"]
SCRIPTS = ["exceptions_chain", "coroutines", "evaluated"]
RANDOM = """(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\10\\00\\00\\00")
  (func (export "_start")
    (drop (call $random (i32.const 16) (i32.const 16)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
STRETCH = 300  # opportunities
BY_NAME = {subject.name: subject for subject in subjects()}


@pytest.mark.parametrize("name", QUICK)
def test_hops_at_every_opportunity_change_nothing(name: str) -> None:
    row = examine(BY_NAME[name], "wasmtime", PATIENCE)
    if row.verdict.startswith("skipped"):
        pytest.skip(row.verdict)
    assert row.verdict == "same"
    assert row.hops >= 9
    assert row.python in ("", "as CPython")


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return Compiler()


@pytest.mark.parametrize("name", SCRIPTS)
def test_hops_at_every_opportunity_of_a_stretch_in_its_middle(compiler: Compiler, name: str) -> None:
    try:
        program = load(f"micropython/{name}")
    except ToolMissing as reason:
        pytest.skip(str(reason))
    out = {1: bytearray(), 2: bytearray()}
    place = StandaloneHost(lambda: 0, lambda: 0, bytes, sink=lambda fd, data: out[fd].extend(data))
    state = WasiState.launch((program.name, *program.arguments), stdin=program.stdin)
    expected = undisturbed(compiler, program)
    image = image_of(program.wasm, "standard", "loops")
    hops = 0
    with Execution(image, engine=engine("wasmtime"), ambient=place, wasi=state) as life:
        life.always = True
        event = None
        while not isinstance(stop := life.advance(event), Finished):
            event = None if isinstance(stop, Asked) else Woke()
            if out[1] and hops < STRETCH:  # the script itself runs
                life.hop()
                hops += 1
    assert hops == STRETCH
    assert Ended(bytes(out[1]), bytes(out[2]), f"exit {stop.exit_code or 0}") == expected


def test_the_corpus_has_what_was_promised() -> None:
    scripts = [subject for subject in BY_NAME.values() if subject.python]
    assert len(scripts) >= 50
    languages = {name.split("/")[1] for name in BY_NAME if name.startswith("examples/")}
    assert languages >= {"c", "zig", "rust", "assemblyscript", "javascript", "python", "wat"}


def test_a_difference_is_seen(tmp_path: Path) -> None:
    """The comparison itself: a program that prints random bytes is not the same twice."""
    source = tmp_path / "random.wat"
    source.write_text(RANDOM)
    row = examine(Subject("random", source), "wasmtime", PATIENCE)
    assert (row.verdict, row.hops) == ("DIFFERENT", 1)
