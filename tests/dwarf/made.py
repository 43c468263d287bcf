"""Debug information that is written by hand: one unit with a function, and another that is inlined into it.

    /* main.c, in /home/ann/trip/src */
    5   int visit(int n) { return go(n); }      inlined, at 0x20 to 0x28, in two pieces in the list of ranges
    9   int main() {                            0x10 to 0x40
    11      visit(1);
    12  }

and a function of the same file that the linker left out, at 0.
"""

from __future__ import annotations

import struct

from agents.dwarf import SourcePlace
from agents.wasm.encode import signed, unsigned

FOLDER = b"/home/ann/trip"
HEADER = bytes([1, 1, 1, 251, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1])  # from the length of an instruction on
PLACES = {
    0x10: (SourcePlace("", "src/main.c", 9),),
    0x1F: (SourcePlace("", "src/main.c", 9),),
    0x20: (SourcePlace("visit", "src/main.c", 5), SourcePlace("", "src/main.c", 11)),
    0x24: (SourcePlace("visit", "src/main.c", 0), SourcePlace("", "src/main.c", 11)),
    0x28: (SourcePlace("", "src/main.c", 12),),
    0x3F: (SourcePlace("", "src/main.c", 12),),
}
NOWHERE = (0, 4, 0x0F, 0x40, 0x1000)


def u16(value: int) -> bytes:
    return struct.pack("<H", value)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def text(value: bytes) -> bytes:
    return value + b"\0"


def with_length(content: bytes) -> bytes:
    return u32(len(content)) + content


def sections(version: int = 4) -> dict[str, bytes]:
    """The sections, in the forms that compilers use in this version."""
    found = _new() if version >= 5 else _old(version)
    return {**found, ".debug_line": line_program(version, rows())}


def rows() -> bytes:
    """The program: the function that was left out, then main."""
    found = set_address(0) + advance(line=2) + b"\1" + step(0x30) + end()
    found += set_address(0x10) + advance(line=8) + b"\1"
    found += step(0x10) + advance(line=-4) + b"\1" + step(4) + advance(line=-5) + b"\1"
    return found + step(4) + advance(line=12) + b"\1" + step(0x18) + end()


def set_address(address: int) -> bytes:
    return b"\0\5\2" + u32(address)


def step(size: int) -> bytes:
    return b"\2" + unsigned(size)


def advance(line: int) -> bytes:
    return b"\3" + signed(line)


def end() -> bytes:
    return b"\0\1\1"


def line_program(version: int, program: bytes) -> bytes:
    """A line program, for the file main.c in src."""
    if version >= 5:
        entries = b"\1\1\x1f" + b"\2" + u32(0) + u32(len(FOLDER) + 1)  # folders: its path, in .debug_line_str
        entries += b"\2\1\x08\2\x0b" + b"\2" + (text(b"main.c") + b"\1") * 2
        return with_length(u16(version) + b"\4\0" + with_length(HEADER + entries) + program)
    header = HEADER if version == 4 else HEADER[:1] + HEADER[2:]  # how many operations an instruction may have
    entries = text(b"src") + b"\0" + text(b"main.c") + b"\1\0\0" + b"\0"
    return with_length(u16(version) + with_length(header + entries) + program)


def shapes(*entries: tuple[int, bool, bytes]) -> bytes:
    """Abbreviations: tag, whether it has children, its attributes and forms."""
    made = [unsigned(n) + bytes([tag, kids]) + each + b"\0\0" for n, (tag, kids, each) in enumerate(entries, 1)]
    return b"".join(made) + b"\0"


def _old(version: int) -> dict[str, bytes]:
    offset = b"\x17" if version >= 4 else b"\x06"  # sec_offset, data4
    high = b"\x12\x06" if version >= 4 else b"\x12\x01"  # a size, an address
    abbreviations = shapes(
        (0x11, True, b"\x1b\x08\x11\x01\x55" + offset + b"\x10" + offset),
        (0x2E, False, b"\x03\x08"),
        (0x2E, True, b"\x11\x01" + high),
        (0x0B, True, b"\x03\x0a\x49\x0c"),  # a block, with attributes to pass over
        (0x1D, False, b"\x31\x13\x55" + offset + b"\x58\x0b\x59\x0b"),
    )
    unit = u16(version) + u32(0) + b"\4"
    unit += b"\1" + text(FOLDER) + u32(0) + u32(0) + u32(0)
    origin = len(unit) + 4
    unit += b"\2" + text(b"visit")
    unit += b"\3" + u32(0x10) + u32(0x30 if version >= 4 else 0x40)
    unit += b"\4\3abc\1" + b"\5" + u32(origin) + u32(16) + b"\1\x0b" + b"\0\0"
    unit += b"\3" + u32(0) + u32(0x30) + b"\0" + b"\0"
    ranges = u32(0x10) + u32(0x40) + bytes(8)
    ranges += u32(0xFFFFFFFF) + u32(0x20) + u32(0) + u32(4) + u32(4) + u32(8) + bytes(8)
    return {".debug_abbrev": abbreviations, ".debug_info": with_length(unit), ".debug_ranges": ranges}


def _new() -> dict[str, bytes]:
    abbreviations = shapes(
        (0x11, True, b"\x1b\x1f\x11\x1b\x55\x23\x10\x17\x72\x17\x73\x17\x74\x17"),
        (0x2E, False, b"\x03\x25\x27\x21\x05"),  # an implicit constant
        (0x2E, True, b"\x11\x1b\x12\x06"),
        (0x0B, True, b"\x03\x0a\x49\x19"),
        (0x1D, False, b"\x31\x13\x55\x23\x58\x0b\x59\x0b"),
    )
    unit = u16(5) + b"\1\4" + u32(0)
    unit += b"\1" + u32(0) + b"\0\0" + u32(0) + u32(8) + u32(8) + u32(12)
    origin = len(unit) + 4
    unit += b"\2\1" + b"\3\1" + u32(0x30)
    unit += b"\4\3abc" + b"\5" + u32(origin) + b"\1\1\x0b" + b"\0\0"
    unit += b"\3\0" + u32(0x30) + b"\0" + b"\0"
    first = b"\6" + u32(0x10) + u32(0x40) + b"\0"
    second = b"\1\2" + b"\4\0\4" + b"\3\3" + unsigned(4) + b"\0"
    lists = u32(8) + u32(8 + len(first)) + first + second
    return {
        ".debug_abbrev": abbreviations,
        ".debug_info": with_length(unit),
        ".debug_rnglists": with_length(u16(5) + b"\4\0" + u32(2) + lists),
        ".debug_addr": with_length(u16(5) + b"\4\0" + u32(0) + u32(0x10) + u32(0x20) + u32(0x24)),
        ".debug_str": text(b"nothing") + text(b"visit"),
        ".debug_str_offsets": with_length(u16(5) + b"\0\0" + u32(0) + u32(8)),
        ".debug_line_str": text(FOLDER) + text(b"src"),
    }
