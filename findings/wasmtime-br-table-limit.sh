#!/bin/sh
# wasmtime 50.0.1: `Module.validate` accepts a br_table with any number of targets; compiling the same module refuses more
# than 65,520 of them. So "it validates" does not mean "it compiles": a program that makes modules (a rewriter, a
# compiler with large switches) has to know the number, and split.
# The WebAssembly specification bounds the vector of targets by 2^32 - 1 only, and lets implementations have limits of
# their own (core, appendix "Implementation Limitations"). The message is that of Cranelift's translation.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv" && "$dir/venv/bin/pip" install -qq --disable-pip-version-check wasmtime==50.0.1
cat >"$dir/show.py" <<'P'
import sys
from importlib.metadata import version
from wasmtime import Engine, Module, WasmtimeError


def uleb(number):
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def module(targets):
    """(module (func (block (br_table 0 ... 0 (i32.const 0)))))"""
    body = b"\x00\x02\x40\x41\x00\x0e" + uleb(targets) + bytes(targets) + b"\x00\x0b\x0b"
    code = b"\x01" + uleb(len(body)) + body
    return b"\0asm\1\0\0\0" + b"\x01\x04\x01\x60\0\0" + b"\x03\x02\x01\x00" + b"\x0a" + uleb(len(code)) + code


engine, seen = Engine(), []
for targets in (65_520, 65_521):
    Module.validate(engine, module(targets))
    try:
        Module(engine, module(targets))
        said = "compiles"
    except WasmtimeError as error:
        said = str(error).splitlines()[-1].strip()
    seen.append(said)
    print(f"wasmtime {version('wasmtime')}: br_table with {targets} targets: valid; {said}")
good = seen[0] == "compiles" and "exceeds the implementation limit of 65520" in seen[1]
sys.exit(0 if good else "this has changed")
P
"$dir/venv/bin/python" "$dir/show.py"
# Seen, 2026-11-29:
#   wasmtime 50.0.1: br_table with 65520 targets: valid; compiles
#   wasmtime 50.0.1: br_table with 65521 targets: valid; 1: Unsupported feature: `br_table` has 65521 targets, which
#   exceeds the implementation limit of 65520
