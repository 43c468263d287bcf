"""The policy that a station goes by now, for all parts that ask it: replacing it is one step.

Not the policy itself (`docking.trust.policy`), which never changes, nor what is done about agents that a new one does
not admit (`docking.residents.review`). Invariant: whoever judges takes `now` once, and goes by that to the end; `now`
may be read from any thread.
"""

from __future__ import annotations

from attrs import define, field

from docking.trust.policy import Policy


@define(eq=False, repr=False)
class PolicyInForce:
    """`now`: the policy; `replaced`: how often it was, since the station began; `draining`: nobody is let in, and no
    agent launched, until the operator says so or the station is started again.
    """

    now: Policy = field(factory=Policy)
    replaced: int = 0
    draining: bool = False
    held: str = ""
    """Why nothing may run here until a person decides; empty if it may."""

    def replace(self, policy: Policy) -> None:
        """From now on `policy` holds."""
        self.now = policy
        self.replaced += 1
