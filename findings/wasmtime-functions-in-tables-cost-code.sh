#!/bin/sh
# wasmtime 50.0.1: a function that is in a table (or exported) takes some 330 bytes of compiled module (x86-64) more than the same function
# that is only called, whatever it does: the host might call it through the table, so the engine compiles an entry for such calls. A
# module of small functions becomes several times as large by an element segment. So who makes modules (a rewriter, a
# linker that exports all) pays for each name, and calls many functions cheaper through one that chooses by number.
# The specification knows no such cost; wasmtime's documentation names these entries "trampolines".
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv" && "$dir/venv/bin/pip" install -qq --disable-pip-version-check wasmtime==50.0.1
cat >"$dir/show.py" <<'P'
import sys
from importlib.metadata import version
from wasmtime import Engine, Module, wat2wasm

COUNT = 2000


def size(elements):
    """Bytes of the compiled module: functions that add a number of their own, all called by one that is exported."""
    functions = "".join(f"(func $f{n} (param i32) (result i32) (i32.add (local.get 0) (i32.const {n})))" for n in range(COUNT))
    calls = "".join(f"(call $f{n}" for n in range(COUNT)) + "(local.get 0)" + ")" * COUNT
    table = f"(table (export \"t\") {COUNT} funcref)" + (
        "(elem (i32.const 0) " + " ".join(f"$f{n}" for n in range(COUNT)) + ")" if elements else ""
    )
    text = f'(module {table} {functions} (func (export "all") (param i32) (result i32) {calls}))'
    return len(Module(Engine(), wat2wasm(text)).serialize())


called, tabled = size(False), size(True)
each = (tabled - called) / COUNT
print(f"wasmtime {version('wasmtime')}: {COUNT} functions {called} bytes compiled; in a table {tabled}: {each:.0f} bytes each")
sys.exit(0 if 120 < each < 500 else "this has changed")
P
"$dir/venv/bin/python" "$dir/show.py"
# Seen, 2026-11-29, x86-64:
#   wasmtime 50.0.1: 2000 functions 350424 bytes compiled; in a table 1009560: 330 bytes each
