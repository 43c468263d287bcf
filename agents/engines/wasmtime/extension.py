"""What an instance can be extended by."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import c_void_p

import wasmtime

from agents.engines.interface import ExtensionInterface
from agents.engines.protocols import Exported


class WasmtimeExtension:
    """A compiled module that is instantiated beside an instance, with that one's exports."""

    def __init__(self, module: wasmtime.Module, digest: bytes, shape: ExtensionInterface) -> None:
        self.digest = digest
        self.imports: Sequence[bytes] = [name.encode() for name in shape.imports]
        self.exports: Mapping[str, Exported] = shape.exports
        self._module = module
        self.native = ctypes.cast(module.ptr(), c_void_p)
