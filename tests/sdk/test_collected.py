"""Agents in Python compute what Python computes, however much they allocate and however often they hop.

For minutes: `python -m tests.programs.fuzz --seconds 300`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agents
from agents.heap import DEFAULT_HEAP_BYTES, fitted, heap_of, option, sized
from agents.image import AgentImage
from agents.rewrite.spilled import SPILLED_SECTION, spilled
from agents.sdk import micropython
from agents.sdk.recursion import deeper
from agents.wasi.state import WasiState
from agents.wasm.decode import custom_section
from tests.programs import HERE
from tests.programs.fuzz import SMALL, Printing, as_agent, in_cpython, interpreter
from tests.programs.pythons import Writer
from tests.thorough import THOROUGH, examples

pytestmark = pytest.mark.sweep

SCRIPTS = sorted(path.stem for path in (HERE / "collected").glob("*.py"))


@pytest.fixture(scope="session")
def image() -> AgentImage:
    return interpreter()


MOVING = """import portcall
def hop(k):
    if k % {} == 3:
        portcall.go("elsewhere")
"""


def moving(text: str) -> str:
    """The script, which goes elsewhere five times in its main loop."""
    found = re.search(r"^for (\w+) in range\((\d+)\):\n", text, re.MULTILINE)
    assert found is not None
    head = MOVING.format(int(found[2]) // 5)
    return head + text[: found.end()] + f"    hop({found[1]})\n" + text[found.end() :]


WAYS = [(name, moves) for name in SCRIPTS for moves in (False, True) if moves or THOROUGH or name == SCRIPTS[0]]


@pytest.mark.parametrize(("name", "moves"), WAYS)
def test_ten_megabytes_of_garbage_change_nothing(image: AgentImage, name: str, moves: bool, tmp_path: Path) -> None:
    path = HERE / "collected" / f"{name}.py"
    expected = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True, cwd=tmp_path)
    text = path.read_text()
    assert as_agent(image, moving(text) if moves else text, 25) == expected.stdout


@settings(max_examples=examples(3))
@given(seed=st.integers(0, 1 << 32), stretch=st.sampled_from([0, 20]))
def test_generated_programs_print_what_cpython_prints(image: AgentImage, seed: int, stretch: int) -> None:
    program = Writer(seed).program()
    assert as_agent(image, program, stretch, SMALL) == in_cpython(program)


def test_the_image_says_that_its_pointers_are_spilled(image: AgentImage) -> None:
    found = spilled(custom_section(image.code, SPILLED_SECTION))
    assert found is not None
    assert found.functions > 300


HEAP = """
import gc
print(gc.mem_alloc() + gc.mem_free() >> 20)
held = []
try:
    while True:
        held.append(bytearray(1 << 18))
except MemoryError as error:
    count = len(held)
    held = None
    print("MemoryError", count >> 2)
"""


@pytest.mark.parametrize(("memory", "heap"), [(None, 15), (64, 54), (8, 6), (3, 1)])
def test_the_heap_follows_the_memory_and_python_says_so(image: AgentImage, memory: int | None, heap: int) -> None:
    place = Printing(lambda: 10**18, lambda: 10**9, lambda size: bytes(size))
    loaded = image.with_luggage(micropython.luggage("agent.py", HEAP.encode()))
    if memory is None:
        outcome = agents.run(loaded, ambient=place)
    else:
        state = WasiState.read(loaded.luggage)
        state.args = tuple(sized(state.args, memory << 20))
        outcome = agents.run(loaded, ambient=place, wasi=state, limits=agents.Limits(memory=memory << 20))
    assert isinstance(outcome, agents.Finished), outcome
    lines = place.printed.decode().splitlines()
    assert int(lines[0]) in range(heap - 1, heap + 2), lines
    assert lines[1].startswith("MemoryError"), lines
    assert int(lines[1].split()[1]) >= heap // 2, lines


def test_a_place_that_gives_less_memory_still_begins_it(image: AgentImage) -> None:
    place = Printing(lambda: 10**18, lambda: 10**9, lambda size: bytes(size))
    loaded = image.with_luggage(micropython.luggage("agent.py", b"print('begun')"))
    outcome = agents.run(loaded, ambient=place, limits=agents.Limits(memory=4 << 20))
    assert isinstance(outcome, agents.Finished)
    assert place.printed == b"begun\n"


def test_only_a_command_line_that_asks_for_a_heap_is_changed() -> None:
    asking = [b"micropython", *(word.encode() for word in option()), b"script.py", b"-X"]
    assert sized(asking, 64 << 20) == [b"micropython", b"-X", b"heapsize=57344K", b"script.py", b"-X"]
    assert fitted(asking, 1 << 40) == asking
    assert fitted(asking, 8 << 20) == [b"micropython", b"-X", b"heapsize=7168K", b"script.py", b"-X"]
    for other in ([], [b"micropython"], [b"micropython", b"-X", b"heapsize=1w"], [b"qjs", b"-X", b"heapsize=1K"]):
        assert sized(other, 1 << 30) == other
    assert heap_of(DEFAULT_HEAP_BYTES) < DEFAULT_HEAP_BYTES


RECURSION = """
depth = 0
def down(n):
    global depth
    depth = n
    return down(n + 1) + 1
try:
    down(0)
except RuntimeError as error:
    print(error, depth)
class Nested:
    def __repr__(self):
        return repr([self])
def by_key(x):
    return sorted([1, 2], key=by_key)
for what in (lambda: repr(Nested()), lambda: by_key(1)):
    try:
        what()
    except RuntimeError as error:
        print(error)
"""


def test_an_agent_recurses_as_deep_as_the_interpreter_did(image: AgentImage) -> None:
    lines = as_agent(image, RECURSION).splitlines()
    assert lines[0].startswith("maximum recursion depth exceeded ")
    assert int(lines[0].split()[-1]) > 200  # unpacked and with the stack that it was built with: 106
    assert lines[1:] == ["maximum recursion depth exceeded"] * 2


def test_another_build_keeps_its_stack() -> None:
    known = micropython.interpreter()
    assert deeper(known) != known
    other = known.replace(b"\x41\xc0\xb8\x02", b"\x41\xc1\xb8\x02")  # 40,001
    assert other != known
    assert deeper(other) == other
