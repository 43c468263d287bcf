"""The units of `.debug_info`: their own entries, and in their trees the functions and what was inlined into them."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from agents.brief import brief
from agents.demangle import demangled
from agents.errors import BadDwarf

from .abbreviations import Shape, pass_over, read_entry, read_shapes, shape_at
from .cursor import OBJECT, Budget, Cursor
from .forms import REF_ADDR, UNIT_REFS, Forms
from .ranges import Range, new_ranges, old_ranges

Entry = Mapping[int, tuple[int, int]]  # attribute -> value and form

_FIRST_VERSION, _LAST_VERSION = 2, 5
_COMPILE, _PARTIAL, _SKELETON, _SPLIT = 1, 3, 4, 5  # DW_UT; the others are of types
_INLINED, _FUNCTION = 0x1D, 0x2E  # DW_TAG_inlined_subroutine, DW_TAG_subprogram
_NAME, _LINES, _LOW, _HIGH, _FOLDER, _ORIGIN = 0x03, 0x10, 0x11, 0x12, 0x1B, 0x31
_SPECIFICATION, _RANGES, _CALL_FILE, _CALL_LINE, _LINKAGE = 0x47, 0x55, 0x58, 0x59, 0x6E
_STRINGS_BASE, _ADDRESSES_BASE, _LISTS_BASE = 0x72, 0x73, 0x74
_OLD_LINKAGE = 0x2007  # DW_AT_MIPS_linkage_name
_MAX_REFERENCES = 4  # from an inlined function to its declaration
_MAX_DEPTH = 10_000  # of entries in one another

FUNCTION_ITSELF = -1


@attrs.frozen
class Inlined:
    """A function that was inlined. outer: what it was inlined into, by its number, or `FUNCTION_ITSELF`.

    name: of the function, as people write it
    file, line: of the call
    """

    name: str
    outer: int
    file: int
    line: int


@attrs.define
class Unit:
    """One unit. `header` is where it begins: references in it count from there."""

    header: int
    body: Cursor
    version: int
    forms: Forms
    shapes: dict[int, Shape] = attrs.field(repr=brief)
    lines: int | None = None  # of its line program
    folder: bytes = b""
    base: int = 0
    lists_base: int = 0
    ranges: tuple[Range, ...] | None = attrs.field(default=None, repr=False)  # None: not told

    def ranges_of(self, entry: Entry, budget: Budget) -> Iterator[Range]:
        """The addresses that an entry covers; none for what is not in the module."""
        if _RANGES in entry:
            value, form = entry[_RANGES]
            if self.version < 5:
                yield from old_ranges(self.forms, value, self.base, budget)
            else:
                yield from new_ranges(self.forms, value, form, self.lists_base, self.base, budget)
        elif _LOW in entry and _HIGH in entry:
            low, high = self.forms.address(*entry[_LOW]), self.forms.address(*entry[_HIGH])
            if low is not None:
                yield low, low + entry[_HIGH][0] if high is None else high


class Units:
    """All units. Their shapes are read once."""

    def __init__(
        self, sections: Mapping[str, bytes], budget: Budget, functions: Iterable[tuple[int, int]] | None = None
    ) -> None:
        """`functions`: the addresses at which each may begin, ascending; None: anywhere."""
        self._sections, self._budget = sections, budget
        self._functions = None if functions is None else list(functions)
        self._shapes: dict[tuple[int, int, int], dict[int, Shape]] = {}
        self._data = sections.get(".debug_info", b"")
        self.units = list(self._read())

    def _read(self) -> Iterator[Unit]:
        rest = Cursor(self._data)
        while rest.at < rest.end:
            self._budget.spend(10 * OBJECT)
            header = rest.at
            body, offset_size = rest.unit()
            version = body.number(2)
            if not _FIRST_VERSION <= version <= _LAST_VERSION:
                raise BadDwarf(f"a unit of version {version}")
            kind = _COMPILE
            if version >= 5:
                kind, address_size, shapes = body.number(1), body.number(1), body.number(offset_size)
            else:
                shapes, address_size = body.number(offset_size), body.number(1)
            if kind in (_SKELETON, _SPLIT):
                body.skip(8)
            elif kind not in (_COMPILE, _PARTIAL):
                continue
            if address_size not in (4, 8):
                raise BadDwarf(f"addresses of {address_size} bytes")
            forms = Forms(self._sections, address_size, offset_size)
            unit = Unit(header, body, version, forms, self._shapes_at(forms, shapes))
            self._begin(unit)
            yield unit

    def _shapes_at(self, forms: Forms, offset: int) -> dict[int, Shape]:
        key = offset, forms.address_size, forms.offset_size
        if key not in self._shapes:
            self._shapes[key] = read_shapes(forms, offset, self._budget)
        return self._shapes[key]

    def _begin(self, unit: Unit) -> None:
        """Read the unit's own entry."""
        at = Cursor(unit.body.data, unit.body.at, unit.body.end)
        shape = shape_at(unit.shapes, at)
        if shape is None:
            return
        self._budget.spend(len(shape.attributes))
        entry = read_entry(unit.forms, at, shape)
        unit.forms.strings_base = entry.get(_STRINGS_BASE, (8, 0))[0]
        unit.forms.addresses_base = entry.get(_ADDRESSES_BASE, (8, 0))[0]
        unit.lists_base = entry.get(_LISTS_BASE, (12, 0))[0]
        if _LINES in entry:
            unit.lines = entry[_LINES][0]
        if _FOLDER in entry:
            unit.folder = unit.forms.text(*entry[_FOLDER], self._data)
        if _LOW in entry:
            unit.base = unit.forms.address(*entry[_LOW]) or 0
        if _RANGES in entry or _HIGH in entry:
            unit.ranges = tuple(unit.ranges_of(entry, self._budget))

    def inlined(self, unit: Unit, wanted: Sequence[int]) -> tuple[list[Inlined], dict[int, int]]:
        """What was inlined at wanted addresses: the functions, and address -> the innermost one there.

        An address that is missing is in no function; at `FUNCTION_ITSELF` nothing was inlined. Raises `BadDwarf`.
        """
        found: list[Inlined] = []
        innermost: dict[int, int] = {}
        at = Cursor(unit.body.data, unit.body.at, unit.body.end)
        around: list[int | None] = []  # for each open entry, what its children are in; None: nothing of interest
        while at.at < at.end:
            shape = shape_at(unit.shapes, at)
            if shape is None:
                if around:
                    around.pop()
                if not around:
                    break
                continue
            self._budget.spend(1 + len(shape.passing))
            here = around[-1] if around else None
            if shape.tag == _FUNCTION or (shape.tag == _INLINED and here is not None):
                entry = read_entry(unit.forms, at, shape)
                ranges = list(unit.ranges_of(entry, self._budget))
                covered = self._covered(ranges, wanted)
                outer, here = here, None
                if covered and shape.tag == _FUNCTION:
                    self._check_beginning(min(start for start, _ in ranges if start > 0))
                    here = FUNCTION_ITSELF
                elif covered and outer is not None:
                    self._budget.spend(3 * OBJECT)
                    here = len(found)
                    file, line = entry.get(_CALL_FILE, (0, 0))[0], entry.get(_CALL_LINE, (0, 0))[0]
                    found.append(Inlined(self._name(unit, entry), outer, file, line))
                if here is not None:
                    innermost.update(dict.fromkeys(covered, here))
            else:
                pass_over(unit.forms, at, shape)
            if shape.has_children:
                around.append(here)
                if len(around) > _MAX_DEPTH:
                    raise BadDwarf("entries nested too deeply")
            elif not around:
                break
        return found, innermost

    def _covered(self, ranges: Iterable[Range], wanted: Sequence[int]) -> list[int]:
        """The wanted addresses that lie in the ranges. What the linker left out begins at 0."""
        found: list[int] = []
        for start, end in ranges:
            if start > 0:
                first, last = bisect_left(wanted, start), bisect_left(wanted, end)
                self._budget.spend(max(last - first, 0))
                found += wanted[first:last]
        return found

    def _check_beginning(self, start: int) -> None:
        """A function begins at `start`. Raises `BadDwarf`."""
        if self._functions is None:
            return
        place = bisect_right(self._functions, (start, math.inf)) - 1
        if place < 0 or start > self._functions[place][1]:
            raise BadDwarf("it is of other code: a function begins elsewhere")

    def _name(self, unit: Unit, entry: Entry) -> str:
        """The name of a function: its own, or that of the entries that it refers to."""
        name = linkage = b""
        for _ in range(_MAX_REFERENCES):
            name = name or self._text(unit, entry, _NAME)
            linkage = linkage or self._text(unit, entry, _LINKAGE) or self._text(unit, entry, _OLD_LINKAGE)
            referred = entry.get(_ORIGIN) or entry.get(_SPECIFICATION)
            if referred is None or (name and linkage):
                break
            value, form = referred
            if form in UNIT_REFS:
                value += unit.header
            elif form == REF_ADDR:
                unit = self._unit_at(value)
            else:
                break
            at = Cursor(unit.body.data, value, unit.body.end)
            shape = shape_at(unit.shapes, at)
            if shape is None:
                break
            self._budget.spend(len(shape.attributes))
            entry = read_entry(unit.forms, at, shape)
        readable = demangled(linkage.decode(errors="replace"))
        return readable or name.decode(errors="replace")

    def _text(self, unit: Unit, entry: Entry, attribute: int) -> bytes:
        value = entry.get(attribute)
        return b"" if value is None else unit.forms.text(*value, self._data)

    def _unit_at(self, offset: int) -> Unit:
        place = bisect_left([unit.body.end for unit in self.units], offset + 1)
        if place == len(self.units) or offset < self.units[place].header:
            raise BadDwarf("a reference to no unit")
        return self.units[place]
