"""The ranges of addresses that an entry covers: of one piece, or a list in `.debug_ranges` or `.debug_rnglists`."""

from __future__ import annotations

from collections.abc import Iterator

from agents.errors import BadDwarf

from .cursor import OBJECT, Budget, Cursor
from .forms import RNGLISTX, Forms

Range = tuple[int, int]
_END, _BASE_X, _START_X_END_X, _START_X_LENGTH, _OFFSETS, _BASE, _START_END, _START_LENGTH = range(8)  # DW_RLE


def old_ranges(forms: Forms, offset: int, base: int, budget: Budget) -> Iterator[Range]:
    """The list at `offset` of `.debug_ranges`, as versions 2 to 4 have it."""
    at = Cursor(forms.section(".debug_ranges"), offset)
    last = (1 << 8 * forms.address_size) - 1
    while True:
        budget.spend(OBJECT)
        start, end = at.number(forms.address_size), at.number(forms.address_size)
        if start == last:
            base = end
        elif start or end:
            yield base + start, base + end
        else:
            return


def new_ranges(forms: Forms, value: int, form: int, lists_base: int, base: int, budget: Budget) -> Iterator[Range]:
    """The list that `value` names in `.debug_rnglists`, as version 5 has it."""
    data = forms.section(".debug_rnglists")
    if form == RNGLISTX:
        value = lists_base + Cursor(data, lists_base + value * forms.offset_size).number(forms.offset_size)
    at = Cursor(data, value)
    while True:
        budget.spend(OBJECT)
        kind = at.number(1)
        if kind == _END:
            return
        if kind == _BASE_X:
            base = forms.indexed_address(at.unsigned())
        elif kind == _BASE:
            base = at.number(forms.address_size)
        elif kind == _OFFSETS:
            yield base + at.unsigned(), base + at.unsigned()
        elif kind == _START_X_END_X:
            yield forms.indexed_address(at.unsigned()), forms.indexed_address(at.unsigned())
        elif kind == _START_X_LENGTH:
            start = forms.indexed_address(at.unsigned())
            yield start, start + at.unsigned()
        elif kind == _START_END:
            yield at.number(forms.address_size), at.number(forms.address_size)
        elif kind == _START_LENGTH:
            start = at.number(forms.address_size)
            yield start, start + at.unsigned()
        else:
            raise BadDwarf(f"a range of the unknown kind {kind}")
