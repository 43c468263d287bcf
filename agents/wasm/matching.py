"""When one type may stand for another (WebAssembly 3.0, sections 3.1 and 3.3).

Type definitions are compared by structure: each is numbered by the first one that is equal to it, and
references to definitions are rewritten to those numbers (`canonical_types`). After that, equal types are
equal values.

Not here: which instruction needs which type (`check`). Invariant: `matches` is reflexive and transitive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import attrs

from .syntax import FuncType, HeapType, NumType, RefType, ValType, VecType


class Bottom:
    """The type of an operand in unreachable code: it matches every type."""

    def __repr__(self) -> str:
        return "bottom"


BOTTOM: Final = Bottom()
Operand = ValType | Bottom
BOTTOM_REF: Final = RefType(False, cast(HeapType, "bottom"))
"""The type of a reference in unreachable code: it matches every reference type."""

_BOTTOMS: Final = {"nofunc": "func", "noextern": "extern", "noexn": "exn"}
_SELF: Final = -1  # a definition that refers to itself, while it is compared with earlier ones


class UnknownType(Exception):
    """A type index that is not defined, or not yet. Caught in `context`; never leaves validation."""


def _renumber(kind: ValType, numbers: Sequence[int], own: int) -> ValType:
    if not isinstance(kind, RefType) or not isinstance(kind.heap, int):
        return kind
    if kind.heap == own:
        return RefType(kind.nullable, _SELF)
    if kind.heap >= len(numbers):
        raise UnknownType(kind.heap)
    return RefType(kind.nullable, numbers[kind.heap])


@attrs.frozen
class Canonical:
    """`number[i]` is the first definition equal to definition i; `types[i]` is that definition, in those numbers."""

    number: tuple[int, ...]
    types: tuple[FuncType, ...]

    def val_type(self, kind: ValType) -> ValType:
        """`kind` with its type index, if it has one, replaced by the number. Raises `UnknownType`."""
        if not isinstance(kind, RefType) or not isinstance(kind.heap, int):
            return kind
        return RefType(kind.nullable, self.heap(kind.heap))

    def heap(self, index: int) -> int:
        """The number of definition `index`. Raises `UnknownType`."""
        if not 0 <= index < len(self.number):
            raise UnknownType(index)
        return self.number[index]


def canonical_types(types: Sequence[FuncType]) -> Canonical:
    """Number `types`. Each may refer to itself and earlier ones; raises `UnknownType(index, at)` otherwise."""
    first: dict[FuncType, int] = {}
    numbers: list[int] = []
    found: list[FuncType] = []
    for own, kind in enumerate(types):
        try:
            params = tuple([_renumber(entry, numbers, own) for entry in kind.params])
            results = tuple([_renumber(entry, numbers, own) for entry in kind.results])
        except UnknownType as error:
            raise UnknownType(*error.args, own) from None
        number = first.setdefault(FuncType(params, results), own)
        numbers.append(number)
        if number == own:
            found.append(FuncType(_closed(params, own), _closed(results, own)))
        else:
            found.append(found[number])
    return Canonical(tuple(numbers), tuple(found))


def _closed(kinds: tuple[ValType, ...], own: int) -> tuple[ValType, ...]:
    """`kinds` with the mark for "itself" replaced by its number."""
    return tuple([RefType(k.nullable, own) if isinstance(k, RefType) and k.heap == _SELF else k for k in kinds])


def _heap_matches(low: HeapType, high: HeapType) -> bool:
    if low == high or low == BOTTOM_REF.heap:
        return True
    if isinstance(low, int):
        return high == "func"
    if isinstance(high, int):
        return low == "nofunc"
    return _BOTTOMS.get(low) == high


def matches(low: Operand, high: Operand) -> bool:
    """Whether an operand of type `low` may be used where `high` is expected (3.3.3)."""
    if low is high or isinstance(low, Bottom):
        return True
    if isinstance(low, RefType) and isinstance(high, RefType):
        return (high.nullable or not low.nullable) and _heap_matches(low.heap, high.heap)
    return False


def all_match(low: Sequence[Operand], high: Sequence[Operand]) -> bool:
    """Whether sequences of equal length match, pair by pair (3.3.4)."""
    return len(low) == len(high) and all(map(matches, low, high))


def defaultable(kind: ValType) -> bool:
    """Whether `kind` has a default value (3.2.16): all but references that are never null."""
    return not isinstance(kind, RefType) or kind.nullable


def is_number_or_vector(kind: Operand) -> bool:
    """Whether the untyped `select` accepts it."""
    return isinstance(kind, (NumType, VecType, Bottom))


def type_name(kind: Operand) -> str:
    """For messages and the text format."""
    if isinstance(kind, Bottom):
        return "bottom"
    if isinstance(kind, RefType):
        return f"(ref {'null ' if kind.nullable else ''}{kind.heap})"
    return str(kind.value)
