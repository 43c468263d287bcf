"""Canonical NaNs: what a program shows is what the specification's deterministic profile says, to the bit."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

import agents
from agents.rewrite import nan_values
from agents.rewrite.floats import FLOATS_SECTION, Floats, floats
from agents.rewrite.nans import canonical_nans
from agents.rewrite.relaxed import exact
from agents.wasm.decode import custom_section, decode_module
from agents.wasm.encode import encode_module
from agents.wasm.syntax import Module
from tests.patience import PATIENCE
from tests.thorough import examples
from tests.wasm.tools import spec_folder, wasm_tools

from .nan_programs import OUT, Random, Shown, deterministic, every_instruction, instructions, module

PROFILE = deterministic()
ENGINE = wasmtime.Engine()
FUSED = "_madd", "_nmadd"


def assembled(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


def changed(wasm: bytes) -> bytes:
    made = encode_module(canonical_nans(decode_module(wasm)))
    wasmtime.Module.validate(ENGINE, made)
    return made


def places(made: Module | bytes) -> int | None:
    section = made.custom(FLOATS_SECTION) if isinstance(made, Module) else custom_section(made, FLOATS_SECTION)
    return floats(section).nans


@pytest.mark.parametrize("traps", [False, True])
def test_each_instruction_shows_what_the_deterministic_profile_says(traps: bool) -> None:
    text, names = every_instruction(traps=traps)
    wasm = assembled(text)
    right, found, unchanged = Shown.of(PROFILE, wasm), Shown.of(ENGINE, changed(wasm)), Shown.of(ENGINE, wasm)
    differed = 0
    for name in names:
        expected = right.after(name)
        differed += unchanged.after(name) != expected
        if FUSED[0] not in name and FUSED[1] not in name:  # which may be rounded once or twice
            assert found.after(name) == expected, name
    assert traps or differed > 100  # so the test can fail


def test_each_instruction_in_a_function_that_is_too_large_to_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    text, names = every_instruction(traps=False)
    wasm = assembled(text)
    monkeypatch.setattr(nan_values, "MAX_WORK", 0)
    right, found = Shown.of(PROFILE, wasm), Shown.of(ENGINE, changed(wasm))
    for name in names[::5]:
        assert FUSED[0] in name or FUSED[1] in name or found.after(name) == right.after(name), name


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, 1 << 32))
def test_random_programs_show_what_it_says(seed: int) -> None:
    wasm = assembled(Random(seed).text())
    assert Shown.of(ENGINE, changed(wasm)).after("run") == Shown.of(PROFILE, wasm).after("run")


@pytest.mark.skipif(spec_folder() is None, reason="the specification's scripts are absent")
@pytest.mark.skipif(wasm_tools() is None, reason="wasm-tools is not installed")
@pytest.mark.parametrize("name", ["float_exprs", "float_misc", "simd/simd_lane", "simd/simd_splat"])
def test_scripts_of_the_specification_do(name: str) -> None:
    from tests.oracle.spec_scripts import run_script

    folder = spec_folder()
    assert folder is not None
    tally = run_script(Path(folder, f"{name}.wast"), hops=5, canonical=True)
    assert tally.failures == []
    assert tally.passed > 100


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("traps", [False, True])
def test_v8_shows_the_same_bytes(traps: bool, tmp_path: Path) -> None:
    text, names = every_instruction(traps=traps)
    wasm = assembled(text)
    names = [name for name in names if FUSED[0] not in name and FUSED[1] not in name]
    right = Shown.of(PROFILE, wasm)
    expected = [hashlib.sha256(right.after(name)).hexdigest() for name in names]
    (tmp_path / "changed.wasm").write_bytes(changed(wasm))
    line = ["node", str(Path(__file__).with_name("nan_memory.cjs")), str(tmp_path / "changed.wasm"), *names]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stderr == ""
    found = dict(zip(names, done.stdout.split(), strict=True))
    assert [name for name, right in zip(names, expected, strict=True) if found[name] != right] == []


def test_what_is_only_carried_keeps_its_bits() -> None:
    """A pointer in the payload of a NaN, through a local, a block, a call, a global and a choice."""
    wasm = assembled(
        module(f"""
        (global $g (mut f64) (f64.const 0))
        (func $same (param f64) (result f64) (local.get 0))
        (func (export "run") (local $x f64) (local $n i32)
          (i64.store (i32.const 0) (i64.const 0x7ff4000012345678))
          (local.set $x (f64.load (i32.const 0)))
          (global.set $g (call $same (local.get $x)))
          (loop $l
            (if (f64.lt (f64.add (local.get $x) (f64.const 1)) (f64.const 5)) (then (local.set $x (f64.const 2))))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $n) (i32.const 3))))
          (f64.store (i32.const {OUT}) (select (local.get $x) (global.get $g) (local.get $n)))
          (f64.store (i32.const {OUT + 8}) (block (result f64) (global.get $g))))""")
    )
    made = changed(wasm)
    assert places(made) == 0
    assert Shown.of(ENGINE, made).after("run")[OUT : OUT + 16] == bytes.fromhex("785634120000f47f") * 2


def test_a_nan_that_is_either_computed_or_loaded_is_made_canonical_only_if_computed() -> None:
    wasm = assembled(
        module(f"""
        (func (export "run") (local $x f64) (local $n i32)
          (i64.store (i32.const 0) (i64.const 0xfff4000012345678))
          (local.set $x (f64.load (i32.const 0)))
          (loop $l
            (f64.store (i32.add (i32.const {OUT}) (i32.shl (local.get $n) (i32.const 3))) (local.get $x))
            (local.set $x (f64.neg (f64.mul (local.get $x) (f64.const 2))))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $n) (i32.const 2)))))""")
    )
    made = changed(wasm)
    assert Shown.of(ENGINE, made).after("run")[OUT : OUT + 16].hex() == "785634120000f4ff" + "000000000000f8ff"


def test_a_sum_in_a_loop_is_looked_at_where_it_is_stored() -> None:
    text = f"""
        (func (export "run") (local $x f64) (local $n i32)
          (loop $l
            (local.set $x (f64.add (local.get $x) (f64.load (local.get $n))))
            (local.set $n (i32.add (local.get $n) (i32.const 8)))
            (br_if $l (i32.lt_u (local.get $n) (i32.const 64))))
          (f64.store (i32.const {OUT}) (local.get $x)))"""
    made = decode_module(changed(assembled(module(text))))
    assert places(made) == 1
    assert made.funcs[0].body[-7].imm == 0x7FF8 << 48  # behind the loop


def test_a_fused_sum_is_rounded_twice_where_it_was_one_instruction() -> None:
    rows = [row for row in instructions() if row.mnemonic.endswith(FUSED)]
    assert len(rows) == 4
    for row in rows:
        shape, negative = row.mnemonic.partition(".")[0], row.mnemonic.endswith("nmadd")
        first, second = f"(v128.load (i32.const {5 * 16}))", f"(v128.load (i32.const {9 * 16}))"
        for third in (f"(v128.load (i32.const {number * 16}))" for number in range(4)):
            product = f"({shape}.mul {first} {second})"
            apart = f"({shape}.sub {third} {product})" if negative else f"({shape}.add {product} {third})"
            one, two = (
                assembled(module(f'(func (export "run") (v128.store (i32.const {OUT}) {text}))'))
                for text in (f"({row.mnemonic} {first} {second} {third})", apart)
            )
            assert Shown.of(ENGINE, changed(one)).after("run") == Shown.of(PROFILE, two).after("run")


def test_packing_leaves_no_relaxed_instruction() -> None:
    text = '(func (export "run") (v128.store (i32.const 0) (i8x16.relaxed_swizzle {0} {0})))'
    wasm = assembled(module(text.format("(v128.load (i32.const 0))")))
    for nans in ("any", "canonical"):
        image = agents.pack(wasm, nans=nans)  # type: ignore[arg-type]
        said = floats(custom_section(image.code, FLOATS_SECTION))
        assert said == Floats(0 if nans == "canonical" else None, 1)
        assert encode_module(exact(decode_module(image.code))) == image.code
    plain = decode_module(assembled("(module)"))
    assert exact(plain) is plain


def test_it_is_done_once() -> None:
    once = changed(assembled(Random(1).text()))
    assert (places(once) or 0) > 0
    assert changed(once) == once


@pytest.mark.parametrize("section", [None, b"", b"\x80", b"\xa2", Floats(3, 1).encode()[:-1], b"\xff" * 300])
def test_a_section_that_is_not_ours_says_nothing(section: bytes | None) -> None:
    assert floats(section) == Floats()
    assert floats(Floats(3, 1).encode()) == Floats(3, 1)


def test_the_command_packs_so_and_inspect_says_it(tmp_path: Path) -> None:
    source, image = tmp_path / "divides.wat", tmp_path / "divides.agent"
    source.write_text(
        '(module (memory 1) (func (export "run") (f64.store (i32.const 0) (f64.div (f64.const 0) (f64.const 0)))))'
    )
    for options, said in ((["--nans", "canonical"], "the same everywhere"), ([], "as each processor and engine")):
        for line in (["pack", str(source), "-o", str(image), *options], ["inspect", str(image)]):
            done = subprocess.run(
                [sys.executable, "-m", "docking.cli", *line],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        assert said in done.stdout
