"""The Python stack of an agent in CPython, from its frozen memory alone."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.image import AgentImage
from agents.sdk.sources import Choices, load_image, user_cache
from agents.snapshot import PAGE_BYTES, MemoryState, Snapshot
from agents.stack import Stack, StackFrame, cpython, stack_of
from agents.stack.memory import data_segments, fingerprint
from agents.stack.values import MAX_CHARS, MAX_VARIABLES
from tests.sdk import languages
from tests.thorough import examples

from .frozen import halted, own, values

VALUES = {
    "None": "None",
    "True": "True",
    "False": "False",
    "0": "0",
    "-5": "-5",
    "2**30": str(2**30),
    "2**100": str(2**100),
    "-(2**70)": str(-(2**70)),
    "1 << 3000": "... (3030 bits)",
    "3.25": "3.25",
    "float('-inf')": "-inf",
    "'text'": "'text'",
    "'h\\u00e9llo'": "'héllo'",
    "'\\u20ac' * 2 + '\\x1b'": "'€€\\x1b'",
    "'\\U0001f600'": "'\U0001f600'",
    "'long ' * 100": "'" + "long " * 12 + "'... (500 characters)",
    "b'\\x00\\xff'": "b'\\x00\\xff'",
    "bytearray(b'abc')": "bytearray(b'abc')",
    "()": "()",
    "(1,)": "(1,)",
    "[1, [2, 'x']]": "[1, [2, 'x']]",
    "list(range(30))": "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... 20 more]",
    "[[[[1]]], []]": "[[[[...]]], []]",
    "{}": "{}",
    "{'a': 1, 2: 'b'}": "{'a': 1, 2: 'b'}",
    "{n: n for n in range(20)}": "{" + ", ".join(f"{n}: {n}" for n in range(10)) + ", ... 10 more}",
    "set()": "set()",
    "{1}": "{1}",
    "frozenset('a')": "{'a'}",
    "range(3, 10, 2)": "range(3, 10, 2)",
    "range(4)": "range(0, 4)",
    "ValueError('bad', 3)": "ValueError('bad', 3)",
    "Point": "<class 'Point'>",
    "len": "<builtin_function_or_method object>",
    "first": "<function first>",
    "str": "<class 'str'>",
    "sys": "<module 'sys'>",
    "object()": "<object object>",
    "Empty()": "<Empty object>",
    "(n for n in [])": "<generator object>",
}
SCRIPT = f"""import sys, portcall

limit = 5

class Empty:
    pass

class Point:
    def __init__(self, x):
        self.x = x

    def move(self, dx, *more, scale=1, **options):
        moved = self.x + dx

        def helper(turns):
            nonlocal moved
            moved += 1
            return first(turns, lambda q: q + moved)
        return helper(7)  # in move

def first(n, fn):
    return next(walk(n, fn(1)))  # in first

def walk(count, reached):
    for index in range(count):
        try:
            raise KeyError("k")
        except KeyError as error:
            caught = error.args
        held(
            index,
        )
        yield index

def held(index):
{chr(10).join(f"    v{number} = {text}" for number, text in enumerate(VALUES))}
    own = []; own.append(own)
    portcall.go("beta")  # at last

def fact(n):
    if n == 0:
        return Point(1).move(5, 6, 7, scale=3, extra=9)  # the end
    return fact(n - 1)  # again

class Body:
    inside = 3
    fact(1)  # in Body
"""


@cache
def victim() -> tuple[AgentImage, Snapshot, bytes]:
    """The agent, its snapshot, and its memory."""
    with TemporaryDirectory() as folder:
        source = Path(folder) / "agent.py"
        source.write_text(SCRIPT)
        image = load_image(source, Choices(python=languages.cpython()), cache=user_cache())
    snapshot = halted(image)
    memory = bytearray(snapshot.memories[0].pages << 16)
    snapshot.memories[0].restore(memoryview(memory))
    return image, snapshot, bytes(memory)


def frames() -> dict[str, StackFrame]:
    image, snapshot, _ = victim()
    stack = stack_of(image, snapshot)
    assert (stack.language, stack.note) == ("python", "")
    return {frame.function: frame for frame in own(stack)}


def line_of(text: str) -> int:
    (found,) = (number for number, line in enumerate(SCRIPT.splitlines(), 1) if text in line)
    return found


def test_the_build_is_known() -> None:
    assert fingerprint(data_segments(victim()[0])) in cpython.BUILDS


def test_every_frame_has_its_function_line_and_variables() -> None:
    image, snapshot, _ = victim()
    shown = [(frame.function, frame.line, values(frame)) for frame in own(stack_of(image, snapshot))]
    assert shown[:-1] == [
        ("<module>", line_of("class Body"), {"limit": "5"}),
        ("Body", line_of("# in Body"), {"inside": "3"}),
        ("fact", line_of("# again"), {"n": "1"}),
        ("fact", line_of("# the end"), {"n": "0"}),
        (
            "Point.move",
            line_of("# in move"),
            {
                "self": "<Point x=1>",
                "dx": "5",
                "scale": "3",
                "more": "(6, 7)",
                "options": "{'extra': 9}",
                "helper": "<function Point.move.<locals>.helper>",
                "moved": "7",
            },
        ),
        ("Point.move.<locals>.helper", line_of("return first(turns"), {"turns": "7", "moved": "7"}),
        ("first", line_of("# in first"), {"n": "7", "fn": "<function Point.move.<locals>.helper.<locals>.<lambda>>"}),
        ("walk", line_of("        held("), {"count": "7", "reached": "8", "index": "0", "caught": "('k',)"}),
    ]
    assert shown[-1][:2] == ("held", line_of("# at last"))


def test_values_of_every_kind_are_shown_as_python_writes_them_and_cut() -> None:
    shown = values(frames()["held"])
    for number, (text, expected) in enumerate(VALUES.items()):
        assert shown[f"v{number}"] == expected, text
    assert shown["own"] == "[[[[...]]]]"


# --- hostile memory ---

WORD = (1 << 32) - 1


def places() -> list[int]:
    _, snapshot, _ = victim()
    runs = snapshot.memories[0].runs
    return [at for first, count in runs for at in range(first * PAGE_BYTES, (first + count) * PAGE_BYTES, 4)]


def read(words: dict[int, int]) -> Stack:
    image, snapshot, whole = victim()
    memory = bytearray(whole)
    for address, word in words.items():
        memory[address : address + 4] = word.to_bytes(4, "little")
    state = MemoryState.capture(memoryview(memory), snapshot.memories[0].runs)
    stack = stack_of(image, attrs.evolve(snapshot, memories=(state,)))
    assert bool(stack.note) == (stack.language == "webassembly")
    for frame in stack.frames if stack.language == "python" else ():
        assert len(frame.variables) <= MAX_VARIABLES
        for text in (
            frame.function,
            frame.file,
            *(v.name for v in frame.variables),
            *(v.value for v in frame.variables),
        ):
            assert len(text) <= MAX_CHARS
            assert text.isprintable()
    return stack


def reached() -> list[int]:
    """The words around the objects that the stack consists of."""
    thread = next(iter(cpython.BUILDS.values())).thread
    _, _, whole = victim()

    def word(at: int) -> int:
        return int.from_bytes(whole[at : at + 4], "little")

    found = [*range(thread, thread + 64, 4)]
    frame = word(word(thread + 40))
    while frame:
        found += range(frame, frame + 120, 4)
        code = word(frame)
        found += range(code, code + 128, 4)
        for each in (*range(frame, frame + 120, 4), *range(code, code + 128, 4)):
            if 1024 < word(each) < len(whole) - 64:
                found += range(word(each) & ~3, (word(each) & ~3) + 40, 4)
        frame = word(frame + 4)
    return sorted(set(found) & set(places()))


@settings(max_examples=examples(8), deadline=None)
@given(st.data())
def test_any_words_in_the_objects_of_the_stack(data: st.DataObject) -> None:
    near = st.sampled_from(reached())
    words = st.one_of(st.sampled_from([0, 1, 2, 1 << 31, WORD]), near, st.integers(0, WORD))
    read(data.draw(st.dictionaries(near, words, min_size=1, max_size=40)))


@pytest.mark.parametrize("word", [0, 1, 4, WORD, 1 << 16, 1 << 31])
def test_all_of_one_word(word: int) -> None:
    stack = read(dict.fromkeys(reached(), word))
    assert stack.note or not stack.frames  # without a first frame there is none


def test_noise() -> None:
    noise = random.Random(1)
    around = reached()
    for _ in range(examples(3)):
        read({each: noise.getrandbits(32) for each in noise.sample(around, len(around) // 20)})
