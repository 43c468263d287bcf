"""The author's own modules that an agent in Python or JavaScript carries: those beside its script that it imports.

Found by reading, not by running: the script and what it imports are parsed, and every import of a module or
package in the script's folder is followed. A module file is carried by itself, a package whole, since
what it imports internally may be computed. The shim `portcall` is never taken from there.

Invariants: deterministic, paths sorted; nothing outside the script's folder is read; bounded in number and
size, so that a script in the wrong folder does not pack a whole disk.
"""

from __future__ import annotations

import ast
import os
import posixpath
import re
import warnings
from codecs import BOM_UTF8
from collections.abc import Mapping
from pathlib import Path

from agents.errors import ToolchainError

MAX_CARRIED_FILES = 1000
MAX_CARRIED_BYTES = 16 << 20
SHIM_MODULE = "portcall"
# What is no code in JavaScript (a comment, or the text of a template), and strings, which may look like one.
_JAVASCRIPT_TEXT = re.compile(
    r"//[^\n]*|/\*.*?\*/|`(?:\\.|[^`\\])*`|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"", re.DOTALL
)
# An import by a relative path, at the beginning of a statement; and one that is a call.
_JAVASCRIPT_IMPORT = re.compile(
    r"^[ \t]*(?:import|export)\b(?:[^;'\"`]*?\bfrom\b)?\s*(['\"])(?P<static>\.\.?/[^'\"\n]+)\1"
    r"|\bimport\s*\(\s*(['\"])(?P<called>\.\.?/[^'\"\n]+)\3",
    re.MULTILINE,
)


def modules_beside(script: Path, source: bytes) -> dict[str, bytes]:
    """Path from the script's folder ("helper.py", "pack/__init__.py") -> contents, sorted by path.

    Raises `ToolchainError` for a syntax error, with its line, and above the bounds; `OSError`.
    """
    folder = script.parent
    taken: dict[str, bytes] = {}
    seen = {SHIM_MODULE}
    todo = imported(source, script)
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for path in _files(folder, name):
            content = path.read_bytes().removeprefix(BOM_UTF8)  # editors write it, and MicroPython does not read it
            taken[utf8(path.relative_to(folder).as_posix())] = content
            todo |= imported(content, path)
            check_amount(script, name, taken)
    return dict(sorted(taken.items()))


def scripts_beside(script: Path, source: bytes) -> dict[str, bytes]:
    """The same for a script in JavaScript and the paths that it imports ("./helper.js").

    Raises `ToolchainError` for an import of what is not there, with its line, and above the bounds; `OSError`.
    """
    folder = script.parent
    taken: dict[str, bytes] = {}
    todo = _scripts(folder, script.name, source)
    while todo:
        path = todo.pop()
        if path in taken:
            continue
        taken[path] = content = (folder / path).read_bytes()
        todo |= _scripts(folder, path, content)
        check_amount(script, path, taken)
    return dict(sorted(taken.items()))


def _scripts(folder: Path, name: str, source: bytes) -> set[str]:
    """The paths that a module in JavaScript imports, from the script's folder."""
    text = source.decode(errors="replace")
    code = _JAVASCRIPT_TEXT.sub(
        lambda found: found[0] if found[0][0] in "'\"" else re.sub(r"[^\n]", " ", found[0]), text
    )
    paths = set()
    for found in _JAVASCRIPT_IMPORT.finditer(code):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), found["static"] or found["called"]))
        inside = not path.startswith("../")
        if inside and (folder / path).is_file():
            paths.add(path)
        elif found["static"]:  # the other may never be called, or what it gives be handled
            line = code.count("\n", 0, found.start("static")) + 1
            why = (
                "there is no such file" if inside else f"an agent carries what is in the folder of its script, {folder}"
            )
            raise ToolchainError(f"{name}, line {line}: {found['static']!r} cannot be imported: {why}")
    return paths


def check_amount(script: Path, name: str, taken: Mapping[str, bytes]) -> None:
    """Raises `ToolchainError` if `taken`, with `name` in it, is more than an agent carries."""
    if len(taken) > MAX_CARRIED_FILES or sum(map(len, taken.values())) > MAX_CARRIED_BYTES:
        raise ToolchainError(
            f"{script.name} takes along more than an agent carries: {name!r} makes it more than"
            f" {MAX_CARRIED_FILES} files or {MAX_CARRIED_BYTES >> 20} MiB"
        )


def imported(source: bytes, path: Path) -> set[str]:
    """The top-level names that a module imports. Raises `ToolchainError` for a syntax error."""
    names: set[str] = set()
    for node in ast.walk(parsed(source, path.name)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def utf8(name: str) -> str:
    """A file's name, made of any bytes, as text that a manifest and a guest can hold."""
    return os.fsencode(name).decode(errors="replace")


def parsed(source: bytes, name: str) -> ast.Module:
    """A module in Python, read. Raises `ToolchainError` for a syntax error, with its line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape is the author's business
            return ast.parse(source, name)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise ToolchainError(f"{name}{line}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # NUL bytes; nesting too deep for the parser
        raise ToolchainError(f"{name} cannot be read as Python: {error}") from None


def _files(folder: Path, name: str) -> list[Path]:
    """The files of a module or package in the folder; none if it is not there."""
    package = folder / name
    if (package / "__init__.py").is_file():
        return sorted(path for path in package.rglob("*.py") if path.is_file())
    module = folder / f"{name}.py"
    return [module] if module.is_file() else []
