"""What a changed policy means for agents that are here: it suspends those that it does not admit, and resumes those
that
it admits again.

A suspended agent is put away as if the station had closed for it alone, and is kept (`Arrivals.kept`). When a later
policy admits it, it resumes as after a restart. Not newcomers, which are judged by the policy in force
(`docking.trust.admission_controller`). Invariants: an agent that is not admitted has no further turn, and is not lost;
one that is leaving leaves, or is suspended when its destination refuses it.
"""

from __future__ import annotations

import asyncio

from attrs import define

from docking.handoff.refusal import Refusal
from docking.residents.arrivals import Arrivals, Unresumable
from docking.residents.berth import Berth, Standing
from docking.residents.lifecycle import Lifecycle
from docking.residents.residents import Residents
from docking.trust.admission import grant
from docking.trust.in_force import PolicyInForce


@define(eq=False, repr=False)
class Review:
    """Judges the agents that are `here` again."""

    _here: Residents
    _policy: PolicyInForce
    _lifecycle: Lifecycle
    _arrivals: Arrivals

    def __attrs_post_init__(self) -> None:
        self._arrivals.judge = self.newcomer
        self._lifecycle.suspended = self._suspended

    async def apply(self) -> None:
        """Apply the policy in force. Returns when agents that it does not admit and that were not running are put away,
        and kept ones that it admits are resumed; running ones are suspended at their next opportunity.
        """
        for berth in (*self._here.berths.values(), *self._arrivals.expected.values()):
            self.judge(berth)
        self._here.catch_up()
        await self._here.journal.write([], True)  # behind all that was put away
        await asyncio.sleep(0)  # those who wait for that hear of it first
        for agent, kept in () if self._policy.held else tuple(self._arrivals.kept.items()):
            capsule = self._here.store.capsule(agent, kept.hop)
            if capsule is not None and not self._here.closing:
                self._arrivals.resume(capsule)

    def newcomer(self, berth: Berth) -> None:
        """Judge an agent that starts now but was admitted before, perhaps by another policy."""
        if self._policy.replaced or self._policy.held:
            self.judge(berth)

    def judge(self, berth: Berth) -> None:
        """Suspend an agent that the policy does not admit, or else give it what the policy grants."""
        own = berth.credentials
        granted = grant(own.passport.body, own.terms, own.agent, own.point.used, self._policy.now)
        if self._policy.held:
            granted = Refusal("held", self._policy.held)
        if not isinstance(granted, Refusal):
            berth.barred = ""
            berth.regrant(granted)
            return
        berth.barred = granted.reason
        if berth.agent not in self._here.berths:
            return  # only expected: it will not start
        if berth.running:
            berth.interrupt()
        elif berth.standing not in (Standing.LEAVING, Standing.STOPPED):
            self._lifecycle.suspend(berth)

    def _suspended(self, berth: Berth) -> None:
        """The agent was put away."""
        if why := berth.barred:
            self._here.tell("alarm", berth.agent, text=f"an agent here is suspended: {why}")
            self._arrivals.kept[berth.agent] = Unresumable(berth.visit, why, self._here.clocks.now())
        elif (capsule := self._here.store.capsule(berth.agent, berth.visit)) is not None:
            self._arrivals.resume(capsule)  # it was admitted again meanwhile
