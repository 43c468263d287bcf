"""The stack of a frozen agent in WebAssembly, by the names of its module."""

from __future__ import annotations

import json

import attrs
import pytest

import agents
from agents.errors import BadSnapshot
from agents.image import AgentImage
from agents.outcomes import Waiting
from agents.rewrite.metadata import Frame
from agents.snapshot import Snapshot
from agents.stack import Stack, StackFrame, Variable, stack_of
from agents.stack.values import MAX_CHARS, MAX_VARIABLES

COUNT = """(module (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (func $turn (param $n i32) (result i32) (drop (call $sleep (i32.const 1000))) (local.get $n))
  (func (export "run") (result i32) (local $sum i32) (local f64)
    (local.set $sum (i32.const 3)) (local.set 1 (f64.const 0.5))
    (local.set $sum (i32.add (local.get $sum) (call $turn (i32.const 7))))
    (drop (f64.add (local.get 1) (f64.const 1)))
    (local.get $sum)))"""


def frozen() -> tuple[AgentImage, Snapshot]:
    image = agents.pack(COUNT, entry="run")
    outcome = agents.run(image)
    assert isinstance(outcome, Waiting)
    return image, outcome.snapshot


def test_frames_have_the_names_and_values_of_their_locals() -> None:
    image, snapshot = frozen()
    inner, outer = stack_of(image, snapshot).frames
    assert inner == StackFrame("turn", variables=(Variable("n", "7"),))
    assert (outer.function, outer.file, outer.line) == ("run", "", None)
    assert outer.variables == (Variable("local 1", "0.5"),)


def test_a_stack_of_another_image_is_refused() -> None:
    image, snapshot = frozen()
    with pytest.raises(BadSnapshot, match="belongs to another image"):
        stack_of(agents.pack(COUNT.replace("(i32.const 7)", "(i32.const 8)"), entry="run"), snapshot)
    with pytest.raises(BadSnapshot, match="a frame names function 9"):
        stack_of(image, attrs.evolve(snapshot, frames=(Frame(9, 1, b""),)))


def test_a_stack_as_plain_values_and_cut() -> None:
    many = tuple(Variable(f"v{number}", "0") for number in range(1000))
    stack = Stack(tuple(StackFrame(f"f{number}", "a.py", number, many) for number in range(5)), "python", "why")
    assert Stack.of(json.loads(json.dumps(stack.value()))) == stack
    short = stack.cut(2, "late")
    assert [frame.function for frame in short.frames] == ["f0", "f1"]
    assert {len(frame.variables) for frame in short.frames} == {MAX_VARIABLES}
    assert short.note == "late; why; 3 outer frames are left out"
    assert Stack().cut(2) == Stack()


def test_long_names_are_cut() -> None:
    image = agents.pack(COUNT.replace("$turn", "$" + "t" * 1000).replace("$n", "$" + "n" * 1000), entry="run")
    outcome = agents.run(image)
    assert isinstance(outcome, Waiting)
    inner, _ = stack_of(image, outcome.snapshot).frames
    assert inner == StackFrame("t" * MAX_CHARS, variables=(Variable("n" * MAX_CHARS, "7"),))
