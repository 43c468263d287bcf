"""The engine wasmtime: the default. The only package that imports it.

Calls go to its C interface through ctypes, past the Python classes of the package, for three reasons:
exceptions of host functions are kept per instance and not in one place for all threads; a callback costs
one microsecond; and short calls keep the interpreter lock, so that a busy neighbour thread does not add
five milliseconds to each.

What is compiled is cached in memory by this engine and on disk by `CodeCache`, under the digest of the
code. Interruption is by epochs: a watch thread, started when first needed, moves the epoch at the moment
that some instance asked for, and every instance's `tick` then decides for itself.

Invariants: an instance is used by one thread at a time; after `close` nothing of it is reachable; no
pointer that the guest gave is ever followed.
"""

from __future__ import annotations

from .capi import assemble
from .instance import WasmtimeInstance
from .program import WasmtimeEngine, WasmtimeProgram

__all__ = ["WasmtimeEngine", "WasmtimeInstance", "WasmtimeProgram", "assemble"]
