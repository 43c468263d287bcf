"""The line programs of `.debug_line`: which file and line each address comes from.

A program is run once, and only the rows that cover a wanted address are kept. Functions that the linker left out
have rows at addresses from 0 on, where no function is: these are passed over.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import attrs

from agents.brief import brief
from agents.errors import BadDwarf

from .cursor import OBJECT, Budget, Cursor
from .forms import Forms

Row = tuple[int, int]  # the number of a file, and a line in it; line 0: of no line in particular

_FIRST_VERSION, _LAST_VERSION = 2, 5
_PATH, _DIRECTORY = 1, 2  # DW_LNCT: what a file's entry tells, in version 5
_COPY, _ADVANCE_PC, _ADVANCE_LINE, _SET_FILE = 1, 2, 3, 4
_CONST_ADD_PC, _FIXED_ADVANCE_PC = 8, 9
_EXTENDED, _END_SEQUENCE, _SET_ADDRESS = 0, 1, 2


@attrs.frozen
class LineProgram:
    """What a line program tells. rows: by address, of those that were wanted."""

    version: int
    folders: tuple[bytes, ...] = attrs.field(repr=brief)
    files: tuple[tuple[bytes, int], ...] = attrs.field(repr=brief)  # name, number of its folder
    rows: dict[int, Row] = attrs.field(repr=brief)

    def path(self, file: int) -> tuple[bytes, bytes] | None:
        """Folder and name of a file by its number, or None; the folder is empty where it is the unit's own."""
        first = 0 if self.version >= 5 else 1
        if not first <= file < len(self.files) + first:
            return None
        name, folder = self.files[file - first]
        if not first <= folder < len(self.folders) + first:
            return b"", name
        return self.folders[folder - first], name


def read_line_program(forms: Forms, offset: int, wanted: Sequence[int], budget: Budget) -> LineProgram:
    """The program at `offset` of `.debug_line`. `wanted`: addresses, ascending. Raises `BadDwarf`."""
    code, offset_size = Cursor(forms.section(".debug_line"), offset).unit()
    version = code.number(2)
    if not _FIRST_VERSION <= version <= _LAST_VERSION:
        raise BadDwarf(f"a line program of version {version}")
    if version >= 5:
        code.skip(2)  # sizes of an address and of a segment selector
    header_size = code.number(offset_size)
    header = Cursor(code.data, code.at, code.end)
    code.skip(header_size)
    header.end = code.at
    step = header.number(1)
    header.skip(1 if version < 4 else 2)  # operations of an instruction, and whether a row begins a statement
    line_base = header.number(1)
    line_base -= (line_base & 128) << 1
    line_range, opcode_base = header.number(1), header.number(1)
    if not line_range or not opcode_base:
        raise BadDwarf("a line program that divides by zero")
    lengths = header.take(opcode_base - 1)
    if version >= 5:
        folders = tuple(name for name, _ in _entries(forms, header, offset_size, budget))
        files = _entries(forms, header, offset_size, budget)
    else:
        folders, files = _old_folders(header, budget), _old_files(header, budget)
    rows = _run(code, step, line_base, line_range, lengths, wanted, budget)
    return LineProgram(version, folders, files, rows)


def _old_folders(header: Cursor, budget: Budget) -> tuple[bytes, ...]:
    found = []
    while name := header.string():
        budget.spend(OBJECT)
        found.append(name)
    return tuple(found)


def _old_files(header: Cursor, budget: Budget) -> tuple[tuple[bytes, int], ...]:
    found = []
    while name := header.string():
        budget.spend(OBJECT)
        found.append((name, header.unsigned()))
        header.unsigned(), header.unsigned()  # time of its last change, size
    return tuple(found)


def _entries(forms: Forms, header: Cursor, offset_size: int, budget: Budget) -> tuple[tuple[bytes, int], ...]:
    """Folders or files of version 5: each described by a list of forms that is given first."""
    layout = [(header.unsigned(), header.unsigned()) for _ in range(header.number(1))]
    found = []
    for _ in range(header.unsigned()):
        budget.spend(OBJECT + len(layout))
        name, folder = b"", 0
        for what, form in layout:
            if what == _PATH:
                name = forms.text(forms.read(header, form, offset_size), form, header.data)
            elif what == _DIRECTORY:
                folder = forms.read(header, form, offset_size)
            else:
                forms.skip(header, form, offset_size)
        found.append((name, folder))
    return tuple(found)


def _run(
    code: Cursor, step: int, line_base: int, line_range: int, lengths: bytes, wanted: Sequence[int], budget: Budget
) -> dict[int, Row]:
    """The rows of the program `code` at wanted addresses."""
    rows: dict[int, Row] = {}
    data, end, opcode_base = code.data, code.end, len(lengths) + 1
    budget.spend(end - code.at)
    address, file, line = 0, 1, 1
    last, row = 0, (1, 0)  # the row before, which reaches up to the next one
    live = False  # whether the function is in the module
    while code.at < end:
        opcode = data[code.at]
        code.at += 1
        if opcode >= opcode_base:
            opcode -= opcode_base
            address += opcode // line_range * step
            line += line_base + opcode % line_range
        elif opcode == _COPY:
            pass
        elif opcode == _EXTENDED:
            size = code.unsigned()
            rest = Cursor(data, code.at, code.at + size) if size <= end - code.at else Cursor(data, end, end)
            code.skip(size)
            kind = rest.number(1)
            if kind == _SET_ADDRESS:
                address = rest.number(size - 1)
                live = live or address != 0
                continue
            if kind != _END_SEQUENCE:
                continue
            if live:
                _cover(rows, wanted, last, address, row, budget)
            address, file, line, live = 0, 1, 1, False
            last, row = 0, (1, 0)
            continue
        else:
            if opcode == _ADVANCE_PC:
                address += code.unsigned() * step
            elif opcode == _ADVANCE_LINE:
                line += code.signed()
            elif opcode == _SET_FILE:
                file = code.unsigned()
            elif opcode == _CONST_ADD_PC:
                address += (255 - opcode_base) // line_range * step
            elif opcode == _FIXED_ADVANCE_PC:
                address += code.number(2)
            else:
                for _ in range(lengths[opcode - 1]):
                    code.unsigned()
            continue
        if live:
            if address != last:
                _cover(rows, wanted, last, address, row, budget)
            last, row = address, (file, line)
    return rows


def _cover(rows: dict[int, Row], wanted: Sequence[int], start: int, end: int, row: Row, budget: Budget) -> None:
    """Take `row` for the wanted addresses from `start` up to `end`."""
    if not start:
        return
    at = bisect_left(wanted, start)
    while at < len(wanted) and wanted[at] < end:
        budget.spend(1)
        rows[wanted[at]] = row
        at += 1
