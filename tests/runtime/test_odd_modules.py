"""Modules that nobody writes and anybody can send: run, or refused with a reason."""

from __future__ import annotations

import pytest

import agents
from agents.errors import InvalidModule
from agents.image import AgentImage
from agents.outcomes import Departing, Finished
from agents.waits import Arrived


def test_an_export_without_a_name_can_be_called() -> None:
    first = '(func (export "run") (result i32) i32.const 1)'
    image = agents.pack(f'(module {first} (func (export "") (result i32) i32.const 2))')
    assert agents.run(image, entry="").results == (2,)
    assert agents.run(image).results == (1,)


def test_exceptions_in_exported_globals_do_not_keep_an_agent_from_moving() -> None:
    image = agents.pack(
        """(module (import "portcall" "go_at" (func $go_at (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 0) "betarun")
        (global (export "last") (mut exnref) (ref.null exn)) (global $n (export "n") (mut i32) (i32.const 0))
        (func (export "run") (result i32)
          (global.set $n (i32.add (global.get $n) (i32.const 1)))
          (if (i32.eq (global.get $n) (i32.const 2)) (then (return (i32.const 5))))
          (call $go_at (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 3))))""",
        profile="none",
    )
    outcome = agents.run(image)
    assert isinstance(outcome, Departing)
    arrived = agents.run(image, snapshot=outcome.snapshot.encode(), event=Arrived())
    assert isinstance(arrived, Finished)
    assert arrived.results == (5,)


def test_what_is_packed_can_be_unpacked_whatever_its_name() -> None:
    text = '(module (func (export "run")))'
    for name in ("x" * 300, "\N{SNOWMAN}" * 100, "\udcff"):
        image = agents.pack(text, name=name)
        assert AgentImage.unpack(image.pack()) == image
    with pytest.raises(InvalidModule, match="more than 256 bytes"):
        agents.pack(f'(module (func (export "{"x" * 257}")))')
