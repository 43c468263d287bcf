"""For authors in Python, C, Zig, Rust, Go and AssemblyScript: shims (package data), and the compilers that use them.

`python -m agents.sdk` says which of them this machine has. Not part of running an agent: nothing else in `agents`
imports this package.
"""

from pathlib import Path

SDK_FOLDER = Path(__file__).resolve().parent
