"""`python -m agents.sdk`: which languages this machine can pack agents from, and where their shims lie.

    python -m agents.sdk             a line for each language
    python -m agents.sdk LANGUAGE    the path of its shim, to copy or to name; exit code 1 if it cannot be packed

Nothing is compiled and nothing is changed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from agents.errors import ToolchainMissing
from agents.sdk import micropython, quickjs, toolchains

HERE = Path(__file__).resolve().parent
LANGUAGES: dict[str, tuple[Path, Callable[[], object]]] = {
    "python": (HERE / "python" / "portcall.py", micropython.interpreter),
    "javascript": (HERE / "javascript" / "portcall.js", quickjs.interpreter),
    "c": (HERE / "c" / "portcall.h", lambda: toolchains.find_ziglang("C")),
    "zig": (HERE / "zig" / "portcall.zig", lambda: toolchains.find_ziglang("Zig")),
    "rust": (HERE / "rust", lambda: toolchains.find_rustc("Rust")),
    "assemblyscript": (HERE / "assemblyscript", lambda: toolchains.find_asc(Path("AssemblyScript"))),
}


def main(arguments: list[str]) -> int:
    """Prints, and gives the exit code."""
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
