"""The decoder: offsets of errors, bounds, refusals by name, and its two roads through a body."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.errors import MalformedModule, ModuleTooLarge, UnsupportedFeature
from agents.wasm import opcodes as op
from agents.wasm.bounds import ModuleBounds
from agents.wasm.decode import custom_section, decode_module, instruction_offsets, sections
from agents.wasm.encode import encode_instruction, encode_module, unsigned
from agents.wasm.expressions import Expressions
from agents.wasm.reader import Reader
from agents.wasm.syntax import (
    FUNC,
    I32,
    I64,
    Catch,
    Custom,
    Elem,
    Func,
    FuncType,
    Global,
    GlobalType,
    Import,
    ImportFunc,
    Instr,
    Module,
    RefType,
)

from .generate import OPENERS, body, instruction, random_module

HEAD = b"\0asm\1\0\0\0"
END = Instr(op.END)


def section(ident: int, content: bytes) -> bytes:
    return bytes([ident]) + unsigned(len(content)) + content


def with_body(content: bytes, locals_: bytes = b"\0", before: bytes = b"") -> bytes:
    """A module with one function () -> () of which `content` is the body."""
    code = locals_ + content
    return (
        HEAD
        + section(1, b"\1\x60\0\0")
        + before
        + section(3, b"\1\0")
        + section(10, b"\1" + unsigned(len(code)) + code)
    )


BODY = len(with_body(b""))  # where the body begins


@pytest.mark.parametrize(
    ("data", "message", "offset"),
    [
        (b"", "magic header", 0),
        (b"\0asn\1\0\0\0", "magic header", 0),
        (b"\0asm\2\0\0\0", "unknown binary version", 4),
        (HEAD + b"\x0e\0", "malformed section id", 8),
        (HEAD + section(3, b"\0") + section(1, b"\0"), "out of order", 11),
        (HEAD + section(1, b"\0") * 2, "a section twice", 11),
        (HEAD + b"\1\5\0", "longer than the module", 8),
        (HEAD + b"\1\x80\x80\x80\x80\x80\0", "integer representation too long", 9),
        (HEAD + b"\1\xff\xff\xff\xff\x7f", "integer too large", 9),
        (HEAD + section(1, b"\1\x61\0\0"), "malformed type definition", 11),
        (HEAD + section(1, b"\1\x60\1\x10\0"), "malformed value type", 13),
        (HEAD + section(1, b"\0\0"), "bytes after the end of the section", 11),
        (HEAD + section(1, b"\xff\xff\xff\xff\x0f\0\0"), "length out of bounds", 10),
        (HEAD + section(0, b"\1\xff"), "malformed UTF-8", 11),
        (HEAD + section(3, b"\1\0"), "inconsistent lengths", 12),
        (with_body(b"\xd7\x0b"), "illegal opcode", BODY),
        (with_body(b"\x01\xff\x0b"), "illegal opcode", BODY + 1),
        (with_body(b"\xfd\xff\x7f\x0b"), "illegal opcode", BODY),
        (with_body(b"\x01"), "unexpected end", BODY + 1),
        (with_body(b"\x02\x40\x0b"), "unexpected end", BODY + 3),
        (with_body(b"\x0b\x01\x0b"), "bytes after the end of the function", BODY + 1),
        (with_body(b"\x01\x05\x0b"), "else without if", BODY + 1),
        (with_body(b"\x04\x40\x05\x05\x0b\x0b"), "else without if", BODY + 3),
        (with_body(b"\x41\xff\xff\xff\xff\x4f\x0b"), "integer too large", BODY + 1),
        (with_body(b"\x28\x80\x01\0\x0b"), "malformed memop flags", BODY + 1),
        (with_body(b"\x1f\x40\1\4\0\x0b\x0b"), "malformed catch clause", BODY + 3),
        (with_body(b"\x0b", b"\2\xff\xff\xff\xff\x0f\x7f\1\x7f"), "too many locals", BODY - 1),
        (with_body(b"\xfc\x09\0\x0b"), "data count section required", BODY),
        (HEAD + section(12, b"\1"), "data count and data section", 11),
        (HEAD + section(9, b"\1\x08"), "unexpected end", 10),
        (HEAD + section(9, b"\1\x08\0\0"), "malformed elements segment kind", 11),
        (HEAD + section(5, b"\1\x10\0"), "malformed limits flags", 11),
        (HEAD + section(2, b"\1\0\0\5\0"), "malformed import kind", 13),
    ],
)
def test_malformed(data: bytes, message: str, offset: int) -> None:
    with pytest.raises(MalformedModule, match=message) as caught:
        decode_module(data)
    assert caught.value.offset == offset


@pytest.mark.parametrize("code", sorted(op.REFUSED))
def test_refused_instruction(code: int) -> None:
    """Named by mnemonic, function and offset; the function's index counts imports."""
    mnemonic, feature = op.REFUSED[code]
    encoded = bytes([code]) if code < 0x100 else bytes([code >> 12]) + unsigned(code & 0xFFF)
    data = with_body(b"\x01" + encoded + b"\0\0\x0b", before=section(2, b"\1\0\0\0\0"))
    with pytest.raises(UnsupportedFeature, match=f"{feature} \\({mnemonic}\\)") as caught:
        decode_module(data)
    assert caught.value.function == 1
    assert data[caught.value.offset or 0 :].startswith(encoded)


@pytest.mark.parametrize(
    ("data", "feature", "offset"),
    [
        (HEAD + section(1, b"\1\x5f\0"), "struct types", 11),
        (HEAD + section(1, b"\1\x5e\x7f\0"), "array types", 11),
        (HEAD + section(1, b"\1\x4e\1\x60\0\0"), "recursive type groups", 11),
        (HEAD + section(1, b"\1\x50\0\x60\0\0"), "subtypes", 11),
        (HEAD + section(1, b"\1\x60\1\x6e\0"), "garbage collection \\(any\\)", 13),
        (HEAD + section(1, b"\1\x60\1\x63\x6c\0"), "garbage collection \\(i31\\)", 14),
        (HEAD + section(5, b"\1\3\1\1"), "threads \\(shared\\)", 11),
        (HEAD + section(5, b"\1\x08\1\0"), "custom page sizes", 11),
        (HEAD + section(6, b"\1\x7f\2\x41\0\x0b"), "shared globals", 12),
        (b"\0asm\x0d\0\1\0", "component model", 4),
        (with_body(b"\xfe\x7f\x0b"), "threads", BODY),
        (with_body(b"\xfb\x7f\x0b"), "garbage collection", BODY),
    ],
)
def test_refused_elsewhere(data: bytes, feature: str, offset: int) -> None:
    with pytest.raises(UnsupportedFeature, match=feature) as caught:
        decode_module(data)
    assert caught.value.offset == offset


def _function(*code: Instr, locals_: tuple[Any, ...] = (), count: int = 1) -> bytes:
    func = Func(0, locals_, (*code, END))
    return encode_module(Module(types=(FuncType(),), funcs=(func,) * count))


_NOP = Instr(op.NOP)
_BLOCK = Instr(op.BLOCK)
_CUSTOMS = (Custom("", b"", 0),) * 3
_ELEMS = (Elem("passive", None, None, FUNC, ((Instr(op.REF_FUNC, 0), END),) * 2),) * 3
_TYPES = (FuncType((I32,), (I64,)),) * 3


def _constants(count: int) -> bytes:
    entry = Global(GlobalType(I32), (Instr(op.I32_CONST, 0), END))
    return encode_module(Module(globals=(entry,) * count))


@pytest.mark.parametrize(
    ("bound", "limit", "fits", "exceeds"),
    [
        ("module", 30, _function(), _function(*[_NOP] * 9)),
        ("entries", 3, _function(count=3), _function(count=4)),
        ("instructions", 8, _function(_NOP, count=4), _function(_NOP, count=5)),
        ("distinct", 3, _function(_NOP, Instr(op.DROP)), _function(*[Instr(op.BR, i) for i in range(3)])),
        ("body", 10, _function(*[_NOP] * 8), _function(*[_NOP] * 9)),
        ("nesting", 3, _function(_BLOCK, _BLOCK, END, END), _function(*[_BLOCK] * 3, *[END] * 3)),
        ("locals", 5, _function(locals_=(I32,) * 5), _function(locals_=(I32,) * 6)),
        ("all_locals", 6, _function(locals_=(I32,) * 2, count=3), _function(locals_=(I32,) * 2, count=4)),
        ("customs", 2, encode_module(Module(customs=_CUSTOMS[:2])), encode_module(Module(customs=_CUSTOMS))),
        ("items", 4, encode_module(Module(elems=_ELEMS[:2])), encode_module(Module(elems=_ELEMS))),
        ("type_entries", 4, encode_module(Module(types=_TYPES[:2])), encode_module(Module(types=_TYPES))),
        ("instructions", 4, _constants(2), _constants(3)),
        (
            "params",
            2,
            encode_module(Module(types=(FuncType((I32, I32)),))),
            encode_module(Module(types=(FuncType((I32,) * 3),))),
        ),
        (
            "results",
            2,
            encode_module(Module(types=(FuncType((), (I32, I32)),))),
            encode_module(Module(types=(FuncType((), (I32,) * 3),))),
        ),
    ],
)
def test_bounds(bound: str, limit: int, fits: bytes, exceeds: bytes) -> None:
    """At the bound is fine; beyond it is refused, naming the bound."""
    bounds = ModuleBounds(**{bound: limit})
    decode_module(fits, bounds)
    with pytest.raises(ModuleTooLarge, match=f"for {bound}"):
        decode_module(exceeds, bounds)


def test_a_lie_about_locals_is_refused_before_memory_is_spent() -> None:
    """Seven bytes each, 40,000 locals each: their sum is bounded, and equal declarations share one tuple."""
    func = Func(0, (I32,) * 40_000, (END,))
    data = encode_module(Module(types=(FuncType(),), funcs=(func,) * 300))
    assert len(data) < 3000
    with pytest.raises(ModuleTooLarge, match="for all_locals"):
        decode_module(data)
    decoded = decode_module(encode_module(Module(types=(FuncType(),), funcs=(func,) * 200)))
    assert len({id(func.locals) for func in decoded.funcs}) == 1


def test_equal_instructions_are_one_object() -> None:
    add = Instr(op.I32_CONST, 77777)
    module = decode_module(_function(add, Instr(op.DROP), add, Instr(op.DROP), count=2))
    assert len({id(instr) for func in module.funcs for instr in func.body if instr == add}) == 1


@given(st.integers(0, 2**32))
def test_both_roads_give_the_same_body(seed: int) -> None:
    """The quick road through a body, and the careful one."""
    code = b"".join(map(encode_instruction, body(Random(seed))))
    quick = Expressions(code, ModuleBounds()).body(0, len(code), 0)
    careful = Expressions(code, ModuleBounds()).constant(Reader(code))
    assert quick == careful


@given(st.integers(0, 2**32), st.binary(max_size=12))
def test_both_roads_give_the_same_error(seed: int, noise: bytes) -> None:
    """On damaged bodies too: what the quick road cannot account for, it leaves to the other."""
    rng = Random(seed)
    code = b"".join(map(encode_instruction, body(rng)))
    place = rng.randrange(len(code) + 1)
    code = code[:place] + noise + code[place:]

    def outcome(read: Any) -> object:
        try:
            return read()
        except (MalformedModule, UnsupportedFeature) as error:
            return type(error), str(error)

    def careful() -> object:
        r = Reader(code, function=0)
        found = Expressions(code, ModuleBounds()).constant(r)
        if r.position != len(code):
            raise r.malformed("section size mismatch: bytes after the end of the function")
        return found

    assert outcome(lambda: Expressions(code, ModuleBounds()).body(0, len(code), 0)) == outcome(careful)


@pytest.mark.parametrize(
    "instr",
    [
        Instr(op.BR_TABLE, (tuple(range(127)), 0)),
        Instr(op.BR_TABLE, (tuple(range(128)), 0)),
        Instr(op.BR_TABLE, (tuple(range(5000)), 7)),
        Instr(op.TRY_TABLE, (None, tuple(Catch("catch", 0, i) for i in range(40)))),
        Instr(op.SELECT_T, (RefType(True, 1000),)),
        Instr(op.SELECT_T, ()),
    ],
    ids=lambda instr: op.TABLE[instr.code].mnemonic,
)
def test_long_immediates(instr: Instr) -> None:
    """Also those that the quick road has no pattern for."""
    code = (instr, END) if instr.code in OPENERS else (instr,)
    module = decode_module(_function(_NOP, *code, _NOP))
    assert module.funcs[0].body == (_NOP, *code, _NOP, END)
    offsets = instruction_offsets(module, 0)
    assert offsets is not None
    assert offsets[-1] == len(module.source or b"") - 1


@given(st.integers(0, 2**32))
def test_instruction_offsets(seed: int) -> None:
    """Each offset is where that instruction's bytes are; functions count from the first import."""
    rng = Random(seed)
    imported = Import("", "", ImportFunc(0))
    funcs = tuple(Func(0, (I32,) * 3, body(rng)) for _ in range(3))
    made = Module(types=(FuncType(),), imports=(imported,), funcs=funcs, data_count=0)
    module = decode_module(encode_module(made))
    for index, func in enumerate(module.funcs, 1):
        offsets = instruction_offsets(module, index)
        assert offsets is not None
        assert module.source is not None
        for offset, instr in zip(offsets, func.body, strict=True):
            assert module.source.startswith(encode_instruction(instr), offset)


def test_a_made_module_has_no_offsets() -> None:
    assert instruction_offsets(Module(types=(FuncType(),), funcs=(Func(0, (), (END,)),)), 0) is None


def test_sections_and_custom_sections() -> None:
    made = Module(
        types=(FuncType(),),
        customs=(Custom("a", b"1", 0), Custom("b", b"22", 1), Custom("a", b"333", 1), Custom("c", b"", 11)),
    )
    data = encode_module(made)
    assert next((ident, bytes(content)) for ident, _, content in sections(data)) == (0, b"\1a1")
    for ident, offset, content in sections(data):
        assert data[offset : offset + len(content)] == content
        assert ident in (0, 1)
    assert custom_section(data, "a") == b"1"
    assert custom_section(data, "c") == b""
    assert custom_section(data, "d") is None
    # `after` names the section that really came before.
    assert [custom.after for custom in decode_module(data).customs] == [0, 1, 1, 1]


def test_element_segments_keep_their_form() -> None:
    """Function indices stay function indices, expressions stay expressions."""
    item = (Instr(op.REF_FUNC, 0), END)
    zero = (Instr(op.I32_CONST, 0), END)
    kinds = (FUNC, RefType(True, "func"), RefType(True, "extern"), RefType(False, 5))
    elems = [Elem("active", table, zero, kind, (item,)) for table in (0, 3) for kind in kinds]
    elems += [Elem("passive", None, None, kind, (item,)) for kind in kinds]
    elems += [Elem("declarative", None, None, kind, (item, item)) for kind in kinds]
    assert decode_module(encode_module(Module(elems=tuple(elems)))).elems == tuple(elems)


@given(st.integers(0, 2**32))
def test_any_module_comes_back(seed: int) -> None:
    made = random_module(Random(seed))
    back = decode_module(encode_module(made))
    assert (back.types, back.imports, back.funcs, back.elems, back.datas) == (
        made.types,
        made.imports,
        made.funcs,
        made.elems,
        made.datas,
    )
    assert encode_module(back) == encode_module(made)


@pytest.mark.parametrize("code", sorted(op.TABLE))
def test_every_instruction_comes_back(code: int) -> None:
    """Through the quick road, alone with what follows it."""
    rng = Random(code)
    for _ in range(20):
        instr = instruction(rng, code)
        if code in (op.ELSE, op.END):
            continue
        code_ = (instr, END) if code in OPENERS else (instr,)
        module = Module(types=(FuncType(),), funcs=(Func(0, (), (*code_, _NOP, END)),), data_count=0)
        assert decode_module(encode_module(module)).funcs == module.funcs
