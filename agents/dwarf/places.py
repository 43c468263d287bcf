"""From addresses to places in source files, with what was inlined there."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence

from .cursor import OBJECT, Budget
from .line_program import LineProgram, Row, read_line_program
from .source_place import MAX_INLINED, SourcePlace
from .units import FUNCTION_ITSELF, Inlined, Unit, Units

# Rust's own library lies elsewhere on each machine.
_LIBRARY = re.compile(r"/(library/[a-z_]+/src/.+)$")


def source_places(
    sections: Mapping[str, bytes], addresses: Iterable[int], functions: Iterable[tuple[int, int]] | None = None
) -> dict[int, tuple[SourcePlace, ...]]:
    """Where addresses of code come from: address -> places, the innermost first, then where it was inlined.

    sections: the module's sections by their names, `.debug_info` and the like. addresses: relative to the beginning of
    the code section's content. functions: for each function where it may begin, ascending, likewise: debug information
    that has one elsewhere is of other code. Addresses that are not told are missing. Raises `BadDwarf`.
    """
    budget = Budget()
    wanted = sorted(set(addresses))
    found: dict[int, tuple[SourcePlace, ...]] = {}
    programs: dict[int, LineProgram] = {}
    units = Units(sections, budget, functions)
    for unit in units.units:
        if unit.lines is None or not _reaches(unit, wanted):
            continue
        if unit.lines not in programs:
            programs[unit.lines] = read_line_program(unit.forms, unit.lines, wanted, budget)
        program = programs[unit.lines]
        inlined, innermost = units.inlined(unit, wanted)
        paths = _Paths(unit, program)
        chains: dict[tuple[Row, int], tuple[SourcePlace, ...]] = {}
        for address, scope in innermost.items():
            if address in program.rows:
                place = program.rows[address], scope
                if place not in chains:
                    chains[place] = _chain(*place, inlined, paths, budget)
                found[address] = chains[place]
    return found


def _reaches(unit: Unit, wanted: Sequence[int]) -> bool:
    """Whether the unit can have a wanted address: most of a linked library's units have none."""
    if unit.ranges is None:
        return True
    return any(0 < start <= wanted[-1] and end > wanted[0] for start, end in unit.ranges) if wanted else False


def _chain(row: Row, scope: int, inlined: list[Inlined], paths: _Paths, budget: Budget) -> tuple[SourcePlace, ...]:
    file, line = row
    found: list[SourcePlace] = []
    while scope != FUNCTION_ITSELF:
        budget.spend(OBJECT)
        call = inlined[scope]
        if len(found) < MAX_INLINED:
            found.append(SourcePlace(call.name, paths.shown(file), line))
        file, line, scope = call.file, call.line, call.outer
    return (*found, SourcePlace("", paths.shown(file), line))


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


class _Paths:
    """The paths of a unit's files as they are shown."""

    def __init__(self, unit: Unit, program: LineProgram) -> None:
        self._folder, self._program = _text(unit.folder), program
        self._known: dict[int, str] = {}

    def shown(self, file: int) -> str:
        if file not in self._known:
            path = self._program.path(file)
            self._known[file] = "" if path is None else shown_path(self._folder, *map(_text, path))
        return self._known[file]


def shown_path(compiled_in: str, folder: str, name: str) -> str:
    """The path of a file without the author's folders.

        shown_path("/home/ann/trip", "src", "main.c")           # 'src/main.c'
        shown_path("/home/ann/trip", "/usr/include", "stdio.h") # 'stdio.h'

    Relative to the folder that it was compiled in where it is below that; else only its last part.
    """
    if any("\\" in each for each in (compiled_in, folder, name)):  # of Windows
        compiled_in, folder, name = (each.replace("\\", "/") for each in (compiled_in, folder, name))
        compiled_in, folder, name = (re.sub(r"^[A-Za-z]:/", "/", each) for each in (compiled_in, folder, name))
    base = posixpath.normpath(compiled_in)
    path = posixpath.normpath(posixpath.join(base, folder, name))
    library = _LIBRARY.search(path)
    if library is not None:
        return library[1]
    if base not in ("/", "//") and path.startswith(f"{base}/"):
        return path[len(base) + 1 :]
    if posixpath.isabs(path) or path.startswith("../"):
        return posixpath.basename(path)
    return path
