"""Leases: a home renews those of the agents that it launched, and an agent whose lease nobody renews goes to sleep.

An agent that was launched with a lease may live for so long without a word of its home or owner. Its home signs a new
one when a third of it is over, and sends it after the agent. Where none comes, whoever looks after the station is told
when a third is left; when it is over the agent is put to sleep, and ended as long after as the policy says. A renewal
wakes it. Not here: what a lease is (`agents.credentials.amendments`).

Invariant: a home renews only the agents that it knows to be on their way, and never beyond what their owners signed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from attrs import define, field

from agents.credentials.amendments import Amendment, Lease, Terms, TopUp, Upgrade, sign_amendment
from agents.credentials.passport import verify_passport
from agents.errors import PortcallError
from docking.aio.threads import in_thread
from docking.errors import StationError
from docking.letters.journeys import OVER, Journey, JourneyStanding
from docking.letters.orders import OrderKind
from docking.residents.amending import Amending
from docking.residents.berth import Berth, Standing
from docking.residents.commands import Commands
from docking.residents.residents import Residents
from docking.trust.in_force import PolicyInForce

_log = logging.getLogger(__name__)
EVERY_S = 30.0


@define(eq=False, repr=False)
class Leases:
    """The leases of the agents that are `here`, and of those that were launched here."""

    _here: Residents
    _policy: PolicyInForce
    _commands: Commands
    _amending: Amending
    _timer: asyncio.TimerHandle | None = None
    _found: bool = False
    _renewed: dict[bytes, int] = field(factory=dict)
    _warned: dict[bytes, int] = field(factory=dict)

    def start(self) -> None:
        """Look at them from now on."""
        self._amending.applied.append(self._changed)
        self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._again)

    def _again(self) -> None:
        if self._here.closing:
            return
        self._here.run(self.look())
        self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._again)

    async def look(self) -> None:
        """Renew what is to be renewed, and see to those that nobody has renewed."""
        now, journeys = self._here.clocks.now(), self._here.journeys
        if not self._found:
            self._found = True
            await in_thread(journeys.find_leased)
        # Only these: a home may have launched a hundred thousand agents without a lease.
        for agent, expires in tuple(journeys.leased.items()):
            journey = journeys.get(agent)
            over = expires < now if journey is None else journey.standing in (*OVER, JourneyStanding.PURGED)
            if over:
                del journeys.leased[agent]
                self._renewed.pop(agent, None)
            elif journey is not None:
                await self._renew(journey, now)
        for berth in tuple(self._here.berths.values()):
            if berth.credentials.passport.body.lease:
                with contextlib.suppress(StationError):  # it is busy: next time
                    self._check(berth, now)

    async def _renew(self, journey: Journey, now: int) -> None:
        record = self._here.store.part(journey.passport)
        body = None if record is None else verify_passport(record).body
        if body is None or not body.lease or body.home.station != self._here.key.public:
            return
        if self._renewed.get(journey.agent, body.first_lease) - now > body.lease * 2 // 3:
            return
        until = min(now + body.lease, journey.expires)
        nonce = self._here.clocks.random(16)
        renewal = Amendment(journey.agent, journey.passport, nonce, now, Lease(until))
        try:
            await self._amending.amend(sign_amendment(renewal, self._here.key).envelope)
            self._renewed[journey.agent] = until
        except PortcallError as error:
            _log.info("the lease of an agent was not renewed: %s", error)

    def _check(self, berth: Berth, now: int) -> None:
        lease, total = berth.credentials.terms.lease, berth.credentials.passport.body.lease
        after = self._policy.now.lease_after
        if after and now > lease + after * 1000 and berth.standing is not Standing.LEAVING:
            self._commands.obey(berth, OrderKind.DISPOSE)
        elif now > lease:
            if berth.standing not in (Standing.LEAVING, Standing.ASLEEP, Standing.STOPPED):
                berth.remark("its lease is over, and was not renewed: it sleeps")
                self._here.tell("alarm", berth.agent, text="its lease is over, and was not renewed: it sleeps")
                self._commands.obey(berth, OrderKind.SLEEP)
        elif lease - now < total // 3 and self._warned.get(berth.agent) != lease:
            self._warned[berth.agent] = lease
            said = f"its lease ends in {(lease - now) // 60_000} minutes, and was not renewed"
            self._here.tell("alarm", berth.agent, text=said)

    def _changed(self, berth: Berth, change: TopUp | Lease | Upgrade, old: Terms) -> None:
        now = self._here.clocks.now()
        if isinstance(change, Lease) and old.lease < now <= berth.credentials.terms.lease:
            self._warned.pop(berth.agent, None)
            if berth.standing is Standing.ASLEEP:
                self._commands.obey(berth, OrderKind.WAKE)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
