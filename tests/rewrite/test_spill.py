"""Spilled pointers: a cruel collector sees all of them, and nothing else about a program changes."""

from __future__ import annotations

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.errors import UnsupportedFeature
from agents.rewrite import Options
from agents.rewrite.spill import spill_pointers
from agents.rewrite.spilled import SPILLED_SECTION, spilled
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module
from tests.oracle.bits import Value
from tests.thorough import examples

from .collected import EXPECTED, PROGRAMS, TOP, text
from .journey import ENGINE, Ending, travelling, undisturbed
from .visible import watched


def assembled(source: str) -> bytes:
    return bytes(wasmtime.wat2wasm(source))


def spilling(wasm: bytes) -> bytes:
    made = encode_module(spill_pointers(decode_module(wasm)))
    wasmtime.Module.validate(ENGINE, made)
    return made


def right(ending: Ending) -> bool:
    return ending.results == (Value("i", EXPECTED),)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_collector_is_cruel(name: str) -> None:
    assert not right(undisturbed(assembled(text(name)), 0))


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_sees_every_pointer(name: str) -> None:
    ending = undisturbed(spilling(assembled(text(name))), 0)
    assert right(ending), ending.results
    assert Value("i", TOP) in ending.globals  # the stack pointer is where it was


@pytest.mark.parametrize("polls", ["none", "loops", "calls"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_it_sees_them_when_the_program_hops_at_every_opportunity(name: str, polls: str) -> None:
    wasm = spilling(assembled(text(name)))
    ending, hops = travelling(wasm, 0, Options(polls=polls, suspending=None))  # type: ignore[arg-type]
    assert hops > 1
    assert right(ending), ending.results
    assert ending == undisturbed(wasm, 0)


@settings(max_examples=examples(6))
@given(seed=st.integers(0, 1 << 32))
def test_each_value_that_lives_across_a_call_is_in_the_shadow_stack(seed: int) -> None:
    assert watched(seed).unseen == []


def test_without_the_pass_they_are_not() -> None:
    assert sum(len(watched(seed, spilled=False).unseen) for seed in range(8)) > 100


STACK = '(memory 1) (global $sp (export "__stack_pointer") (mut i32) (i32.const 65536))'
CALLS = "(func $g (param i32) (call $new) (call $new) (drop (i32.load (local.get 0))))"
NEW = '(import "t" "new" (func $new))'


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (f"{NEW} {CALLS.replace('(drop (i32.load (local.get 0)))', '')}", "without a memory"),
        (f"{NEW} (memory 1) {CALLS}", "no global is exported or named __stack_pointer"),
        (f"{NEW} {STACK.replace('(mut i32)', 'i32')} {CALLS}", "no global is exported or named __stack_pointer"),
        (
            f"""{NEW} {STACK} (func $restore (param i32) (global.set $sp (local.get 0)) (call $new)
            (drop (i32.load (local.get 0))))""",
            "sets the stack pointer and does not keep what it was in function restore",
        ),
        (
            f"""{NEW} (memory 1) (global $a (mut i32) (i32.const 1000)) (global $b (mut i32) (i32.const 2000))
            (func (global.set $a (i32.sub (global.get $a) (i32.const 16))))
            (func (global.set $b (i32.sub (global.get $b) (i32.const 16))))""",
            "it is not clear which it is",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(source: str, said: str) -> None:
    with pytest.raises(UnsupportedFeature, match=said):
        spilling(assembled(f"(module {source})"))


@pytest.mark.parametrize(
    "pointer",
    [
        STACK,
        "(memory 1) (global $__stack_pointer (mut i32) (i32.const 65536))",
        """(memory 1) (global (mut i32) (i32.const 7)) (global $p (mut i32) (i32.const 65536))
        (func (local $fp i32) global.get $p i32.const 16 i32.sub local.tee $fp global.set $p
        local.get $fp i32.const 16 i32.add global.set $p)""",
    ],
    ids=["exported", "named", "lowered as compilers do"],
)
def test_the_stack_pointer_is_found(pointer: str) -> None:
    made = decode_module(spilling(assembled(f"(module {NEW} {pointer} {CALLS})")))
    found = spilled(made.custom(SPILLED_SECTION))
    assert found is not None
    assert made.globals[found.stack_pointer].init[0].imm == 65536
    assert (found.functions, found.stores, found.room) == (1, 1, 4)  # the second call finds it stored


def test_nothing_is_done_twice() -> None:
    once = spilling(assembled(text("a local")))
    assert spilling(once) == once


def test_a_memory_of_64_bits_has_pointers_of_64_bits() -> None:
    made = decode_module(
        spilling(
            assembled(f"""(module {NEW} (memory i64 1) (global $sp (export "__stack_pointer") (mut i64) (i64.const 65536))
            (func (param i64 i32) (call $new) (drop (i64.load (local.get 0))) (drop (local.get 1))))""")
        )
    )
    found = spilled(made.custom(SPILLED_SECTION))
    assert found is not None
    assert (found.stores, found.room) == (1, 8)


def test_what_is_no_pointer_is_not_stored() -> None:
    kept = {
        "(i32.eqz (local.get 0))": 0,
        "(i32.const 70000)": 0,
        "(i32.load8_u (local.get 0))": 0,
        "(i32.and (local.get 0) (i32.const 255))": 0,
        "(i32.shr_u (local.get 0) (i32.const 1))": 0,
        "(i32.add (i32.load8_u (local.get 0)) (i32.const 1))": 0,
        "(i32.add (global.get $sp) (i32.const 8))": 0,
        "(i32.shl (i32.shr_u (local.get 0) (i32.const 2)) (i32.const 2))": 1,
        "(i32.add (i32.const 70000) (i32.const 16))": 1,
        "(i32.and (local.get 0) (i32.const -4))": 1,
        "(i32.load (local.get 0))": 1,
        "(i32.add (local.get 0) (i32.const 8))": 1,
        "(memory.size)": 0,
    }
    for value, stores in kept.items():
        source = f"(module {NEW} {STACK} (func (param i32) {value} (call $new) (drop)))"
        found = spilled(decode_module(spilling(assembled(source))).custom(SPILLED_SECTION))
        assert found is not None
        assert found.stores == stores, value


@pytest.mark.parametrize("damage", [b"", b"\xa0", b"\x01", b"\xa1\x61a\x00"])
def test_a_section_that_is_none_says_nothing(damage: bytes) -> None:
    assert spilled(damage) is None
