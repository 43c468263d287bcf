"""Agents in CPython: an author's own WASI build of it, and a script as its luggage.

A build is one .wasm file (wasm32-wasi, preview 1) that a user names. If its standard library is inside it, it needs
nothing else; otherwise it finds the library in the folder `lib/pythonX.Y` beside the file, which then
becomes luggage and travels at each hop.

As with MicroPython, all agents on one build are one image. Not the rewriting, and nothing is run here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from agents.errors import ToolchainError
from agents.sdk import SDK_FOLDER
from agents.sdk.micropython import GUEST_FOLDER, luggage_files, pack_luggage

START_PATH = "/lib/start.py"
CPYTHON_HOME = "/python"  # for a library from beside the build; not where it could hide one inside the build
# No bytecode beside the modules: it would travel. The shim's folder comes after the script's own.
CPYTHON_ENVIRONMENT = {"PYTHONPATH": "/lib", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
LEFT_AT_HOME = {
    *("__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip"),
    *("lib-dynload", "site-packages"),
}
MAX_LIBRARY_BYTES = 48 << 20  # bytes


def luggage(
    name: str, script: bytes, build: Path, args: Sequence[str] = (), files: Mapping[str, bytes] | None = None
) -> bytes:
    """The first state of an agent in the CPython of `build`: see `micropython.luggage`.

    Raises `ToolchainError`; `OSError` when the library beside the build cannot be read.
    """
    beside = library(build)
    environment = {**CPYTHON_ENVIRONMENT, "PYTHONHOME": CPYTHON_HOME} if beside else CPYTHON_ENVIRONMENT
    start = (SDK_FOLDER / "python" / "start.py").read_bytes()
    all_files = {**beside, **luggage_files(name, script, files or {}), START_PATH: start}
    return pack_luggage(["python", START_PATH, f"{GUEST_FOLDER}/{name}", *args], environment, all_files)


def library(build: Path) -> dict[str, bytes]:
    """The standard library beside a build that has none inside: guest path -> contents; empty if there is none.

    Raises `ToolchainError` above `MAX_LIBRARY_BYTES`, `OSError`.
    """
    found: dict[str, bytes] = {}
    size = 0
    for folder in sorted((build.parent / "lib").glob("python3.*")):
        for path in sorted(folder.rglob("*.py")):
            inside = path.relative_to(build.parent)
            if LEFT_AT_HOME.isdisjoint(inside.parts):
                found[f"{CPYTHON_HOME}/{inside.as_posix()}"] = data = path.read_bytes()
                size += len(data)
                if size > MAX_LIBRARY_BYTES:
                    raise ToolchainError(f"the library in {folder} is larger than {MAX_LIBRARY_BYTES >> 20} MiB")
    return found
