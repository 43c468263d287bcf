#!/bin/sh
# wasmtime 50.0.1, Linux with userfaultfd: a memory with data segments is two mappings, its first pages from a file
# (copy-on-write) and the rest anonymous, although it is one range of addresses. UFFDIO_COPY puts pages into one mapping
# at a time: across the boundary it fails with ENOENT, as if nothing were registered there, although UFFDIO_REGISTER has
# accepted the range as a whole. So who provides pages of a memory (post-copy) has to try again piece by piece. With
# `memory_init_cow` off, which costs each instantiation a copy of its data, it is one mapping and one call.
# userfaultfd(2) and ioctl_userfaultfd(2) say what a range has to be for UFFDIO_REGISTER, which may span mappings, and of
# ENOENT only that the mapping changed meanwhile; wasmtime's documentation of `Config::memory_init_cow` tells of speed.
set -eu
[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || { echo "needs Linux on x86-64"; exit 77; }
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv" && "$dir/venv/bin/pip" install -qq --disable-pip-version-check wasmtime==50.0.1
cat >"$dir/show.py" <<'P'
import ctypes
import errno
import os
import platform
import sys
from importlib.metadata import version

from wasmtime import Config, Engine, Instance, Module, Store

PAGE, SIZE = 4096, 131072
API, REGISTER, COPY = 0xC018AA3F, 0xC020AA00, 0xC028AA03  # _IOWR(0xAA, number, struct)
libc = ctypes.CDLL(None, use_errno=True)
WAT = '(module (memory (export "m") 2) (data (i32.const 0) "' + "x" * 8192 + '"))'


def ask(descriptor, request, *fields):
    argument = (ctypes.c_uint64 * len(fields))(*fields)
    done = libc.ioctl(descriptor, ctypes.c_ulong(request), argument)
    return "ok" if done == 0 else errno.errorcode[ctypes.get_errno()]


def tried(cow):
    config = Config()
    config.memory_init_cow = cow
    store = Store(Engine(config))
    memory = Instance(store, Module(store.engine, WAT), []).exports(store)["m"]
    start = ctypes.addressof(memory.data_ptr(store).contents)
    descriptor = libc.syscall(323, os.O_CLOEXEC | 1)  # user mode only: no privilege
    if descriptor < 0 or ask(descriptor, API, 0xAA, 0, 0) != "ok":
        print("no userfaultfd here")
        sys.exit(77)
    libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(SIZE), 4)  # MADV_DONTNEED
    registered = ask(descriptor, REGISTER, start, SIZE, 1, 0)  # missing pages
    with open("/proc/self/maps") as maps:
        rows = [[int(x, 16) for x in line.split()[0].split("-")] for line in maps]
    mappings = [row for row in rows if row[0] < start + SIZE and start < row[1]]
    border = mappings[0][1] if len(mappings) > 1 else start + 2 * PAGE
    source = ctypes.create_string_buffer(3 * PAGE)
    at = (ctypes.addressof(source) + PAGE - 1) // PAGE * PAGE
    across = ask(descriptor, COPY, border - PAGE, at, 2 * PAGE, 0, 0)
    single = ask(descriptor, COPY, border - PAGE, at, PAGE, 0, 0), ask(descriptor, COPY, border, at, PAGE, 0, 0)
    os.close(descriptor)
    return len(mappings), registered, across, single


seen = [tried(True), tried(False)]
for cow, (mappings, registered, across, single) in zip(("on", "off"), seen):
    print(f"wasmtime {version('wasmtime')}, memory_init_cow {cow}: {mappings} mapping(s); the whole is registered: "
          f"{registered}; two pages at once: {across}; one by one: {', '.join(single)}")
good = seen[0] == (2, "ok", "ENOENT", ("ok", "ok")) and seen[1][:3] == (1, "ok", "ok")
sys.exit(0 if good else "this has changed")
P
"$dir/venv/bin/python" "$dir/show.py"
# Seen, 2026-11-30, Linux 6.18:
#   wasmtime 50.0.1, memory_init_cow on: 2 mapping(s); the whole is registered: ok; two pages at once: ENOENT; one by
#   one: ok, ok
#   wasmtime 50.0.1, memory_init_cow off: 1 mapping(s); the whole is registered: ok; two pages at once: ok; one by one:
#   EEXIST, EEXIST
