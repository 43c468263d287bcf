"""Where instances are: in threads of a process of node, or, where this Python runs in JavaScript, in this process."""

from __future__ import annotations

import sys

from agents.engines.watch import Watch

from .link import Link

INSIDE = sys.platform == "emscripten"


def new_link(stack: int) -> Link:
    """A place for an instance whose code may use `stack` bytes of stack. Raises `EngineError`."""
    if INSIDE:
        from .inside import Inside

        return Inside()
    from .process import the_node

    return the_node().thread(stack)


def node_version() -> str:
    """The version of what runs it. Raises `EngineError` if there is none."""
    if INSIDE:
        from pyodide.code import run_js  # type: ignore[import-not-found, unused-ignore]

        return str(run_js("globalThis.process?.versions?.node ?? 'browser'"))
    from .process import the_node

    return the_node().version.removeprefix("v")


def watch() -> Watch:
    """What calls actions at given times there."""
    if INSIDE:
        from .inside import NoWatch

        return NoWatch()
    return Watch()
