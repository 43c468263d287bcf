"""Keeps the event loop awake for a moment while an answer is on its way that comes soon.

A processor that slept takes tens of microseconds to run again, more than most steps of a handoff; and of each hop, two
answers are waited for. Who spins instead is there when they come (the kernel's busy polling, and locks that spin before
they sleep, do the same). It costs processor time, and so is done only for peers whose last answer came within the
moment, for few answers at once, and while nobody else here wants to run.

Not a scheduler: what else the loop has to do is done as always, a step between two looks. Invariant: without something
that is expected, nothing turns.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable

from attrs import define, field

# Seconds that the loop stays awake for one answer.
MOMENT = 0.003
# Answers that are looked out for at once: among many, something is always there to do.
FEW = 2
# Peers of which it is known how soon they answer: anyone can make up stations.
PEERS = 1024


def processors() -> int:
    """How many processors this process may use: with one, to spin is to keep the other side from answering."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


@define(eq=False)
class Lookout:
    """`free()`: whether nobody else here wants to run."""

    _free: Callable[[], bool]
    _several: bool = field(factory=lambda: processors() > 1)
    # What is expected, of whom, and until when it is soon; in the order in which it was asked for.
    _expected: dict[Hashable, tuple[bytes, float]] = field(factory=dict)
    _soon: OrderedDict[bytes, bool] = field(factory=OrderedDict)
    _turning: bool = False

    def expect(self, what: Hashable, peer: bytes) -> None:
        """The station with the key `peer` is to say something; `came` tells that it did."""
        if not self._several:
            return
        self._expire()
        self._expected[what] = peer, asyncio.get_running_loop().time() + MOMENT
        if not self._turning and self._worthwhile():
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def came(self, what: Hashable) -> None:
        """It did, or will not."""
        self._expire()
        expected = self._expected.pop(what, None)
        if expected is not None:
            self._note(expected[0], True)

    def _turn(self) -> None:
        self._expire()
        if self._worthwhile():
            asyncio.get_running_loop().call_soon(self._turn)
        else:
            self._turning = False

    def _worthwhile(self) -> bool:
        return (
            len(self._expected) <= FEW
            and any(self._soon.get(peer, False) for peer, _ in self._expected.values())
            and self._free()
        )

    def _expire(self) -> None:
        """What has not come by now did not come soon: its peer is not looked out for until it is quicker."""
        now = asyncio.get_running_loop().time()
        while self._expected:
            what = next(iter(self._expected))
            peer, until = self._expected[what]
            if now < until:
                return
            del self._expected[what]
            self._note(peer, False)

    def _note(self, peer: bytes, soon: bool) -> None:
        self._soon[peer] = soon
        self._soon.move_to_end(peer)
        if len(self._soon) > PEERS:
            self._soon.popitem(last=False)
