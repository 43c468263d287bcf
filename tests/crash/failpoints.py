"""A failpoint that kills its process, or stops it for a while, when a named place is reached for the Nth time.

The names are those that the courier and the store use (`OFFER.before-send`, `store.after-commit`, ...). Not a
simulation: SIGKILL, nothing is flushed, closed or said. One that has a `gate` makes the file `gate`.reached and does
nothing more until there is a file `gate`.open: the moment at which somebody cuts a cable.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

from attrs import define, field


@define(eq=False)
class Killer:
    """Called with the name of each failpoint. `place`, `number`: where to die, None for never; `seen`: how often each
    was reached since it was armed; `gate`: wait there instead of dying; `gently`: by SIGTERM, which can be handled.
    """

    place: str | None = None
    number: int = 1
    gate: Path | None = None
    gently: bool = False
    seen: Counter[str] = field(factory=Counter)

    def arm(self, place: str | None, number: int, gate: Path | None = None, gently: bool = False) -> None:
        """Count from now on."""
        self.seen.clear()
        self.place, self.number, self.gate, self.gently = place, number, gate, gently

    def __call__(self, place: str) -> None:
        self.seen[place] += 1
        if place != self.place or self.seen[place] != self.number:
            return
        if self.gate is None:
            os.kill(os.getpid(), signal.SIGTERM if self.gently else signal.SIGKILL)
            return
        Path(f"{self.gate}.reached").touch()
        # The whole station stands still, as it would in a debugger: nothing may happen between the place and the cut.
        while not Path(f"{self.gate}.open").exists():
            time.sleep(0.005)
