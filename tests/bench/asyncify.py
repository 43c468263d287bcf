"""The peer to compare with: Binaryen's Asyncify, run as its documentation advises.

``wasm-opt -O2 --asyncify -O2`` with the suspending import named, so that nothing else counts as
suspending: optimised before (a smaller function needs less) and after (the pass leaves much to clean up),
the better of the orders that were tried. With polls, each loop head, and each function entry where our
own rewriter polls, first gets ``if (flag) sched_yield()``: Asyncify knows suspension only as a call that
continues, so this is the poll it can have. The flag is a global, which costs what our load costs.

Binaryen is taken from ``PORTCALL_WASM_OPT``, else from the npm package (installed into the build
directory when npm is there), else from the path.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs

from agents.rewrite import Options
from agents.rewrite.callgraph import analyse
from agents.wasm import opcodes as op
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module
from agents.wasm.syntax import I32, Export, Func, Global, GlobalType, ImportFunc, Instr, Module
from tests.programs import build_directory

YIELD = ("wasi_snapshot_preview1", "sched_yield")
FLAG = "flag"
_REFUSED = b"refused: "
PACKAGE = "binaryen@132.0.0"


class Refused(Exception):
    """Asyncify could not pass the module; the message is Binaryen's."""


@attrs.frozen
class Binaryen:
    """A wasm-opt that works: the command and its version."""

    command: tuple[str, ...]
    version: str

    def asyncify(self, wasm: bytes, imports: Sequence[tuple[str, str]] = (YIELD,)) -> bytes:
        """Raises Refused when Asyncify does not take the module."""
        named = ",".join(".".join(entry) for entry in imports)
        flags = ["-all", "-O2", "--asyncify", f"--pass-arg=asyncify-imports@{named}", "-O2"]
        digest = hashlib.sha256(repr((self.version, flags)).encode() + wasm).hexdigest()[:24]
        cached = build_directory() / "asyncify" / f"{digest}.wasm"
        if not cached.exists():  # it takes seconds for each module
            cached.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory() as scratch:
                source, target = Path(scratch, "in.wasm"), Path(scratch, "out.wasm")
                source.write_bytes(wasm)
                done = _run([*self.command, *flags, str(source), "-o", str(target)])
                made = target.read_bytes() if done.returncode == 0 and target.exists() else b""
            # A refusal is kept too.
            cached.write_bytes(made or _REFUSED + _reason(done.stderr).encode())
        found = cached.read_bytes()
        if found.startswith(_REFUSED):
            raise Refused(found.removeprefix(_REFUSED).decode())
        return found


def find() -> Binaryen | None:
    """A working wasm-opt, None when there is none to be had."""
    for command in _candidates():
        try:
            done = _run([*command, "--version"])
        except OSError:
            continue
        if done.returncode == 0:
            return Binaryen(tuple(command), done.stdout.strip())
    return None


def _candidates() -> list[list[str]]:
    found = []
    if "PORTCALL_WASM_OPT" in os.environ:
        found.append(shlex.split(os.environ["PORTCALL_WASM_OPT"]))
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is not None:
        script = build_directory() / "npm" / "node_modules" / "binaryen" / "bin" / "wasm-opt"
        if not script.exists() and npm is not None:
            _install(npm, build_directory() / "npm")
        if script.exists():
            found.append([node, str(script)])
    if (installed := shutil.which("wasm-opt")) is not None:
        found.append([installed])
    return found


def _install(npm: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    command = [npm, "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(folder), PACKAGE]
    try:
        subprocess.run(command, capture_output=True, timeout=180, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return  # without a network the path may still have one


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def _reason(stderr: str) -> str:
    for line in stderr.splitlines():
        if line.startswith(("Fatal:", "unexpected")) or "UNREACHABLE" in line:
            return line.removeprefix("Fatal: ")[:100]
    return "wasm-opt failed"


def with_polls(wasm: bytes) -> bytes:
    """The module with ``if (flag) sched_yield()`` where our rewriter polls; it must import sched_yield."""
    module = decode_module(wasm)
    target = next(
        index
        for index, entry in enumerate(item for item in module.imports if isinstance(item.desc, ImportFunc))
        if (entry.module, entry.name) == YIELD
    )
    flag = len(module.global_types)
    poll = (Instr(op.GLOBAL_GET, flag), Instr(op.IF, None), Instr(op.CALL, target), Instr(op.DROP, None))
    poll += (Instr(op.END, None),)
    entries = analyse(module, Options(polls="loops")).entry_polls
    first = module.imported("func")
    funcs = tuple(_polled(func, poll, first + index in entries) for index, func in enumerate(module.funcs))
    added = Global(GlobalType(I32, True), (Instr(op.I32_CONST, 0), Instr(op.END, None)))
    return _encoded(module, funcs, added, flag)


def _polled(func: Func, poll: tuple[Instr, ...], at_entry: bool) -> Func:
    body = list(poll) if at_entry else []
    for instr in func.body:
        body.append(instr)
        if instr.code == op.LOOP:
            body += poll
    return attrs.evolve(func, body=tuple(body))


def _encoded(module: Module, funcs: tuple[Func, ...], added: Global, flag: int) -> bytes:
    changed = attrs.evolve(
        module,
        funcs=funcs,
        globals=(*module.globals, added),
        exports=(*module.exports, Export(FLAG, "global", flag)),
        source=None,
        offsets={},
    )
    return encode_module(changed)
