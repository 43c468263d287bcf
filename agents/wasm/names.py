"""The name section (WebAssembly 3.0, appendix A.7, with the extended names that tools write).

Names are for people: in diagnostics, and in the frames of a suspended agent. Nothing depends on them, so a
section that does not decode counts as absent (`module_names`). Indices in it need not exist.

Invariant: `decode_names(encode_names(n)) == n`; subsections of unknown ids are kept as bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from agents.errors import MalformedModule, ModuleTooLarge

from .bounds import ModuleBounds
from .encode import name as encode_name
from .encode import unsigned
from .reader import Reader
from .syntax import Custom, Module

NameMap = Mapping[int, str]
IndirectNameMap = Mapping[int, NameMap]

NAME_SECTION: Final = "name"
# Subsection ids and fields: name maps, and name maps per function or type.
_FLAT: Final = {
    1: "functions",
    4: "types",
    5: "tables",
    6: "memories",
    7: "globals",
    8: "elems",
    9: "datas",
    11: "tags",
}
_INDIRECT: Final = {2: "locals", 3: "labels", 10: "fields"}
_MODULE: Final = 0
_BOUNDS: Final = ModuleBounds()


@attrs.frozen
class Names:
    """The contents of a name section; each map goes from an index to a name."""

    module: str | None = None
    functions: NameMap = attrs.field(factory=dict)
    locals: IndirectNameMap = attrs.field(factory=dict)
    labels: IndirectNameMap = attrs.field(factory=dict)
    types: NameMap = attrs.field(factory=dict)
    tables: NameMap = attrs.field(factory=dict)
    memories: NameMap = attrs.field(factory=dict)
    globals: NameMap = attrs.field(factory=dict)
    elems: NameMap = attrs.field(factory=dict)
    datas: NameMap = attrs.field(factory=dict)
    fields: IndirectNameMap = attrs.field(factory=dict)
    tags: NameMap = attrs.field(factory=dict)
    unknown: Mapping[int, bytes] = attrs.field(factory=dict)

    def function(self, index: int) -> str | None:
        """The name of function `index`, None when it has none."""
        return self.functions.get(index)


class _Entries:
    """Reads name maps and counts all their entries together."""

    def __init__(self) -> None:
        self.total = 0

    def count(self, r: Reader) -> int:
        """The length of a map. Raises `ModuleTooLarge`: two bytes of entry become a hundred of dict."""
        start = r.position
        size = r.count(_BOUNDS, least=2)
        self.total += size
        _BOUNDS.check("entries", self.total, start)
        return size

    def name_map(self, r: Reader) -> dict[int, str]:
        """Index to name."""
        return {r.u32(): r.name() for _ in range(self.count(r))}

    def indirect_name_map(self, r: Reader) -> dict[int, NameMap]:
        """Index to index to name."""
        return {r.u32(): self.name_map(r) for _ in range(self.count(r))}


def decode_names(payload: bytes, offset: int = 0) -> Names:
    """The names in the content of a name section that begins at `offset` of its module.

    Raises `MalformedModule` or `ModuleTooLarge`.
    """
    r = Reader(payload)
    entries = _Entries()
    found: dict[str, object] = {}
    unknown: dict[int, bytes] = {}
    try:
        while r.position < r.end:
            ident = r.byte()
            size = r.u32()
            if size > r.end - r.position:
                raise r.malformed("length out of bounds in the name section")
            part = Reader(payload, r.position, r.position + size)
            r.position += size
            if ident == _MODULE:
                found["module"] = part.name()
            elif ident in _FLAT:
                found[_FLAT[ident]] = entries.name_map(part)
            elif ident in _INDIRECT:
                found[_INDIRECT[ident]] = entries.indirect_name_map(part)
            else:
                unknown[ident] = part.take(size)
            if part.position != part.end:
                raise part.malformed("bytes after the end of a subsection of the name section")
    except MalformedModule as error:
        raise MalformedModule(error.message, offset + (error.offset or 0)) from None
    except ModuleTooLarge as error:
        raise ModuleTooLarge(error.message, offset + (error.offset or 0)) from None
    return Names(**found, unknown=unknown)  # type: ignore[arg-type]  # each value was made for its field


def module_names(module: Module) -> Names:
    """The names of `module`; none if it has no name section, or one that does not decode (A.7)."""
    payload = module.custom(NAME_SECTION)
    if payload is None:
        return Names()
    try:
        return decode_names(payload)
    except (MalformedModule, ModuleTooLarge):
        return Names()


def _encode_map(names: NameMap) -> bytes:
    entries = [unsigned(index) + encode_name(names[index]) for index in sorted(names)]
    return unsigned(len(entries)) + b"".join(entries)


def _encode_indirect(names: IndirectNameMap) -> bytes:
    entries = [unsigned(index) + _encode_map(names[index]) for index in sorted(names)]
    return unsigned(len(entries)) + b"".join(entries)


def encode_names(names: Names) -> bytes:
    """The content of a name section: subsections and indices in order, empty ones left out."""
    parts: dict[int, bytes] = dict(names.unknown)
    if names.module is not None:
        parts[_MODULE] = encode_name(names.module)
    for ident, field in _FLAT.items():
        if getattr(names, field):
            parts[ident] = _encode_map(getattr(names, field))
    for ident, field in _INDIRECT.items():
        if getattr(names, field):
            parts[ident] = _encode_indirect(getattr(names, field))
    return b"".join(bytes([ident]) + unsigned(len(part)) + part for ident, part in sorted(parts.items()))


def with_names(module: Module, names: Names) -> Module:
    """`module` with `names` as its name section: in place of the existing one, otherwise at the end."""
    made = encode_names(names)
    if module.custom(NAME_SECTION) is None:
        return attrs.evolve(module, customs=(*module.customs, Custom(NAME_SECTION, made, 11)))
    replaced = False
    customs = []
    for custom in module.customs:
        if custom.name != NAME_SECTION:
            customs.append(custom)
        elif not replaced:
            replaced = True
            customs.append(attrs.evolve(custom, data=made))
    return attrs.evolve(module, customs=tuple(customs))
