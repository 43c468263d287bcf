"""The printer: goldens, and an assembler that reads back what it prints."""

from __future__ import annotations

from pathlib import Path
from random import Random

import attrs
import pytest

from agents.errors import ModuleError
from agents.wasm import opcodes as op
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module
from agents.wasm.names import Names, with_names
from agents.wasm.syntax import (
    F32,
    FUNC,
    FUNCREF,
    I32,
    I64,
    Catch,
    Custom,
    Data,
    Elem,
    Export,
    Func,
    FuncType,
    Global,
    GlobalType,
    Import,
    ImportFunc,
    Instr,
    MemArg,
    MemType,
    Module,
    RefType,
    Table,
    TableType,
    Tag,
    TypeLimits,
)
from agents.wasm.text import instruction_text, print_function, print_module
from agents.wasm.validate import validate_module
from tests.thorough import examples, one_in

from .fuzz import smith_module
from .generate import random_module
from .tools import commands, run_tool, spec_scripts, wasm_tools

END = Instr(op.END)

MODULE = Module(
    types=(FuncType((I32,), (I64,)), FuncType(), FuncType((RefType(True, 0),), ())),
    imports=(Import("env", 'q"\n', ImportFunc(1)), Import("env", "m", MemType(TypeLimits(1, 2), True))),
    funcs=(
        Func(
            0,
            (F32, I64),
            (
                Instr(op.BLOCK),
                Instr(op.TRY_TABLE, (1, (Catch("catch", 0, 0), Catch("catch_all", None, 1)))),
                Instr(op.CALL, 0),
                END,
                END,
                Instr(op.LOCAL_GET, 0),
                Instr(op.IF, I64),
                Instr(op.I64_CONST, -5),
                Instr(op.ELSE),
                Instr(op.I32_CONST, 0),
                Instr(op.I64_LOAD, MemArg(3, 16, 1)),
                END,
                END,
            ),
        ),
    ),
    tables=(Table(TableType(FUNCREF, TypeLimits(3))),),
    mems=(MemType(TypeLimits(1)),),
    tags=(Tag(1),),
    globals=(Global(GlobalType(F32, True), (Instr(op.F32_CONST, 0x3FC00000), END)),),
    exports=(Export("go", "func", 1),),
    start=0,
    elems=(
        Elem("active", 0, (Instr(op.I32_CONST, 1), END), FUNC, ((Instr(op.REF_FUNC, 1), END),)),
        Elem("passive", None, None, FUNCREF, ((Instr(op.REF_NULL, "func"), END),)),
    ),
    datas=(Data("active", 1, (Instr(op.I32_CONST, 8), END), b'a"\\\xff'),),
    customs=(Custom("note", b"123", 11),),
)

GOLDEN = r"""(module
  (type (;0;) (func (param i32) (result i64)))
  (type (;1;) (func))
  (type (;2;) (func (param (ref null 0))))
  (import "env" "q\22\0a" (func (;0;) (type 1)))
  (import "env" "m" (memory (;0;) i64 1 2))
  (table (;0;) 3 (ref null func))
  (memory (;1;) 1)
  (tag (;0;) (type 1))
  (global (;0;) (mut f32) f32.const 0x1.8000000000000p+0)
  (export "go" (func 1))
  (start 0)
  (elem (;0;) (table 0) (offset i32.const 1) func 1)
  (elem (;1;) (ref null func) (item ref.null func))
  (func (;1;) (type 0) (param i32) (result i64) ;; travel
    (local f32 i64)
    block
      try_table (type 1) (catch 0 0) (catch_all 1)
        call 0
      end
    end
    local.get 0
    if (result i64)
      i64.const -5
    else
      i32.const 0
      i64.load 1 offset=16 align=8
    end
  )
  (data (;0;) (memory 1) (offset i32.const 8) "a\22\5c\ff")
  ;; custom section "note": 3 bytes
  ;; custom section "name": 11 bytes
)
"""


def test_golden() -> None:
    named = with_names(MODULE, Names(functions={1: "travel"}))
    assert print_module(named) == GOLDEN
    assert print_function(named, 1) in GOLDEN
    with pytest.raises(IndexError):
        print_function(named, 0)


@pytest.mark.parametrize(
    ("instr", "text"),
    [
        (Instr(op.I32_ADD), "i32.add"),
        (Instr(op.BR_TABLE, ((1, 2), 0)), "br_table 1 2 0"),
        (Instr(op.CALL_INDIRECT, (4, 1)), "call_indirect 1 (type 4)"),
        (Instr(op.MEMORY_INIT, (3, 1)), "memory.init 1 3"),
        (Instr(op.MEMORY_COPY, (3, 1)), "memory.copy 3 1"),
        (Instr(op.SELECT_T, (I64,)), "select (result i64)"),
        (Instr(op.F32_CONST, 0x7FC00000), "f32.const nan:0x400000"),
        (Instr(op.F32_CONST, 0xFF800000), "f32.const -inf"),
        (Instr(op.F64_CONST, 0x8000000000000000), "f64.const -0x0.0p+0"),
        (Instr(op.F64_CONST, 1), "f64.const 0x0.0000000000001p-1022"),
        (Instr(op.V128_LOAD8_LANE, (MemArg(0, 0, 0), 7)), "v128.load8_lane align=1 7"),
        (Instr(op.V128_CONST, bytes(range(16))), "v128.const i32x4 0x03020100 0x07060504 0x0b0a0908 0x0f0e0d0c"),
    ],
)
def test_instruction(instr: Instr, text: str) -> None:
    assert instruction_text(instr) == text


def test_a_name_cannot_leave_its_comment() -> None:
    text = print_module(with_names(MODULE, Names(module="x\n(start 99)", functions={1: "a\rb"})))
    assert "\n(start 99)" not in text
    assert "\r" not in text


def _bare(module: Module) -> Module:
    return attrs.evolve(module, customs=(), data_count=None)


def _reassembles(module: Module) -> None:
    binary = run_tool("parse", "-", data=print_module(module).encode())
    assert binary is not None, print_module(module)
    assert _bare(decode_module(binary)) == _bare(module)


needs_assembler = pytest.mark.skipif(wasm_tools() is None, reason="the program wasm-tools is not installed")


@needs_assembler
def test_an_assembler_reads_it_back() -> None:
    """Modules of all kinds, valid and not; alignments that have no text are left out by validity."""
    _reassembles(MODULE)
    rng = Random(7)
    done = 0
    while done < examples(15):
        module = random_module(rng)
        try:
            validate_module(module)
        except ModuleError:
            continue
        _reassembles(decode_module(encode_module(module)))
        done += 1
    for _ in range(examples(8)):
        made = smith_module(rng)
        if made is not None:
            _reassembles(decode_module(made))


@needs_assembler
@pytest.mark.parametrize("name", ["try_table.wast", "simd_const.wast", "memory_init64.wast", "elem.wast", "const.wast"])
def test_an_assembler_reads_back_the_specification(name: str, tmp_path: Path) -> None:
    """Some modules of some of its scripts."""
    scripts = [script for script in spec_scripts() if script.name == name]
    if not scripts:
        pytest.skip("no folder of specification scripts: set PORTCALL_WASM_SPEC")
    valid = [c.module for c in commands(scripts[0], tmp_path) if c.kind == "module"]
    for data in one_in(1 + len(valid) // 12, valid):
        _reassembles(decode_module(data))
