"""The custom section `portcall.lines`: for each site of each function the place in the source.

Where a function was inlined into another there are several: the place in the inlined function, and the one of its call.
Encoding: deterministic CBOR; calls and sites as LEB128 numbers in byte strings, since there are many.

Invariants: the section is read only within bounds; what cannot be read counts as absent, as a name section does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import attrs

from agents import canonical
from agents.brief import brief
from agents.dwarf import MAX_INLINED, SourcePlace
from agents.errors import FormatError
from agents.wasm.decode import custom_section
from agents.wasm.encode import unsigned

LINES_SECTION = "portcall.lines"
LINES_VERSION = 1
LINES_BOUNDS = canonical.DecodeBounds(max_bytes=1 << 23, max_items=2_000_000)
MAX_TEXT_CHARS = 128  # characters of a path or a name
MAX_SITES = 10_000  # of one function that are read: the rewriter makes no more
MAX_LINE = (1 << 32) - 1
_KEYS = {"version", "files", "names", "calls", "sites"}


@attrs.frozen
class Call:
    """A call that was inlined. name, file: their place in the table's lists, from 1; 0: unknown.

    outer: the call that this one was inlined into, an earlier one, from 1; 0: the function itself
    line: of the call, from 1; 0: unknown
    """

    name: int
    outer: int
    file: int
    line: int


@attrs.frozen
class Site:
    """Where a site is: in which inlined call, or 0; the number of the file; the line. Zeros are as in `Call`."""

    call: int = 0
    file: int = 0
    line: int = 0


@attrs.frozen
class Lines:
    """The table. sites: for each function that may be suspended, by its resume index, its sites, encoded."""

    files: tuple[str, ...] = attrs.field(default=(), repr=brief)
    names: tuple[str, ...] = attrs.field(default=(), repr=brief)
    calls: tuple[Call, ...] = attrs.field(default=(), repr=brief)
    sites: tuple[bytes, ...] = attrs.field(default=(), repr=brief)
    _decoded: dict[int, tuple[Site, ...]] = attrs.field(factory=dict, init=False, eq=False, repr=False)

    def places(self, resume: int, site: int) -> tuple[SourcePlace, ...]:
        """The places of a site, which counts from 1: the innermost first, that in the function itself last.

        Empty if nothing is known.
        """
        if not 0 <= resume < len(self.sites):
            return ()
        if resume not in self._decoded:
            self._decoded[resume] = self._sites(resume)
        sites = self._decoded[resume]
        return tuple(self._chain(sites[site - 1])) if 1 <= site <= len(sites) else ()

    def _sites(self, resume: int) -> tuple[Site, ...]:
        """The sites of a function; none if they cannot be read. Most are never asked for, and never read."""
        try:
            found = tuple(islice(decode_sites(self.sites[resume]), MAX_SITES))
        except FormatError:
            return ()
        known = all(each.call <= len(self.calls) and each.file <= len(self.files) for each in found)
        return found if known else ()

    def _chain(self, site: Site) -> Iterator[SourcePlace]:
        call, file, line = site.call, site.file, site.line
        if not file:
            return
        for _ in range(MAX_INLINED + 1):
            if not call:
                yield SourcePlace("", _named(self.files, file), line)
                return
            inlined = self.calls[call - 1]
            yield SourcePlace(_named(self.names, inlined.name), _named(self.files, file), line)
            call, file, line = inlined.outer, inlined.file, inlined.line


def _named(texts: tuple[str, ...], number: int) -> str:
    return texts[number - 1] if number else ""


def lines_of(code: bytes) -> Lines:
    """The table of a packed module; an empty one if it has none that can be read. Raises `ModuleError`."""
    section = custom_section(code, LINES_SECTION)
    try:
        return Lines() if section is None else decode_lines(section)
    except FormatError:
        return Lines()


# --- encoding ------------------------------------------------------------------------------------------------


def encode_lines(lines: Lines) -> bytes:
    """Deterministic bytes of the section."""
    numbers = [number for call in lines.calls for number in (call.name, call.outer, call.file, call.line)]
    return canonical.encode(
        {
            "version": LINES_VERSION,
            "files": list(lines.files),
            "names": list(lines.names),
            "calls": b"".join(map(unsigned, numbers)),
            "sites": list(lines.sites),
        }
    )


def encode_sites(sites: Iterable[Site]) -> bytes:
    """The sites of a function: for each the step from the line before, and what else has changed."""
    out = bytearray()
    last = Site()
    for site in sites:
        step = site.line - last.line
        step = step << 1 if step >= 0 else (-step << 1) - 1
        moved = (site.call, site.file) != (last.call, last.file)
        out += unsigned(step << 1 | moved)
        if moved:
            out += unsigned(site.call) + unsigned(site.file)
        last = site
    return bytes(out)


def decode_lines(data: bytes) -> Lines:
    """Read the section. Raises `FormatError`."""
    value = canonical.decode(data, LINES_BOUNDS)
    if not isinstance(value, dict) or set(value) != _KEYS or value["version"] != LINES_VERSION:
        raise FormatError(f"the section {LINES_SECTION!r} is not of version {LINES_VERSION}")
    files, names = _texts(value["files"]), _texts(value["names"])
    calls = _calls(value["calls"], len(files), len(names))
    sites = value["sites"]
    if not isinstance(sites, list):
        raise FormatError("the sites are no list")
    if not all(isinstance(each, bytes) for each in sites):
        raise FormatError("the sites of a function are no byte string")
    return Lines(files, names, calls, tuple(sites))


def decode_sites(data: bytes) -> Iterator[Site]:
    """The sites of a function. Raises `FormatError`."""
    numbers = _numbers(data)
    last = Site()
    for head in numbers:
        step = head >> 2 if not head & 2 else -((head >> 2) + 1)
        call, file = (next(numbers, -1), next(numbers, -1)) if head & 1 else (last.call, last.file)
        last = Site(call, file, last.line + step)
        if file < 0 or not 0 <= last.line <= MAX_LINE:
            raise FormatError("a site that is cut off, or at no line")
        yield last


def _calls(data: Any, files: int, names: int) -> tuple[Call, ...]:
    if not isinstance(data, bytes):
        raise FormatError("the calls are no byte string")
    numbers = _numbers(data)
    found: list[Call] = []
    for name in numbers:
        call = Call(name, next(numbers, -1), next(numbers, -1), next(numbers, -1))
        if name > names or not 0 <= call.outer <= len(found) or call.file > files or not 0 <= call.line <= MAX_LINE:
            raise FormatError("a call that is cut off, or of no name, in no call, in no file or at no line")
        found.append(call)
    return tuple(found)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise FormatError("the texts are no list")
    for text in value:
        if not isinstance(text, str) or len(text) > MAX_TEXT_CHARS or not text.isprintable():
            raise FormatError("a path or name that is too long or cannot be printed")
    return tuple(value)


def _numbers(data: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if shift > 42:
            raise FormatError("a number longer than six bytes")
        if byte < 128:
            yield number
            number = shift = 0
    if shift:
        raise FormatError("a number that does not end")
