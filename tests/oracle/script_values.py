"""Values as the specification's scripts write them, in the JSON of ``wasm-tools json-from-wast``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import bits
from .bits import Value

_TYPES = {"i32": "i", "i64": "I", "f32": "f", "f64": "F", "v128": "v"}
_REFS = {"externref": "x", "nullexternref": "x", "funcref": "r", "nullfuncref": "r"}


def argument(entry: dict[str, Any]) -> Value | None:
    """An argument; None for a reference that a host cannot make."""
    kind, value = entry["type"], entry.get("value")
    if kind == "v128":
        return Value("v", _lanes(entry["lane_type"], [int(lane) for lane in value]))
    if kind in _TYPES:
        return Value(_TYPES[kind], int(value) % (1 << (8 * bits.WIDTHS[_TYPES[kind]])))
    if kind in _REFS:
        if value in (None, "null"):
            return Value(_REFS[kind], 0)
        return Value("x", int(value) + 1) if _REFS[kind] == "x" else None
    return None


def _lanes(kind: str, lanes: Sequence[int]) -> int:
    width = 128 // len(lanes)
    assert kind.endswith(str(width))
    return sum((lane % (1 << width)) << (width * position) for position, lane in enumerate(lanes))


def check(results: Sequence[Value], expected: Sequence[dict[str, Any]]) -> None:
    """Raises AssertionError when the results are not the expected ones; NaNs match by class."""
    assert len(results) == len(expected), f"{len(results)} results, not {len(expected)}"
    for result, entry in zip(results, expected, strict=True):
        assert _matches(result, entry), f"{result} where the script expects {entry}"


def _matches(result: Value, entry: dict[str, Any]) -> bool:
    kind, value = entry["type"], entry.get("value")
    if kind == "either":
        return any(_matches(result, one) for one in entry["values"])
    if kind == "v128":
        width = 128 // len(value)
        lanes = [(result.bits >> (width * position)) % (1 << width) for position in range(len(value))]
        pairs = zip(lanes, value, strict=True)
        return all(_number_matches(lane, width, entry["lane_type"], want) for lane, want in pairs)
    if kind in _TYPES:
        return _number_matches(result.bits, 8 * bits.WIDTHS[result.letter], kind, value)
    if value == "null" or kind.startswith("null") or kind == "refnull":
        return result.bits == 0
    if kind == "externref" and value is not None:
        return result.bits == int(value) + 1
    return result.bits != 0


def _number_matches(bits_: int, width: int, kind: str, want: str) -> bool:
    if want.startswith("nan"):
        exponent = {32: 0x7F800000, 64: 0x7FF0000000000000}[width]
        quiet = {32: 0x00400000, 64: 0x0008000000000000}[width]
        if want == "nan:canonical":
            return bits_ & ((1 << (width - 1)) - 1) == exponent | quiet
        return bits_ & (exponent | quiet) == exponent | quiet
    return bits_ == int(want) % (1 << width)
