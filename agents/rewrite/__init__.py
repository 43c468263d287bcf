"""Strong mobility by bytecode rewriting: :func:`rewrite` makes a module that can be stopped, moved and continued.

The body of :func:`rewrite` is the architecture; :mod:`agents.rewrite.continuation` has the theory of operation. Not
here: running anything (:mod:`agents.runtime`). Stations do not need the pass: they read only
:mod:`agents.rewrite.metadata`.

Deterministic: the same module and options give the same bytes on every machine.
"""

from __future__ import annotations

from agents.rewrite.options import DEFAULT_SUSPENDING, Options

__all__ = ["DEFAULT_SUSPENDING", "Options", "rewrite"]


def __getattr__(name: str) -> object:
    if name == "rewrite":  # stations import the metadata without loading the pass
        from agents.rewrite.rewriter import rewrite

        return rewrite
    raise AttributeError(name)
