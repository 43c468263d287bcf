"""The table of instructions: complete, and the same as an assembler's."""

from __future__ import annotations

import struct
from random import Random

import pytest

from agents.wasm import opcodes as op
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module
from agents.wasm.syntax import Func, FuncType, Instr, Module
from agents.wasm.text import instruction_text

from .generate import OPENERS, instruction
from .tools import run_tool, wasm_tools

END = Instr(op.END)


def test_constants_are_the_mnemonics() -> None:
    for name, code in vars(op).items():
        if isinstance(code, int) and name.isupper():
            expected = name.removesuffix("_T").lower()
            assert op.TABLE[code].mnemonic.replace(".", "_") == expected
    named = [code for name, code in vars(op).items() if isinstance(code, int) and name.isupper()]
    assert sorted(named) == sorted(op.TABLE)


def test_counts() -> None:
    """As many as the specification lists (A.6): 193 without prefix, 18 with 0xFC, 236 + 20 with 0xFD."""
    by_prefix = [code >> 12 for code in op.TABLE]
    assert (by_prefix.count(0), by_prefix.count(0xFC), by_prefix.count(0xFD)) == (193, 18, 256)
    assert not set(op.TABLE) & set(op.REFUSED)


def test_letters_of_the_text_are_those_of_the_table() -> None:
    """Mnemonics say what they take: `f64.promote_f32` takes an f32 and gives an f64."""
    letters = {"i32": "i", "i64": "I", "f32": "f", "f64": "F"}
    for row in op.TABLE.values():
        shape, _, action = row.mnemonic.partition(".")
        if row.code < 0xFD000 and shape in letters and row.results:
            compares = action.split("_")[0] in ("eqz", "eq", "ne", "lt", "gt", "le", "ge")
            assert row.results == ("i" if compares else letters[shape]), row
            source = action.split("_")[-2:] if action.endswith(("_s", "_u")) else action.split("_")[-1:]
            if source[0] in letters:
                assert row.params == letters[source[0]], row


@pytest.mark.skipif(wasm_tools() is None, reason="the program wasm-tools is not installed")
def test_an_assembler_agrees_on_every_opcode() -> None:
    """Each mnemonic with a random immediate, assembled, is what the encoder writes."""
    rng = Random(11)
    instrs = []
    for code in sorted(op.TABLE):
        if code in (op.ELSE, op.END):
            continue
        for _ in range(3):
            made = instruction(rng, code)
            if op.TABLE[code].imm in (op.Imm.F32, op.Imm.F64):
                size = 4 if op.TABLE[code].imm is op.Imm.F32 else 8
                made = Instr(code, int.from_bytes(struct.pack("<f" if size == 4 else "<d", 1.5), "little"))
            instrs.append((made, END) if code in OPENERS else (made,))
    funcs = tuple(Func(0, (), (*code, END)) for code in instrs)
    text = "(module (type (func))" + "".join(
        "(func (type 0) " + " ".join("end" if i == END else instruction_text(i) for i in code) + ")" for code in instrs
    )
    binary = run_tool("parse", "-", data=(text + ")").encode())
    assert binary is not None
    module = Module(types=(FuncType(),), funcs=funcs, data_count=0)
    assert decode_module(binary).funcs == decode_module(encode_module(module)).funcs
