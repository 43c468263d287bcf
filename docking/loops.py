"""The event loop of a program that is a station: uvloop's where it can be installed, else asyncio's own.

It takes a twentieth off every hop (docs/topics/performance), and nothing else differs. Stations inside other programs
run in the loop that is there.
"""

from __future__ import annotations

try:
    from uvloop import new_event_loop as new_loop
    from uvloop import run
except ImportError:  # Windows, and Pythons for which there is none
    from asyncio import new_event_loop as new_loop  # type: ignore[assignment]
    from asyncio import run  # type: ignore[assignment]

__all__ = ["new_loop", "run"]
