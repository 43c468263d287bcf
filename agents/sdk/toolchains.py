"""Compilers, run: C and Zig sources become WASI modules, through the package `ziglang`.

Not the rewriting: what comes out is an ordinary module, for `agents.pack`. Invariants: no shell; the compiler
writes only below a temporary folder and its own cache; it ends within `COMPILE_SECONDS`; a compiler that is
missing or not content raises `ToolchainError`, with what to do or with its own words.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import attrs

from agents.errors import ToolchainError
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module

HERE = Path(__file__).resolve().parent
COMPILE_SECONDS = 300.0  # the first compilation builds the C library, which takes the most of a minute
WORDS_MAX = 8000  # characters of a compiler's complaint that are shown

C_FLAGS = ("-target", "wasm32-wasi", "-O2", "-I", str(HERE / "c"))
# setjmp becomes exceptions, in the form of the standard.
SETJMP_FLAGS = (
    *("-mllvm", "-wasm-enable-sjlj", "-mllvm", "-wasm-use-legacy-eh=false"),
    *("-mcpu=generic+exception_handling", "-lsetjmp", str(HERE / "c" / "longjmp_tag.s")),
)
ZIG_FLAGS = ("-target", "wasm32-wasi", "-O", "ReleaseSmall", "-fno-strip")


def compile_c(source: Path) -> bytes:
    """The WASI module of a C program (`main`), with `portcall.h` at hand. Raises `ToolchainError`."""
    uses_setjmp = b"setjmp.h" in source.read_bytes()
    flags = (*C_FLAGS, *(SETJMP_FLAGS if uses_setjmp else ()))
    with tempfile.TemporaryDirectory(prefix="portcall-") as folder:
        target = Path(folder) / "agent.wasm"
        _ziglang(source, "cc", *flags, str(source.resolve()), "-o", str(target))
        return without_debug(target.read_bytes())


def compile_zig(source: Path) -> bytes:
    """The WASI module of a Zig program (`main`). Raises `ToolchainError`."""
    with tempfile.TemporaryDirectory(prefix="portcall-") as folder:
        target = Path(folder) / "agent.wasm"
        _ziglang(source, "build-exe", *ZIG_FLAGS, f"-femit-bin={target}", str(source.resolve()))
        return without_debug(target.read_bytes())


def without_debug(wasm: bytes) -> bytes:
    """The module without its debug sections: they are most of it, and rewriting makes their offsets wrong.

    Names are kept; the linker's own way to leave the sections out would lose those too. Raises `ModuleError`.
    """
    module = decode_module(wasm)
    kept = tuple(custom for custom in module.customs if not custom.name.startswith(".debug_"))
    return encode_module(attrs.evolve(module, customs=kept))


def _ziglang(source: Path, *arguments: str) -> None:
    """Runs the Zig compiler. Raises `ToolchainError`."""
    if importlib.util.find_spec("ziglang") is None:
        raise ToolchainError(
            f"{source.name} needs a compiler that is not installed; do: pip install 'portcall[c]'"
        )
    command = (sys.executable, "-m", "ziglang", *arguments)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMPILE_SECONDS)
    except subprocess.TimeoutExpired:
        raise ToolchainError(f"compiling {source.name} took longer than {COMPILE_SECONDS:.0f} s") from None
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace")[:WORDS_MAX].strip()
        raise ToolchainError(f"the compiler does not take {source.name}:\n{words}")
