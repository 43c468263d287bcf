"""Call graph, liveness and shape: small modules with known answers."""

from __future__ import annotations

import wasmtime

from agents.rewrite import Options
from agents.rewrite.callgraph import analyse, type_classes
from agents.rewrite.liveness import ENTRY_SITE, live_at
from agents.rewrite.skeleton import skeleton
from agents.wasm import opcodes as op
from agents.wasm.decode import decode_module
from agents.wasm.syntax import I32, FuncType, Module, RefType

ALL = Options(polls="none", suspending=None)


def _module(text: str) -> Module:
    return decode_module(bytes(wasmtime.wat2wasm(f"(module {text})")))


def test_only_callers_of_suspending_imports_unwind() -> None:
    module = _module(
        """(import "portcall" "go" (func $go (param i32 i32) (result i32))) (import "x" "y" (func $y))
           (func $a (drop (call $go (i32.const 0) (i32.const 0)))) (func $b call $a) (func $c call $y) (func $d)"""
    )
    assert analyse(module, Options(polls="none")).unwinds == {0, 2, 3}
    assert analyse(module, ALL).unwinds == {0, 1, 2, 3, 4}


def test_indirect_calls_reach_escaped_functions_of_their_type() -> None:
    text = """(import "x" "y" (func $y)) (type $v (func)) (type $i (func (result i32)))
           (table 2 funcref) {elem}
           (func $uses (call $y)) (func $calls (call_indirect (type $v) (i32.const 0)))
           (func $other (drop (call_indirect (type $i) (i32.const 0)))) (func $num (result i32) (i32.const 1))"""
    without = analyse(_module(text.format(elem="")), ALL)
    assert without.unwinds == {0, 1}
    with_it = analyse(_module(text.format(elem="(elem (i32.const 0) $uses $num)")), ALL)
    assert with_it.unwinds == {0, 1, 2}
    assert with_it.escaped == (1, 4)


def test_an_exported_table_may_hold_every_exported_function() -> None:
    module = _module(
        """(import "x" "y" (func $y)) (table (export "t") 1 funcref) (type $v (func))
           (func (export "f") (call $y)) (func $g (call_indirect (type $v) (i32.const 0)))"""
    )
    assert analyse(module, ALL).unwinds == {0, 1, 2}


def test_a_tail_call_passes_the_unwinding_on() -> None:
    module = _module('(import "x" "y" (func $y)) (func $a return_call $y) (func $b call $a)')
    assert analyse(module, ALL).unwinds == {0, 1, 2}


def test_every_cycle_of_the_call_graph_polls_somewhere() -> None:
    module = _module(
        """(func $a call $b) (func $b call $c) (func $c call $a) (func $self call $self) (func $free call $a)
           (type $v (func)) (table 1 funcref) (elem (i32.const 0) $through) (func $through (call_indirect (type $v) (i32.const 0)))"""
    )
    polls = analyse(module, Options(polls="loops")).entry_polls
    assert polls & {0, 1, 2}
    assert 3 in polls
    assert 5 in polls
    assert 4 not in polls


def test_equal_types_are_one_class() -> None:
    types = (
        FuncType((I32,), ()),
        FuncType((I32,), ()),
        FuncType((RefType(True, 0),), ()),
        FuncType((RefType(True, 1),), ()),
        FuncType((RefType(False, 1),), ()),
    )
    classes = type_classes(types)
    assert classes[0] == classes[1]
    assert classes[2] == classes[3]
    assert classes[4] not in classes[:4]


def _live(text: str, at: str = "call") -> list[set[int]]:
    module = _module(f'(import "x" "y" (func $y)) {text}')
    body = module.funcs[0].body
    wanted = op.CALL if at == "call" else op.LOOP
    sites = [position for position, instr in enumerate(body) if instr.code == wanted]
    found = live_at(body, skeleton(body), sites)
    return [{local for local in range(32) if found[site] >> local & 1} for site in sites]


def test_a_local_is_live_while_it_may_be_read() -> None:
    assert _live(
        "(func (param i32 i32) call $y (drop (local.get 1)) (local.set 0 (i32.const 1)) call $y (drop (local.get 0)))"
    ) == [
        {1},
        {0},
    ]


def test_around_a_loop() -> None:
    text = """(func (param i32 i32 i32)
        (loop $l (drop (local.get 0)) call $y (local.set 1 (i32.const 1)) (br_if $l (local.get 2)) (drop (local.get 1))))"""
    assert _live(text) == [{0, 2}]
    assert _live(text, "loop") == [{0, 2}]


def test_a_branch_out_and_an_else() -> None:
    text = """(func (param i32 i32 i32)
        (block $b (if (local.get 0) (then call $y (br $b)) (else call $y (drop (local.get 1)))) (drop (local.get 0)))
        (drop (local.get 2)))"""
    assert _live(text) == [{2}, {0, 1, 2}]


def test_what_a_handler_needs_is_live_in_its_try_table() -> None:
    text = """(func (param i32 i32) (block $h (try_table (catch_all $h) call $y) (local.set 0 (i32.const 1)))
        (drop (local.get 0)))"""
    assert _live(text) == [{0}]


def test_at_the_entry_parameters_are_live_where_they_are_read() -> None:
    module = _module("(func (param i32 i32) (drop (local.get 1)))")
    body = module.funcs[0].body
    assert live_at(body, skeleton(body), [ENTRY_SITE]) == {ENTRY_SITE: 0b10}
