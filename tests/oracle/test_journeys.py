"""Real programs that are suspended at every opportunity and moved again and again: same output, same end.

All of the corpora, with more hops: `python -m tests.oracle.journeys`.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from agents.rewrite.options import Polls
from tests import programs
from tests.patience import PATIENCE
from tests.programs import Program, ToolMissing

from .journeys import Ended, compare, load, packed, spread
from .traveller import Compiler

pytestmark = pytest.mark.sweep

HOPS = 25
SCRIPTS = ["classes", "closures", "deep_recursion", "exceptions", "generators", "globals", "interpreter"]
SCRIPTS += ["nested_finally", "reraise", "uncaught", "with_blocks", "yield_from"]


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return Compiler()


@pytest.fixture(scope="module")
def interpreter_with_polls() -> bytes:
    try:
        return packed(load("micropython/loops"), "calls")
    except ToolMissing as reason:
        pytest.skip(str(reason))


def program(name: str) -> Program:
    try:
        return load(name)
    except ToolMissing as reason:
        pytest.skip(str(reason))


def travelled(compiler: Compiler, subject: Program, wasm: bytes) -> Ended:
    """The journey's end, which must be that of the undisturbed run, after a good many hops."""
    every = spread(compiler, subject, wasm, HOPS)
    expected, found = compare(compiler, subject, wasm, every, hops=10 * HOPS)
    assert found == expected
    assert found.hops >= HOPS - 1
    assert found.opportunities > found.hops
    return found


@pytest.mark.parametrize("name", programs.c_names())
def test_c_program(compiler: Compiler, name: str) -> None:
    subject = program(name)
    found = travelled(compiler, subject, packed(subject, "calls"))
    assert found.end == "exit 0"
    assert found.out


@pytest.mark.parametrize("polls", ["none", "loops"])
@pytest.mark.parametrize("name", ["lines", "unwinding"])
def test_c_program_with_fewer_polls_is_moved_at_each_host_call(compiler: Compiler, name: str, polls: Polls) -> None:
    subject = program(name)
    expected, found = compare(compiler, subject, packed(subject, polls), every=50, hops=200)
    assert found == expected
    assert found.hops > 0


@pytest.mark.parametrize("name", SCRIPTS)
def test_micropython_script(compiler: Compiler, interpreter_with_polls: bytes, name: str) -> None:
    found = travelled(compiler, program(f"micropython/{name}"), interpreter_with_polls)
    assert found.out
    # The scripts say the same to CPython, so that an error both runs share would be seen.
    script = programs.script_path(name)
    other = subprocess.run([sys.executable, str(script)], capture_output=True, timeout=PATIENCE, check=False)
    assert found.out == other.stdout
    assert (found.end == "exit 0") == (other.returncode == 0)
