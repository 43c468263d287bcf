"""Compilers, run: sources in C, Zig, Rust and AssemblyScript become WebAssembly modules.

C and Zig come with the package `ziglang`; `rustc` and AssemblyScript's `asc` are the author's own. Not the
rewriting: what comes out is an ordinary module, for `agents.pack`. Invariants: no shell; a compiler writes only
below a temporary folder and its own cache; it ends within `COMPILE_SECONDS`; one that is missing
raises `ToolchainMissing` with what to do, one that is not content `ToolchainError` with its own words.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from agents.errors import ToolchainError, ToolchainMissing
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
ZIG_FLAGS = ("-target", "wasm32-wasi", "-O", "ReleaseSmall", "-fno-strip", "--dep", "portcall")
RUST_TARGETS = ("wasm32-wasip1", "wasm32-wasi")  # the name of today, and that before Rust 1.78
RUST_FLAGS = ("--edition", "2021", "-C", "opt-level=2", "-C", "strip=debuginfo")
ASC_FLAGS = ("--optimize", "--debug", "--exportStart", "_start", "--use", "abort=portcall_abort")


def compile_c(source: Path) -> bytes:
    """The WASI module of a C program (`main`), with `portcall.h` at hand. Raises `ToolchainError`."""
    uses_setjmp = b"setjmp.h" in source.read_bytes()
    flags = (*C_FLAGS, *(SETJMP_FLAGS if uses_setjmp else ()))
    with tempfile.TemporaryDirectory(prefix="portcall-") as folder:
        target = Path(folder) / "agent.wasm"
        _run(source, [*find_ziglang(source.name), "cc", *flags, str(source.resolve()), "-o", str(target)])
        return without_debug(target.read_bytes())


def compile_zig(source: Path) -> bytes:
    """The WASI module of a Zig program (`main`), with the module `portcall`. Raises `ToolchainError`."""
    modules = (f"-Mroot={source.resolve()}", f"-Mportcall={HERE / 'zig' / 'portcall.zig'}")
    with tempfile.TemporaryDirectory(prefix="portcall-") as folder:
        target = Path(folder) / "agent.wasm"
        _run(source, [*find_ziglang(source.name), "build-exe", *ZIG_FLAGS, *modules, f"-femit-bin={target}"])
        return without_debug(target.read_bytes())


def compile_rust(source: Path) -> bytes:
    """The WASI module of a Rust program in one file, with the crate `portcall`. Raises `ToolchainError`.

    A program with more crates is built by cargo, with the crate of this package named by its path.
    """
    rustc, target = find_rustc(source.name)
    crate = HERE / "rust" / "src" / "lib.rs"
    with tempfile.TemporaryDirectory(prefix="portcall-") as folder:
        module, library = Path(folder) / "agent.wasm", Path(folder) / "libportcall.rlib"
        # Paths of this machine would be in the module, and in the image's digest.
        common = (rustc, "--target", target, *RUST_FLAGS, f"--remap-path-prefix={source.resolve().parent}=.")
        _run(source, [*common, "--crate-type", "rlib", "--crate-name", "portcall", f"--remap-path-prefix={HERE}=.",
                      str(crate), "-o", str(library)])  # fmt: skip
        try:
            _run(source, [*common, "--extern", f"portcall={library}", str(source.resolve()), "-o", str(module)])
        except ToolchainError as error:
            if "`rust-lld` not found" not in str(error):
                raise
            raise ToolchainMissing(
                f"{source.name} needs the linker of {rustc}, which is missing; on Debian, do: apt install rust-llvm"
            ) from None
        return without_debug(module.read_bytes())


def compile_assemblyscript(source: Path) -> bytes:
    """The module of an AssemblyScript program, whose statements run in order. Raises `ToolchainError`."""
    asc = find_asc(source)
    folder = source.resolve().parent
    with tempfile.TemporaryDirectory(prefix="portcall-") as scratch:
        target = Path(scratch) / "agent.wasm"
        # It takes paths relative to its own folder only.
        library, out = (os.path.relpath(path, folder) for path in (HERE / "assemblyscript", target))
        _run(source, [asc, source.name, *ASC_FLAGS, "--lib", library, "--outFile", out], folder)
        return without_debug(target.read_bytes())


def without_debug(wasm: bytes) -> bytes:
    """The module without its debug sections: they are most of it, and rewriting makes their offsets wrong.

    Names are kept; the linker's own way to leave the sections out would lose those too. Raises `ModuleError`.
    """
    module = decode_module(wasm)
    kept = tuple(custom for custom in module.customs if not custom.name.startswith(".debug_"))
    return encode_module(attrs.evolve(module, customs=kept))


def find_ziglang(wanted_by: str) -> list[str]:
    """The command of the Zig compiler. Raises `ToolchainMissing`."""
    if importlib.util.find_spec("ziglang") is None:
        raise ToolchainMissing(
            f"{wanted_by} needs a compiler that is not installed; do: pip install 'portcall[c]'"
        )
    return [sys.executable, "-m", "ziglang"]


def find_rustc(wanted_by: str) -> tuple[str, str]:
    """The first `rustc` on the PATH with the standard library for WASI, and its target.

    Raises `ToolchainMissing`.
    """
    for rustc in _on_path("rustc"):
        for target in RUST_TARGETS:
            asked = [rustc, "--print", "target-libdir", "--target", target]
            found = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
            if found.returncode == 0 and any(Path(os.fsdecode(found.stdout.strip())).glob("libstd-*.rlib")):
                return rustc, target
    raise ToolchainMissing(
        f"{wanted_by} needs a rustc that can build for WASI; do: rustup target add wasm32-wasip1"
        " (Debian, Ubuntu: apt install rustc libstd-rust-dev-wasm32 lld)"
    )


def find_asc(source: Path) -> str:
    """AssemblyScript's compiler: from the `node_modules` nearest to the source or to here, or on the PATH.

    Raises `ToolchainMissing`.
    """
    for folder in (*source.resolve().parents, *(Path.cwd() / source.name).parents):
        if (folder / "node_modules" / ".bin" / "asc").exists():
            return str(folder / "node_modules" / ".bin" / "asc")
    for asc in _on_path("asc"):
        return asc
    raise ToolchainMissing(f"{source.name} needs AssemblyScript; beside it, do: npm install assemblyscript")


def _on_path(program: str) -> Iterator[str]:
    """Every executable of that name on the PATH: the first may be one without what we need."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = shutil.which(program, path=folder) if folder else None
        if found is not None:
            yield found


def _run(source: Path, command: Sequence[str], folder: Path | None = None) -> None:
    """Runs a compiler. Raises `ToolchainError`."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMPILE_SECONDS, cwd=folder, check=False
        )
    except subprocess.TimeoutExpired:
        raise ToolchainError(f"compiling {source.name} took longer than {COMPILE_SECONDS:.0f} s") from None
    if done.returncode != 0:
        words = (done.stderr or done.stdout).decode(errors="replace")[:WORDS_MAX].strip()
        raise ToolchainError(f"the compiler does not take {source.name}:\n{words}")
