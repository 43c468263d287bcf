#!/bin/sh
# wasmtime 50.0.1: a function type that no function, call or block of a module uses costs machine code all the same: code by which a
# function of the type could call the host, longer with each value of the type. Tools that add types and leave those that
# they no longer need (block types with several values among them) make a module dearer to compile, to cache and to load. WebAssembly
# has no cost for an entry of the type section but its bytes. Types that are equal cost once.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv" && "$dir/venv/bin/pip" install -qq --disable-pip-version-check wasmtime==50.0.1
cat >"$dir/show.py" <<'P'
import sys
from importlib.metadata import version

import wasmtime

TYPES, VALUES = 200, 20


def code(types):
    text = f"(module {types} (func (export \"f\") (result i32) (i32.const 1)))"
    return len(wasmtime.Module(wasmtime.Engine(), text).serialize())


kinds = ["i32", "i64", "f32", "f64"]
unlike = "".join(
    f"(type (func (param {' '.join(kinds[number >> 2 * place & 3] for place in range(4))} {'i32 ' * (VALUES - 4)})))"
    for number in range(TYPES)
)
alike = f"(type (func (param {'i32 ' * VALUES})))" * TYPES
none, same, different = code(""), code(alike), code(unlike)
print(f"wasmtime {version('wasmtime')}: the compiled module has {none} bytes without unused types;")
print(f"with {TYPES} equal ones of {VALUES} parameters {same}, with {TYPES} unequal ones {different}:")
each = (different - same) / TYPES
print(f"{each:.0f} bytes for each that is not like another")
sys.exit(0 if each > 250 and same - none < 10_000 else "this has changed")
P
"$dir/venv/bin/python" "$dir/show.py"
# Seen, 2026-11-29, x86-64:
#   wasmtime 50.0.1: the compiled module has 13608 bytes without unused types;
#   with 200 equal ones of 20 parameters 14112, with 200 unequal ones 141272:
#   636 bytes for each that is not like another
