"""Makes the table of source lines of a packed module, from the debug information of the module before it.

The addresses in debug information are places in the original code. The rewriter's metadata names each site by the
number of its instruction, so the original instructions, which know where they were, lead from one to the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from agents.dwarf import SourcePlace
from agents.dwarf.places import source_places
from agents.errors import BadDwarf
from agents.rewrite.metadata import METADATA_SECTION, ResumeInfo, SiteInfo, decode_metadata
from agents.rewrite.skeleton import CALLS, TERMINATORS
from agents.wasm import opcodes as op
from agents.wasm.decode import CODE, instruction_offsets, sections
from agents.wasm.syntax import Custom, Expr, Module

from .table import (
    LINES_BOUNDS,
    LINES_SECTION,
    MAX_LINE,
    MAX_TEXT_CHARS,
    Call,
    Lines,
    Site,
    encode_lines,
    encode_sites,
)

DEBUG_PREFIX = ".debug_"
_AFTER = 11  # the data section, which the other sections of this package follow too
_LOOKED_AT = 16  # instructions at the beginning of a loop: those that LLVM adds or moves have no line
_DROPS = frozenset((op.DATA_DROP, op.ELEM_DROP))  # the rewriter adds instructions after these
Place = tuple[SourcePlace, ...]


def with_lines(packed: Module, original: Module, before: Module) -> Module:
    """The packed module with the table of its source lines; unchanged where the original tells none.

    original: as its compiler wrote it, decoded from bytes. before: what the rewriter was given, in which pointers
    may have been spilled. Raises `BadDwarf` for debug information that cannot be read, or is too large.
    """
    debug = {each.name: each.data for each in original.customs if each.name.startswith(DEBUG_PREFIX)}
    metadata = packed.custom(METADATA_SECTION)
    if not debug or metadata is None or not original.funcs:
        return packed
    resumes = decode_metadata(metadata).resumes
    start = next(offset for section, offset, _ in sections(original.source or b"") if section == CODE)
    addresses = [_addresses(resume, original, before, start) for resume in resumes]
    wanted = (address for sites in addresses for told in sites for address in told)
    places = source_places(debug, wanted, _beginnings(original, start))
    if not places:
        return packed
    table = _Table()
    for resume, sites in zip(resumes, addresses, strict=True):
        found = [[places[address] for address in told if address in places] for told in sites]
        table.add(_place(site, told) for site, told in zip(resume.sites, found, strict=True))
    encoded = table.encode()
    if len(encoded) > LINES_BOUNDS.max_bytes:
        raise BadDwarf(f"the table of its lines would take {len(encoded)} bytes")
    return attrs.evolve(packed, customs=(*packed.customs, Custom(LINES_SECTION, encoded, _AFTER)))


def _place(site: SiteInfo, told: list[Place]) -> Place:
    """The place of a site, of those of its instructions: the first with a line, else the first.

    A loop may begin with instructions that have no place of their own. They are told to be where the loop is, which is
    what was before it.
    """
    if site.kind == "poll" and site.position >= 0:
        told = [each for each in told if each != told[0]] or told
    return next((each for each in told if each[0].line), told[0] if told else ())


def _beginnings(original: Module, start: int) -> Iterator[tuple[int, int]]:
    """For each function the addresses between which it begins: behind the one before, and before its instructions.

    There are its size, which is before the place that compilers name, and its locals, which are behind.
    """
    last = 0
    for func in original.funcs:
        if func.offset is not None:
            yield last + 1, func.offset - start
            last = func.offset - start + func.size


def _addresses(resume: ResumeInfo, original: Module, before: Module, start: int) -> list[list[int]]:
    """For each site of a function the addresses of its instructions, from the beginning of the code section."""
    unknown: list[list[int]] = [[] for _ in resume.sites]
    index = resume.function - original.imported("func")
    if index >= len(original.funcs):  # added by the packer
        return unknown
    body = original.funcs[index].body
    offsets = instruction_offsets(original, resume.function)
    places = _same_places(before.funcs[index].body, body)
    if offsets is None or places is None:
        return unknown
    return [[offsets[at] - start for at in _told_at(site, places, body)] for site in resume.sites]


def _same_places(changed: Expr, body: Expr) -> dict[int, int] | None:
    """From the calls and loops of a changed body to the same ones in the original; None if that cannot be said.

    What is done before the rewriter adds neither.
    """
    if any(instr.code in _DROPS for instr in body):
        return None
    ours, theirs = _landmarks(changed), _landmarks(body)
    return dict(zip(ours, theirs, strict=True)) if len(ours) == len(theirs) else None


def _landmarks(body: Expr) -> list[int]:
    return [position for position, instr in enumerate(body) if instr.code in CALLS or instr.code == op.LOOP]


def _told_at(site: SiteInfo, places: dict[int, int], body: Expr) -> list[int]:
    """The instructions of a site: its call; its loop and the first ones in it; the first ones of the function."""
    if site.kind == "call":
        return [places[site.position]]
    first = places[site.position] if site.position >= 0 else 0
    found: list[int] = []
    for position in range(first, min(first + _LOOKED_AT, len(body))):
        found.append(position)
        if body[position].code in TERMINATORS | {op.END}:
            break
    return found


class _Table:
    """Collects the places of sites, and each text and call once."""

    def __init__(self) -> None:
        self.files: dict[str, int] = {}
        self.names: dict[str, int] = {}
        self.calls: dict[Call, int] = {}
        self.sites: list[bytes] = []

    def add(self, sites: Iterable[Place]) -> None:
        """The places of the sites of the next function."""
        found = [self._site(places) for places in sites]
        self.sites.append(encode_sites(found) if any(each.file for each in found) else b"")

    def _site(self, places: Place) -> Site:
        if not places or not places[0].file:
            return Site()
        call = 0
        *inlined, itself = places
        outer = itself
        for place in reversed(inlined):
            made = Call(_number(self.names, _name(place)), call, _number(self.files, _file(outer)), _line(outer))
            call = self.calls.setdefault(made, len(self.calls) + 1)
            outer = place
        return Site(call, _number(self.files, _file(outer)), _line(outer))

    def encode(self) -> bytes:
        """The section."""
        return encode_lines(Lines(tuple(self.files), tuple(self.names), tuple(self.calls), tuple(self.sites)))


def _number(known: dict[str, int], text: str) -> int:
    return known.setdefault(text, len(known) + 1) if text else 0


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _file(place: SourcePlace) -> str:
    return _printable(place.file)[-MAX_TEXT_CHARS:]


def _name(place: SourcePlace) -> str:
    return _printable(place.function)[:MAX_TEXT_CHARS]


def _line(place: SourcePlace) -> int:
    return place.line if 0 < place.line <= MAX_LINE else 0
