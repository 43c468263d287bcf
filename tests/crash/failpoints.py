"""A failpoint that kills its process, or stops it for a while, when a named place is reached for the Nth time.

The names are those that the courier and the store use (`OFFER.before-send`, `store.after-commit`, ...). Not a
simulation: SIGKILL, nothing is flushed, closed or said. One that has a `gate` makes the file `gate`.reached and does
nothing more until there is a file `gate`.open: the moment at which somebody cuts a cable. One that loses has what is
sent fail there: before it is sent, so that it is lost, or after, so that its sender repeats what has arrived.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

from attrs import define, field

from docking.errors import CarrierError

ANY_SEND = "any-send"  # each place before or after something is sent: a partition


@define(eq=False)
class Killer:
    """Called with the name of each failpoint. `place`, `number`: where to die, None for never; `seen`: how often each
    was reached since it was armed; `gate`: wait there instead of dying; `gently`: by SIGTERM, which can be handled;
    `loses`: instead of dying, fail there so many times in a row, as the network would.
    """

    place: str | None = None
    number: int = 1
    gate: Path | None = None
    gently: bool = False
    loses: int = 0
    seen: Counter[str] = field(factory=Counter)

    def arm(
        self, place: str | None, number: int, gate: Path | None = None, gently: bool = False, loses: int = 0
    ) -> None:
        """Count from now on."""
        self.seen.clear()
        self.place, self.number, self.gate, self.gently, self.loses = place, number, gate, gently, loses

    def __call__(self, place: str) -> None:
        self.seen[place] += 1
        if self.loses:
            self._lose(place)
            return
        if place != self.place or self.seen[place] != self.number:
            return
        if self.gate is None:
            os.kill(os.getpid(), signal.SIGTERM if self.gently else signal.SIGKILL)
            return
        Path(f"{self.gate}.reached").touch()
        # The whole station stands still, as it would in a debugger: nothing may happen between the place and the cut.
        while not Path(f"{self.gate}.open").exists():
            time.sleep(0.005)

    def _lose(self, place: str) -> None:
        if self.place == ANY_SEND and place.endswith(".before-send"):
            self.seen[ANY_SEND] += 1
            place = ANY_SEND
        if place == self.place and self.number <= self.seen[place] < self.number + self.loses:
            raise CarrierError("lost on its way")
