"""What an engine must do to run agents: `load(name)`, and the protocols.

An *engine* compiles code to a *program*; a program makes fresh *instances*. Values cross as bits, never
negative: an i32 as 0 .. 2**32 - 1, an f64 as its 64-bit pattern, a v128 as 128 bits, little endian. So no
float changes on its way, and both engines agree.

Not the runtime: an engine knows nothing of agents, suspension or snapshots.

Invariants: only the module `agents.engines.NAME` imports the engine NAME; a limit is enforced by the
engine, never by trust in the code; compiled code comes from this user's own cache or is compiled here.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from agents.errors import EngineError

from .protocols import (
    DEFAULT_STACK_BYTES,
    REBINDABLE,
    CompileLimits,
    Engine,
    Exported,
    Extension,
    HostCall,
    ImportedFunction,
    Instance,
    Kind,
    Limits,
    Program,
    Rebound,
)

__all__ = [
    "DEFAULT_STACK_BYTES",
    "ENGINE_NAMES",
    "REBINDABLE",
    "CompileLimits",
    "Engine",
    "Exported",
    "Extension",
    "HostCall",
    "ImportedFunction",
    "Instance",
    "Kind",
    "Limits",
    "Program",
    "Rebound",
    "available",
    "default_cache",
    "load",
]

ENGINE_NAMES = ("wasmtime", "v8", "wasmer")


def load(name: str = "wasmtime", **options: Any) -> Engine:
    """The engine called `name`: "wasmtime" (the default), "v8" or "wasmer".

    options: `cache`, a directory for compiled code, or None for no cache (default: in the user's cache directory);
        `stack`, bytes of stack for the agent's code (1 MiB)

    Raises `EngineError` if it is unknown, not installed, or does not work on this Python.
    """
    if name == "wasmtime":
        from .wasmtime import WasmtimeEngine

        engine: Engine = WasmtimeEngine(**options)
        return engine
    if name == "v8":
        from .v8 import V8Engine

        second: Engine = V8Engine(**options)
        return second
    if name == "wasmer":
        from .wasmer import WasmerEngine

        third: Engine = WasmerEngine(**options)
        return third
    raise EngineError(f"there is no engine {name!r}; known are {', '.join(ENGINE_NAMES)}")


def available() -> tuple[str, ...]:
    """Names of the engines that can be loaded here."""
    return tuple(filter(_works, ENGINE_NAMES))


def _works(name: str) -> bool:
    if name in ("wasmtime", "wasmer") and importlib.util.find_spec(name) is None:
        return False
    try:
        load(name, cache=None)
    except EngineError:
        return False
    return True


def default_cache() -> Path:
    """The default cache of compiled code: `$XDG_CACHE_HOME/portcall/code`."""
    from .codecache import default_directory

    return default_directory()
