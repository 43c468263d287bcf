"""The engine v8: the engine of Chrome and Node.js, in a process of node beside this one.

Rewritten modules of both profiles run as they are. JavaScript has no limits on what WebAssembly may use, so `metering`
adds them; it loses the bits of floats, so `bits` makes integers of them on their way. Each instance has a thread of the
process (`process`), in which `machine.cjs` carries out what `instance` asks. Memories lie there: what the host looks at
is fetched, and what it writes is taken back (`mirror`).

What this engine cannot do is refused by name: reading a memory while its agent runs (live moves fall back to ordinary
ones), running an agent before all of its memory has come, host calls answered without Python.

Invariants: no bit of a value changes on its way; every wait ends; when the process or a thread of it ends, each agent
in it gets an `EngineError`, and nothing that was durable is lost.
"""

from __future__ import annotations

from .program import V8Engine, V8Program

__all__ = ["V8Engine", "V8Program"]
