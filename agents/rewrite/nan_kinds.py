"""What each instruction does with the bits of a NaN: the facts on which :mod:`agents.rewrite.nans` stands.

Facts of the specification (WebAssembly 3.0, section 4.3.3): an *arithmetic* instruction with a NaN among its operands
gives a NaN, whose sign and payload it leaves open; all others are exact in every bit. Comparisons and conversions to
integers do the same for every NaN. Which values of a program are which is not here (:mod:`agents.rewrite.nan_values`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

import attrs

from agents.wasm import opcodes as op
from agents.wasm.syntax import F32, F64, V128, Instr, ValType

Shape = Literal["f32", "f64", "f32x4", "f64x2"]
"""What the bits of a value are read as: a scalar, or lanes of a vector."""

#: The positive canonical NaN, as the specification's deterministic profile makes it; and how many lanes of it.
_NAN: Final[Mapping[Shape, tuple[int, int, int]]] = {  # bits, bytes, lanes
    "f32": (0x7FC00000, 4, 1),
    "f64": (0x7FF8 << 48, 8, 1),
    "f32x4": (0x7FC00000, 4, 4),
    "f64x2": (0x7FF8 << 48, 8, 2),
}
_EQUAL: Final[Mapping[Shape, int]] = {"f32": op.F32_GE, "f64": op.F64_GE, "f32x4": op.F32X4_EQ, "f64x2": op.F64X2_EQ}
TYPES: Final[Mapping[Shape, ValType]] = {"f32": F32, "f64": F64, "f32x4": V128, "f64x2": V128}

Role = Literal["arithmetic", "negate", "absolute", "same", "choose", "compare", "integer"]
"""arithmetic: gives a NaN for a NaN, of any bits
negate, absolute: changes the sign only
same: the bits of its operand, in another place: a lane taken out, or a scalar in all lanes
choose: the bits of one of its operands, lane by lane
compare: does the same for every NaN, and what it gives is exact
integer: reads the bits of integers, and what it gives is never a NaN
"""


@attrs.frozen
class NanRole:
    """`reads`: what its operands are read as; `gives`: the shape of what it gives. Other shapes are exact bits."""

    role: Role
    reads: Shape
    gives: Shape


_ARITHMETIC = "add|sub|mul|div|sqrt|min|max|ceil|floor|trunc|nearest"
_COMPARING = "eq|ne|lt|gt|le|ge"
_OTHER: Final[Mapping[str, NanRole]] = {
    "f32.demote_f64": NanRole("arithmetic", "f64", "f32"),
    "f64.promote_f32": NanRole("arithmetic", "f32", "f64"),
    "f32x4.demote_f64x2_zero": NanRole("arithmetic", "f64x2", "f32x4"),
    "f64x2.promote_low_f32x4": NanRole("arithmetic", "f32x4", "f64x2"),
    "f32x4.extract_lane": NanRole("same", "f32x4", "f32"),
    "f64x2.extract_lane": NanRole("same", "f64x2", "f64"),
    "f32x4.splat": NanRole("same", "f32", "f32x4"),
    "f64x2.splat": NanRole("same", "f64", "f64x2"),
}
_ROLES: Final[tuple[tuple[str, Role], ...]] = (
    (_ARITHMETIC, "arithmetic"),
    ("neg", "negate"),
    ("abs", "absolute"),
    ("pmin|pmax", "choose"),
    (_COMPARING, "compare"),
)
_TO_INTEGER = re.compile(r"(?:i32|i64|i32x4)\.trunc_(?:sat_)?(f32x4|f64x2|f32|f64)_[su](?:_zero)?")
_FROM_INTEGER = re.compile(r"(f32x4|f64x2|f32|f64)\.convert_.*")


def _role(mnemonic: str) -> NanRole | None:
    if mnemonic in _OTHER:
        return _OTHER[mnemonic]
    shape, _, rest = mnemonic.partition(".")
    for name in _NAN:
        if name == shape:
            for pattern, role in _ROLES:
                if re.fullmatch(pattern, rest):
                    return NanRole(role, name, name)
        if (found := _TO_INTEGER.fullmatch(mnemonic)) and found[1] == name:
            return NanRole("compare", name, name)
        if (found := _FROM_INTEGER.fullmatch(mnemonic)) and found[1] == name:
            return NanRole("integer", name, name)
    return None


#: Of the instructions that are not in it, every operand is read exactly and every result is exact.
ROLES: Final[Mapping[int, NanRole]] = {
    code: found for code, row in op.TABLE.items() if (found := _role(row.mnemonic)) is not None
}
ARITHMETIC: Final = frozenset(code for code, each in ROLES.items() if each.role == "arithmetic")


def is_never_nan(instr: Instr) -> bool:
    """Whether a constant has no NaN in it, whatever its bits are read as."""
    if instr.code == op.V128_CONST:
        data: bytes = instr.imm
        return not any(
            _is_nan(int.from_bytes(data[at : at + width], "little"), width)
            for width in (4, 8)
            for at in range(0, 16, width)
        )
    if instr.code == op.F32_CONST or instr.code == op.F64_CONST:
        return not _is_nan(instr.imm, 4 if instr.code == op.F32_CONST else 8)
    return False


def _is_nan(bits: int, width: int) -> bool:
    infinity = 0x7F800000 if width == 4 else 0x7FF0 << 48
    return bits & ((1 << 8 * width - 1) - 1) > infinity


def keeps_lanes(lanes: bytes, shape: Shape) -> bool:
    """Whether a shuffle moves whole lanes of the shape."""
    width = _NAN[shape][1]
    return all(
        lanes[at] % width == 0 and all(lanes[at + more] == lanes[at] + more for more in range(width))
        for at in range(0, 16, width)
    )


def constant(shape: Shape, negative: bool) -> Instr:
    """The canonical NaN, in each lane."""
    bits, width, lanes = _NAN[shape]
    bits |= negative << 8 * width - 1
    if lanes > 1:
        return Instr(op.V128_CONST, bits.to_bytes(width, "little") * lanes)
    return Instr(op.F32_CONST if width == 4 else op.F64_CONST, bits)


def made_canonical(shape: Shape, negative: bool, local: int, *, held: bool) -> list[Instr]:
    """Code that puts the canonical NaN in place of each NaN in the value on top.

    `local` is a scratch local; `held`: the value is a copy of that local.
    """
    get = Instr(op.LOCAL_GET, local)
    test = [constant(shape, negative), get, get, Instr(_EQUAL[shape])]
    choose = Instr(op.V128_BITSELECT if _NAN[shape][2] > 1 else op.SELECT)
    return [*([] if held else [Instr(op.LOCAL_TEE, local)]), *test, choose]
