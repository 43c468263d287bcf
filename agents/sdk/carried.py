"""The modules of an author's own that a Python agent takes along: those beside its script that it imports.

Found by reading, not by running: the script and what it imports are parsed, and every import of a module or
package that lies in the script's folder is followed. A module file is taken by itself, a package whole, since
what it imports within itself may be computed. The shim `portcall` is never taken from there.

Invariants: deterministic, paths sorted; nothing outside the script's folder is read; bounded in number and
size, so that a script in the wrong folder packs no disk.
"""

from __future__ import annotations

import ast
import warnings
from codecs import BOM_UTF8
from pathlib import Path

from agents.errors import ToolchainError

FILES_MAX = 1000
BYTES_MAX = 16 << 20
SHIM = "portcall"


def modules_beside(script: Path, source: bytes) -> dict[str, bytes]:
    """Path from the script's folder ("helper.py", "pack/__init__.py") -> contents, sorted by path.

    Raises `ToolchainError` for a syntax error, with its line, and beyond the bounds; `OSError`.
    """
    folder = script.parent
    taken: dict[str, bytes] = {}
    seen = {SHIM}
    todo = imported(source, script)
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for path in _files(folder, name):
            content = path.read_bytes().removeprefix(BOM_UTF8)  # which an editor writes, and MicroPython does not read
            taken[path.relative_to(folder).as_posix()] = content
            todo |= imported(content, path)
            if len(taken) > FILES_MAX or sum(map(len, taken.values())) > BYTES_MAX:
                raise ToolchainError(
                    f"{script.name} imports more than an agent carries: {name!r} makes it more than"
                    f" {FILES_MAX} files or {BYTES_MAX >> 20} MiB"
                )
    return dict(sorted(taken.items()))


def imported(source: bytes, path: Path) -> set[str]:
    """The top-level names that a module imports. Raises `ToolchainError` for a syntax error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape is the author's business
            tree = ast.parse(source, path.name)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise ToolchainError(f"{path.name}{line}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # NUL bytes; nesting beyond the parser
        raise ToolchainError(f"{path.name} cannot be read as Python: {error}") from None
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def _files(folder: Path, name: str) -> list[Path]:
    """The files of a module or package in the folder; none when it is not there."""
    package = folder / name
    if (package / "__init__.py").is_file():
        return sorted(path for path in package.rglob("*.py") if path.is_file())
    module = folder / f"{name}.py"
    return [module] if module.is_file() else []
