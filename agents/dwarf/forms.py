"""The forms in which attributes are written, and the sections that they refer to."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from agents.brief import brief
from agents.errors import BadDwarf

from .cursor import Cursor

MAX_TEXT_BYTES = 1024  # bytes of a text that are read: names of C++ can be longer
_ADDR, _STRING, _STRP, _LINE_STRP, _IMPLICIT_CONST = 0x01, 0x08, 0x0E, 0x1F, 0x21
_STRX = (0x1A, 0x25, 0x26, 0x27, 0x28)
_ADDRX = (0x1B, 0x29, 0x2A, 0x2B, 0x2C)
RNGLISTX = 0x23
REF_ADDR = 0x10
UNIT_REFS = (0x11, 0x12, 0x13, 0x14, 0x15)  # offsets in the unit
_FIXED = {  # size -> forms
    0: (0x19, _IMPLICIT_CONST),  # flag_present
    1: (0x0B, 0x0C, 0x11, 0x25, 0x29),  # data1, flag, ref1, strx1, addrx1
    2: (0x05, 0x12, 0x26, 0x2A),  # data2, ref2, strx2, addrx2
    3: (0x27, 0x2B),  # strx3, addrx3
    4: (0x06, 0x13, 0x28, 0x2C, 0x1C),  # data4, ref4, strx4, addrx4, ref_sup4
    8: (0x07, 0x14, 0x20, 0x24),  # data8, ref8, ref_sig8, ref_sup8
    16: (0x1E,),  # data16
}
_SIZES = {form: size for size, forms in _FIXED.items() for form in forms}
_OFFSETS = (0x0E, 0x10, 0x17, 0x1D, 0x1F)  # strp, ref_addr, sec_offset, strp_sup, line_strp
_SIGNED = 0x0D  # sdata
_LEBS = (_SIGNED, 0x0F, 0x15, 0x1A, 0x1B, 0x22, RNGLISTX)  # udata, ref_udata, strx, addrx, loclistx
_BLOCKS = {0x0A: 1, 0x03: 2, 0x04: 4}  # block1, block2, block4
_BLOCK_LEBS = (0x09, 0x18)  # block, exprloc


@attrs.define
class Forms:
    """Reads values. The sections, and the bases in them that the unit's own entry names."""

    sections: Mapping[str, bytes] = attrs.field(repr=brief)
    address_size: int = 4
    offset_size: int = 4
    strings_base: int = 0
    addresses_base: int = 0

    def section(self, name: str) -> bytes:
        """The content of a section; empty if there is none."""
        return self.sections.get(name, b"")

    def size(self, form: int, offset_size: int) -> int | None:
        """The size of a value of this form, in bytes; None if that varies."""
        if form == _ADDR:
            return self.address_size
        return offset_size if form in _OFFSETS else _SIZES.get(form)

    def skip(self, at: Cursor, form: int, offset_size: int) -> None:
        """Pass over a value. Raises `BadDwarf` for an unknown form."""
        size = self.size(form, offset_size)
        if size is not None:
            at.skip(size)
        elif form in _LEBS:
            at.unsigned()
        elif form == _STRING:
            at.string()
        elif form in _BLOCKS:
            at.skip(at.number(_BLOCKS[form]))
        elif form in _BLOCK_LEBS:
            at.skip(at.unsigned())
        else:
            raise BadDwarf(f"a value of the unknown form {form:#x}")

    def read(self, at: Cursor, form: int, offset_size: int) -> int:
        """A value as a number; for a text or a block within the section, its offset there."""
        size = self.size(form, offset_size)
        if size is not None:
            return at.number(size)
        if form in _LEBS:
            return at.signed() if form == _SIGNED else at.unsigned()
        start = at.at
        self.skip(at, form, offset_size)
        return start

    def text(self, value: int, form: int, inside: bytes = b"") -> bytes:
        """The text that `value`, as it was read, stands for. inside: the section that it was read from."""
        if form in _STRX:
            base = self.strings_base + value * self.offset_size
            value = Cursor(self.section(".debug_str_offsets"), base).number(self.offset_size)
            form = _STRP
        if form == _STRP:
            inside = self.section(".debug_str")
        elif form == _LINE_STRP:
            inside = self.section(".debug_line_str")
        elif form != _STRING:
            return b""
        if not 0 <= value < len(inside):
            raise BadDwarf("a text outside its section")
        stop = inside.find(0, value, value + MAX_TEXT_BYTES)
        return inside[value : stop if stop >= 0 else value + MAX_TEXT_BYTES]

    def address(self, value: int, form: int) -> int | None:
        """The address that `value` stands for; None if its form is not of addresses."""
        if form == _ADDR:
            return value
        return self.indexed_address(value) if form in _ADDRX else None

    def indexed_address(self, index: int) -> int:
        """An address by its number in the unit's list."""
        base = self.addresses_base + index * self.address_size
        return Cursor(self.section(".debug_addr"), base).number(self.address_size)
