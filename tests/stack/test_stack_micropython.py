"""The Python stack of agents in MicroPython: functions, lines and variables, from frozen memory alone."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

import agents
from agents import canonical
from agents.image import AgentImage
from agents.outcomes import Finished, Waiting
from agents.rewrite.options import Polls
from agents.snapshot import Snapshot
from agents.stack import micropython, stack_of
from agents.stack.memory import data_segments, fingerprint
from agents.wasi.state import WasiState

from .frozen import AGENT, halted, own, packed, python_stack, values


def line_of(script: str, text: str) -> int:
    (found,) = (number for number, line in enumerate(script.splitlines(), 1) if text in line)
    return found


NESTED = """import portcall

limit = 5
_kept = "x"

class Point:
    def __init__(self, x):
        self.x = x

    def move(self, dx, *more, scale=1, **options):
        moved = self.x + dx

        def helper(turns):
            nonlocal moved
            doubled = turns * 2
            moved += 1
            return search(doubled, lambda q: q + moved)
        return helper(7)  # in move

class Sub(Point):
    def move(self, *a, **k):
        before = 1
        return super().move(*a, **k)  # in Sub

def search(value, fn):
    while value > 12:
        got = fn(value)
        value -= 1
        last = value
    found = [first(n) for n in range(4) if n == 2]  # in search
    return found

def first(n):
    return next(walk(n, {key: value for key, value in [(1, n)]}))  # in first

def walk(count, pairs):
    index = 0
    while True:
        index += 1
        try:
            raise KeyError("k")
        except KeyError as error:
            caught = error.args
        with open("/agent/agent.py") as file:
            line = file.readline()
            portcall.go("beta")  # in walk
        yield index

def fact(n):
    half = n // 2
    if n == 0:
        return Sub(1).move(5, 6, 7, scale=3, extra=9)  # the end
    return fact(n - 1)  # again

print(fact(2))  # at last
"""


def test_every_frame_has_its_function_line_and_variables(tmp_path: Path) -> None:
    frames = own(python_stack(NESTED, tmp_path))
    shown = [(frame.function, frame.line, values(frame)) for frame in frames]
    self = "<Sub x=1>"
    assert shown == [
        ("<module>", line_of(NESTED, "at last"), {"limit": "5", "_kept": "'x'"}),
        ("fact", line_of(NESTED, "# again"), {"n": "2", "half": "1"}),
        ("fact", line_of(NESTED, "# again"), {"n": "1", "half": "0"}),
        ("fact", line_of(NESTED, "# the end"), {"n": "0", "half": "0"}),
        (
            "move",
            line_of(NESTED, "# in Sub"),
            {"self": self, "a": "(5, 6, 7)", "k": shown[4][2]["k"], "before": "1"},
        ),
        (
            "move",
            line_of(NESTED, "# in move"),
            {
                "self": self,
                "dx": "5",
                "scale": "3",
                "more": "(6, 7)",
                "options": "{'extra': 9}",
                "helper": "<closure object>",
                "moved": "7",
            },
        ),
        (
            "helper",
            line_of(NESTED, "search(doubled"),
            {"moved": "7", "turns": "7", "doubled": "14"},
        ),
        (
            "search",
            line_of(NESTED, "# in search"),
            {"value": "12", "fn": "<closure object>", "got": "20", "last": "12"},
        ),
        ("<listcomp>", line_of(NESTED, "# in search"), {"n": "2"}),
        ("first", line_of(NESTED, "# in first"), {"n": "2"}),
        (
            "walk",
            line_of(NESTED, "# in walk"),
            {
                "count": "2",
                "pairs": "{1: 2}",
                "index": "1",
                "caught": "('k',)",
                "file": "<TextIOWrapper object>",
                "line": "'import portcall\\n'",
            },
        ),
    ]
    assert shown[4][2]["k"] in ("{'scale': 3, 'extra': 9}", "{'extra': 9, 'scale': 3}")


def test_the_frames_of_a_package_come_before_those_of_the_script(tmp_path: Path) -> None:
    inner, *_ = python_stack("import portcall\nportcall.go('beta')\n", tmp_path).frames
    assert (inner.file, values(inner)["data"]) == ("/lib/portcall.py", "b'beta'")


VALUES = {
    "None": "None",
    "True": "True",
    "False": "False",
    "-5": "-5",
    "2**30 - 1": str(2**30 - 1),
    "-(2**30)": str(-(2**30)),
    "2**100": str(2**100),
    "-(2**70)": str(-(2**70)),
    "1 << 3000": "... (3008 bits)",
    "3.25": "3.25",
    "float('-inf')": "-inf",
    "'text'": "'text'",
    "'h\\u00e9llo' + str(1)": "'héllo1'",
    "'a\\nb\\x1b[31m'": "'a\\nb\\x1b[31m'",
    "'long ' * 100": "'" + "long " * 12 + "'... (500 bytes)",
    "b'\\x00\\xff'": "b'\\x00\\xff'",
    "bytearray(b'abc')": "bytearray(b'abc')",
    "()": "()",
    "(1,)": "(1,)",
    "[1, [2, 'x']]": "[1, [2, 'x']]",
    "list(range(30))": "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... 20 more]",
    "[[[[1]]], []]": "[[[[...]]], []]",
    "{}": "{}",
    "{'a': 1}": "{'a': 1}",
    "{n: n for n in range(20)}": None,
    "set()": "set()",
    "{1}": "{1}",
    "set(range(50))": None,
    "range(3, 10, 2)": "range(3, 10, 2)",
    "range(4)": "range(0, 4)",
    "ValueError('bad', 3)": "ValueError('bad', 3)",
    "Empty()": "<Empty object>",
    "Empty": "<class 'Empty'>",
    "len": "<function object>",
    "str": "<class 'str'>",
    "gc": "<module 'gc'>",
    "object()": "<object object>",
    "iter([])": "<iterator object>",
    "(n for n in [])": "<generator object>",
}


def test_values_of_every_kind_are_shown_as_python_writes_them_and_cut(tmp_path: Path) -> None:
    script = ["import gc, portcall", "class Empty: pass", "def f():"]
    script += [f"    v{number} = {text}" for number, text in enumerate(VALUES)]
    script += ["    own = []; own.append(own)", "    portcall.go('beta')", "f()"]
    _, frame = own(python_stack("\n".join(script), tmp_path))
    shown = values(frame)
    for number, (text, expected) in enumerate(VALUES.items()):
        if expected is not None:
            assert shown[f"v{number}"] == expected, text
    numbers = list(VALUES)
    assert shown[f"v{numbers.index('{n: n for n in range(20)}')}"].endswith(", ... 10 more}")
    assert shown[f"v{numbers.index('set(range(50))')}"].endswith(", ... 40 more}")
    assert shown["own"] == "[[[[...]]]]"


@pytest.mark.parametrize("call", ["portcall.recv()", "portcall.sleep(3600)", "portcall.call('clock')"])
def test_an_agent_that_waits(call: str, tmp_path: Path) -> None:
    script = f"import portcall\ndef wait(n):\n    mine = n + 1\n    {call}\nwait(1)\n"
    _, frame = own(python_stack(script, tmp_path))
    assert (frame.function, frame.line, values(frame)) == ("wait", 4, {"n": "1", "mine": "2"})


LOOP = """
def count(most):
    n = 0
    while n < most:
        n += 1
    return n

def compare(a, b):
    return b - a

print(count(100))
print(sorted([3, 1, 2], key=lambda item: compare(item, 0)))
"""


@pytest.mark.parametrize(("polls", "every"), [("loops", 61), ("calls", 151), ("none", 1)])
def test_an_agent_is_readable_wherever_it_can_be_suspended(polls: Polls, every: int, tmp_path: Path) -> None:
    image = packed(LOOP, tmp_path, polls)
    stacks = []

    def look(encoded: bytes) -> None:
        stacks.append(stack_of(image, Snapshot.decode(encoded)))

    outcome = agents.run(image, hop_every=every, on_hop=look)
    assert isinstance(outcome, Finished)
    assert stacks
    assert {(stack.language, stack.note) for stack in stacks if stack.frames} == {("python", "")}
    counting = [values(frame) for stack in stacks for frame in stack.frames if frame.function == "count"]
    if polls != "none":
        turns = [int(each["n"]) for each in counting if "n" in each]
        assert turns == sorted(turns)
        assert turns[-1] > 50


def test_an_agent_that_has_not_begun_has_no_stack(tmp_path: Path) -> None:
    image = packed("print()", tmp_path)
    assert stack_of(image, Snapshot(image.digest, "_start")).frames == ()


def test_the_build_of_the_interpreter_is_known(tmp_path: Path) -> None:
    assert fingerprint(data_segments(packed("print()", tmp_path))) in micropython.BUILDS


def test_an_unknown_build_shows_the_functions_of_the_interpreter_and_says_so(tmp_path: Path) -> None:
    image = packed("import portcall\nportcall.go('beta')\n", tmp_path)
    code = image.code.replace(b"Welcome to MicroPython!", b"Welcome to MicroPython?")
    other = AgentImage(image.manifest, code)
    stack = stack_of(other, attrs.evolve(halted(image), image=other.digest))
    assert stack.language == "webassembly"
    assert stack.note == "its Python functions cannot be shown: this build of the interpreter is not known here"
    assert len(stack.frames) > 5


LOCALS = """import portcall
def f(given, *, named):
    first = 1
    second = 2
    portcall.go("beta")
    return first + second + given
f(7, named=8)
"""


def with_script(snapshot: Snapshot, change: tuple[bytes, bytes]) -> Snapshot:
    """The snapshot with another script beside its compiled one."""
    state = WasiState.read(snapshot.wasi)
    assert state.luggage.root.folder is not None
    _, folder = state.luggage.root.folder.entries["agent"]
    assert folder.folder is not None
    _, node = folder.folder.entries["agent.py"]
    node.data = bytes(node.data).replace(*change)
    return attrs.evolve(snapshot, wasi=canonical.encode(state.encode()))


@pytest.mark.parametrize(
    "change",
    [
        (b"first = 1", b"pass\n    first = 1"),  # other lines
        (b"second", b"sec0nd ="),  # no Python
        (b"def f", b"def g"),
        (b"given", b"taken"),
    ],
)
def test_a_script_that_is_another_than_was_compiled_names_no_variables(
    change: tuple[bytes, bytes], tmp_path: Path
) -> None:
    image = packed(LOCALS, tmp_path)
    snapshot = halted(image)
    assert values(own(stack_of(image, snapshot))[-1]) == {"given": "7", "named": "8", "first": "1", "second": "2"}
    changed = with_script(snapshot, change)
    frame = own(stack_of(image, changed))[-1]
    assert values(frame) == {"given": "7", "named": "8", "local 2": "1", "local 3": "2"}
    assert frame.line == 5


def test_many_frames_are_cut_and_read_in_time(tmp_path: Path) -> None:
    script = "import portcall\ndef f(n):\n    if n:\n        return f(n - 1)\n    portcall.go('beta')\nf(150)\n"
    stack = python_stack(script, tmp_path)
    assert [values(frame)["n"] for frame in own(stack)[1:]] == [str(n) for n in range(150, -1, -1)]


def test_what_is_waited_for_is_no_part_of_the_stack(tmp_path: Path) -> None:
    image = packed("import portcall\nprint(portcall.recv(5))\n", tmp_path)
    outcome = agents.run(image)
    assert isinstance(outcome, Waiting)
    assert stack_of(image, outcome.snapshot).frames[-1].file == AGENT
