"""Tests of `agents.wasm`. `conformance`, `smith` and `fuzz` are commands too: `python -m tests.wasm.fuzz
--help`.
"""
