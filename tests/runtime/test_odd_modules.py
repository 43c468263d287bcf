"""Modules that nobody writes and anybody can send: run, or refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

import agents
from agents import engines
from agents.ambient import Alone
from agents.errors import EngineError, InvalidModule
from agents.image import AgentImage
from agents.outcomes import Departing, Exhausted, Finished, Trapped
from agents.runtime import Life
from agents.waits import Arrived, Refused


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


PORTABLE = [name for name in engines.NAMES if name in engines.available()]
ONLY_RETURNED = (
    ("(result i32)", "(call $sleep (i32.const 0))", (-5,)),
    ("(result i32)", "(drop (call $through)) (call $through)", (-5,)),
    ("(result i32 i32)", "(i32.const 7) (call $through)", (7, -5)),
)


@pytest.mark.parametrize("profile", ["standard", "portable"])
@pytest.mark.parametrize(("results", "body", "expected"), ONLY_RETURNED)
def test_an_answer_that_is_only_returned_is_the_result(
    profile: str, results: str, body: str, expected: tuple[int, ...]
) -> None:
    """Then no function leaves a frame that the answer could be given to."""
    image = agents.pack(
        f"""(module (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
        (func $through (result i32) (call $sleep (i32.const 0)))
        (func (export "run") {results} {body}))""",
        profile=profile,  # type: ignore[arg-type]
    )
    chosen = PORTABLE if profile == "portable" else ["wasmtime"]
    for hop_every in (None, 1):
        outcome = agents.run(image, engine=chosen, hop_every=hop_every, answer=lambda wait: Refused(5, "no"))
        assert isinstance(outcome, Finished)
        assert outcome.values == expected


@pytest.mark.skipif("wasmer" not in PORTABLE, reason="wasmer does not work on this Python")
def test_a_compiler_that_panics_refuses(tmp_path: Path) -> None:
    params, gives = "(param " + "i64 " * 1000 + ")", "(drop)" * 999
    code = f"(module (func $f {params} (result {'i64 ' * 1000}) {''.join(f'(local.get {i})' for i in range(1000))})"
    code += f'(func (export "run") (result i64) {"(i64.const 1)" * 1000} (call $f) {gives}))'
    with pytest.raises(EngineError, match="wasmer cannot compile"):
        agents.run(agents.pack(code, profile="portable"), engine=agents.load("wasmer", cache=tmp_path / "code"))


def test_what_is_no_module_is_told_from_one(tmp_path: Path) -> None:
    """What people give instead of a module's bytes or text, or of an image."""
    with pytest.raises(EngineError, match=r"trip\.py is no module: agents\.sdk\.sources\.load_image makes"):
        agents.pack(tmp_path / "trip.py")
    with pytest.raises(EngineError, match=r"'trip\.wat' is no text of a module; .* give a pathlib\.Path"):
        agents.pack("trip.wat")
    with pytest.raises(FileNotFoundError):
        agents.pack(tmp_path / "trip.wat")
    with pytest.raises(TypeError, match=r"an AgentImage is run, not bytes: agents\.pack makes one"):
        agents.run(b"")  # type: ignore[arg-type]
