"""A failpoint that kills its process: SIGKILL when a named place is reached for the Nth time.

The names are those that the courier and the store use (`OFFER.before-send`, `store.after-commit`, ...). Not a
simulation: nothing is flushed, closed or said.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter

from attrs import define, field


@define(eq=False)
class Killer:
    """Called with the name of each failpoint. `place`, `number`: where to die, None for never; `log`: say the names."""

    place: str | None = None
    number: int = 1
    log: bool = False
    seen: Counter[str] = field(factory=Counter)

    @classmethod
    def of(cls, text: str | None, log: bool = False) -> Killer:
        """From `PLACE:N`."""
        if text is None:
            return cls(log=log)
        place, _, number = text.partition(":")
        return cls(place, int(number or 1), log)

    def __call__(self, place: str) -> None:
        self.seen[place] += 1
        if self.log:
            print(f"failpoint {place}", file=sys.stderr, flush=True)
        if place == self.place and self.seen[place] == self.number:
            os.kill(os.getpid(), signal.SIGKILL)
