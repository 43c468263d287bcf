"""Timers that behave alike under every event loop (docs/adr/two-event-loops).

asyncio calls back at the due time or later. uvloop rounds to whole milliseconds, so up to half of one early; for delays
below that, it returns a handle without the due time. Invariant: nothing is called early.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


def call_at(
    loop: asyncio.AbstractEventLoop, due: float, callback: Callable[..., object], *args: object
) -> asyncio.Handle:
    """Call when `loop.time()` is `due` (seconds) or a little later.

    The handle can be cancelled, and nothing else: whoever needs the due time must remember it.
    """
    wait = max(0.0, due - loop.time())
    return loop.call_later(math.ceil(wait * 1000) / 1000, callback, *args)
