"""A failpoint that kills its process: SIGKILL when a named place is reached for the Nth time.

The names are those that the courier and the store use (`OFFER.before-send`, `store.after-commit`, ...). Not a
simulation: nothing is flushed, closed or said.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

from attrs import define, field


@define(eq=False)
class Killer:
    """Called with the name of each failpoint. `place`, `number`: where to die, None for never; `seen`: how often each
    was reached since it was armed.
    """

    place: str | None = None
    number: int = 1
    seen: Counter[str] = field(factory=Counter)

    def arm(self, place: str | None, number: int) -> None:
        """Count from now on."""
        self.seen.clear()
        self.place, self.number = place, number

    def __call__(self, place: str) -> None:
        self.seen[place] += 1
        if place == self.place and self.seen[place] == self.number:
            os.kill(os.getpid(), signal.SIGKILL)
