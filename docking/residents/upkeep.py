"""Periodic upkeep: forgets what is over, and ends agents whose passport has expired.

Not what expires by itself (offers, letters). Invariant: an agent is ended only if its passport had expired at two
consecutive checks, so a clock that is wrong for a while ends nobody.
"""

from __future__ import annotations

import asyncio

from attrs import define, field

from docking.letters.orders import OrderKind
from docking.residents.berth import Standing
from docking.residents.commands import Commands
from docking.residents.residents import Residents
from docking.store.changes import Purge

FIRST_TIDY_S, TIDY_S = 600.0, 3600.0
IDLE_BYTES = 512 << 20
"""Images and passports not in use that the store keeps."""
EXPIRED_MS = 3_600_000
"""How long an agent may stay after its passport has expired."""


@define(eq=False, repr=False)
class Upkeep:
    """The timer that keeps one station tidy."""

    _here: Residents
    _commands: Commands
    _timer: asyncio.TimerHandle | None = None
    _overdue: set[bytes] = field(factory=set)

    def start(self) -> None:
        """Start the timer. The first check is not at once: a machine that just booted may still set its clock."""
        self._timer = asyncio.get_running_loop().call_later(FIRST_TIDY_S, self.tidy)

    def tidy(self) -> None:
        """One check; the next follows an hour later."""
        self._here.write([Purge(IDLE_BYTES)])
        now = self._here.clocks.now()
        before, self._overdue = self._overdue, set()
        for berth in tuple(self._here.berths.values()):
            expired = now > berth.credentials.passport.body.expires + EXPIRED_MS
            if expired and berth.standing is not Standing.LEAVING:
                self._overdue.add(berth.agent)
                if berth.agent in before:
                    self._commands.obey(berth, OrderKind.DISPOSE)
        self._timer = asyncio.get_running_loop().call_later(TIDY_S, self.tidy)

    def close(self) -> None:
        """No more checks."""
        if self._timer is not None:
            self._timer.cancel()
