"""Periodic upkeep: forgets what is over, ends agents whose passport has expired or that have waited long enough for
more budget, and looks after orphans.

An orphan is an agent whose home is not heard of, for as long as the policy says: each sign of life of its home, and its
own arrival, renews the time. At half of it, whoever looks after the station is told.

Not what expires by itself (offers, letters). Invariant: an agent is ended only if its passport had expired at two
consecutive checks, so a clock that is wrong for a while ends nobody.
"""

from __future__ import annotations

import asyncio
import contextlib

from attrs import define, field

from docking.errors import StationError
from docking.letters.orders import OrderKind
from docking.residents.berth import Berth, Standing
from docking.residents.commands import Commands
from docking.residents.residents import Residents
from docking.store.changes import Purge
from docking.trust.in_force import PolicyInForce

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
    _policy: PolicyInForce
    _timer: asyncio.TimerHandle | None = None
    _overdue: set[bytes] = field(factory=set)
    _warned: set[bytes] = field(factory=set)
    _began: int = 0

    def start(self) -> None:
        """Start the timer. The first check is not at once: a machine that just booted may still set its clock."""
        self._began = self._here.clocks.now()
        self._timer = asyncio.get_running_loop().call_later(FIRST_TIDY_S, self.tidy)

    def tidy(self) -> None:
        """One check; the next follows an hour later."""
        self._here.write([Purge(IDLE_BYTES)])
        now = self._here.clocks.now()
        before, self._overdue = self._overdue, set()
        for berth in tuple(self._here.berths.values()):
            expired = now > berth.credentials.terms.expires + EXPIRED_MS or self._waited(berth, now)
            if expired and berth.standing is not Standing.LEAVING:
                self._overdue.add(berth.agent)
                if berth.agent in before:
                    self._commands.obey(berth, OrderKind.DISPOSE)
        if self._policy.now.orphans_after:
            self._orphans(now)
        self._timer = asyncio.get_running_loop().call_later(TIDY_S, self.tidy)

    def _waited(self, berth: Berth, now: int) -> bool:
        """Whether it has waited for more budget for as long as it may."""
        after = self._policy.now.spent_after
        return bool(berth.spent and after) and now > berth.spent + after * 1000

    def _orphans(self, now: int) -> None:
        after, then = self._policy.now.orphans_after * 1000, self._policy.now.orphans_then
        order = OrderKind.DISPOSE if then == "dispose" else OrderKind.SLEEP
        warned = self._warned
        self._warned = set()
        for berth in tuple(self._here.berths.values()):
            home = berth.credentials.passport.body.home.station
            if home == self._here.key.public or berth.standing in (Standing.LEAVING, Standing.ASLEEP, Standing.STOPPED):
                continue
            peer = self._here.peers.get(home)
            alone = now - max(0 if peer is None else peer.seen, berth.credentials.since, self._began)
            label = self._here.peers.label(home)
            if alone >= after:
                said = f"its home {label} was not heard of for {alone // 3_600_000} hours: {then}, as the policy says"
                self._here.tell("alarm", berth.agent, place=label, text=said)
                with contextlib.suppress(StationError):  # it is busy: next time
                    self._commands.obey(berth, order)
            elif 2 * alone >= after:
                self._warned.add(berth.agent)
                if berth.agent not in warned:
                    left = (after - alone) // 3_600_000
                    said = f"its home {label} is not heard of: in {left} hours it is to {then}, as the policy says"
                    self._here.tell("alarm", berth.agent, place=label, text=said)

    def close(self) -> None:
        """No more checks."""
        if self._timer is not None:
            self._timer.cancel()
