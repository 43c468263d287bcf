"""Sizes: of a module, of its code section, and of the machine code that the engine makes of it."""

from __future__ import annotations

import struct

import attrs
import wasmtime

from agents.wasm.decode import CODE, sections


@attrs.frozen
class Size:
    """Bytes: of the whole module, its code section, and the .text of the compiled module."""

    wasm: int
    code: int
    machine: int


def measure(on: wasmtime.Engine, wasm: bytes) -> Size:
    """The sizes of one module."""
    compiled = bytes(wasmtime.Module(on, wasm).serialize())
    return Size(len(wasm), code_section(wasm), text_section(compiled))


def code_section(wasm: bytes) -> int:
    """Bytes of the code section."""
    return sum(len(payload) for number, _, payload in sections(wasm) if number == CODE)


def text_section(elf: bytes) -> int:
    """Bytes of .text in a 64-bit little-endian ELF file, which is how wasmtime keeps compiled modules."""
    assert elf[:5] == b"\x7fELF\x02", "not a 64-bit ELF file"
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    entry, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", elf, table + entry * index) for index in range(count)]
    strings = headers[names][4]
    return sum(header[5] for header in headers if elf[strings + header[0] :].startswith(b".text\0"))
