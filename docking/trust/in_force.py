"""The policy that a station goes by now, for all parts that ask it: replacing it is one step.

Not the policy itself (`docking.trust.policy`), which never changes, nor what is done about agents that a new one does
not admit (`docking.residents.review`). Invariant: whoever judges takes `now` once, and goes by that to the end; `now`
may be read from any thread.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, evolve, field

from agents.credentials.keys import PublicKey
from docking.trust.policy import Policy


@define(eq=False, repr=False)
class PolicyInForce:
    """`now`: the policy; `replaced`: how often it was, since the station began; `draining`: nobody is let in, and no
    agent launched, until the operator says so or the station is started again.
    """

    now: Policy = field(factory=Policy)
    _given: Policy = field(init=False)
    _revoked: frozenset[tuple[bytes, PublicKey]] = frozenset()
    replaced: int = 0
    draining: bool = False
    held: str = ""
    """Why nothing may run here until a person decides; empty if it may."""

    def __attrs_post_init__(self) -> None:
        self._given = self.now

    def replace(self, policy: Policy) -> None:
        """From now on `policy` holds."""
        self._given = policy
        self._hold()

    def revoke(self, keys: Iterable[tuple[bytes, PublicKey]]) -> None:
        """From now on these keys are revoked, each if who signed that may: the key itself, or one of the policy's
        `revokers`.
        """
        self._revoked = frozenset(keys)
        self._hold()

    def _hold(self) -> None:
        given = self._given
        more = {key for key, signer in self._revoked if key == signer.raw or signer in given.revokers}
        self.now = evolve(given, revoked=given.revoked | more) if more else given
        self.replaced += 1
