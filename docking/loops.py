"""The event loop of a program that is a station: uvloop's where it can be installed, else asyncio's own.

It takes a twentieth off every hop (docs/topics/performance), and nothing else differs. Stations inside other programs
run in the loop that is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

new_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    import uvloop
except ImportError:  # Windows, and Pythons for which there is none

    def run(main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, as `asyncio.run` does."""
        return asyncio.run(main)

    new_loop = asyncio.new_event_loop
else:

    def run(main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, as `asyncio.run` does."""
        return uvloop.run(main)

    new_loop = uvloop.new_event_loop
