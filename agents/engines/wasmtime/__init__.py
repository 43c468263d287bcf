"""The engine wasmtime: the default. The only package that imports it.

Calls go to its C interface through ctypes and bypass the package's Python classes, for three reasons:
exceptions of host functions are kept per instance and not in one place for all threads; a callback costs
one microsecond; and short calls keep the interpreter lock, so that a busy neighbour thread does not add
five milliseconds to each.

Compiled code is cached in memory by this engine and on disk by `CodeCache`, under the digest of the
code. Interruption uses epochs: a watch thread, started on first use, advances the epoch at the time
that some instance asked for, and every instance's `tick` then decides for itself.

Invariants: one thread at a time uses an instance; after `close` nothing of it is reachable; no
pointer from the guest is ever followed.
"""

from __future__ import annotations

from .capi import assemble
from .instance import WasmtimeInstance
from .program import WasmtimeEngine, WasmtimeProgram

__all__ = ["WasmtimeEngine", "WasmtimeInstance", "WasmtimeProgram", "assemble"]
