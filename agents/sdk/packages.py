"""Packages of the packer's own environment that an agent in Python carries, and what it imports that is nowhere.

Found by reading, like the modules beside a script (`agents.sdk.carried`): nothing of them is run. A package
is carried whole. What else goes along, and what is missing, is found by following imports from the script on, module
by module, but only those that are sure to happen: not one in `try` with `except ImportError`, nor under a question
about the type checker or the interpreter; and in modules of packages, none in a function or under any `if`.

Invariants: deterministic, paths sorted; the same bounds as for modules beside the script.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import sys
from codecs import BOM_UTF8
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import attrs

from agents.brief import brief
from agents.errors import ToolchainError
from agents.sdk.carried import MAX_CARRIED_BYTES, SHIM_MODULE, check_amount, parsed, utf8

RESERVED = {SHIM_MODULE, "start"}  # modules that are in the packages' folder of every agent
LEFT_BEHIND = {".pyc", ".pyi"}
COMPILED = {".so", ".pyd", ".dylib", ".dll", *(f".{suffix.rpartition('.')[2]}" for suffix in EXTENSION_SUFFIXES)}
CATCHES_MISSING = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
ASKS_INTERPRETER = {"implementation", "platform", "version", "version_info", "hexversion"}  # attributes of sys


@attrs.frozen
class Missing:
    """A module that is imported and is nowhere: its name, and the file and line of the import."""

    name: str
    file: str
    line: int


@attrs.frozen
class Needs:
    """What the script of an agent needs.

    packages: path from the folder of packages -> contents, sorted
    read: the modules that it is sure to import, path -> contents
    missing: the modules that are nowhere, in the order in which they were met
    """

    packages: dict[str, bytes] = attrs.field(repr=brief)
    read: dict[str, bytes] = attrs.field(repr=brief)
    missing: tuple[Missing, ...] = attrs.field(repr=brief)


@attrs.frozen
class _Import:
    """`import module`, or `from module import names`; `level`: its leading dots."""

    module: str
    names: tuple[str, ...] = attrs.field(repr=brief)
    level: int
    line: int


def needs(
    script: Path, source: bytes, beside: Mapping[str, bytes], names: Sequence[str], interpreter: Collection[str]
) -> Needs:
    """What an agent needs that has the modules `beside` its script and carries the packages `names`.

    names: of packages, modules or distributions; what they import of other distributions goes along
    interpreter: the modules inside the interpreter, dotted if they are parts of one; they are not carried
    Raises `ToolchainError` for a package that is not there or has compiled parts, and above the bounds; `OSError`.
    """
    packages: dict[str, bytes] = {}
    for name in names:
        for module in _modules(name):
            if module in interpreter:
                raise ToolchainError(f"--package {name}: {module} is inside the interpreter already: leave it out")
            _take(module, f"--package {name}", script, packages)
    read = {path: packages[path] for path in packages if path.removesuffix("/__init__.py").count("/") == 0}
    read = {path: content for path, content in read.items() if path.endswith(".py")}
    missing: dict[str, Missing] = {}
    todo = [*((path, content, False) for path, content in read.items()), (script.name, source, True)]
    while todo:
        file, content, own = todo.pop()
        for each in _imports(parsed(content, file), own):
            name = _absolute(each, file)
            top, dot, _ = name.partition(".")
            if not _has(beside, top) and not _has(packages, top):
                if top == SHIM_MODULE or not top or (top in interpreter and (not dot or name in interpreter)):
                    continue
                if own or top in interpreter or top in sys.stdlib_module_names or _spec(top) is None:
                    found = Missing(name if top in interpreter else top, file, each.line)
                    missing.setdefault(found.name, found)
                    continue
                _take(top, f"{file}, line {each.line}", script, packages)
            known = beside if _has(beside, top) else packages
            for path in _on_the_way(known, name, each.names):
                if path not in read:
                    read[path] = known[path]
                    todo.append((path, known[path], known is beside))
    return Needs(dict(sorted(packages.items())), read, tuple(missing.values()))


def _take(module: str, where: str, script: Path, packages: dict[str, bytes]) -> None:
    """Add the files of a module or package to `packages`. `where`: who asks for it."""
    spec = _spec(module)
    if spec is None:
        raise ToolchainError(
            f"{where}: there is no package {module} in the environment that packs, {sys.prefix}: install it there"
        )
    if module in RESERVED:
        raise ToolchainError(f"{where}: an agent has a module {module} of its own: carry none of that name")
    origin = Path(spec.origin or "")
    if spec.submodule_search_locations is not None and not spec.has_location:
        raise ToolchainError(f"{where}: {module} is a namespace of several distributions, which cannot be carried")
    if not spec.has_location or not origin.is_file():
        raise ToolchainError(f"{where}: {module} is a part of the Python that packs, and cannot be carried")
    whole = spec.submodule_search_locations is not None
    folder = origin.parent.parent if whole else origin.parent
    for path in sorted(origin.parent.rglob("*")) if whole else [origin]:
        if not path.is_file() or path.suffix in LEFT_BEHIND:
            continue
        inside = utf8(path.relative_to(folder).as_posix())
        if not COMPILED.isdisjoint(path.suffixes):
            raise ToolchainError(
                f"{where}: {module} has compiled parts ({inside}), and an agent carries Python only: do without it"
            )
        if path.stat().st_size > MAX_CARRIED_BYTES:
            raise ToolchainError(f"{where}: {inside} is larger than {MAX_CARRIED_BYTES >> 20} MiB")
        content = path.read_bytes()
        packages[inside] = content.removeprefix(BOM_UTF8) if path.suffix == ".py" else content
        check_amount(script, module, packages)


def _modules(name: str) -> list[str]:
    """The modules that `name` stands for: itself, or those of the distribution of that name."""
    if "." not in name and _spec(name) is not None:
        return [name]
    found = [
        module
        for module, distributions in importlib.metadata.packages_distributions().items()
        if _normal(name) in map(_normal, distributions) and module.isidentifier()
    ]
    top = name.partition(".")[0]
    if not found and top != name and _spec(top) is not None:
        raise ToolchainError(f"--package {name}: a package is carried whole: --package {top}")
    return sorted(found) or [name]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    """Where this environment has a module, which is not imported; None if nowhere."""
    try:
        return importlib.util.find_spec(name) if name.isidentifier() else None
    except (ImportError, ValueError):
        return None


def _has(files: Mapping[str, bytes], top: str) -> bool:
    return f"{top}.py" in files or f"{top}/__init__.py" in files


def _on_the_way(files: Mapping[str, bytes], module: str, names: Sequence[str]) -> Iterator[str]:
    """The files that are executed when `names` are imported from `module`."""
    parts = module.split(".")
    steps = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    for step in [*steps, *(f"{steps[-1]}/{name}" for name in names)]:
        for path in (f"{step}/__init__.py", f"{step}.py"):
            if path in files:
                yield path
                break


def _absolute(found: _Import, file: str) -> str:
    """The module that an import in `file` names; "" if it leads out of its package."""
    if not found.level:
        return found.module
    package = file.split("/")[:-1]
    if found.level > len(package):
        return ""
    base = package[: len(package) - found.level + 1]
    return ".".join([*base, found.module] if found.module else base)


def _imports(tree: ast.Module, own: bool) -> list[_Import]:
    """The imports that are sure to happen, by line; `own`: in the author's own module, so in its functions too."""
    found = []
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        handlers: list[ast.ExceptHandler] = getattr(node, "handlers", [])
        if isinstance(node, ast.Import):
            found += [_Import(alias.name, (), 0, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            found.append(_Import(node.module or "", names, node.level, node.lineno))
        elif any(_catches_missing(handler.type) for handler in handlers):
            todo += getattr(node, "finalbody", [])
        elif isinstance(node, ast.If) and (not own or _asks_interpreter(node.test)):
            continue
        elif isinstance(node, ast.If) and _mentions(node.test, {"TYPE_CHECKING"}):
            todo += node.orelse
        elif own or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            todo += ast.iter_child_nodes(node)
    return sorted(found, key=lambda each: each.line)


def _catches_missing(caught: ast.expr | None) -> bool:
    return caught is None or _mentions(caught, CATCHES_MISSING)


def _asks_interpreter(test: ast.expr) -> bool:
    return _mentions(test, {"sys"}) and _mentions(test, ASKS_INTERPRETER)


def _mentions(expression: ast.expr, names: set[str]) -> bool:
    return any(
        (isinstance(node, ast.Name) and node.id in names) or (isinstance(node, ast.Attribute) and node.attr in names)
        for node in ast.walk(expression)
    )
