"""`python -m agents.sdk`: which languages this machine can pack agents from, and where their shims are.

    python -m agents.sdk             a line for each language
    python -m agents.sdk LANGUAGE    the path of its shim, to copy or to name; exit code 1 if it cannot be packed

Nothing is compiled and nothing is changed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from agents.errors import ToolchainMissing
from agents.sdk import SDK_FOLDER, micropython, quickjs, toolchains

LANGUAGES: dict[str, tuple[Path, Callable[[], object]]] = {
    "python": (SDK_FOLDER / "python" / "portcall.py", micropython.interpreter),
    "javascript": (SDK_FOLDER / "javascript" / "portcall.js", quickjs.interpreter),
    "c": (SDK_FOLDER / "c" / "portcall.h", lambda: toolchains.find_ziglang("C")),
    "zig": (SDK_FOLDER / "zig" / "portcall.zig", lambda: toolchains.find_ziglang("Zig")),
    "rust": (SDK_FOLDER / "rust", lambda: toolchains.find_rustc("Rust")),
    "go": (SDK_FOLDER / "go", lambda: toolchains.find_go("Go")),
    "assemblyscript": (SDK_FOLDER / "assemblyscript", lambda: toolchains.find_asc(Path("AssemblyScript"))),
}


def main(arguments: list[str]) -> int:
    """Print the report; returns the exit code."""
    if len(arguments) > 1 or not set(arguments) <= set(LANGUAGES):
        print(f"one of: {', '.join(LANGUAGES)}", file=sys.stderr)
        return 2
    for language in arguments or LANGUAGES:
        shim, find = LANGUAGES[language]
        try:
            find()
        except ToolchainMissing as missing:
            print(missing if arguments else f"{language:<15} {missing}", file=sys.stderr if arguments else sys.stdout)
            if arguments:
                return 1
        else:
            print(shim if arguments else f"{language:<15} ready; shim: {shim}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
