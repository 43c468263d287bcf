"""The validator: operand types for the rewriter, where errors are, type equality, and bounds on its own
work.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.errors import InvalidModule, ModuleTooLarge
from agents.wasm import opcodes as op
from agents.wasm.bounds import ModuleBounds
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module
from agents.wasm.matching import canonical_types, matches
from agents.wasm.syntax import (
    EXNREF,
    EXTERNREF,
    F32,
    F64,
    FUNC,
    FUNCREF,
    I32,
    I64,
    V128,
    Catch,
    Elem,
    Expr,
    Func,
    FuncType,
    Global,
    GlobalType,
    Import,
    ImportFunc,
    Instr,
    MemType,
    Module,
    RefType,
    Table,
    TableType,
    Tag,
    TypeLimits,
    ValType,
)
from agents.wasm.validate import operand_types, validate_context, validate_module

END = Instr(op.END)
I = Instr  # noqa: E741 - bodies below are many instructions


def const(value: int) -> Instr:
    return Instr(op.I32_CONST, value)


def one(*code: Instr, locals_: tuple[ValType, ...] = (), **fields: object) -> Module:
    """A module with an imported function (i32, i64) -> (i32) and one of its own, number 1."""
    return Module(
        types=(FuncType((I32, I64), (I32,)), FuncType(), FuncType((), (F32, F64)), FuncType((I64,), ())),
        imports=(Import("env", "f", ImportFunc(0)),),
        funcs=(Func(1, locals_, (*code, END)),),
        **fields,  # type: ignore[arg-type]
    )


def operands(module: Module, *at: int) -> dict[int, tuple[ValType, ...]]:
    return operand_types(validate_context(module), 1, at)


def test_operands_are_those_of_the_innermost_block() -> None:
    module = one(
        const(1),  # 0
        I(op.I64_CONST, 2),  # 1
        I(op.CALL, 0),  # 2: i32 i64
        I(op.BLOCK, I64),  # 3
        I(op.F32_CONST, 0),  # 4
        I(op.F64_CONST, 0),  # 5
        I(op.I64_CONST, 2),  # 6: f32 f64, and not the i32 below the block
        I(op.BR, 0),  # 7: f32 f64 i64
        I(op.UNREACHABLE),  # 8: dead
        END,  # 9: dead
        I(op.DROP),  # 10: i32 i64
        I(op.DROP),  # 11
    )
    assert operands(module, 0, 2, 3, 4, 6, 7, 8, 9, 10) == {
        0: (),
        2: (I32, I64),
        3: (I32,),
        4: (),
        6: (F32, F64),
        7: (F32, F64, I64),
        10: (I32, I64),
    }


def test_operands_of_if_contain_the_condition_and_parameters() -> None:
    module = one(
        const(0),
        I(op.I64_CONST, 5),  # 1
        const(1),  # 2
        I(op.IF, 3),  # 3: i32 i64 i32; takes the i64
        I(op.DROP),  # 4: i64
        I(op.ELSE),  # 5
        I(op.DROP),  # 6: i64 again
        END,
        I(op.DROP),  # 8
    )
    assert operands(module, 3, 4, 5, 6, 8) == {3: (I32, I64, I32), 4: (I64,), 5: (), 6: (I64,), 8: (I32,)}


def test_a_block_in_dead_code_is_not_reachable() -> None:
    """Though inside it the stack is not polymorphic."""
    module = one(I(op.RETURN), I(op.BLOCK), const(1), I(op.DROP), END, I(op.NOP))
    assert operands(module, 1, 2, 3, 4, 5) == {}
    loop = one(I(op.BLOCK), I(op.BR, 0), END, I(op.NOP))
    assert operands(loop, 2, 3) == {3: ()}


def test_operands_at_no_place_and_at_places_that_do_not_exist() -> None:
    module = one(I(op.NOP))
    assert operands(module) == {}
    assert operands(module, 0, 99) == {0: ()}


def test_operands_of_multi_value_and_references() -> None:
    module = one(
        I(op.BLOCK, 2),
        I(op.F32_CONST, 0),
        I(op.F64_CONST, 0),
        END,
        I(op.REF_NULL, "extern"),
        I(op.REF_NULL, 3),
        I(op.NOP),  # 6
        *[I(op.DROP)] * 4,
    )
    assert operands(module, 6) == {6: (F32, F64, EXTERNREF, RefType(True, 3))}


def test_operands_in_try_table_and_its_handlers() -> None:
    module = one(
        I(op.BLOCK, EXNREF),  # 0
        I(op.TRY_TABLE, (None, (Catch("catch_all_ref", None, 0),))),  # 1
        I(op.NOP),  # 2
        END,  # 3
        I(op.RETURN),  # 4
        END,  # 5
        I(op.THROW_REF),  # 6: exnref
    )
    assert operands(module, 1, 2, 4, 5, 6) == {1: (), 2: (), 4: (), 6: (EXNREF,)}


@given(st.integers(0, 2**32))
def test_asking_for_operands_changes_no_judgement(seed: int) -> None:
    """And every reachable place has an answer without bottom."""
    from .generate import random_module

    module = random_module(Random(seed))
    try:
        context = validate_context(module)
    except InvalidModule:
        return
    first = module.imported("func")
    for index, func in enumerate(module.funcs, first):
        outcomes = []
        for at in ((), range(len(func.body))):
            try:
                outcomes.append(operand_types(context, index, at) and None)
            except InvalidModule as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1] or outcomes[0] == {}


# --- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message", "wrong"),
    [
        ([I(op.DROP)], "nothing on the stack", 0),
        ([const(1), I(op.I64_EQZ), I(op.DROP)], "expected i64, found i32", 1),
        ([I(op.CALL, 7)], "unknown function 7", 0),
        ([I(op.LOCAL_GET, 0)], "unknown local 0", 0),
        ([I(op.NOP), I(op.BR, 1)], "unknown label 1", 1),
        ([I(op.GLOBAL_GET, 0)], "unknown global 0", 0),
        ([const(0), I(op.TABLE_GET, 0)], "unknown table 0", 1),
        ([I(op.MEMORY_SIZE, 0)], "unknown memory 0", 0),
        ([I(op.THROW, 0)], "unknown tag 0", 0),
        ([I(op.DATA_DROP, 0)], "unknown data segment 0", 0),
        ([I(op.ELEM_DROP, 0)], "unknown elem segment 0", 0),
        ([I(op.REF_FUNC, 1)], "undeclared function reference 1", 0),
        ([I(op.BLOCK, 9), END], "unknown type 9", 0),
        ([I(op.REF_NULL, 9)], "unknown type 9", 0),
        ([const(1)], "1 values remain", 1),
        ([I(op.BLOCK, I32), END, I(op.DROP)], "expected 1 operands, found 0", 1),
        ([const(1), I(op.IF, I32), const(1), END, I(op.DROP)], "if without else", 3),
        ([I(op.UNREACHABLE), I(op.SELECT_T, (I32, I32))], "result arity", 1),
        ([I(op.REF_NULL, "func")] * 2 + [const(0), I(op.SELECT)], "takes no references", 3),
        ([I(op.REF_NULL, "extern"), I(op.CALL_REF, 1)], "expected \\(ref null 1\\)", 1),
        ([I(op.RETURN_CALL, 0)], "the results of a tail call", 0),
        ([I(op.UNREACHABLE), I(op.I8X16_EXTRACT_LANE_S, 16)], "invalid lane index 16", 1),
        ([I(op.UNREACHABLE), I(op.I8X16_SHUFFLE, bytes(15) + b"\x20")], "invalid lane index", 1),
        ([I(op.UNREACHABLE), I(op.LOCAL_TEE, 0)], "unknown local 0", 1),
    ],
)
def test_errors_say_where(code: list[Instr], message: str, wrong: int) -> None:
    """The function, and the offset of the very instruction."""
    module = decode_module(encode_module(one(*code, data_count=0)))
    with pytest.raises(InvalidModule, match=message) as caught:
        validate_module(module)
    assert caught.value.function == 1
    from agents.wasm.decode import instruction_offsets

    offsets = instruction_offsets(module, 1)
    assert offsets is not None
    assert caught.value.offset == offsets[wrong]


ZERO: Expr = (const(0), END)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Module(types=(FuncType((RefType(True, 1),)), FuncType())), "unknown type 1"),
        (Module(imports=(Import("", "", ImportFunc(0)),)), "unknown type 0"),
        (Module(mems=(MemType(TypeLimits(65537)),)), "memory size"),
        (Module(mems=(MemType(TypeLimits(2, 1)),)), "minimum must not be greater"),
        (Module(tables=(Table(TableType(FUNC, TypeLimits(0))),)), "needs an initialiser"),
        (Module(globals=(Global(GlobalType(I64), ZERO),)), "type mismatch"),
        (Module(globals=(Global(GlobalType(I32), (const(1), I(op.I32_CLZ), END)),)), "constant expression"),
        (Module(globals=(Global(GlobalType(I32), (I(op.GLOBAL_GET, 0), END)),)), "unknown global 0"),
        (Module(start=0), "unknown function 0"),
        (Module(types=(FuncType((), (I32,)),), tags=(Tag(0),)), "non-empty tag result"),
        (Module(elems=(Elem("active", 0, ZERO, FUNCREF, ()),)), "unknown table 0"),
    ],
)
def test_module_errors_say_where(module: Module, message: str) -> None:
    """An offset inside the module, also outside of function bodies."""
    data = encode_module(module)
    with pytest.raises(InvalidModule, match=message) as caught:
        validate_module(decode_module(data))
    assert caught.value.offset is not None
    assert 8 < caught.value.offset < len(data)


# --- types -------------------------------------------------------------------------------------------------


def test_equal_definitions_are_one_type() -> None:
    """By structure, through references, and a definition may mention itself."""
    types = (
        FuncType((I32,)),
        FuncType((I32,)),
        FuncType((RefType(True, 0),)),
        FuncType((RefType(True, 1),)),
        FuncType((RefType(False, 4),)),
        FuncType((RefType(False, 5),)),
        FuncType((RefType(False, 4),)),
    )
    assert canonical_types(types).number == (0, 0, 2, 2, 4, 4, 6)


def test_matching() -> None:
    null_func, typed, none = RefType(True, "func"), RefType(False, 3), RefType(True, "nofunc")
    assert matches(typed, null_func)
    assert matches(none, RefType(True, 3))
    assert not matches(none, typed)
    assert not matches(null_func, typed)
    assert not matches(RefType(True, "noextern"), null_func)
    assert not matches(I32, I64)
    assert not matches(typed, I32)
    for low in (I32, V128, null_func, typed, none):
        assert matches(low, low)


def test_locals_that_are_never_null_are_set_before_they_are_read() -> None:
    typed = RefType(False, "func")
    get, set_ = I(op.LOCAL_GET, 0), I(op.LOCAL_SET, 0)
    func = I(op.REF_FUNC, 0)
    declare = (Elem("declarative", None, None, FUNC, ((func, END),)),)
    validate_module(one(func, set_, get, I(op.DROP), locals_=(typed,), elems=declare))
    inner = (func, I(op.BLOCK), func, set_, END, I(op.DROP))
    validate_module(one(*inner, locals_=(typed,), elems=declare))
    with pytest.raises(InvalidModule, match="uninitialized local 0"):
        validate_module(one(get, I(op.DROP), locals_=(typed,), elems=declare))
    with pytest.raises(InvalidModule, match="uninitialized local 0"):
        validate_module(one(*inner, get, I(op.DROP), locals_=(typed,), elems=declare))


# --- the validator's own work ------------------------------------------------------------------------------


def _large(*code: Instr) -> Module:
    many = FuncType((I32,) * 1000, (I32,) * 1000)
    source = FuncType((), (I32,) * 1000)
    imports = (Import("", "a", ImportFunc(0)), Import("", "b", ImportFunc(1)))
    func = Func(2, (), (*code, I(op.UNREACHABLE), END))
    return Module(types=(many, source, FuncType()), imports=imports, funcs=(func,))


def test_the_operand_stack_is_bounded() -> None:
    """Two bytes push a thousand operands."""
    module = decode_module(encode_module(_large(*[I(op.CALL, 1)] * 2000)))
    with pytest.raises(ModuleTooLarge, match="for operands") as caught:
        validate_module(module)
    assert caught.value.offset is not None
    assert caught.value.function == 2
    nested = [I(op.CALL, 1), I(op.BLOCK)] * 1500
    with pytest.raises(ModuleTooLarge, match="for operands"):
        validate_module(_large(*nested, *[I(op.UNREACHABLE), END] * 1500))


@pytest.mark.parametrize(
    "code",
    [
        lambda n: [I(op.UNREACHABLE)] + [I(op.CALL, 0)] * n,
        lambda n: [I(op.CALL, 1)] + [I(op.CALL, 0)] * n,
        lambda n: [I(op.BLOCK, 1), I(op.CALL, 1)] + [const(0), I(op.BR_IF, 0)] * n + [END],
        lambda n: [I(op.UNREACHABLE)] + [I(op.BLOCK, 0), I(op.UNREACHABLE), END] * n,
    ],
    ids=["dead calls", "calls", "branches", "blocks"],
)
def test_operands_moved_are_bounded(code: Callable[[int], list[Instr]]) -> None:
    """A thousand of them for two bytes, in dead code too."""
    bounds = ModuleBounds(moves=200_000)
    with pytest.raises(ModuleTooLarge, match="for moves"):
        validate_module(_large(*code(300)), bounds)
    validate_module(_large(*code(20)), bounds)


def test_a_branch_table_looks_at_each_type_of_label_once() -> None:
    """65,000 labels of a thousand operands each are four bytes of type and 65 kB of labels."""
    table = I(op.BR_TABLE, ((0,) * 60_000, 0))
    module = _large(I(op.BLOCK, 1), I(op.CALL, 1), const(0), table, END)
    validate_module(module, ModuleBounds(moves=20_000))


def test_made_modules_that_are_not_well_nested_are_invalid() -> None:
    for code in ([END], [I(op.BLOCK)], [I(op.ELSE)], [END, I(op.NOP)]):
        with pytest.raises(InvalidModule):
            validate_module(one(*code))
    with pytest.raises(InvalidModule):
        validate_module(Module(types=(FuncType(),), funcs=(Func(0, (), ()),)))


def test_reported_operands_are_bounded() -> None:
    """A high stack, reported at every place."""
    module = one(*[const(1)] * 300, I(op.UNREACHABLE))
    bounds = ModuleBounds(moves=10_000)
    context = validate_context(module, bounds)
    assert len(operand_types(context, 1, (300,))[300]) == 300
    with pytest.raises(ModuleTooLarge, match="for moves"):
        operand_types(context, 1, range(300))
