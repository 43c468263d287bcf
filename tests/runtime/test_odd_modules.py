"""Modules that nobody writes and anybody can send: run, or refused with a reason."""

from __future__ import annotations

import pytest

import agents
from agents.ambient import Alone
from agents.errors import EngineError, InvalidModule
from agents.image import AgentImage
from agents.outcomes import Departing, Exhausted, Finished, Trapped
from agents.runtime import Life
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


CHANGES = '(func (export "run") (table.set $t (i32.const 0) (ref.null func)))'


def test_a_table_of_millions_is_refused_before_it_is_read() -> None:
    image = agents.pack(f"(module (table $t 100000000 funcref) {CHANGES})")
    with pytest.raises(EngineError, match="tables that begin with 100000000 elements"):
        agents.run(image)


@pytest.mark.parametrize("table", ["", "(table $t 1 funcref)"])
def test_segments_out_of_bounds_are_a_trap_whatever_else_is_there(table: str) -> None:
    run = CHANGES if table else '(func (export "run"))'
    outcome = agents.run(agents.pack(f'(module (memory 1) {table} (data (i32.const 65536) "x") {run})'))
    assert isinstance(outcome, Trapped)
    assert outcome.code == "memory-bounds"


def test_a_memory_is_bounded_by_the_station_and_nothing_else() -> None:
    """Tables that change are read in an instance of their own: its bounds are not the agent's."""
    image = agents.pack(f"(module (memory 5000) (table $t 1 funcref) {CHANGES})")
    outcome = agents.run(image)
    assert isinstance(outcome, Exhausted)
    assert outcome.what == "memory"
    assert isinstance(agents.run(image, limits=agents.Limits(memory=1 << 30)), Finished)


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
    place = Alone(lambda: 0, lambda: 0, bytes)
    assert agents.run(image, ambient=place).values == (-51,)  # ENOSPC
    assert sum(len(value) for _, value in place.reports) < 64 << 20


def test_what_ended_does_not_go_on() -> None:
    for body in ("(i32.const 7)", "(unreachable)"):
        image = agents.pack(f'(module (func (export "run") (result i32) {body}))')
        with Life(image, engine=agents.load(), ambient=Alone(lambda: 0, lambda: 0, bytes)) as life:
            assert isinstance(life.run(), (Finished, Trapped))
            life.suspend()
            with pytest.raises(ValueError, match="ended"):
                life.run()
