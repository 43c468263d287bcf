"""What authors in Python, C, Zig, Rust and AssemblyScript need: shims (package data), and the compilers that use them.

`python -m agents.sdk` says which of them this machine has. Not part of running an agent: nothing else of `agents`
imports this package.
"""
