"""Relaxed vector instructions, replaced by exact ones: the same result on every processor and engine.

The specification lets each of them give one of some results, "implementation-defined" (WebAssembly 3.0, section
4.3.3): what the processor does for an index, a conversion or a product that is out of range, which operand of a
minimum, and whether a product is rounded before it is added. In their place stand the results that the
specification's deterministic profile chooses, but for one: `relaxed_madd` rounds twice here, where that profile
fuses. There is no exact instruction for a fused one, and two roundings are among the results that it may give.

Programs without them are not changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from agents.rewrite.floats import FLOATS_SECTION, Floats, floats
from agents.wasm import opcodes as op
from agents.wasm.syntax import V128, Custom, Func, Instr, Module

_SAME: Final[Mapping[int, int]] = {
    op.I8X16_RELAXED_SWIZZLE: op.I8X16_SWIZZLE,
    op.I32X4_RELAXED_TRUNC_F32X4_S: op.I32X4_TRUNC_SAT_F32X4_S,
    op.I32X4_RELAXED_TRUNC_F32X4_U: op.I32X4_TRUNC_SAT_F32X4_U,
    op.I32X4_RELAXED_TRUNC_F64X2_S_ZERO: op.I32X4_TRUNC_SAT_F64X2_S_ZERO,
    op.I32X4_RELAXED_TRUNC_F64X2_U_ZERO: op.I32X4_TRUNC_SAT_F64X2_U_ZERO,
    op.I8X16_RELAXED_LANESELECT: op.V128_BITSELECT,
    op.I16X8_RELAXED_LANESELECT: op.V128_BITSELECT,
    op.I32X4_RELAXED_LANESELECT: op.V128_BITSELECT,
    op.I64X2_RELAXED_LANESELECT: op.V128_BITSELECT,
    op.F32X4_RELAXED_MIN: op.F32X4_MIN,
    op.F32X4_RELAXED_MAX: op.F32X4_MAX,
    op.F64X2_RELAXED_MIN: op.F64X2_MIN,
    op.F64X2_RELAXED_MAX: op.F64X2_MAX,
    op.I16X8_RELAXED_Q15MULR_S: op.I16X8_Q15MULR_SAT_S,
}
_SUMS: Final[Mapping[int, tuple[int, int]]] = {  # how to multiply, and then to add or subtract
    op.F32X4_RELAXED_MADD: (op.F32X4_MUL, op.F32X4_ADD),
    op.F32X4_RELAXED_NMADD: (op.F32X4_MUL, op.F32X4_SUB),
    op.F64X2_RELAXED_MADD: (op.F64X2_MUL, op.F64X2_ADD),
    op.F64X2_RELAXED_NMADD: (op.F64X2_MUL, op.F64X2_SUB),
}
_DOTS: Final = frozenset((op.I16X8_RELAXED_DOT_I8X16_I7X16_S, op.I32X4_RELAXED_DOT_I8X16_I7X16_ADD_S))
RELAXED: Final = frozenset((*_SAME, *_SUMS, *_DOTS))
_EVEN: Final = bytes(4 * pair + byte for pair in range(8) for byte in (0, 1))
_ODD: Final = bytes(each + 2 for each in _EVEN)


def exact(module: Module) -> Module:
    """The module without relaxed instructions; itself if it has none."""
    counts = [sum(instr.code in RELAXED for instr in func.body) for func in module.funcs]
    if not any(counts):
        return module
    funcs = [_function(module, func) if count else func for func, count in zip(module.funcs, counts, strict=True)]
    done = attrs.evolve(floats(module.custom(FLOATS_SECTION)), relaxed=sum(counts))
    return with_floats(attrs.evolve(module, funcs=tuple(funcs), source=None, offsets={}), done)


def with_floats(module: Module, done: Floats) -> Module:
    """The module with the section that says so."""
    customs = tuple(custom for custom in module.customs if custom.name != FLOATS_SECTION)
    return attrs.evolve(module, customs=(*customs, Custom(FLOATS_SECTION, done.encode(), 11)))


def _function(module: Module, func: Func) -> Func:
    first = len(module.types[func.type].params) + len(func.locals)
    out: list[Instr] = []
    for instr in func.body:
        out += _instead(instr, range(first, first + 3)) if instr.code in RELAXED else (instr,)
    return Func(func.type, (*func.locals, V128, V128, V128), tuple(out))


def _instead(instr: Instr, scratch: Sequence[int]) -> list[Instr]:
    code = instr.code
    if code in _SAME:
        return [Instr(_SAME[code])]
    get = [Instr(op.LOCAL_GET, local) for local in scratch]
    put = [Instr(op.LOCAL_SET, local) for local in scratch]
    if code in _SUMS:
        multiply, add = _SUMS[code]
        return [put[0], Instr(multiply), put[1], get[0], get[1], Instr(add)]
    # The dot product of pairs: products of the low and the high halves, then the even ones plus the odd ones.
    products = [put[1], put[0], get[0], get[1], Instr(op.I16X8_EXTMUL_LOW_I8X16_S)]
    products += [get[0], get[1], Instr(op.I16X8_EXTMUL_HIGH_I8X16_S), put[1], put[0]]
    pairs = [get[0], get[1], Instr(op.I8X16_SHUFFLE, _EVEN), get[0], get[1], Instr(op.I8X16_SHUFFLE, _ODD)]
    dot = [*products, *pairs, Instr(op.I16X8_ADD)]
    if code == op.I16X8_RELAXED_DOT_I8X16_I7X16_S:
        return dot
    return [put[2], *dot, Instr(op.I32X4_EXTADD_PAIRWISE_I16X8_S), get[2], Instr(op.I32X4_ADD)]
