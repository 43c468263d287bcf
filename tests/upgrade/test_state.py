"""What has to hold of memories, tables, globals and imports, each broken by itself: refused by name, or as promised."""

from __future__ import annotations

import pytest

import agents
from agents import upgrade
from agents.errors import BadImage, CannotUpgrade
from agents.execution import Execution
from agents.image import AgentImage, Manifest
from agents.outcomes import Finished
from agents.snapshot import Snapshot
from agents.waits import Woke
from tests.runtime.agents_at_work import packed, place

# It writes 77 at 200, waits, and gives what the others have by then.
BASE = """(module
  (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (memory (export "memory") 1 4)
  (table $t 3 funcref)
  (elem (i32.const 0) $one $two)
  (type $number (func (result i32)))
  (global $first (mut i32) (i32.const 5))
  (global $second (mut i64) (i64.const 6))
  (data (i32.const 100) "abcdefghijklmnop")
  (data (i32.const 300) "0123456789abcdef")
  (func $one (type $number) (i32.const 1))
  (func $two (type $number) (i32.const 2))
  (func $rest (result i32) (i32.const 0))
  (func (export "run") (result i32 i32)
    (i32.store (i32.const 200) (i32.const 1))
    (i32.store8 (i32.const 303) (i32.const 77))
    (global.set $first (i32.const 50))
    (drop (call $sleep (i32.const 0)))
    (call_indirect $t (type $number) (i32.load (i32.const 200)))
    (call $rest)))"""


def frozen(text: str = BASE) -> Snapshot:
    with Execution(packed(text), engine=agents.load(), ambient=place()) as run:
        run.advance()
        return Snapshot.decode(run.snapshot().encode())


def outcome(text: str, old: str = BASE) -> tuple[int | float, ...]:
    """What the agent gives that is frozen in the one, and goes on in the other."""
    later = upgrade.upgraded(packed(old), packed(text), frozen(old))
    with Execution(packed(text), engine=agents.load(), ambient=place(), snapshot=later) as run:
        stop = run.advance(Woke())
        assert isinstance(stop, Finished)
        return stop.results


def refusal(text: str, old: str = BASE) -> str:
    with pytest.raises(CannotUpgrade) as caught:
        upgrade.upgraded(packed(old), packed(text), frozen(old))
    return str(caught.value)


def rest(body: str) -> str:
    return BASE.replace("(func $rest (result i32) (i32.const 0))", f"(func $rest (result i32) {body})")


def test_the_agent_keeps_what_it_changed_and_the_rest_is_new() -> None:
    assert outcome(BASE) == (2, 0)
    # Its global, and a byte that it wrote into data that are the same.
    assert outcome(rest("(i32.add (global.get $first) (i32.load8_u (i32.const 303)))")) == (2, 127)
    # A text that it left alone is the new one, and so is one where nothing was.
    changed = rest("(i32.add (i32.load8_u (i32.const 100)) (i32.load8_u (i32.const 1000)))")
    changed = changed.replace('"abcdefghijklmnop"', '"Abcdefghijklmnop") (data (i32.const 1000) "z"')
    assert outcome(changed) == (2, ord("A") + ord("z"))
    # A new global has its first value, and functions may come anywhere.
    more = rest("(global.get $third)").replace(
        "(func $one", "(global $third (mut i32) (i32.const 33)) (func $zero (result i64) (i64.const 0)) (func $one"
    )
    assert outcome(more) == (2, 33)
    # A function pointer means the function of that name, with its new code.
    assert outcome(BASE.replace("(i32.const 2))\n  (func $rest", "(i32.const 22))\n  (func $rest")) == (22, 0)
    assert outcome(BASE.replace("$one $two)", "$one $two $two)")) == (2, 0)


def test_data_that_both_changed_are_refused_with_the_address() -> None:
    # The unit of 16 bytes from 288 on; the agent wrote at 303, the new module begins at 288.
    text = BASE.replace(
        '(data (i32.const 300) "0123456789abcdef")', '(data (i32.const 288) "x           0123456789abcdef")'
    )
    assert "memory 0: the new module has other data at address 288, which the agent has changed" in refusal(text)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("$one $two)", "$two $one)"), "element 0 of table 0: two stands where one stood"),
        (("$one $two)", "$one)"), "element 1 of table 0 was two and is null"),
        (("(table $t 3 funcref)", "(table $t 2 funcref)"), "table 0 has 2 elements and had 3"),
        (("(global $second (mut i64) (i64.const 6))", ""), "second is not in the new module"),
        (("(global $second (mut i64) (i64.const 6))", "(global $second (mut f32) (f32.const 6))"), "another type"),
        (('"memory") 1 4)', '"memory") 1 2)'), "memory 0 may grow to 2 only, and could grow to 4"),
        (('"memory") 1 4)', '"memory") 1 4) (memory 1)'), "the new module has 2 memories, and the agent has 1"),
        (('(export "run")', '(export "go")'), "exports no function 'run'"),
        (("(i32.store (i32.const 200) (i32.const 1))", "(nop)"), "run is on the stack and has changed: instruction 0"),
        (("(call $rest)))", "(drop (call $rest)) (i32.const 0)))"), "run is on the stack and has changed"),
        (("(call $rest)))", "(call $two)))"), "two stands where rest stood"),
    ],
)
def test_what_does_not_fit_is_named(change: tuple[str, str], sentence: str) -> None:
    assert change[0] in BASE
    text = BASE.replace(*change)
    if "$second" in change[0] or "(i32.const 6)" in change[0]:
        text = text.replace("(global.get $second)", "(i64.const 0)")
    assert sentence in refusal(text)


def test_the_call_in_which_it_waits_has_to_be_there() -> None:
    other = BASE.replace('"sleep"', '"recv"').replace(
        "(param i32) (result i32)))", "(param i32 i32 i32) (result i32)))", 1
    )
    other = other.replace("(call $sleep (i32.const 0))", "(call $sleep (i32.const 0) (i32.const 0) (i32.const 0))")
    assert "waits in portcall.sleep, which the new module does not call" in refusal(other)


TOOLCHAIN = """(module
  (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (memory (export "memory") 2)
  (global $__stack_pointer (mut i32) (i32.const 1024))
  (data (i32.const 1024) "first text.....\\00second text....\\00")
  (func $look (result i32) (i32.load8_u (i32.const 1040)))
  (func (export "run") (result i32) (drop (call $sleep (i32.const 0))) (call $look)))"""


def test_signs_that_data_moved() -> None:
    assert outcome(TOOLCHAIN, TOOLCHAIN) == (ord("s"),)
    stack = TOOLCHAIN.replace("(mut i32) (i32.const 1024)", "(mut i32) (i32.const 1040)")
    assert "the stack of the new module begins elsewhere" in refusal(stack, TOOLCHAIN)
    longer = TOOLCHAIN.replace("second text....", "second text, and a longer one")
    assert "end at address" in refusal(longer, TOOLCHAIN)
    moved = TOOLCHAIN.replace("(i32.const 1040)", "(i32.const 1032)").replace(
        "first text.....\\00second text....\\00", "first..\\00second text....\\00        "
    )
    assert "look uses address 1032 in the new module, and 1040 before" in refusal(moved, TOOLCHAIN)
    # Another text of the same length, in its place.
    assert outcome(TOOLCHAIN.replace("second text", "Second text"), TOOLCHAIN) == (ord("S"),)


def test_an_agent_that_has_not_begun_may_get_anything_with_its_entry() -> None:
    first = Snapshot(packed(BASE).digest, "run")
    plan = upgrade.plan(packed(BASE), packed(TOOLCHAIN), first)
    assert not plan.possible, "run has other results"
    other = TOOLCHAIN.replace('(export "run") (result i32)', '(export "run") (result i32 i32)').replace(
        "(call $look)))", "(call $look) (i32.const 3)))"
    )
    later = upgrade.upgraded(packed(BASE), packed(other), first)
    with Execution(packed(other), engine=agents.load(), ambient=place(), snapshot=later) as run:
        run.advance()
        stop = run.advance(Woke())
    assert isinstance(stop, Finished)
    assert stop.results == (ord("s"), 3)


def test_other_packing_of_the_same_program() -> None:
    image, bare = packed(BASE, polls="none"), packed(BASE, profile="none")
    assert upgrade.plan(packed(BASE), image, frozen()).possible
    assert "--profile none" in str(upgrade.plan(packed(BASE), bare, frozen()).problems)


def test_hostile_modules_are_refused_and_crash_nothing() -> None:
    image, snapshot = packed(BASE), frozen()
    for at in range(9, len(image.code), 7):
        bent = bytearray(image.code)
        bent[at] ^= 0x55
        other = AgentImage(image.manifest, bytes(bent))
        try:
            mapped = upgrade.mapped(image, other, snapshot)[1]
        except BadImage:
            continue
        if mapped is not None:
            mapped.check(other)
    for code in (b"", b"\0asm\1\0\0\0", b"\0asm\1\0\0\0\0\x09\x08portcall"):
        other = AgentImage(Manifest(entry="run"), code)
        try:
            assert not upgrade.plan(image, other, snapshot).possible
        except BadImage:
            continue
